"""How well rows are found whose text disagrees with its attributes, on the E2E data that people corrected.

    python benchmarks/attributes.py --data FOLDER [--out benchmarks/results/attributes.json]

FOLDER holds clean_dev.jsonl and clean_test.jsonl (fields orig_mr, mr, ref, fixed): ``fixed`` says that the
original attributes did not fit the text. Nothing is learned from ``fixed``. The same texts beside their
corrected attributes are the control: little should be found there. All rows are used; intervals are clustered
by attributes.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from tunesmith.data.attributes import read_attributes
from tunesmith.data.audit.attributes import find_disagreements
from tunesmith.files import write_json
from tunesmith.records import Estimate
from tunesmith.stats.intervals import proportion_interval

FILES = ("clean_dev.jsonl", "clean_test.jsonl")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    runs = [_run(arguments.data / name) for name in FILES]
    print(json.dumps(runs, indent=1))
    if arguments.out:
        write_json(arguments.out, {"runs": runs})


def _run(path: Path) -> dict[str, Any]:
    with path.open(encoding="utf-8") as lines:
        records = [json.loads(line) for line in lines]
    wrong = [record["fixed"] == "1" for record in records]
    groups = [record["orig_mr"] for record in records]
    started = time.perf_counter()
    flagged = _flagged(records, "orig_mr")
    seconds = time.perf_counter() - started
    rows = range(len(records))
    differing = _flagged(records, "orig_mr", differing=True)
    control = _flagged(records, "mr")
    return {
        "data": path.name,
        "rows": len(records),
        "seconds": round(seconds, 2),
        "base_rate": _told(proportion_interval(wrong, groups)),
        "found_rows": len(flagged),
        "precision": _told(_part(wrong, groups, [row for row in rows if row in flagged])),
        "precision_another_value_said": _told(
            _part(wrong, groups, [row for row in rows if row in differing])
        ),
        "recall": _told(_part([row in flagged for row in rows], groups, [row for row in rows if wrong[row]])),
        "found_beside_corrected_attributes": _told(
            proportion_interval([row in control for row in rows], groups)
        ),
    }


def _flagged(records: list[dict[str, str]], column: str, differing: bool = False) -> set[int]:
    attributes = [read_attributes(record[column]) for record in records]
    found = find_disagreements(attributes, [record["ref"] for record in records]) or []
    return {one.row for one in found if one.instead is not None or not differing}


def _part(values: list[bool], groups: list[str], rows: list[int]) -> Estimate:
    return proportion_interval([values[row] for row in rows], [groups[row] for row in rows])


def _told(estimate: Estimate) -> dict[str, Any]:
    return {
        "value": round(estimate.value, 4),
        "low": round(estimate.low, 4),
        "high": round(estimate.high, 4),
        "rows": estimate.rows,
        "groups": estimate.groups,
    }


if __name__ == "__main__":
    main()
