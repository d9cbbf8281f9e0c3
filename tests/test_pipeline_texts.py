"""Whole runs of the kinds that write texts, on a tiny real model; what is judged, shown, asked and gated."""

from __future__ import annotations

import io
import json
import random
from pathlib import Path

import pytest
from rich.console import Console

from tiny import link_base
from tunesmith import ledger
from tunesmith.errors import UserError
from tunesmith.evaluation.robustness import MEAN
from tunesmith.files import read_record
from tunesmith.pipeline import Run, run_stages
from tunesmith.report.terminal import print_summary
from tunesmith.run_records import RunSummary
from tunesmith.stages.ask import ask
from tunesmith.stages.gate import check_gate
from tunesmith.stages.session import Session
from tunesmith.stages.text_guards import ATTACK_ORDER
from tunesmith.task import load_task
from tunesmith.workspace import Workspace

NAMES = ("coffee", "garden", "river", "hotel", "piano", "engine", "kitten", "school", "street", "letter")
COLOURS = ("green", "yellow", "light", "large", "small", "young")
PLACES = ("river road", "paper street", "old town", "white house", "green garden", "night market")
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 12}, "colour": {"enum": [*COLOURS, None]}},
}
TASK = """\
name: {name}
kind: {kind}
instruction: {instruction}
data: {{path: {data}, input: input, target: target, near_duplicate_similarity: 1.0}}
split: {{train: 90, validation: 60, test: 100, seed: 1}}
goal: {{gain: 0.02{metric}}}
base: {base}
opponents: {{classical: true, zero_shot: {zero_shot}, few_shot: [1]}}
max_new_tokens: 24
train: {{rank: 4, alpha: 8, learning_rate: 0.005, epochs: 1, batch_size: 16, validations_per_epoch: 1{watch}}}
"""
GUARDS = """\
guards:
  slices:
    - {name: hotels, pattern: hotel, margin: 0.2}
    - {name: all, pattern: near, margin: 0.2}
"""


