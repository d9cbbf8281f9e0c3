"""Stage 5: the guards that need no sealed test, measured on validation and training rows.

The verdict judges the evidence at the level of its contest; what is described here are 95 % intervals.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from tunesmith.guard_records import Attack, Guarded, GuardEvidence, Sureness, Swaps
from tunesmith.records import Dataset, Plan, Row, Scorecard
from tunesmith.stages.answering import judging_identity, judging_of
from tunesmith.stages.asking import Ask, asker, drawn, latency
from tunesmith.stages.attacking import Before, answers_of, attack, label_order, right, scores_of
from tunesmith.stages.entailing import entailment_sha256
from tunesmith.stages.general_guards import measure_refusals, measure_secrets
from tunesmith.stages.label_training import CALIBRATION_MASS
from tunesmith.stages.opponents import OpponentsResult
from tunesmith.stages.prompted import measure_prompted
from tunesmith.stages.session import Session
from tunesmith.stages.text_guards import measure_texts
from tunesmith.stages.train import TrainResult
from tunesmith.workspace import cached, stage_key

if TYPE_CHECKING:
    from tunesmith.data.audit.groups import CounterfactualPair
    from tunesmith.evaluation.judging import Judging

PACKAGES = (
    "tunesmith.candidates",
    "tunesmith.data.audit",
    "tunesmith.engine",
    "tunesmith.evaluation",
    "tunesmith.models",
    "tunesmith.stats",
    "tunesmith.stages.answerers",
    "tunesmith.stages.answering",
    "tunesmith.stages.asking",
    "tunesmith.stages.attacking",
    "tunesmith.stages.guards",
    "tunesmith.stages.prompted",
    "tunesmith.stages.text_guards",
    "tunesmith.data.questions",
    "tunesmith.task.kinds",
    "tunesmith.stages.general",
    "tunesmith.stages.general_guards",
    "tunesmith.guard_records",
    "tunesmith.records",
)

ALPHA = 0.025  # one-sided: described intervals hold 95 %
TRAIN_SAMPLE = 64  # training rows whose score shows how far it lies above that of validation
TIMED_ROWS = 8  # requests asked alone, one after the other
AMBIGUOUS_ROWS = 60  # validation rows joined into half as many inputs
SURE = 0.9


@dataclass(frozen=True)
class GuardsResult:
    """What was measured: row by row for the verdict, and in numbers for people."""

    evidence: GuardEvidence
    guarded: Guarded
    seconds: float


def measure_guards(
    session: Session, dataset: Dataset, plan: Plan, opponents: OpponentsResult, train: TrainResult
) -> GuardsResult:
    """Slices of validation, spoiled inputs, groups of people, secrets, the gap to training rows, latencies.

    Everything is measured against the finalist that is best on validation. No test row is read.
    """
    task = session.task
    inputs = {
        "dataset": dataset.manifest.version,
        "instruction": task.instruction,
        "tuned": train.validation.candidate,
        "finalists": opponents.finalist_candidates(),
        "guards": task.guards.model_dump(),
        "judging": judging_identity(task),
        "base": session.base().sha256,
        "precision": plan.precision,
        "entailment": entailment_sha256(task),
    }
    folder = session.folder.stage("guards", stage_key("guards", inputs, PACKAGES))
    measure = _measure if task.kind == "classify" else _measure_texts
    return cached(folder, GuardsResult, lambda _: measure(session, dataset, plan, opponents, train))[0]


def _measure_texts(
    session: Session, dataset: Dataset, plan: Plan, opponents: OpponentsResult, train: TrainResult
) -> GuardsResult:
    started = time.perf_counter()
    evidence, guarded = measure_texts(session, dataset, plan, opponents, train, ALPHA)
    return GuardsResult(evidence, guarded, time.perf_counter() - started)


def _measure(
    session: Session, dataset: Dataset, plan: Plan, opponents: OpponentsResult, train: TrainResult
) -> GuardsResult:
    from tunesmith.data.versions import read_split
    from tunesmith.evaluation.attacks import ambiguous_rows, off_topic_rows
    from tunesmith.evaluation.diagnosis import diagnose
    from tunesmith.evaluation.fairness import group_gaps, swap_score, swaps_to_ask
    from tunesmith.evaluation.judging import taught_rows
    from tunesmith.evaluation.robustness import attack_scores
    from tunesmith.evaluation.slices import make_slicer, score_estimate, score_slices
    from tunesmith.stats.parts import part_difference
    from tunesmith.stats.rates import codes_of

    started = time.perf_counter()
    guards = session.task.guards
    judging = judging_of(session.task, dataset.manifest.labels)
    training, validation = read_split(dataset, "train"), read_split(dataset, "validation")
    leader = opponents.leader(judging.metric, judging.sign)
    card = next(card for card in opponents.scorecards if card.candidate.id == leader.id)
    groups = [row.group for row in validation]
    own, other = scores_of(train.validation), scores_of(card)
    slices = score_slices(
        make_slicer(training, guards.slices).masks(validation),
        groups,
        own,
        other,
        leader.name,
        {one.name: one.margin for one in guards.slices},
        ALPHA,
    )

    ask = partial(asker, session, dataset, plan, train.training)
    tuned, rival = ask(train.validation.candidate), ask(leader)
    attacks: list[Attack] = []
    sureness: tuple[Sureness, ...] = ()
    if guards.robustness.rows:
        rows = drawn(validation, guards.robustness.rows)
        before = Before(answers_of(train.validation), answers_of(card))
        attacks = attack(rows, dataset.manifest.labels, before, tuned, rival)
        if leader.kind == "prompt" and leader.settings["examples"] == 0:
            order = tuple(reversed(judging.labels))
            attacks.append(label_order(rows, before, ask(leader, labels=order)))
        unsure = {
            "off topic": off_topic_rows(),
            "two rows in one": ambiguous_rows(drawn(validation, AMBIGUOUS_ROWS)),
        }
        calibrated = ask(train.validation.candidate, mass=CALIBRATION_MASS)
        sureness = _sureness(train.validation, groups, unsure, judging, calibrated)
    swaps = _swaps(swaps_to_ask(validation), validation, train.validation, card, tuned, rival)

    sample = drawn(taught_rows(judging, training), TRAIN_SAMPLE)
    learned = right(sample, tuned(sample).labels)
    gap = part_difference(
        [*learned, *own],
        [True] * len(sample) + [False] * len(validation),
        codes_of([*(row.group for row in sample), *groups]),
    )
    timed = drawn(validation, TIMED_ROWS)
    latencies = [latency(candidate, ask(candidate), timed) for candidate in opponents.finalist_candidates()]
    latencies.append(latency(train.validation.candidate, tuned, timed))
    refused = measure_refusals(session, plan, train)
    evidence = GuardEvidence(leader.name, tuple(attacks), swaps, refused, tuple(latencies))
    answers = [prediction.answer for prediction in train.validation.predictions]
    course = train.training.course
    train_score = score_estimate(learned, [row.group for row in sample])
    steps = diagnose(
        training, validation, answers, train_score, gap.difference if gap else None, slices, course
    )
    guarded = Guarded(
        opponent=leader.name,
        validation_slices=slices,
        attacks=attack_scores(attacks, leader.name, ALPHA),
        sureness=sureness,
        swaps=swap_score(swaps, leader.name, ALPHA) if swaps else None,
        gaps=group_gaps(validation, own, guards.fairness.fields),
        exposure=measure_secrets(session, plan, train),
        train_score=train_score,
        gap=gap.difference if gap else None,
        steps=steps,
        prompted=measure_prompted(session, dataset, plan, opponents, train, validation, right, ALPHA),
    )
    return GuardsResult(evidence, guarded, time.perf_counter() - started)


def _swaps(
    pairs: Sequence[CounterfactualPair],
    validation: Sequence[Row],
    own: Scorecard,
    other: Scorecard,
    tuned: Ask,
    rival: Ask,
) -> Swaps | None:
    from tunesmith.evaluation.fairness import changed

    if not pairs:
        return None
    asked = [pair.counterpart for pair in pairs]

    def changes(card: Scorecard, ask: Ask) -> tuple[bool, ...]:
        before = answers_of(card)
        after = ask(asked).labels
        return tuple(
            changed(pair, before[validation[pair.row].id], answer)
            for pair, answer in zip(pairs, after, strict=True)
        )

    groups = tuple(validation[pair.row].group for pair in pairs)
    return Swaps(groups, changes(own, tuned), changes(other, rival))


def _sureness(
    card: Scorecard,
    groups: Sequence[str],
    inputs: dict[str, list[Row]],
    judging: Judging,
    ask: Ask,
) -> tuple[Sureness, ...]:
    """How surely inputs without a right answer are answered, beside the rows of validation."""
    from tunesmith.evaluation.attacks import none_label
    from tunesmith.stats.intervals import proportion_interval

    asked_for = judging.none_of_these
    none = none_label(judging.labels) if asked_for is None else asked_for.label

    def one(name: str, answers: Sequence[str], sure: Sequence[float], members: Sequence[str]) -> Sureness:
        given = [answer == none for answer in answers]
        # Where the task lets candidates turn inputs away, doing so surely is no sure answer.
        away = given if asked_for is not None else [False] * len(given)
        certain = [p >= SURE and not turned for p, turned in zip(sure, away, strict=True)]
        share = proportion_interval(certain, members)
        return Sureness(name, share, proportion_interval(given, members) if none else None)

    known = [prediction.probability or 0.0 for prediction in card.predictions]
    found = [one("validation", [prediction.answer for prediction in card.predictions], known, groups)]
    asked = {name: rows for name, rows in inputs.items() if rows}
    answers = ask([row for rows in asked.values() for row in rows])
    assert answers.probabilities is not None  # the tuned candidate always has them
    start = 0
    for name, rows in asked.items():
        part = slice(start, start + len(rows))
        members = [row.group for row in rows]
        found.append(one(name, answers.labels[part], answers.probabilities[part].tolist(), members))
        start += len(rows)
    return tuple(found)
