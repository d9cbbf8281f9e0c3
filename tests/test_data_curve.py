"""The model's learning curve: nested shares of whole groups, the same training on each, twice the rows."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from tiny import FP32_PLAN, make_tiny_base, toy_rows
from tunesmith.data.portions import first_quarters
from tunesmith.data.questions import each_row
from tunesmith.errors import UserError
from tunesmith.evaluation.data_curve import gain_of_twice_the_rows
from tunesmith.evaluation.judging import Judging
from tunesmith.records import Row
from tunesmith.stages.data import make_dataset
from tunesmith.stages.data_curve import measure_data_curve
from tunesmith.stages.session import Session
from tunesmith.stages.train import stored_training, train_adapter
from tunesmith.task import load_task
from tunesmith.workspace import Workspace

LABELS = ("billing", "delivery", "refund", "greeting")
JUDGING = Judging("classify", "accuracy", LABELS)


@given(sizes=st.lists(st.integers(1, 6), min_size=4, max_size=60), seed=st.integers(0, 9))
def test_a_smaller_share_lies_within_a_larger_one_and_no_group_is_cut(sizes: list[int], seed: int) -> None:
    rows = [
        replace(row, group=f"group-{place}")
        for place, size in enumerate(sizes)
        for row in toy_rows(size, LABELS, seed=100 * seed + place)
    ]
    shares = [first_quarters(rows, quarters, seed, labelled=True) for quarters in (1, 2, 4)]
    ids = [{row.id for row in share} for share in shares]
    assert ids[0] <= ids[1] <= ids[2] == {row.id for row in rows}
    for share, own in zip(shares, ids, strict=True):
        touched = {row.group for row in share}
        assert own == {row.id for row in rows if row.group in touched}


def test_a_quarter_holds_a_quarter_of_every_label_and_three_groups_have_none() -> None:
    rows = toy_rows(400, LABELS, seed=1)
    counts, quarter = (
        Counter(row.target for row in part) for part in (rows, first_quarters(rows, 1, 0, True))
    )
    assert all(abs(quarter[label] - counts[label] / 4) <= 1 for label in LABELS)
    with pytest.raises(UserError, match="have no quarters"):
        first_quarters(rows[:3], 1, 0, labelled=False)


def right_of(rows: list[Row], count: int) -> list[str]:
    """Answers of which the first ``count`` are right."""
    return [row.target if place < count else "wrong" for place, row in enumerate(rows)]


def test_twice_the_rows_bring_what_the_power_law_says_and_a_flat_curve_nothing() -> None:
    rows = toy_rows(200, LABELS, seed=2)
    # Errors 0.5, 0.3, 0.2 at 100, 200, 400 rows are 0.1 + 40 / rows: 0.15 at 800.
    rising = [right_of(rows, count) for count in (100, 140, 160)]
    more = gain_of_twice_the_rows(JUDGING, each_row(rows), [100, 200, 400], rising)
    assert more is not None
    assert more.value == pytest.approx(0.05, abs=0.005)
    assert 0 < more.low < more.value < more.high < 0.15
    flat = gain_of_twice_the_rows(JUDGING, each_row(rows), [100, 200, 400], [right_of(rows, 150)] * 3)
    assert flat is not None
    assert (flat.value, flat.low, flat.high) == pytest.approx((0, 0, 0), abs=1e-9)


def test_the_same_training_on_a_quarter_half_and_all_rows_is_kept_and_compared(tmp_path: Path) -> None:
    make_tiny_base(tmp_path / "base")
    rows = [{"text": row.text, "label": row.target} for row in toy_rows(200, LABELS, seed=0)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    text = """\
name: toy
kind: classify
instruction: Name the team.
data: {path: rows.jsonl, input: text, target: label}
split: {train: 80, validation: 60, test: 60, seed: 1}
goal: {gain: 0.02}
base: base
train: {rank: 4, alpha: 8, learning_rate: 1e-2, epochs: 2, batch_size: 8, learning_curve: true}
"""
    (tmp_path / "task.yaml").write_text(text, encoding="utf-8")
    task = load_task(tmp_path / "task.yaml")
    session = Session(task, Workspace(tmp_path / "runs").task("toy"), Console(quiet=True), tmp_path / "cache")
    dataset, _ = make_dataset(session)
    whole = train_adapter(session, dataset, FP32_PLAN)
    curve = measure_data_curve(session, dataset, FP32_PLAN, whole)
    assert curve is not None
    assert [round(point.rows / 20) for point in curve.points] == [1, 2, 4]
    assert len({point.adapter_sha256 for point in curve.points}) == 3
    assert curve.points[-1].score == whole.validation.metrics["accuracy"]
    assert curve.doubling.value == pytest.approx(curve.points[2].score.value - curve.points[1].score.value)
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
    assert measure_data_curve(session, dataset, FP32_PLAN, whole) == curve
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")} == stamps
    # Asking for the curve is no reason to train the model itself again.
    plain = task.model_copy(update={"train": task.train.model_copy(update={"learning_curve": False})})
    without = session.beside(plain, session.folder)
    assert stored_training(without, dataset, FP32_PLAN) == whole
    assert measure_data_curve(without, dataset, FP32_PLAN, whole) is None