@pytest.fixture(scope="module")
def home(general_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny base, data of two kinds, and a cache that the module's runs share."""
    folder = tmp_path_factory.mktemp("texts")
    link_base(general_base, folder)
    draw = random.Random(3)
    attributes = [(name, colour, place) for name in NAMES for colour in COLOURS for place in PLACES]
    draw.shuffle(attributes)
    generate, extract = [], []
    for name, colour, place in attributes[:250]:
        given = f"name[{name}], colour[{colour}], near[{place}]"
        generate.append((given, f"The {colour} {name} is near {place}."))
        if draw.random() < 0.5:
            generate.append((given, f"Near {place} there is a {colour} {name}."))
        stated = {"name": name} | ({"colour": colour} if draw.random() < 0.8 else {})
        text = " ".join(["the", *([colour] if "colour" in stated else []), name, "stands near the", place])
        extract.append((text, json.dumps(stated)))
    for file, rows in (("generate.jsonl", generate), ("extract.jsonl", extract)):
        lines = [json.dumps({"input": given, "target": target}) for given, target in rows]
        (folder / file).write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "schema.json").write_text(json.dumps(SCHEMA), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def generated(home: Path) -> tuple[Session, Run]:
    """One finished run that writes texts from attributes."""
    session = _session(home, "generate", "Write a sentence.", extra=GUARDS)
    return session, run_stages(session, "report")


@pytest.fixture(scope="module")
def extracted(home: Path) -> tuple[Session, Run]:
    """A run that extracts fields under a schema, up to the tuned model, its metric watched."""
    session = _session(home, "extract", "Name it.", extra="json_schema: schema.json\n", zero_shot=False)
    return session, run_stages(session, "train")


def _session(
    home: Path,
    kind: str,
    instruction: str,
    metric: str = "",
    extra: str = "",
    zero_shot: bool = True,
) -> Session:
    text = TASK.format(
        name=kind,
        kind=kind,
        instruction=instruction,
        data=home / f"{kind}.jsonl",
        base=home / "base",
        watch=", watch_metric: true" if kind == "extract" else "",
        metric=metric,
        zero_shot=str(zero_shot).lower(),
    )
    path = home / f"{kind}.yaml"
    path.write_text(text + extra, encoding="utf-8")
    folder = Workspace(home / "runs").task(kind)
    folder.path.mkdir(parents=True, exist_ok=True)
    folder.keep_task_file(path)
    console = Console(file=io.StringIO(), width=150)
    return Session(load_task(path), folder, console, home / "cache")


def _told(session: Session) -> str:
    stream = session.console.file
    assert isinstance(stream, io.StringIO)
    return stream.getvalue()


def test_a_run_that_writes_texts_ends_with_a_verdict_in_its_own_metric(
    generated: tuple[Session, Run],
) -> None:
    session, run = generated
    assert run.summary is not None
    verdict = run.summary.verdict
    assert verdict.metric == "chrf"
    assert "chrF" in verdict.sentence
    assert "accuracy" not in _told(session).lower().replace("points of accuracy", "")
    assert [line.event for line in ledger.read(session.folder.ledger)] == ["frozen", "test_opened", "verdict"]
    for card in run.summary.test_scorecards:
        assert {"chrf", "bleu", "rouge_l", "length_ratio"} <= set(card.metrics)
        assert card.predictions == ()
    assert read_record(session.folder.summary, RunSummary) == run.summary


def test_examples_are_shown_side_by_side_in_place_of_confused_labels(generated: tuple[Session, Run]) -> None:
    session, run = generated
    assert run.summary is not None
    assert run.summary.confusions == ()
    assert run.summary.wins or run.summary.losses
    page = session.folder.report.read_text(encoding="utf-8")
    assert "Most confused labels" not in page
    assert "Macro-F1" not in page
    duel = (*run.summary.wins, *run.summary.losses)[0]
    assert duel.source in page
    assert duel.tuned_score is not None
    assert duel.tuned_score != duel.opponent_score


def test_an_input_with_several_texts_is_asked_once_and_compared_with_all(
    generated: tuple[Session, Run],
) -> None:
    _, run = generated
    assert run.train is not None
    inputs = {prediction.row_id for prediction in run.train.validation.predictions}
    assert len(inputs) == len(run.train.validation.predictions)
    assert len(inputs) < run.dataset.manifest.splits["validation"].rows
    assert run.summary is not None
    assert any(duel.other_targets for duel in (*run.summary.wins, *run.summary.losses))


def test_templates_and_the_nearest_answer_are_among_the_opponents(generated: tuple[Session, Run]) -> None:
    _, run = generated
    assert run.opponents is not None
    names = [card.candidate.name for card in run.opponents.scorecards]
    assert names == [
        "one constant answer",
        "answer of the nearest training row",
        "templates learned from training rows",
        "zero-shot",
        "1-shot nearest",
    ]
    templates = run.opponents.scorecards[2]
    assert templates.metrics["chrf"].value > 0.9  # the texts were made from templates
    assert templates.candidate.id in run.opponents.finalists


def test_power_is_told_from_a_pilot_before_and_after_the_opponents(
    generated: tuple[Session, Run],
) -> None:
    session, run = generated
    assert run.plan is not None
    assert run.plan.plan.power == ()
    assert run.pilot is not None
    assert run.pilot.metric == "chrf"
    assert run.plan.pilot is not None  # from two opponents without a model
    assert run.plan.pilot.metric == "chrf"
    assert run.plan.pilot.groups_needed > 0
    assert "is told by a pilot" in " ".join(_told(session).split())
    assert run.summary is not None
    assert run.summary.pilot == run.pilot


def test_a_second_run_reuses_everything_and_tells_the_same(
    home: Path, generated: tuple[Session, Run]
) -> None:
    session, run = generated
    again = _session(home, "generate", "Write a sentence.", extra=GUARDS)
    before = {path: path.stat().st_mtime_ns for path in session.folder.path.rglob("result.json")}
    assert run_stages(again, "report").summary == run.summary
    after = {path: path.stat().st_mtime_ns for path in session.folder.path.rglob("result.json")}
    assert after == before
    assert run.summary is not None
    print_summary(run.summary, again.console)
    assert _told(again).count("chrF") > 4


def test_the_tuned_model_is_asked_with_the_limit_it_was_judged_with(
    home: Path, generated: tuple[Session, Run]
) -> None:
    _, run = generated
    asked = ask(_session(home, "generate", "Write a sentence.", extra=GUARDS), "name[piano], near[old town]")
    assert asked.probability is None
    assert asked.choices == ()
    assert len(asked.nearest) == 3
    assert run.train is not None
    assert run.train.validation.candidate.settings["max_new_tokens"] == 24


def test_the_gate_follows_the_stored_verdict_and_notices_another_metric(
    home: Path, generated: tuple[Session, Run]
) -> None:
    session, run = generated
    assert run.verdict is not None
    answers = {check.name: check.answer for check in check_gate(session.task, session.folder).checks}
    assert answers["the decision follows from the numbers"] == "passed"
    assert answers["the task asks what was judged"] == "passed"
    other = _session(home, "generate", "Write a sentence.", metric=", metric: bleu", extra=GUARDS)
    changed = {check.name: check.answer for check in check_gate(other.task, session.folder).checks}
    assert changed["the task asks what was judged"] == "unmeasured"


def test_guards_are_measured_on_what_was_written_and_reach_the_verdict_the_page_and_the_terminal(
    generated: tuple[Session, Run],
) -> None:
    session, run = generated
    assert run.guards is not None
    assert run.verdict is not None
    assert run.summary is not None
    guarded = run.guards.guarded
    assert guarded.metric == "chrf"
    assert guarded.opponent == "templates learned from training rows"
    assert guarded.grounding == ()
    measured = [attack for attack in guarded.attacks if attack.tuned is not None]
    assert all(0 <= attack.tuned.value <= 1 for attack in measured if attack.tuned is not None)
    assert {attack.name for attack in guarded.attacks} == {*ATTACK_ORDER, MEAN}
    assert len(measured) >= 2
    assert guarded.gap is not None
    assert guarded.copying is not None
    assert {cost.candidate for cost in run.guards.evidence.latencies} >= {guarded.opponent}
    assert run.summary.costs is not None
    shown = {line.name: line.score for line in run.summary.costs.candidates}
    assert shown[guarded.opponent] == run.summary.opponents[2].metrics["chrf"]
    checks = {check.name: check for check in run.verdict.verdict.checks}
    assert checks["robustness: mean"].answer == "unmeasured"  # 40 questions
    assert "fewer than 50 groups" in checks["robustness: mean"].evidence
    assert checks["slice: hotels"].estimate is None  # too few groups
    assert checks["slice: all"].estimate is not None
    assert {score.kind for score in run.verdict.slices} >= {"cluster", "named"}
    # A mean of rows is near the metric of all rows together.
    score = run.train.validation.metrics["chrf"].value if run.train is not None else 0.0
    (everything,) = [one for one in guarded.validation_slices if one.name == "all"]
    assert everything.tuned.value == pytest.approx(score, abs=0.1)
    page = " ".join(session.folder.report.read_text(encoding="utf-8").split())
    for title in ("Copied from training rows", "Stock phrases", "Decision table", "Spoiled inputs"):
        assert title in page
    assert "What answers say that their source does not" not in page
    told = " ".join(_told(session).split())
    assert "scores of single rows: chrF" in told
    assert "stock phrases" in told


def test_every_written_answer_under_a_schema_is_valid_and_a_model_for_each_field_takes_part(
    extracted: tuple[Session, Run],
) -> None:
    _, run = extracted
    assert run.opponents is not None
    assert run.train is not None
    cards = (*run.opponents.scorecards, run.train.validation)
    written = [card for card in cards if card.candidate.kind in ("prompt", "tuned")]
    assert len(written) == 2
    for card in written:
        assert card.metrics["schema_valid"].value == 1.0
        answers = [json.loads(prediction.answer) for prediction in card.predictions]
        assert all(list(answer) == ["name", "colour"] for answer in answers)
    fields = next(card for card in cards if "SVM for each field" in card.candidate.name)
    assert fields.metrics["field_f1"].value > 0.9
    assert fields.candidate.id in run.opponents.finalists
    watched = run.train.training.validation[-1].metric
    assert watched is not None
    assert watched.value == run.train.validation.metrics["field_f1"].value


def test_a_schema_or_a_metric_that_cannot_be_used_is_told_before_any_work(home: Path) -> None:
    for extra, metric, told in (
        ("json_schema: missing.json\n", "", "there is no file"),
        ("", ", metric: missing.py:f", "there is no file"),
    ):
        session = _session(home, "extract", "Name it.", extra=extra, metric=metric)
        with pytest.raises(UserError, match=told):
            run_stages(session, "data")


def test_a_limit_too_short_for_the_schema_is_told_by_the_plan(home: Path) -> None:
    session = _session(home, "extract", "Name it.", extra="json_schema: schema.json\n", zero_shot=False)
    session.task = session.task.model_copy(update={"max_new_tokens": 3})
    with pytest.raises(UserError, match="shortest answer the schema allows takes") as told:
        run_stages(session, "plan")
    assert "max_new_tokens" in str(told.value.fix)
