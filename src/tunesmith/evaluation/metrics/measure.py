"""Metrics with their intervals, and the gain of one candidate over another in any of them.

What a verdict calls:

    card = measure(["macro_f1", "bleu"], Answered(rows, predictions, labels=labels))
    gain = paired_metric_gain("macro_f1", tuned, opponent, "zero-shot", alpha_one_sided)

A metric of the user's own is loaded first (``own.load_own_metric``) and given as itself in place of a name.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from tunesmith.errors import UserError
from tunesmith.evaluation.metrics.answered import Answered, Bools, Measured, RowScores
from tunesmith.evaluation.metrics.catalogue import METRICS, Metric
from tunesmith.evaluation.metrics.own import OwnMetric
from tunesmith.records import Estimate, PairedGain
from tunesmith.stats.intervals import mean_interval, proportion_interval
from tunesmith.stats.jackknife import jackknife_gain, jackknife_interval
from tunesmith.stats.paired import paired_score_gain


def measure(
    metrics: Sequence[str | OwnMetric], answered: Answered, level: float = 0.95
) -> dict[str, Estimate]:
    """Each metric by its name, with a two-sided interval at ``level``; a group is the unit.

    Means over rows: Agresti and Coull's interval where every score is 0 or 1, else the cluster-t on group
    sums, within the range of the scores. Metrics of all rows together: ``jackknife_interval``. ``rows`` and
    ``groups`` of an Estimate count what it is about: the out-of-scope rows for false accepts, else all.

    Raises UserError: for a name there is no metric of; and with exit code 3 where a metric could not be
    measured, because a candidate lacks what it needs (probabilities, a schema) or the rows do (fewer than two
    groups, no row out of scope). Nothing is ever left out silently: a metric asked for is in the result.
    """
    return {
        metric_name(one): _estimate(_metric(one).measure(answered), answered.groups, level) for one in metrics
    }


def paired_metric_gain(
    metric: str | OwnMetric,
    candidate: Answered,
    rival: Answered,
    opponent: str,
    alpha_one_sided: float,
) -> PairedGain:
    """How much better ``candidate`` does than ``rival``, named ``opponent``, in one metric on the same rows.

    Above 0 is better also where the metric should be small. Means over rows: ``paired_score_gain``, which for
    accuracy is the verdict's ``paired_gain``. Metrics of all rows together: ``jackknife_gain``. Fewer than 50
    groups leave the bounds None. Errors as in ``measure``; UserError too for a metric of which neither more
    nor less is better, ValueError when the two did not answer the same rows.
    """
    if [row.id for row in candidate.rows] != [row.id for row in rival.rows]:
        raise ValueError("a paired gain needs both candidates' answers to the same rows, in the same order")
    found = _metric(metric)
    if found.better is None:
        raise UserError(
            f"{metric_name(metric)} describes a candidate; neither more nor less of it is better",
            "choose another metric for the goal",
        )
    own, other = found.measure(candidate), found.measure(rival)
    larger_is_better = found.better == "larger"
    groups = candidate.groups
    if isinstance(own, RowScores) and isinstance(other, RowScores):
        return _gain_in_scores(own, other, groups, opponent, alpha_one_sided, larger_is_better)
    if isinstance(own, RowScores) or isinstance(other, RowScores):
        raise AssertionError("one metric is always measured in one way")
    differs = _differs(candidate, rival)
    return jackknife_gain(own, other, groups, opponent, alpha_one_sided, larger_is_better, differs)


def value_of(metric: str | OwnMetric, answered: Answered) -> float:
    """The metric without an interval, for choices on validation and single rows. Errors as in ``measure``."""
    measured = _metric(metric).measure(answered)
    if not isinstance(measured, RowScores):
        return measured.value
    scores = measured.scores if measured.about is None else measured.scores[measured.about]
    return float(scores.mean())


def measured(metric: str | OwnMetric, answered: Answered) -> Measured:
    """The metric as scores by row, or as a function of all rows together. Errors as in ``measure``."""
    return _metric(metric).measure(answered)


def metric_name(metric: str | OwnMetric) -> str:
    """As written in the task."""
    return metric if isinstance(metric, str) else metric.name


def _metric(metric: str | OwnMetric) -> Metric:
    if isinstance(metric, OwnMetric):
        return Metric(metric)
    if metric not in METRICS:
        close = difflib.get_close_matches(metric, METRICS, n=1)
        raise UserError(
            f"there is no metric {metric!r}",
            f"did you mean {close[0]}?" if close else f"choose one of: {', '.join(METRICS)}",
        )
    return METRICS[metric]


def _estimate(measured: Measured, groups: Sequence[str], level: float) -> Estimate:
    if not isinstance(measured, RowScores):
        return jackknife_interval(measured, groups, level)
    about = measured.about
    scores = measured.scores if about is None else measured.scores[about]
    concerned = list(groups) if about is None else np.array(groups)[about].tolist()
    bounded = measured.low == 0 and measured.high == 1
    if bounded and np.isin(scores, (0, 1)).all():
        return proportion_interval(scores, concerned, level)
    if measured.low is not None and measured.high is not None:
        return mean_interval(scores, concerned, level, limits=(measured.low, measured.high))
    estimate = mean_interval(scores, concerned, level)
    return replace(
        estimate,
        low=estimate.low if measured.low is None else max(estimate.low, measured.low),
        high=estimate.high if measured.high is None else min(estimate.high, measured.high),
    )


def _gain_in_scores(
    own: RowScores,
    other: RowScores,
    groups: Sequence[str],
    opponent: str,
    alpha_one_sided: float,
    larger_is_better: bool,
) -> PairedGain:
    better, worse = (own, other) if larger_is_better else (other, own)
    span = None if own.low is None or own.high is None else own.high - own.low
    about = slice(None) if own.about is None else own.about
    return paired_score_gain(
        better.scores[about],
        worse.scores[about],
        np.array(groups)[about].tolist(),
        opponent,
        alpha_one_sided,
        span,
    )


def _differs(candidate: Answered, rival: Answered) -> Bools | None:
    """Rows answered differently; None where the two differ in their probabilities instead."""
    differs = np.array(
        [own != other for own, other in zip(candidate.predictions, rival.predictions, strict=True)]
    )
    return differs if differs.any() else None
