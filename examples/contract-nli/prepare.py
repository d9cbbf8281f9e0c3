"""Join ContractNLI's statements with their contracts: rows for task.yaml.

    python examples/contract-nli/prepare.py FOLDER    # with test_documents.jsonl, test_pairs.jsonl, dev_…

FOLDER holds the pairs (doc_id, hypothesis, label) and the documents (id, text) of ContractNLI (Koreeda and
Manning 2021, CC BY 4.0) as JSON lines. The official training part is not redistributed with them, so the
official test contracts are what is trained on here, and the development contracts are the test: published
numbers do not compare. Long contracts are left out for time, in training more than in the test. Writes
train.jsonl and test.jsonl beside this file.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

PARTS = {"train": ("test", 2000), "test": ("dev", 4500)}  # file: part, most words
LABELS = {"Entailment": "entailed", "Contradiction": "contradicted", "NotMentioned": "not mentioned"}


def rows(folder: Path, part: str, most_words: int) -> Iterator[dict[str, str]]:
    """One row for each statement about each contract that is short enough."""
    texts = {document["id"]: document["text"] for document in _lines(folder / f"{part}_documents.jsonl")}
    for pair in _lines(folder / f"{part}_pairs.jsonl"):
        contract = texts[pair["doc_id"]]
        if len(contract.split()) <= most_words:
            yield {
                "contract": contract,
                "statement": f"Statement: {pair['hypothesis']}",
                "label": LABELS[pair["label"]],
                "document": f"{part}-{pair['doc_id']}",
            }


def _lines(path: Path) -> Iterator[dict[str, str]]:
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def main() -> None:
    """Write both files and say what is in them."""
    if len(sys.argv) != 2 or not Path(sys.argv[1]).is_dir():
        sys.exit(__doc__)
    for name, (part, most_words) in PARTS.items():
        written = list(rows(Path(sys.argv[1]), part, most_words))
        path = Path(__file__).parent / f"{name}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in written), encoding="utf-8")
        contracts = len({row["document"] for row in written})
        print(f"{path}: {len(written):,} rows about {contracts} contracts")


if __name__ == "__main__":
    main()
