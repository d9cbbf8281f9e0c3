"""What was forgotten of lm-evaluation-harness tasks: the tuned model against its base on the same items."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tunesmith.evaluation.forgetting import LM_EVAL, guard_check, score_change
from tunesmith.evaluation.slices import score_estimate
from tunesmith.records import Check, Forgetting


@dataclass(frozen=True)
class TaskScores:
    """One model on one task: a score for each item, and what guessing would score on average.

    ``items`` names each item by its content: that of both models must be the same, in the same order.
    """

    task: str
    metric: str
    items: tuple[str, ...]
    scores: tuple[float, ...]
    guessing: float


def measure_tasks(
    base: Sequence[TaskScores], tuned: Sequence[TaskScores], margin: float, blocking: bool, level: float
) -> tuple[tuple[Forgetting, ...], tuple[Check, ...]]:
    """Each task as a domain of probes, with its check of non-inferiority.

    Paired by item; equal items are one group. A task whose base is at the level of guessing (of 0 where
    nothing can be guessed) is at chance: unmeasured. So is one with scores that do not lie in 0 to 1, which
    has a check and no domain. Raises ValueError when the two were not scored on the same items.
    """
    measured, checks = [], []
    for before, after in zip(base, tuned, strict=True):
        if (before.task, before.metric, before.items) != (after.task, after.metric, after.items):
            raise ValueError(f"base and tuned model were asked other items of {before.task}")
        domain = f"{LM_EVAL}{before.task} ({before.metric})"
        if not all(_in_range(score) for score in (*before.scores, *after.scores)):
            question = f"Is the tuned model about as good on {domain} as its base?"
            reason = f"{before.metric} has scores outside 0 to 1, for which a margin in points says nothing"
            checks.append(Check(f"forgetting: {domain}", question, "unmeasured", reason, blocking))
            continue
        accuracy = score_estimate(before.scores, before.items, level)
        change = Forgetting(
            domain=domain,
            kind="probe",
            items=len(before.items),
            base=accuracy,
            tuned=score_estimate(after.scores, before.items, level),
            change=score_change(after.scores, before.scores, before.items, level),
            at_chance=accuracy.low <= before.guessing,
            margin=margin,
        )
        measured.append(change)
        checks.append(guard_check(change, margin, blocking))
    return tuple(measured), tuple(checks)


def _in_range(score: float) -> bool:
    return math.isfinite(score) and 0 <= score <= 1
