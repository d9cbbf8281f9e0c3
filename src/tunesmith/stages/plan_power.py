"""What a run can prove before training: by its blocking guards together, and in metrics without a formula."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tunesmith.power_records import JointPower
from tunesmith.records import Dataset, Row, SplitCounts
from tunesmith.run_records import PilotPower
from tunesmith.stages.asking import drawn
from tunesmith.stages.crossfit_plan import power_with_raised_variance
from tunesmith.stages.harness import task_sizes
from tunesmith.stages.session import Session
from tunesmith.stats.levels import alpha_for_opening
from tunesmith.stats.power_guards import guard_power, joint_power
from tunesmith.task.kinds import GROUNDED_KINDS

Spreads = tuple[float, float]

# How much one group's change may vary: calm and rough. Shares of 0 and 1 of which 10 and 25 of 100 change, 5
# and 15 of 100; scores between 0 and 1; the relative bits of one document; nats of one probe.
ANSWER_SPREADS: Spreads = (0.32, 0.5)
RARE_SPREADS: Spreads = (0.22, 0.39)
SCORE_SPREADS: Spreads = (0.1, 0.25)
TEXT_SPREADS: Spreads = (0.03, 0.12)
NATS_SPREADS: Spreads = (0.2, 0.6)

# Training rows for the plan's two opponents without a model; more would take long and tell no more.
MOST_KNOWN_ROWS = 10_000
MOST_PILOT_ROWS = 2_000


@dataclass(frozen=True)
class _Asked:
    """One blocking guard, and what it will rest on."""

    name: str
    items: int
    groups: int
    margin: float
    spreads: Spreads


def planned_guards(session: Session, test: SplitCounts, validation: Sequence[Row]) -> tuple[JointPower, ...]:
    """The power of all blocking guards together, if changes are calm and if they are rough; empty where none
    blocks.

    For a model as good as its base and its best opponent. Rows of one group are taken to change as one, and
    the rows that are judged (``test``) to hold as large a part of a slice as ``validation`` (questions) does.
    """
    asked = [
        *_general(session),
        *_on_the_test(session, test, validation),
        *_on_validation(session, validation),
    ]
    alpha = alpha_for_opening(1)
    return tuple(
        joint_power(
            [guard_power(a.name, a.items, a.groups, a.margin, a.spreads[rough], alpha) for a in asked], alpha
        )
        for rough in ((0, 1) if asked else ())
    )


def _general(session: Session) -> list[_Asked]:
    """Against the base: general text, built-in and own probes, lm-eval tasks, refusals."""
    from tunesmith.evaluation.forgetting import guard_material
    from tunesmith.evaluation.own_probes import read_own_probes
    from tunesmith.evaluation.refusals import refusal_requests

    guards = session.task.guards
    found = []
    if guards.general_text.blocking or guards.probes.blocking:  # the material takes seconds to gather
        for material, guard, spreads in zip(
            guard_material(), (guards.general_text, guards.probes), (TEXT_SPREADS, RARE_SPREADS), strict=True
        ):
            if guard.blocking:
                found.append(_Asked(material.domain, material.items, material.groups, guard.margin, spreads))
    if guards.probe_log_probability is not None and guards.probe_log_probability.blocking:
        probes, margin = guard_material()[1], guards.probe_log_probability.margin
        name = f"log-probability of {probes.domain}"
        found.append(_Asked(name, probes.items, probes.groups, margin, NATS_SPREADS))
    if guards.own_probes is not None and guards.probes.blocking:
        items = read_own_probes(session.task.resolve(guards.own_probes))
        groups = len({item.group for item in items})
        found.append(_Asked("own probes", len(items), groups, guards.probes.margin, RARE_SPREADS))
    if guards.lm_eval is not None and guards.lm_eval.blocking:
        for name, count in task_sizes(session.task).items():
            found.append(_Asked(f"lm-eval {name}", count, count, guards.lm_eval.margin, RARE_SPREADS))
    if guards.refusals is not None and guards.refusals.blocking:
        requests = refusal_requests()
        for name, wanted in (("harmful requests", True), ("harmless requests", False)):
            count = sum(harmful == wanted for _, harmful in requests)
            found.append(_Asked(f"refusals: {name}", count, count, guards.refusals.margin, RARE_SPREADS))
    return found


def _on_the_test(session: Session, test: SplitCounts, validation: Sequence[Row]) -> list[_Asked]:
    """Named slices, against the best opponent on the sealed test."""
    from tunesmith.evaluation.slices import named_mask

    every = len({row.group for row in validation})
    found = []
    for one in session.task.guards.slices:
        if one.blocking:
            mask = named_mask(one, validation)
            inside = len({row.group for row, member in zip(validation, mask, strict=True) if member})
            share = inside / every if every else 0.0
            rows = round(float(mask.mean()) * test.rows) if len(mask) else 0
            groups = round(share * test.groups)
            found.append(_Asked(f"slice: {one.name}", rows, groups, one.margin, _answers(session)))
    return found


def _on_validation(session: Session, validation: Sequence[Row]) -> list[_Asked]:
    """Spoiled inputs, groups of people and grounding, against the best opponent on validation rows."""
    from tunesmith.evaluation.attacks import SPOILERS
    from tunesmith.evaluation.fairness import swaps_to_ask
    from tunesmith.evaluation.grounding import grounding_metrics
    from tunesmith.evaluation.robustness import MEAN

    guards, spreads = session.task.guards, _answers(session)
    found = []
    if guards.robustness.blocking:
        rows = drawn(validation, guards.robustness.rows)
        groups = len({row.group for row in rows})
        # The mean of all attacks varies no more than one of them.
        names = (MEAN, *(spoiler.name for spoiler in SPOILERS))
        margin = guards.robustness.margin
        found += [_Asked(f"robustness: {name}", len(rows), groups, margin, spreads) for name in names]
    if guards.fairness.blocking:
        pairs = swaps_to_ask(validation)
        groups = len({validation[pair.row].group for pair in pairs})
        found.append(_Asked("fairness", len(pairs), groups, guards.fairness.margin, RARE_SPREADS))
    grounding = guards.grounding
    if grounding is not None and grounding.blocking and session.task.kind in GROUNDED_KINDS:
        groups = len({row.group for row in validation})
        for metric in grounding_metrics(grounding.entailment is not None):
            name = f"grounding: {metric.removeprefix('unsupported_')}"
            found.append(_Asked(name, len(validation), groups, grounding.margin, SCORE_SPREADS))
    return found


def _answers(session: Session) -> Spreads:
    return ANSWER_SPREADS if session.task.kind == "classify" else SCORE_SPREADS


PowerOf = Callable[[int, float], PilotPower | None]


def pilot_power_of(
    session: Session, dataset: Dataset, train: Sequence[Row], validation: Sequence[Row]
) -> PowerOf:
    """What a test can tell in a metric without a formula, from two opponents that need no model: by its
    groups, and by how many times a gain's variance is that of one test (1 where there are no folds).

    Each answers with the nearest row of one half of the training rows. Two such differ more than the tuned
    model and a good opponent do, so the gains that can be told are rather smaller than this says; the
    opponents' own answers make a better pilot later. None for accuracy, which has a formula, and where the
    two say nothing (``power_of_answers``).
    """
    from tunesmith.candidates.nearest import most_similar
    from tunesmith.evaluation.judging import questions
    from tunesmith.evaluation.pilot import power_of_answers
    from tunesmith.stages.answering import judging_of

    task = session.task
    if task.metric == "accuracy" or len(train) < 2:
        return lambda groups, variance: None
    judging = judging_of(task, dataset.manifest.labels)
    asked = questions(judging, validation)
    asked = asked.take(range(min(len(asked), MOST_PILOT_ROWS)))
    known = sorted(train, key=lambda row: row.id)[:MOST_KNOWN_ROWS]
    answers = {}
    for number, half in enumerate((known[::2], known[1::2]), start=1):
        near = most_similar(half, asked.rows, 1)
        if not all(near):  # no row of another group
            return lambda groups, variance: None
        answers[f"the nearest row of training half {number}"] = [rows[0][0].target for rows in near]
    alpha = alpha_for_opening(1, task.goal.alpha)

    def power_of(groups: int, variance: float) -> PilotPower | None:
        return power_with_raised_variance(
            lambda fewer: power_of_answers(
                judging, asked, answers, fewer, task.goal.gain, alpha, task.goal.rule
            ),
            groups,
            variance,
        )

    return power_of
