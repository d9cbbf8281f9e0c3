"""Flatten QA-Feedback: ``python prepare.py FOLDER`` writes data/rows.jsonl beside this file.

FOLDER holds dev_feedback.jsonl, whose passages are lists of a title and sentences.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main() -> None:
    target = Path(__file__).parent / "data"
    target.mkdir(exist_ok=True)
    lines = []
    for line in (Path(sys.argv[1]) / "dev_feedback.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        passages = [f"{title}: {' '.join(sentences)}" for title, *sentences in row["passages"]]
        if not any(passages):
            continue  # there is nothing to answer from
        kept = {
            "passages": "\n\n".join(passages),
            "question": f"Question: {row['question']}",
            "gold": row["gold"],
        }
        lines.append(json.dumps(kept, ensure_ascii=False))
    (target / "rows.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
