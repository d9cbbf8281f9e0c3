"""`tunesmith data show --mask`: what is learned is marked, before any run, in colour or in brackets."""

from __future__ import annotations

import io
import json
import re
import sys
from pathlib import Path

import pytest

from tiny import make_tiny_base, toy_rows
from tunesmith.cli import main
from tunesmith.cli.masks import print_masked
from tunesmith.data_records import MaskedRow, Part

TASK = """\
name: toy
kind: classify
instruction: Name the team.
data: {path: rows.jsonl, input: text, target: label}
split: {train: 30, validation: 20, test: 50}
goal: {gain: 0.02}
base: ./base
"""


def write_toy_task(folder: Path, monkeypatch: pytest.MonkeyPatch, train: str = "") -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("TUNESMITH_CACHE", str(folder / "cache"))
    make_tiny_base(folder / "base")
    rows = toy_rows(130, ("billing", "delivery"), seed=0)
    lines = [json.dumps({"text": row.text, "label": row.target}) for row in rows]
    Path("rows.jsonl").write_text("\n".join(lines) + "\n")
    Path("task.yaml").write_text(TASK + train)


def test_rows_are_shown_as_they_are_trained_on_before_anything_was_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_toy_task(tmp_path, monkeypatch)
    shown = ["data", "show", "./task.yaml", "--mask", "--rows", "3"]
    assert main(shown) == 0
    out = capsys.readouterr().out
    assert "30 rows, 3 shown" in out
    assert out.count("<|im_start|>system\nName the team.<|im_end|>") == 3
    assert out.count("⟦billing<|im_end|>⟧") + out.count("⟦delivery<|im_end|>⟧") == 3
    monkeypatch.setattr("tunesmith.models.loading.load_base", None)  # the tokenizer is enough
    assert main([*shown, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["rows"]
    for row in found:
        assert [part["learned"] for part in row["parts"]] == [False, True]
        assert row["learned_tokens"] < row["tokens"]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("colourless", [False, True])
def test_no_color_is_honoured_and_data_cannot_steer_the_terminal(
    monkeypatch: pytest.MonkeyPatch, colourless: bool
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    if colourless:
        monkeypatch.setenv("NO_COLOR", "1")
    row = MaskedRow("rows.jsonl:1", 9, 2, (Part("[bold]\x1b[2J asked", False), Part(" answer", True)))
    print_masked("head", [row])
    out = terminal.getvalue()
    assert "[bold]␛[2J asked" in out
    assert ("⟦ answer⟧" in out) == colourless
    assert ("\x1b[1;32m answer" in out) == (not colourless)


@pytest.mark.parametrize(
    ("policy", "note"),
    [
        ("truncate_left", r"40 tokens, [46] learned; cut from \d\d"),
        ("drop", r"\d\d tokens, [46] learned; above the limit of 40: not trained on"),
        ("error", r"\d\d tokens, [46] learned; above the limit of 40: training will refuse it"),
    ],
)
def test_rows_that_are_too_long_are_shown_as_training_treats_them(
    policy: str,
    note: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_toy_task(tmp_path, monkeypatch, f"train: {{max_tokens: 40, long_rows: {policy}}}\n")
    assert main(["data", "show", "./task.yaml", "--mask", "--rows", "3"]) == 0
    shown = capsys.readouterr().out
    assert "⟦billing<|im_end|>⟧" in shown or "⟦delivery<|im_end|>⟧" in shown
    assert re.search(note, shown), shown
    assert main(["data", "show", "./task.yaml", "--mask", "--rows", "3", "--split", "validation"]) == 0
    assert "above" not in capsys.readouterr().out


def test_json_answers_are_shown_as_they_are_taught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_toy_task(tmp_path, monkeypatch)
    rows = toy_rows(130, ("billing", "delivery"), seed=0)
    answers = [json.dumps({"team": row.target}, indent=2) for row in rows]
    lines = [json.dumps({"text": row.text, "label": said}) for row, said in zip(rows, answers, strict=True)]
    Path("rows.jsonl").write_text("\n".join(lines) + "\n")
    schema = {
        "type": "object",
        "properties": {"team": {"enum": ["billing", "delivery"]}},
        "required": ["team"],
    }
    Path("schema.json").write_text(json.dumps(schema | {"additionalProperties": False}))
    Path("task.yaml").write_text(
        TASK.replace("kind: classify", "kind: extract\njson_schema: schema.json\nmax_new_tokens: 40")
    )
    assert main(["data", "show", "./task.yaml", "--mask", "--rows", "3"]) == 0
    assert capsys.readouterr().out.count('⟦{"team":') == 3
