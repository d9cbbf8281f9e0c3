""" "None of these": every kind of candidate turns away rows that no label fits, at a stated rate."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from tiny import link_base, load_tiny, toy_rows
from tunesmith.candidates.classical import answer_classical, fit_classical, tune_classical
from tunesmith.candidates.forms import PromptForm
from tunesmith.candidates.prompts import Prompting, answer_prompt, choose_variant
from tunesmith.candidates.scope import best_in_scope, threshold_of
from tunesmith.data.versions import read_split
from tunesmith.engine.scoring import LabelScores
from tunesmith.errors import UserError
from tunesmith.evaluation.judging import Judging, check_scope, scoping_of, taught_rows, value_of_labels
from tunesmith.pipeline import Run, run_stages
from tunesmith.records import Row
from tunesmith.stages.ask import ask
from tunesmith.stages.session import Session
from tunesmith.task import load_task
from tunesmith.task.scope_settings import NoneOfTheseSettings
from tunesmith.workspace import Workspace

LABELS = ("billing", "delivery", "refund")
NONE = "no team"
TASK = """\
name: toy
kind: classify
instruction: Name the team.
data: {{path: rows.jsonl, input: text, target: label}}
split: {{train: 120, validation: 80, test: 100, seed: 1}}
none_of_these: {{label: no team, in_training: {in_training}, false_accept_rate: 0.2}}
goal: {{gain: 0.02}}
base: base
opponents: {{classical: true, zero_shot: true, few_shot: []}}
train: {{rank: 4, alpha: 8, learning_rate: 3e-3, epochs: 2, batch_size: 16, validations_per_epoch: 1}}
guards: {{robustness: {{margin: 0.1, rows: 10}}}}
"""


def planted(count: int, seed: int) -> list[Row]:
    """Rows of three teams, and as many about three other things, which are no team's."""
    return toy_rows(count, (*LABELS, NONE, NONE, NONE), seed)


@pytest.fixture(scope="module")
def home(general_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scope")
    link_base(general_base, folder)
    rows = [{"text": row.text, "label": row.target} for row in planted(380, seed=4)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder


def session_of(home: Path, in_training: str, name: str = "task") -> Session:
    path = home / f"{name}.yaml"
    path.write_text(TASK.format(in_training=in_training), encoding="utf-8")
    folder = Workspace(home / name).task("toy")
    folder.keep_task_file(path)
    return Session(load_task(path), folder, Console(quiet=True), home / "cache")


def judging_of_none(in_training: bool, rate: float = 0.1) -> Judging:
    labels = (*LABELS, NONE) if in_training else LABELS
    settings = NoneOfTheseSettings(label=NONE, in_training=in_training, false_accept_rate=rate)
    return Judging("classify", "accuracy", labels, None, settings)


@pytest.mark.parametrize("in_training", [True, False])
def test_a_classical_model_keeps_to_the_rate_on_rows_it_has_not_seen(in_training: bool) -> None:
    judging = judging_of_none(in_training)
    train, validation, later = (planted(count, seed) for count, seed in ((240, 1), (200, 2), (400, 3)))
    taught = taught_rows(judging, train)
    value, scoping = value_of_labels(judging), scoping_of(judging)
    model, table = tune_classical(taught, validation, value=value, scoping=scoping)
    answers = answer_classical(fit_classical(model.candidate, taught), later)
    outside = np.array([row.target == NONE for row in later])
    accepted = np.array(answers.labels) != NONE
    # The rate is what is expected: 0.1, and three standard errors of 200 rows.
    assert accepted[outside].mean() <= 0.1 + 3 * np.sqrt(0.1 * 0.9 / outside.sum())
    assert accepted[~outside].mean() > 0.8
    assert {name.rpartition(" ")[2] for name, _ in table} == {"share", "margin"}
    plain, _ = tune_classical(taught, validation, value=value)
    assert value(later, answers.labels) >= value(later, answer_classical(plain, later).labels)


def test_a_prompt_declines_where_its_best_label_holds_too_little(home: Path) -> None:
    judging = judging_of_none(in_training=False)
    prompting = Prompting(load_tiny(home / "base"), "Name the team.", LABELS, [])
    rows = planted(60, seed=5)
    sure = np.array([[0.0, -4.0, -4.0]])
    place = {label: index for index, label in enumerate(LABELS)}
    planted_scores = np.stack(
        [np.roll(sure[0], place[row.target]) if row.target in place else np.full(3, -1.0) for row in rows]
    )
    scores = LabelScores(planted_scores, 1)
    value, scoping, form = value_of_labels(judging), scoping_of(judging), PromptForm()
    candidate, answers = choose_variant(prompting, form, scores, rows, [0.0] * 3, value, scoping)
    assert answers.labels == [row.target for row in rows]
    assert answer_prompt(prompting, candidate, scores).labels == answers.labels
    plain, _ = choose_variant(prompting, form, scores, rows, [0.0] * 3, value)
    assert plain.id != candidate.id


def test_the_score_is_the_share_of_the_best_label_that_is_not_none() -> None:
    scores = np.log(np.array([[0.2, 0.1, 0.7], [0.6, 0.3, 0.1]]))
    best = best_in_scope(scores, ("a", "b", NONE), NONE)
    assert best.labels == ["a", "a"]
    assert best.likeliest.tolist() == [False, True]
    np.testing.assert_allclose(best.probabilities, [0.2, 0.6])


def test_too_few_such_validation_rows_stop_the_run_before_training() -> None:
    rows = planted(40, seed=6)
    inside = [row for row in rows if row.target != NONE]
    some = [*inside, *(row for row in rows if row.target == NONE)][: len(inside) + 8]
    with pytest.raises(UserError, match="out-of-scope validation rows in at least 9 groups, found 8"):
        check_scope(judging_of_none(in_training=True), some)
    with pytest.raises(UserError, match="no validation row has the target 'no team'"):
        check_scope(judging_of_none(in_training=True), inside)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (("kind: classify", "kind: summarise"), "there are no labels with kind: summarise"),
        (("epochs: 2", "epochs: 2, watch_metric: true"), "chosen after training"),
    ],
)
def test_what_cannot_be_asked_together_is_said(tmp_path: Path, change: tuple[str, str], reason: str) -> None:
    path = tmp_path / "task.yaml"
    path.write_text(TASK.format(in_training="true").replace(*change), encoding="utf-8")
    with pytest.raises(UserError, match=reason):
        load_task(path)


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
