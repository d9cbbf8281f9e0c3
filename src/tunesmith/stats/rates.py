"""Does a rate differ between two kinds of rows, or drift over time? A group, not a row, is the unit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr
from scipy.stats import hypergeom

from tunesmith.records import Estimate
from tunesmith.stats.clusters import Codes, clustered_ratio, t_quantile

# Blocks of time: enough for a rank test to reach small p-values, few enough that neighbours hardly depend.
TIME_BLOCKS = 24


@dataclass(frozen=True)
class RateDifference:
    """How often something is so in one part of the rows, and in the rest.

    ``difference`` is ``rate`` − ``other_rate`` with its interval, over the rows and groups of both parts.
    ``p_value`` is two-sided and exact. ``rows`` and ``other_rows`` are the sizes of the two parts.
    """

    rate: float
    other_rate: float
    rows: int
    other_rows: int
    difference: Estimate
    p_value: float


def rate_difference(
    events: npt.ArrayLike, part: npt.ArrayLike, codes: Codes, level: float = 0.95
) -> RateDifference:
    """The rate of ``events`` where ``part`` holds, minus the rate elsewhere.

    ``events`` and ``part``: booleans, shape (rows,); ``codes`` numbers the groups from 0. The interval is a
    cluster-t on the linearised difference after one event and one non-event joined each part as groups of
    their own (Agresti and Caffo 2000, clustered). The p-value is Fisher's exact test on independent units:
    of each group the first row in each part; a group in both parts makes it conservative. Raises ValueError
    when lengths differ or a part is empty.
    """
    happened = np.asarray(events, dtype=np.bool_)
    inside = np.asarray(part, dtype=np.bool_)
    if not len(happened) == len(inside) == len(codes) or inside.all() or not inside.any():
        raise ValueError("need equally many events, parts and groups, and rows on both sides")
    rate, other = float(happened[inside].mean()), float(happened[~inside].mean())
    low, high, groups = _difference_interval(happened, inside, codes, level)
    value = rate - other
    estimate = Estimate(
        value,
        max(-1.0, min(low, value)),
        min(1.0, max(high, value)),
        len(happened),
        groups,
        level,
        "Agresti-Caffo difference of rates, cluster-t on group sums",
    )
    p_value = class_p_values(happened.astype(np.intp), inside, codes, classes=2)[1]
    return RateDifference(rate, other, int(inside.sum()), int((~inside).sum()), estimate, p_value)


def class_p_values(
    of_class: npt.NDArray[np.intp], part: npt.ArrayLike, codes: Codes, classes: int
) -> list[float]:
    """For each class, the p-value of :func:`rate_difference` that its rate is the same in both parts.

    ``of_class``: the class of each row, 0 to ``classes`` − 1; all arguments of shape (rows,). One pass over
    the rows serves every class.
    """
    inside = np.asarray(part, dtype=np.bool_)
    units = np.unique(codes * 2 + inside, return_index=True)[1]
    unit_class, unit_inside = of_class[units], inside[units]
    here = np.bincount(unit_class[unit_inside], minlength=classes)
    there = np.bincount(unit_class[~unit_inside], minlength=classes)
    p_values: list[float] = fisher_exact(
        here, int(unit_inside.sum()), there, int((~unit_inside).sum())
    ).tolist()
    return p_values


def _difference_interval(
    happened: npt.NDArray[np.bool_], inside: npt.NDArray[np.bool_], codes: Codes, level: float
) -> tuple[float, float, int]:
    groups = int(codes.max()) + 1
    x = np.append(happened, [True, False, True, False]).astype(np.float64)
    d = np.append(inside, [True, True, False, False])
    g = np.append(codes, groups + np.arange(4))
    size, other_size = d.sum(), (~d).sum()
    rate, other = x[d].mean(), x[~d].mean()
    # Each row's share in the difference, summed by group: the variance of a difference of two ratios.
    shares = np.where(d, (x - rate) / size, -(x - other) / other_size)
    spread = clustered_ratio(shares * len(x), np.ones(len(x)), g)
    error = spread.standard_error or 0.0
    half = t_quantile(level, spread.groups - 1) * error
    return float(rate - other - half), float(rate - other + half), groups


def fisher_exact(
    events: npt.ArrayLike, rows: int, other_events: npt.ArrayLike, other_rows: int
) -> npt.NDArray[np.float64]:
    """Fisher's two-sided exact test that two rates are equal: twice the smaller tail, at most 1.

    ``events`` and ``other_events`` may be arrays of one shape, that of the p-values then. Twice the smaller
    tail, because summing the tables that are no likelier takes long with many rows.
    """
    here, there = np.asarray(events), np.asarray(other_events)
    total, happened = rows + other_rows, here + there
    below = hypergeom.cdf(here, total, happened, rows)
    above = hypergeom.sf(here - 1, total, happened, rows)
    return np.asarray(np.minimum(1.0, 2 * np.minimum(below, above)), dtype=np.float64)


def trend_p_value(events: npt.ArrayLike, order: npt.ArrayLike, blocks: int = TIME_BLOCKS) -> float:
    """Two-sided p-value that the rate of ``events`` has no monotone trend along ``order``.

    ``events``: booleans, ``order``: what they are sorted by (times), both of shape (rows,). Rows are cut into
    ``blocks`` runs of about equal size, equal times staying together, and Kendall's rank correlation between
    the number of a run and its rate is tested (Mann 1945), with the variance for ties and a continuity
    correction. Runs are the units, so rows that depend on their neighbours in time (a busy day) do not count
    as evidence. Raises ValueError when lengths differ; 1.0 with fewer than eight runs.
    """
    happened = np.asarray(events, dtype=np.float64)
    times = np.asarray(order)
    if len(happened) != len(times):
        raise ValueError(f"need equally many events and times: {len(happened)}, {len(times)}")
    _, starts = np.unique(np.sort(times), return_index=True)
    sorted_events = happened[np.argsort(times, kind="stable")]
    wanted = np.linspace(0, len(times), blocks + 1)[1:-1]
    cuts = np.unique(starts[np.searchsorted(starts, wanted, side="left").clip(max=len(starts) - 1)])
    cuts = cuts[cuts > 0]
    rates = np.array([run.mean() for run in np.split(sorted_events, cuts)])
    return _mann_kendall(rates)


def _mann_kendall(values: npt.NDArray[np.float64]) -> float:
    n = len(values)
    if n < 8:
        return 1.0
    signs = np.sign(values[None, :] - values[:, None])
    score = float(np.triu(signs, 1).sum())
    ties = np.unique(values, return_counts=True)[1]
    variance = (n * (n - 1) * (2 * n + 5) - float((ties * (ties - 1) * (2 * ties + 5)).sum())) / 18
    if variance <= 0 or score == 0:
        return 1.0
    z = (abs(score) - 1) / np.sqrt(variance)
    return min(1.0, 2 * float(ndtr(-z)))


def codes_of(groups: Sequence[str]) -> Codes:
    """Group numbers for rows; a row without a group ("") is a group of its own."""
    numbers: dict[str, int] = {}
    following = 0
    codes = np.empty(len(groups), dtype=np.intp)
    for row, group in enumerate(groups):
        if group and group in numbers:
            codes[row] = numbers[group]
            continue
        if group:
            numbers[group] = following
        codes[row] = following
        following += 1
    return codes
