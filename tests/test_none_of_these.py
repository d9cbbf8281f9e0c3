""" "None of these": every kind of candidate turns away rows that no label fits, at a stated rate."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rich.console import Console

from tiny import make_tiny_base, toy_rows
from tunesmith.candidates.scope import threshold_of
from tunesmith.data.versions import read_split
from tunesmith.evaluation.judging import Judging, taught_rows
from tunesmith.pipeline import Run, run_stages
from tunesmith.records import Row
from tunesmith.stages.ask import ask
from tunesmith.stages.session import Session
from tunesmith.task import load_task
from tunesmith.workspace import Workspace

LABELS = ("billing", "delivery", "refund")
NONE = "no team"
TASK = """\
name: toy
kind: classify
instruction: Name the team.
data: {{path: rows.jsonl, input: text, target: label}}
split: {{train: 150, validation: 80, test: 130, seed: 1}}
none_of_these: {{label: no team, in_training: {in_training}, false_accept_rate: 0.2}}
goal: {{gain: 0.02}}
base: base
opponents: {{classical: true, zero_shot: true, few_shot: [1]}}
train: {{rank: 4, alpha: 8, learning_rate: 3e-3, epochs: 2, batch_size: 16, validations_per_epoch: 1}}
guards: {{robustness: {{margin: 0.1, rows: 10}}}}
"""


def planted(count: int, seed: int) -> list[Row]:
    """Rows of three teams, and as many about three other things, which are no team's."""
    return toy_rows(count, (*LABELS, NONE, NONE, NONE), seed)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scope")
    make_tiny_base(folder / "base")
    rows = [{"text": row.text, "label": row.target} for row in planted(380, seed=4)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder


def session_of(home: Path, in_training: str, name: str = "task") -> Session:
    path = home / f"{name}.yaml"
    path.write_text(TASK.format(in_training=in_training), encoding="utf-8")
    folder = Workspace(home / name).task("toy")
    folder.keep_task_file(path)
    return Session(load_task(path), folder, Console(quiet=True), home / "cache")


@pytest.fixture(scope="module")
def untaught(home: Path) -> tuple[Session, Run]:
    session = session_of(home, "false")
    return session, run_stages(session, "report")


def test_every_candidate_that_can_be_unsure_turns_rows_away(untaught: tuple[Session, Run]) -> None:
    _, run = untaught
    assert run.opponents
    assert run.train
    assert run.summary
    for card in (*run.opponents.scorecards[1:], run.train.validation):
        accepted = card.metrics["false_accept_rate"]
        assert threshold_of(card.candidate) is not None
        assert accepted.value <= 0.2
        assert accepted.low <= accepted.value <= accepted.high
        assert card.metrics["false_reject_rate"].rows + accepted.rows == card.metrics["accuracy"].rows
    constant = run.opponents.scorecards[0].metrics
    assert constant["false_accept_rate"].value == 1
    for card in run.summary.test_scorecards:
        assert {"false_accept_rate", "false_reject_rate", "accuracy"} <= set(card.metrics)


def test_rows_that_no_label_fits_are_learned_only_where_asked(untaught: tuple[Session, Run]) -> None:
    session, run = untaught
    train = read_split(run.dataset, "train")
    assert NONE in {row.target for row in train}
    taught = Judging("classify", "accuracy", LABELS, None, session.task.none_of_these)
    assert NONE not in {row.target for row in taught_rows(taught, train)}
    assert run.train
    assert run.train.training.course is not None


def test_the_answer_to_one_question_follows_the_same_threshold(untaught: tuple[Session, Run]) -> None:
    session, run = untaught
    assert run.train
    threshold = threshold_of(run.train.validation.candidate)
    rows = read_split(run.dataset, "validation")
    given = {prediction.row_id: prediction for prediction in run.train.validation.predictions}
    turned = next(row for row in rows if given[row.id].answer == NONE)
    kept = next(row for row in rows if given[row.id].answer != NONE)
    for row in (turned, kept):
        asked = ask(session, row.text)
        assert asked.answer == given[row.id].answer
        assert asked.threshold == threshold
        assert asked.probability == pytest.approx(given[row.id].probability, abs=1e-4)


def test_the_report_shows_false_accepts_and_how_off_topic_inputs_fare(untaught: tuple[Session, Run]) -> None:
    session, run = untaught
    page = session.folder.report.read_text(encoding="utf-8")
    assert "False accepts" in page
    assert "False rejects" in page
    assert run.summary
    assert run.summary.guarded
    sureness = {one.inputs: one for one in run.summary.guarded.sureness}
    assert sureness["off topic"].abstained is not None
