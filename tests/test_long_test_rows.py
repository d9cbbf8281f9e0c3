"""A test row that the base cannot read is told at the freeze, not by the verdict after the training."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from bank_samples import questions
from tiny import make_tiny_base
from tunesmith.errors import UserError
from tunesmith.pipeline import run_stages
from tunesmith.stages.session import Session
from tunesmith.task import load_task
from tunesmith.workspace import Workspace

TASK = """\
name: bank
kind: classify
instruction: Name the topic.
data: {path: train.jsonl, test_path: test.jsonl, input: text, target: label}
split: {validation: 60}
goal: {gain: 0.02}
base: base
"""


def test_a_test_row_longer_than_the_context_stops_the_freeze(tmp_path: Path) -> None:
    make_tiny_base(tmp_path / "base")
    rows = [{"text": row.text, "label": row.target} for row in questions(300)]
    tests = [{"text": row.text, "label": row.target} for row in questions(60, seed=1)]
    (tmp_path / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "task.yaml").write_text(TASK)
    folder = Workspace(tmp_path / "runs").task("bank")
    folder.keep_task_file(tmp_path / "task.yaml")
    session = Session(load_task(tmp_path / "task.yaml"), folder, Console(file=io.StringIO()), tmp_path)
    long = {"text": " ".join(f"word {number}" for number in range(4_000)), "label": tests[0]["label"]}
    (tmp_path / "test.jsonl").write_text("\n".join(map(json.dumps, [*tests, long])))
    with pytest.raises(
        UserError, match=r"1 of 61 rows do not fit base's context .*test\.jsonl:61 \("
    ) as told:
        run_stages(session, "data")
    assert "data.max_words" in str(told.value.fix)
    assert not folder.ledger.exists()
    (tmp_path / "test.jsonl").write_text("\n".join(map(json.dumps, tests)))
    assert run_stages(session, "data").dataset.manifest.splits["test"].rows == 60
