"""A shortlist of bases: the better one stays, and what is dropped is told with its reason and its numbers."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from tiny import load_tiny, make_tiny_base, toy_rows
from tunesmith.candidates.forms import PromptForm
from tunesmith.candidates.prompts import Prompting, score_prompt
from tunesmith.cli import main
from tunesmith.data.questions import each_row
from tunesmith.evaluation.judging import Judging
from tunesmith.evaluation.shortlist import Comparison
from tunesmith.report.comparison import comparison_table
from tunesmith.stages import bases as bases_module
from tunesmith.stages.compare import _compare
from tunesmith.stages.session import Session
from tunesmith.task import load_task
from tunesmith.workspace import Workspace

LABELS = ("billing", "delivery", "refund", "greeting")
JUDGING = Judging("classify", "accuracy", LABELS)
TASK = """\
name: toy
kind: classify
instruction: Name the team.
data: {path: rows.jsonl, input: text, target: label}
split: {train: 120, validation: 60, test: 80, seed: 1}
goal: {gain: 0.02}
base: base
opponents: {classical: false, few_shot: []}
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compare")
    make_tiny_base(folder / "base")
    make_tiny_base(folder / "other", seed=1)
    rows = [{"text": row.text, "label": row.target} for row in toy_rows(260, LABELS, 0)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (folder / "task.yaml").write_text(TASK, encoding="utf-8")
    return folder


def compared(home: Path, names: list[str]) -> Comparison:
    """Bases on 100 rows whose targets are what ``base`` answers when it is asked zero-shot."""
    task = load_task(home / "task.yaml")
    session = Session(
        task, Workspace(home / "runs").task("direct"), Console(file=io.StringIO()), home / "cache"
    )
    train, rows = toy_rows(40, LABELS, 1), toy_rows(100, LABELS, 2)
    prompting = Prompting(load_tiny(home / "base"), task.instruction, LABELS, train)
    best = score_prompt(prompting, PromptForm(), rows, None).log_probabilities.argmax(axis=1)
    asked = each_row([replace(row, target=LABELS[index]) for row, index in zip(rows, best, strict=True)])
    return _compare(session, [session.find_base(name) for name in names], "fp32", JUDGING, train, asked)


def shown(comparison: Comparison) -> str:
    told = io.StringIO()
    Console(file=told, width=200).print(comparison_table(comparison, hourly_price=3.6))
    return told.getvalue()


@pytest.mark.parametrize(("names", "rows"), [(["base", "other"], 50), (["other", "base"], 100)])
def test_a_base_that_is_clearly_worse_is_dropped_early_when_it_can_be_and_late_else(
    home: Path, names: list[str], rows: int
) -> None:
    comparison = compared(home, names)
    best, worse = comparison.bases
    assert (best.name, worse.name) == ("base", "other")
    assert best.quality is not None
    assert (best.quality.value, best.quality.rows) == (1.0, 100)
    assert best.dropped is None
    assert worse.dropped == f"clearly behind base on {rows} rows"
    assert worse.quality is not None
    assert worse.quality.rows == rows
    assert worse.gain is not None
    assert worse.gain.high is not None
    assert worse.gain.high < 0
    for base in comparison.bases:
        assert base.context_tokens == 512
        assert base.longest_row_tokens is not None
        assert 14 < base.longest_row_tokens < 512
        assert base.seconds_per_row is not None
        assert base.seconds_per_row > 0
    told = shown(comparison)
    assert "base: the best here (zero-shot" in told
    assert f"other: dropped, clearly behind base on {rows} rows" in told
    assert f"{best.seconds_per_row:.4f}" in told  # 3.6 an hour for 1,000 answers is as many as seconds a row


def test_a_base_that_does_not_fit_is_dropped_with_what_it_needs_and_the_others_are_measured(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = {"base": 1.0, "other": 5e6}
    monkeypatch.setattr(bases_module, "memory_needed_mb", lambda base, precision: needed[base.name])
    best, other = compared(home, ["other", "base"]).bases
    assert best.name == "base"
    assert other.dropped is not None
    assert other.dropped.startswith("other needs about 4,882.8 GiB of memory in fp32")
    assert other.quality is None
    assert other.parameters == best.parameters


def test_the_command_shortlists_and_repeats_nothing(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(home)
    monkeypatch.setenv("TUNESMITH_CACHE", str(home / "cache"))
    command = ["compare", "./task.yaml", "base", "other", "--rows", "60", "--json"]
    assert main(command) == 0
    once = json.loads(capsys.readouterr().out)
    assert {base["name"] for base in once["bases"]} == {"base", "other"}
    assert (once["rows"], once["metric"]) == (60, "accuracy")
    assert main(command) == 0
    assert json.loads(capsys.readouterr().out) == once
    assert main(["compare", "./task.yaml", "absent"]) == 2
    assert "absent" in capsys.readouterr().err
