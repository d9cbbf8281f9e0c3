"""Bad input at the command line: one clear message, exit code 2, no traceback, nothing frozen."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tiny import toy_rows
from tunesmith.cli import main

TASK = """\
name: toy
kind: classify
instruction: Name the team.
data: {{path: {data}, input: text, target: label}}
split: {{validation: 0.2, test: 0.4}}
goal: {{gain: 0.02}}
base: {base}
"""

Rows = list[dict[str, str]]


def _jsonl(rows: Rows) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def _good() -> Rows:
    return [{"text": row.text, "label": row.target} for row in toy_rows(240, ("a", "b"), seed=1)]


def _without_target(rows: Rows) -> bytes:
    del rows[117]["label"]
    return _jsonl(rows)


def _blank_label(rows: Rows) -> bytes:
    rows[4]["label"] = "  "
    return _jsonl(rows)


def _one_class(rows: Rows) -> bytes:
    return _jsonl([{**row, "label": "a"} for row in rows])


BAD_DATA: dict[str, tuple[str, Callable[[Rows], bytes], str]] = {
    "not UTF-8": ("rows.jsonl", lambda rows: _jsonl(rows) + b'{"text": "\xff", "label": "a"}\n', "UTF-8"),
    "row 118 lacks the target": ("rows.jsonl", _without_target, "rows.jsonl:118"),
    "empty": ("rows.jsonl", lambda rows: b"", "empty"),
    "two columns of the same name": ("rows.csv", lambda rows: b"text,label,text\nx,a,y\n", "text"),
    "one class": ("rows.jsonl", _one_class, "class"),
    "blank label": ("rows.jsonl", _blank_label, "rows.jsonl:5"),
    "10 rows": ("rows.jsonl", lambda rows: _jsonl(rows[:10]), "10"),
}


@pytest.mark.parametrize("case", BAD_DATA)
def test_bad_data_gets_one_message_and_freezes_nothing(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, broken, expected = BAD_DATA[case]
    (tmp_path / name).write_bytes(broken(_good()))
    before = (tmp_path / name).read_bytes()
    shown = _fails(tmp_path, TASK.format(data=name, base="smollm2-135m-instruct"), capsys, "data freeze")
    assert expected in shown
    assert (tmp_path / name).read_bytes() == before
    assert not list((tmp_path / "runs").rglob("*.parquet"))
    assert not list((tmp_path / "runs").rglob("result.json"))


def test_a_missing_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "gone.jsonl" in _fails(tmp_path, TASK.format(data="gone.jsonl", base="x"), capsys, "data freeze")


def test_a_base_that_is_not_in_the_catalog_is_answered_with_the_nearest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "rows.jsonl").write_bytes(_jsonl(_good()))
    shown = _fails(tmp_path, TASK.format(data="rows.jsonl", base="smollm2-135m"), capsys, "plan")
    assert "smollm2-135m-instruct" in shown


def test_all_problems_of_a_task_file_are_told_at_once_with_their_lines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = TASK.format(data="rows.jsonl", base="x") + "train: {learning_rat: 0.1}\n"
    shown = _fails(tmp_path, text.replace("gain: 0.02", "gain: much"), capsys, "run")
    assert "task.yaml:6" in shown
    assert "task.yaml:8" in shown
    assert "learning_rate" in shown


def _fails(folder: Path, text: str, capsys: pytest.CaptureFixture[str], command: str) -> str:
    """Run a command that must end with exit code 2; what it showed."""
    (folder / "task.yaml").write_text(text, encoding="utf-8")
    assert main([*command.split(), str(folder / "task.yaml"), "--runs", str(folder / "runs")]) == 2
    shown = capsys.readouterr().err
    assert shown.count("error:") == 1
    assert "fix:" in shown
    assert "Traceback" not in shown
    return shown
