"""A whole run with a T5 and with a BERT: what applies is measured, and what does not is said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rich.console import Console

from tiny import make_tiny_bert, make_tiny_t5, toy_rows
from tunesmith.errors import UserError
from tunesmith.pipeline import run_stages
from tunesmith.stages.ask import ask
from tunesmith.stages.session import Session
from tunesmith.task import load_task
from tunesmith.workspace import Workspace

LABELS = ("billing", "delivery", "refund", "greeting")
TASK = """\
name: toy
kind: classify
instruction: Name the team.
data: {{path: rows.jsonl, input: text, target: label}}
split: {{train: 64, validation: 50, test: 50, seed: 1}}
goal: {{gain: 0.02}}
base: {base}
opponents: {{classical: false, zero_shot: true, few_shot: []}}
train: {{{train}, batch_size: 16, validations_per_epoch: 1}}
{guards}
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("families")
    make_tiny_t5(folder / "t5")
    make_tiny_bert(folder / "bert")
    rows = [{"text": row.text, "label": row.target} for row in toy_rows(180, LABELS, seed=0)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder


def session_of(home: Path, base: str, train: str, guards: str = "") -> Session:
    path = home / f"{abs(hash((base, train, guards)))}.yaml"
    path.write_text(TASK.format(base=base, train=train, guards=guards), encoding="utf-8")
    folder = Workspace(home / path.stem).task("toy")
    folder.keep_task_file(path)
    return Session(load_task(path), folder, Console(quiet=True), home / "cache")


@pytest.mark.parametrize(
    ("base", "train", "opponents", "reason"),
    [
        (
            "t5",
            "rank: 4, alpha: 8, learning_rate: 1e-2, epochs: 2",
            ["majority class", "zero-shot"],
            "likelihoods of answers to its input, none of running text",
        ),
        (
            "bert",
            "method: full, learning_rate: 1e-3, epochs: 2",
            ["majority class"],
            "no likelihood of text",
        ),
    ],
)
def test_from_task_to_answer(home: Path, base: str, train: str, opponents: list[str], reason: str) -> None:
    session = session_of(home, base, train)
    summary = run_stages(session, "report").summary
    assert summary is not None
    assert [card.candidate.name.partition(" (")[0] for card in summary.opponents] == opponents
    said = [note for note in summary.notes if "zero-shot and few-shot prompting do not apply" in note]
    assert len(said) == (1 if base == "bert" else 0)
    guards = {check.name: check for check in summary.verdict.checks if check.name.startswith("forgetting")}
    assert {check.answer for check in guards.values()} == {"unmeasured"}
    assert all(reason in check.evidence for check in guards.values())
    assert summary.training.agreement is not None
    assert summary.training.agreement.merged < 0.5
    assert reason in session.folder.report.read_text(encoding="utf-8")
    answer = ask(session, "where is my parcel")
    assert answer.answer in LABELS
    assert sum(
        choice.probability for choice in ask(session, "my parcel", choices=4).choices
    ) == pytest.approx(1)


@pytest.mark.parametrize(
    ("guards", "what"),
    [
        ("probes: {margin: 0.02, blocking: true}", r"guards\.probes: cannot block with bert"),
        (
            "probe_log_probability: {margin: 0.05, blocking: true}",
            r"guards\.probe_log_probability: cannot block with bert",
        ),
        ("forgetting_curve: true", r"guards\.forgetting_curve: cannot be measured with bert"),
        ("canaries: 4", r"guards\.canaries: cannot be measured with bert"),
    ],
)
def test_a_guard_that_could_never_be_measured_is_refused_before_any_training(
    home: Path, guards: str, what: str
) -> None:
    with pytest.raises(UserError, match=what):
        run_stages(session_of(home, "bert", "epochs: 1", f"guards: {{{guards}}}"), "plan")
