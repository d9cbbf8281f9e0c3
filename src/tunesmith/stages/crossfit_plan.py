"""What judging in folds would tell, and take, beside a test of its own: chosen, or proposed for few rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from tunesmith.power_records import PowerPoint
from tunesmith.records import CrossfitPlan, Dataset, SplitCounts
from tunesmith.run_records import PilotPower
from tunesmith.stages.session import Session
from tunesmith.stats.crossfit import inflation
from tunesmith.stats.levels import alpha_for_opening
from tunesmith.stats.power import power_points
from tunesmith.task.split_settings import CROSSFIT_FOLDS, FEW_GROUPS


def judged_counts(dataset: Dataset, folds: Sequence[Dataset]) -> SplitCounts:
    """The rows that the verdict is about: the sealed test, or those of all folds."""
    tests = [fold.manifest.splits["test"] for fold in folds or (dataset,)]
    return SplitCounts(
        sum(test.rows for test in tests),
        sum(test.groups for test in tests),
        sum(test.conflict_rows for test in tests),
    )


def raised_variance(folds: Sequence[Dataset]) -> float:
    """By how much a gain's variance is raised because folds' models share training rows; 1 without folds."""
    return inflation(len(folds)) ** 2 if folds else 1.0


def power_with_raised_variance(
    power_of: Callable[[int], PilotPower | None], groups: int, variance: float
) -> PilotPower | None:
    """A pilot's power by all ``groups`` when each gain's variance is ``variance`` times that of one test.

    An error raised r times is that of one test of 1/r² of the groups, of which ``power_of`` tells the power.
    """
    power = power_of(max(2, round(groups / variance)))
    if power is None:
        return None
    return replace(power, groups=groups, groups_needed=math.ceil(power.groups_needed * variance))


def rounds(dataset: Dataset, folds: Sequence[Dataset]) -> float:
    """How many times the work of one training all of them are: 1 without folds, about K with K of them.

    K − 1 of K parts of the rows are trained on in each of K folds, and all rows once.
    """
    whole = dataset.manifest.splits["train"].rows
    return 1 + sum(fold.manifest.splits["train"].rows for fold in folds) / whole


def crossfit_plan(
    session: Session,
    dataset: Dataset,
    folds: Sequence[Dataset],
    power: tuple[PowerPoint, ...],
    pilot_of: Callable[[int, float], PilotPower | None],
    train_seconds: float,
    compared_seconds: float = 0.0,
) -> CrossfitPlan | None:
    """Cross-fitting as the task asks for it, else as a proposal; None where it is not one.

    It is proposed under 1,500 groups where the test was drawn at random, and a smaller gain could be shown
    with it. ``power`` and ``train_seconds`` are those of the task as it is; methods are compared on all rows
    alone, so ``compared_seconds`` are spent once. ``pilot_of`` tells of a metric without a formula, by groups
    and variance.
    """
    if folds:
        test = judged_counts(dataset, folds)
        return CrossfitPlan(len(folds), test.rows, test.groups, True, power, train_seconds + compared_seconds)
    task, splits = session.task, dataset.manifest.splits
    rows, groups = (sum(getattr(split, name) for split in splits.values()) for name in ("rows", "groups"))
    asked, data = task.split, task.data
    drawn = asked.test is not None and asked.time is None
    simple = not (data.plan or data.train_extra or data.window_words or task.train.also)
    if groups >= FEW_GROUPS or not (drawn and simple):
        return None
    number = CROSSFIT_FOLDS
    goal, raised = task.goal, inflation(number) ** 2
    possible: tuple[PowerPoint, ...] = ()
    if task.metric == "accuracy":
        variance = rows / groups * raised
        possible = power_points(rows, variance, goal.gain, alpha_for_opening(1, goal.alpha), goal.rule)
        now, then = (points[-1].smallest_gain_with_80_percent for points in (power, possible))
    else:
        pilots = pilot_of(splits["test"].groups, 1.0), pilot_of(groups, raised)
        if pilots[0] is None or pilots[1] is None:
            return None
        now, then = (pilot.smallest_gain_with_80_percent for pilot in pilots if pilot is not None)
    if then >= now:
        return None
    whole = rows - splits["validation"].rows
    seconds = train_seconds * number * whole / splits["train"].rows
    smallest = None if possible else then
    return CrossfitPlan(number, rows, groups, False, possible, seconds + compared_seconds, smallest)
