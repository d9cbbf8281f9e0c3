"""Numbers with their intervals. Every interval treats a group, not a row, as the independent unit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from tunesmith.errors import UserError
from tunesmith.records import Estimate
from tunesmith.stats.clusters import Codes, Floats, clustered_ratio, group_codes, t_quantile

_RESAMPLES = 2000
_CELLS_AT_ONCE = 4_000_000


def wilson(share: float, rows: float, critical: float) -> tuple[float, float]:
    """Wilson's score interval (1927) for a share of ``rows`` (which may be an effective, fractional number).

    ``critical`` is the half-width in standard errors (1.96 for 95 %). The interval lies in [0, 1] and
    contains ``share``, at 0 and 1 as well.
    """
    spread = critical**2 / rows
    centre = (share + spread / 2) / (1 + spread)
    half = critical / (1 + spread) * math.sqrt(share * (1 - share) / rows + spread / (4 * rows))
    return max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half))


def proportion_interval(correct: npt.ArrayLike, groups: Sequence[str], level: float = 0.95) -> Estimate:
    """Share of rows that are correct; Wilson, on the effective sample size when rows are clustered.

    ``correct``: booleans, shape (rows,). The effective size is rows over the design effect, never more
    than the rows (Korn and Graubard 1998; Dean and Pagano 2015), and Student's t of groups − 1 replaces
    the normal quantile. The design effect is measured with one wrong and one right pseudo-group of typical
    size added: with few or no mistakes it cannot be estimated, and this moves it towards counting a group
    as one row. (Simulated, 97 % correct in about 160 groups of 7 rows: without them the truth is below the
    interval in 11 % of runs instead of 2.5 %.) Raises ValueError when empty or of unequal length.
    """
    values = np.asarray(correct, dtype=np.float64)
    codes = group_codes(groups)
    ratio = clustered_ratio(values, np.ones_like(values), codes)
    if ratio.groups == ratio.rows:
        critical = NormalDist().inv_cdf((1 + level) / 2)
        low, high = wilson(ratio.value, ratio.rows, critical)
        return Estimate(ratio.value, low, high, ratio.rows, ratio.groups, level, "Wilson")
    typical = round(float((np.bincount(codes) ** 2).sum()) / ratio.rows)
    with_pseudo = clustered_ratio(
        np.concatenate([values, np.zeros(typical), np.ones(typical)]),
        np.ones(ratio.rows + 2 * typical),
        np.concatenate([codes, np.full(typical, ratio.groups), np.full(typical, ratio.groups + 1)]),
    )
    critical = t_quantile(level, max(1, ratio.groups - 1))
    low, high = wilson(ratio.value, ratio.rows / max(1.0, with_pseudo.design_effect or 1.0), critical)
    method = "Wilson on the effective sample size (clustered by group)"
    return Estimate(ratio.value, low, high, ratio.rows, ratio.groups, level, method)


def mean_interval(values: npt.ArrayLike, groups: Sequence[str], level: float = 0.95) -> Estimate:
    """Row-weighted mean of ``values``, shape (rows,), with a cluster-t interval on group sums.

    Raises UserError (exit code 3) with fewer than two groups, ValueError when empty or of unequal length.
    """
    numbers = np.asarray(values, dtype=np.float64)
    return _cluster_t(numbers, np.ones_like(numbers), groups, level, "cluster-t on group sums")


def ratio_interval(
    numerators: npt.ArrayLike, denominators: npt.ArrayLike, groups: Sequence[str], level: float = 0.95
) -> Estimate:
    """Σ numerators / Σ denominators (bits per byte: bits over bytes) with a linearised cluster-t interval.

    Both have shape (rows,). Raises UserError (exit code 3) with fewer than two groups, ValueError when
    empty, of unequal length, or when the denominators sum to zero.
    """
    return _cluster_t(
        np.asarray(numerators, dtype=np.float64),
        np.asarray(denominators, dtype=np.float64),
        groups,
        level,
        "linearised cluster-t on group sums",
    )


def relative_change_interval(
    changed: npt.ArrayLike, base: npt.ArrayLike, groups: Sequence[str], level: float = 0.95
) -> Estimate:
    """Σ changed / Σ base − 1, paired by row (bits of the tuned model against bits of its base).

    0.01 means one per cent more than the base. Shapes, interval and errors as in ``ratio_interval``.
    """
    ratio = ratio_interval(changed, base, groups, level)
    return replace(
        ratio,
        value=ratio.value - 1,
        low=ratio.low - 1,
        high=ratio.high - 1,
        method="paired relative change, linearised cluster-t on group sums",
    )


def macro_f1_interval(
    targets: Sequence[str],
    answers: Sequence[str],
    groups: Sequence[str],
    labels: Sequence[str],
    level: float = 0.95,
    seed: int = 0,
) -> Estimate:
    """Macro-F1 over those ``labels`` that occur in ``targets``, with a cluster bootstrap over groups.

    The value equals scikit-learn's ``f1_score(average="macro", labels=present, zero_division=0)``. Whole
    groups are drawn with replacement, 2,000 times; a label that a resample lost does not count in it. The
    percentiles are shifted by twice the bootstrap's bias, because macro-F1 over rare labels is biased down
    and resampling doubles that. (77 labels, 1,200 rows, F1 0.58, simulated: the truth is above plain
    percentiles in 20 % of runs instead of 2.5 %, above shifted ones in 5 %.) With no mistake in the data no
    resample has one, and the interval is a point: read the accuracy's interval then.
    Raises ValueError when empty, of unequal length, or when no label occurs.
    """
    if not len(targets) == len(answers) == len(groups) or not targets:
        raise ValueError(f"need equally many rows: {len(targets)}, {len(answers)}, {len(groups)}")
    occurring = set(targets)
    present = [label for label in dict.fromkeys(labels) if label in occurring]
    if not present:
        raise ValueError("none of the labels occurs in the targets")
    codes = group_codes(groups)
    counts = _label_counts(targets, answers, codes, present)
    group_count = len(counts)
    value = float(_macro_f1(counts.sum(axis=0, keepdims=True), len(present))[0])

    random = np.random.default_rng(seed)
    at_once = max(1, _CELLS_AT_ONCE // group_count)
    scores: list[Floats] = []
    for start in range(0, _RESAMPLES, at_once):
        size = min(at_once, _RESAMPLES - start)
        drawn = random.integers(0, group_count, (size, group_count))
        drawn += np.arange(size)[:, None] * group_count
        times = np.bincount(drawn.ravel(), minlength=size * group_count).reshape(size, group_count)
        scores.append(_macro_f1(times.astype(np.float32) @ counts, len(present)))
    resampled = np.concatenate(scores)
    # nan: a resample without any of the labels has no macro-F1.
    low, high = np.nanquantile(resampled, [(1 - level) / 2, (1 + level) / 2])
    shift = 2 * (float(np.nanmean(resampled)) - value)
    low, high = max(0.0, min(value, float(low) - shift)), min(1.0, max(value, float(high) - shift))
    method = f"bias-shifted percentile cluster bootstrap over groups, {_RESAMPLES} resamples"
    return Estimate(value, low, high, len(targets), group_count, level, method)


def _cluster_t(
    numerators: Floats, denominators: Floats, groups: Sequence[str], level: float, method: str
) -> Estimate:
    ratio = clustered_ratio(numerators, denominators, group_codes(groups))
    if ratio.standard_error is None:
        raise UserError(
            f"an interval needs at least 2 groups, found {ratio.groups} ({ratio.rows} rows)",
            "give more data, or check that the rows do not all share one group",
            exit_code=3,
        )
    half = t_quantile(level, ratio.groups - 1) * ratio.standard_error
    return Estimate(
        ratio.value, ratio.value - half, ratio.value + half, ratio.rows, ratio.groups, level, method
    )


def _label_counts(
    targets: Sequence[str], answers: Sequence[str], codes: Codes, labels: Sequence[str]
) -> npt.NDArray[np.float32]:
    """Shape (groups, 3·labels): per group, rows right, rows of each target, rows of each answer."""
    column = {label: index for index, label in enumerate(labels)}
    width = len(labels)
    counts = np.zeros((int(codes.max()) + 1, 3 * width), dtype=np.float32)
    for code, target, answer in zip(codes.tolist(), targets, answers, strict=True):
        wanted, given = column.get(target), column.get(answer)
        if wanted is not None:
            counts[code, width + wanted] += 1
            if target == answer:
                counts[code, wanted] += 1
        if given is not None:
            counts[code, 2 * width + given] += 1
    return counts


def _macro_f1(counts: npt.NDArray[np.float32], width: int) -> Floats:
    """F1 = 2·right / (targets + answers), averaged over labels with a target. (n, 3·width) -> (n,)"""
    right, wanted, given = (counts[:, part * width : (part + 1) * width] for part in range(3))
    occurs = wanted > 0
    f1 = np.where(occurs, 2 * right / np.maximum(wanted + given, 1), 0).astype(np.float64)
    number = occurs.sum(axis=1)
    return np.where(number > 0, f1.sum(axis=1) / np.maximum(number, 1), np.nan)
