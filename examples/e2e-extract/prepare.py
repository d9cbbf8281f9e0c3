"""Turn the E2E data round: ``python prepare.py FOLDER`` writes data/train.jsonl and data/test.jsonl.

FOLDER holds clean_dev.jsonl and clean_test.jsonl with the columns mr ("name[Alimentum], area[city centre]")
and ref (a text that says so). Of the test one text is kept for each of the first 400 mrs.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

SCHEMA = json.loads((Path(__file__).parent / "schema.json").read_text(encoding="utf-8"))
TEST_ROWS = 400
ATTRIBUTE = re.compile(r"\s*([^\[\],]+?)\s*\[([^\]]*)\]\s*(?:,|$)")


def fields(mr: str) -> dict[str, str]:
    """The attributes by name, in the order of the schema."""
    found = dict(ATTRIBUTE.findall(mr))
    return {name: found[name] for name in SCHEMA["properties"] if name in found}


def main() -> None:
    source, target = Path(sys.argv[1]), Path(__file__).parent / "data"
    target.mkdir(exist_ok=True)
    for name, out, once in (("clean_dev", "train", False), ("clean_test", "test", True)):
        seen: set[str] = set()
        lines = []
        for line in (source / f"{name}.jsonl").read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            if once and (row["mr"] in seen or len(seen) == TEST_ROWS):
                continue
            seen.add(row["mr"])
            written = json.dumps(fields(row["mr"]), ensure_ascii=False)
            lines.append(
                json.dumps({"text": row["ref"], "fields": written, "mr": row["mr"]}, ensure_ascii=False)
            )
        (target / f"{out}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
