"""Seconds and memory of the whole audit, check by check, as the number of short rows grows.

    python benchmarks/audit.py [--rows 50000 --rows 200000] [--out benchmarks/results/audit.json]

Without ``--rows`` 10,000, 50,000, 200,000 and 1,000,000 are measured. Sizes that are not measured this
time keep what ``--out`` says about them.

Rows are made-up questions (about 18 words; see duplicates.py), labelled by their verb with 2 % of the labels
drawn at random, with a column of dates and one of channels. Each size is a process of its own. Grouping
near-duplicates comes before the checks, as in ``tunesmith data audit``; reading files does not take part.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import subprocess
import sys
import time
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from duplicates import VERBS, machine_and_versions, made_up_rows

from tunesmith.data.audit.checks import CHECKS, run_check
from tunesmith.data.audit.findings import AuditData
from tunesmith.data.duplicates import group_rows, with_groups
from tunesmith.files import write_json
from tunesmith.records import Message, Row

SIZES = (10_000, 50_000, 200_000, 1_000_000)
RESULTS = Path(__file__).parent / "results"
WRONG_LABELS = 0.02
CHANNELS = ("app", "letter", "phone", "web")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, action="append", help="a size to measure; repeatable")
    parser.add_argument("--out", type=Path, default=RESULTS / "audit.json")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(_measure(arguments.one)))
        return
    known = json.loads(arguments.out.read_text(encoding="utf-8")) if arguments.out.is_file() else {}
    runs = {run["rows"]: run for run in known.get("runs", [])}
    for size in arguments.rows or SIZES:
        command = [sys.executable, __file__, "--one", str(size)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        runs[size] = json.loads(done.stdout)
        ordered = [runs[rows] for rows in sorted(runs)]
        write_json(arguments.out, {"wrong_labels": WRONG_LABELS, "runs": ordered})


def _measure(size: int) -> dict[str, Any]:
    data = _made_up_data(size)
    print(f"{size:,} rows", file=sys.stderr)
    started, worked = time.perf_counter(), time.process_time()
    rows = with_groups(data.rows, group_rows(data.rows))
    data = AuditData(rows, data.splits, data.fields, description="Which request a question to a bank makes.")
    steps = [_step("grouping", started, worked, "", "")]
    for name in CHECKS:
        began, used = time.perf_counter(), time.process_time()
        result, _ = run_check(name, data)
        steps.append(_step(name, began, used, result.answer, result.summary))
    return {
        **machine_and_versions(("numpy", "scipy", "scikit-learn", "cleanlab")),
        "rows": size,
        "seconds": round(time.perf_counter() - started, 1),
        "processor_seconds": round(time.process_time() - worked, 1),
        "peak_memory_mb": _peak_memory_mb(),
        "steps": steps,
    }


def _made_up_data(size: int) -> AuditData:
    chance = random.Random(size)
    verbs = set(VERBS)
    rows = []
    for number, text in enumerate(made_up_rows(size)):
        label = next(word for word in text.split() if word in verbs)
        if chance.random() < WRONG_LABELS:
            label = chance.choice(VERBS)
        rows.append(Row(f"{number:07}", f"made-up:{number}", (Message("user", text),), label))
    first = date(2023, 1, 1)
    dates = tuple((first + timedelta(days=chance.randrange(700))).isoformat() for _ in rows)
    channels = tuple(chance.choice(CHANNELS) for _ in rows)
    return AuditData(tuple(rows), (None,) * size, {"created": dates, "channel": channels})


def _step(name: str, began: float, used: float, answer: str, summary: str) -> dict[str, Any]:
    step = {
        "step": name,
        "seconds": round(time.perf_counter() - began, 2),
        "processor_seconds": round(time.process_time() - used, 2),
        "peak_memory_mb": _peak_memory_mb(),
        "answer": answer,
        "summary": summary,
    }
    print({key: step[key] for key in ("step", "seconds", "peak_memory_mb", "answer")}, file=sys.stderr)
    return step


def _peak_memory_mb() -> int:
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


if __name__ == "__main__":
    main()
