"""Precision of the first suspected label errors when 5 % of the labels were flipped, and on untouched labels.

    python benchmarks/label_errors.py --data DATA/train.jsonl [--out benchmarks/results/label_errors.json]

The file holds one JSON object a line with ``text`` and ``label`` (BANKING77, for example).
"""

from __future__ import annotations

import argparse
import json
import random
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from tunesmith.data.audit.findings import AuditData
from tunesmith.data.audit.labels import check_labels, find_label_errors
from tunesmith.data.duplicates import group_rows, with_groups
from tunesmith.files import write_json
from tunesmith.records import Message, Row
from tunesmith.stats.intervals import proportion_interval

FLIPPED = 0.05
TOP = 300
SEEDS = (0, 1, 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    with arguments.data.open(encoding="utf-8") as lines:
        records = [json.loads(line) for line in lines]
    rows = [
        Row(str(line), f"{arguments.data.name}:{line}", (Message("user", record["text"]),), record["label"])
        for line, record in enumerate(records, start=1)
    ]
    rows = list(with_groups(rows, group_rows(rows)))
    untouched = check_labels(AuditData(tuple(rows), (None,) * len(rows)))
    print(f"untouched labels: {untouched.answer}: {untouched.summary}")
    runs = [_flipped_run(rows, seed) for seed in SEEDS]
    result: dict[str, Any] = {
        "data": arguments.data.name,
        "rows": len(rows),
        "flipped_share": FLIPPED,
        "untouched": {"answer": untouched.answer, "summary": untouched.summary},
        "runs": runs,
    }
    if arguments.out:
        write_json(arguments.out, result)


def _flipped_run(rows: list[Row], seed: int) -> dict[str, Any]:
    chance = random.Random(seed)
    labels = sorted({row.target for row in rows})
    flipped = set(chance.sample(range(len(rows)), round(FLIPPED * len(rows))))
    noisy = [
        replace(row, target=chance.choice([label for label in labels if label != row.target]))
        if index in flipped
        else row
        for index, row in enumerate(rows)
    ]
    data = AuditData(tuple(noisy), (None,) * len(noisy))
    started = time.process_time()
    found = find_label_errors(data)
    seconds = time.process_time() - started
    if isinstance(found, str):
        raise SystemExit(found)
    top = found.rows[:TOP]
    precision = proportion_interval([index in flipped for index in top], [noisy[i].group for i in top])
    preferred = [
        label == rows[index].target
        for index, label in zip(found.rows, found.preferred, strict=True)
        if index in flipped
    ]
    result = check_labels(data)
    likely = next((finding for finding in result.findings if finding.kind.startswith("likely")), None)
    likely_rows = likely.rows if likely else ()
    likely_right = proportion_interval(
        [index in flipped for index in likely_rows], [noisy[i].group for i in likely_rows]
    )
    print(
        f"seed {seed}: first {len(top)}: precision {precision.value:.3f} [{precision.low:.3f}, "
        f"{precision.high:.3f}]; {seconds:.1f} s; {result.answer}: {result.summary}"
    )
    return {
        "seed": seed,
        "flipped": len(flipped),
        "suspects": len(found.rows),
        "precision_of_first_300": asdict(precision),
        "expected_errors_in_first_300": found.expected_errors[len(top) - 1],
        "recall_of_all_suspects": sum(index in flipped for index in found.rows) / len(flipped),
        "preferred_label_is_the_original": sum(preferred) / len(preferred),
        "estimated_wrong_share": asdict(found.wrong),
        "likely_rows": len(likely_rows),
        "precision_of_likely_rows": asdict(likely_right),
        "recall_of_likely_rows": sum(index in flipped for index in likely_rows) / len(flipped),
        "processor_seconds": round(seconds, 1),
        "answer": result.answer,
        "summary": result.summary,
    }


if __name__ == "__main__":
    main()
