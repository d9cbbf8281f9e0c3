"""A small made-up data file with duplicates and one conflict, and its frozen version."""

import json
import random
from pathlib import Path

from tunesmith.data.duplicates import group_rows, with_groups
from tunesmith.data.sources import Source, SourceSpec, read_source
from tunesmith.data.splits import Split, SplitSpec, split_rows
from tunesmith.data.versions import freeze
from tunesmith.records import Dataset

SPEC = SplitSpec(train=90, validation=40, test=60, seed=1, rows_per_group=3)
WORDS = [
    "card",
    "fee",
    "loan",
    "account",
    "transfer",
    "lost",
    "stolen",
    "pending",
    "charge",
    "refund",
    "cash",
    "limit",
]


def write_data(path: Path, shuffle: int | None = None) -> Path:
    chance = random.Random(2)
    rows = []
    for number in range(220):
        text = f"number {number} " + " ".join(chance.choices(WORDS, k=12))
        label = chance.choice(["card", "fee", "loan"])
        rows += [{"text": text, "label": label}] * chance.choice([1, 1, 1, 2])
    rows[7] = {"text": rows[8]["text"], "label": "other"}
    if shuffle is not None:
        random.Random(shuffle).shuffle(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def prepare(path: Path) -> tuple[Source, Split]:
    source = read_source(
        SourceSpec(None, (str(path),), None, "text", "label", None, None, None, None), path.parent
    )
    groups = group_rows(source.rows, SPEC.near_duplicate_similarity, SPEC.shingle_words)
    return source, split_rows(with_groups(source.rows, groups), SPEC)


def frozen(folder: Path, path: Path) -> Dataset:
    source, split = prepare(path)
    return freeze(folder, task="cards", source=source, split=split, spec=SPEC)
