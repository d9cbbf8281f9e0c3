"""Cross-fitting from the data to the gate, on a tiny real model: what must not go wrong, and what is told."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from tiny import make_tiny_bert, toy_rows
from toy_task import LABELS
from tunesmith import ledger
from tunesmith.cli import main
from tunesmith.data.versions import load_folds
from tunesmith.errors import UserError
from tunesmith.files import read_record
from tunesmith.pipeline import Run, run_stages
from tunesmith.report.terminal import plan_lines
from tunesmith.run_records import PilotPower, RunSummary
from tunesmith.stages.ask import ask
from tunesmith.stages.crossfit_plan import crossfit_plan, power_with_raised_variance
from tunesmith.stages.plan_power import pilot_power_of
from tunesmith.stages.session import Session
from tunesmith.stages.verdict import SealedAnswers
from tunesmith.stats.crossfit import inflation
from tunesmith.stats.power import power_points, rows_needed
from tunesmith.task import load_task
from tunesmith.workspace import Workspace

ROWS = 102
TASK = """\
name: few
kind: classify
instruction: Name the team.
data: {path: few.jsonl, input: text, target: label}
split: {test: crossfit, folds: 3, validation: 0.2}
goal: {gain: 0.02}
base: encoder
opponents: {classical: true, zero_shot: false, few_shot: []}
train: {rank: 4, alpha: 8, learning_rate: 0.003, epochs: 1, batch_size: 32}
guards: {robustness: {margin: 0.1, rows: 0}}
"""


def few_session(home: Path, runs: Path, base: str = "encoder") -> Session:
    """The labels are shuffled: only what has seen a row can answer it better than by guessing.

    An encoder has no general text to forget, which would take longer to score than all of the rest.
    """
    rows = toy_rows(ROWS, LABELS, seed=8)
    targets = [row.target for row in rows]
    random.Random(0).shuffle(targets)
    lines = [
        json.dumps({"text": row.text, "label": target}) for row, target in zip(rows, targets, strict=True)
    ]
    (home / "few.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    task_file = home / f"few-{base}.yaml"
    task_file.write_text(TASK.replace("base: encoder", f"base: {base}"), encoding="utf-8")
    folder = Workspace(runs).task("few")
    folder.keep_task_file(task_file)
    return Session(load_task(task_file), folder, Console(quiet=True), home / "cache")


@pytest.fixture(scope="module")
def crossfitted(home: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Session, Run]:
    make_tiny_bert(home / "encoder")
    session = few_session(home, tmp_path_factory.mktemp("few"))
    return session, run_stages(session, "report")


def test_shuffled_labels_are_not_trained_and_nothing_answers_rows_that_it_has_seen(
    crossfitted: tuple[Session, Run],
) -> None:
    """The classical model knows its own training rows by heart: so few right answers show it saw none."""
    _, run = crossfitted
    assert run.verdict is not None
    assert run.verdict.verdict.decision != "TRAIN"
    for card in run.verdict.scorecards:
        assert card.metrics["accuracy"].value < 0.45
        assert card.metrics["accuracy"].rows == ROWS
        assert not card.predictions
    (gain,) = run.verdict.verdict.gains
    assert (gain.rows, gain.groups) == (ROWS, ROWS)


def test_every_row_is_answered_once_by_each_recipe_with_the_model_of_its_own_fold(
    crossfitted: tuple[Session, Run],
) -> None:
    session, run = crossfitted
    assert run.verdict is not None
    assert run.verdict.crossfit is not None
    sealed = [read_record(path, SealedAnswers) for path in session.folder.sealed.glob("*.json")]
    assert sum(len(one.answers) for one in sealed) == 2 * ROWS
    folds = load_folds(run.dataset)
    assert [fold.version for fold in run.verdict.crossfit.folds] == [one.manifest.version for one in folds]
    assert sum(fold.judged.rows for fold in run.verdict.crossfit.folds) == ROWS
    adapters = {fold.adapter_sha256 for fold in run.verdict.crossfit.folds}
    assert run.train is not None
    assert len({*adapters, run.train.training.adapter_sha256}) == 4  # the one to be used is none of theirs
    kept = run.dataset.manifest.splits
    assert kept["train"].rows + kept["validation"].rows == ROWS


def test_the_ledger_names_the_folds_before_any_answer_and_a_second_run_does_nothing(
    home: Path, crossfitted: tuple[Session, Run]
) -> None:
    session, run = crossfitted
    lines = ledger.read(session.folder.ledger)
    assert [line.event for line in lines] == ["frozen", "test_opened", "verdict"]
    assert lines[0].data["folds"] == lines[1].data["folds"] == list(run.dataset.manifest.folds)
    before = {path: path.stat().st_mtime_ns for path in session.folder.path.rglob("*") if path.is_file()}
    again = run_stages(few_session(home, session.folder.path.parent), "report")
    after = {path: path.stat().st_mtime_ns for path in session.folder.path.rglob("*") if path.is_file()}
    assert again.summary == run.summary
    assert {path.name for path in after if after[path] != before.get(path)} <= {"task.yaml", "origin.json"}


def test_report_gate_and_ask_speak_of_the_recipe_and_of_the_model_to_be_used(
    crossfitted: tuple[Session, Run], capsys: pytest.CaptureFixture[str]
) -> None:
    session, run = crossfitted
    assert run.train is not None
    summary = read_record(session.folder.summary, RunSummary)
    assert "3-fold cross-fitting" in summary.verdict.sentence
    page = session.folder.report.read_text(encoding="utf-8")
    assert "The folds" in page
    assert page.count("best classical model") >= 2
    main(["gate", "few", "--runs", str(session.folder.path.parent), "--json"])
    answer = json.loads(capsys.readouterr().out)
    assert answer["decision"] == summary.verdict.decision
    assert all(check["answer"] == "passed" for check in answer["checks"][:5])
    assert ask(session, "my parcel is late").adapter_sha256 == run.train.training.adapter_sha256


def test_the_plan_is_of_all_rows_with_the_raised_error_and_proposes_folds_where_there_are_few(
    home: Path, tmp_path: Path, crossfitted: tuple[Session, Run]
) -> None:
    session, run = crossfitted
    decoder = run_stages(few_session(home, tmp_path, base="base"), "plan")
    assert decoder.plan is not None
    plan = decoder.plan.plan
    assert plan.power == power_points(ROWS, inflation(3) ** 2, 0.02, plan.alpha_one_sided, "estimate")
    shares = [point.discordant for point in plan.power]
    assert plan.rows_needed == rows_needed(
        min(shares), max(shares), inflation(3) ** 2, 0.02, plan.alpha_one_sided
    )
    assert plan.crossfit is not None
    assert plan.crossfit.chosen
    drawn = session.task.split.model_copy(update={"test": 0.2, "folds": None})
    other = session.beside(session.task.model_copy(update={"split": drawn}), session.folder)
    few = replace(run.dataset, manifest=replace(load_folds(run.dataset)[0].manifest, folds=()))
    power = power_points(15, 1.0, 0.02, plan.alpha_one_sided, "estimate")
    nothing = pilot_power_of(other, few, [], [])
    proposed = crossfit_plan(other, few, (), power, nothing, 60.0)
    assert proposed is not None
    assert not proposed.chosen
    assert proposed.rows == ROWS
    assert 250 < proposed.train_seconds < 500
    shown = Console(width=300, file=None, record=True, quiet=False)
    with shown.capture() as caught:
        shown.print(plan_lines(replace(plan, crossfit=proposed)))
    assert "With split.test: crossfit every row would be judged" in caught.get()
    enough = power_points(3000, 1.0, 0.02, plan.alpha_one_sided, "estimate")
    assert crossfit_plan(other, few, (), enough, nothing, 60.0) is None  # nothing would be gained


def test_a_pilots_power_is_that_of_fewer_groups_where_the_error_is_raised() -> None:
    asked: list[int] = []

    def power_of(groups: int) -> PilotPower:
        asked.append(groups)
        return PilotPower("macro_f1", "one", "other", 20, groups, 0.1, 0.5, 0.6, 0.2, 1000)

    told = power_with_raised_variance(power_of, 300, 1.5)
    assert asked == [200]
    assert told is not None
    assert (told.groups, told.groups_needed) == (300, 1500)
    assert power_with_raised_variance(lambda _: None, 300, 1.5) is None


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("folds: 3, ", "folds: 3, train: 100, "), "split.train: not together with split.test: crossfit"),
        (("test: crossfit, ", "test: 0.3, "), "split.folds: only with split.test: crossfit"),
        (("target: label}", "target: label, plan: plan.yaml}"), "data.plan: not together"),
        (("crossfit", "crosfit"), "split.test"),
    ],
)
def test_what_cross_fitting_cannot_do_is_told_before_any_work(
    tmp_path: Path, change: tuple[str, str], told: str
) -> None:
    path = tmp_path / "task.yaml"
    path.write_text(TASK.replace(*change), encoding="utf-8")
    with pytest.raises(UserError, match=told):
        load_task(path)
