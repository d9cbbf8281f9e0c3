"""How much working time a model's answer saves: people's times for items with it and without it.

Each reviewer does some items with the model's answer before them and some without, at random. Times are
compared within reviewers only, so that a fast person who happened to get more items of one kind proves
nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from tunesmith.records import Estimate
from tunesmith.stats.clusters import Floats, group_codes, t_quantile

Bools = npt.NDArray[np.bool_]

FEWEST_IN_CONDITION = 5  # times of one reviewer with, and without, the model's answer
FEWEST_TIMES = 20  # in each condition, over all reviewers
_SHORTEST_SECONDS = 0.5  # of a logarithm
_LIMIT = 3.0  # robust standard deviations of log time
_METHOD = "within reviewers; variance over items and over reviewers, Student's t"
_ONE = "within one reviewer, so nothing is said about others; Welch's t, clustered by item"


@dataclass(frozen=True)
class TimeSaved:
    """Seconds an item takes ``without`` the model's answer, how many it saves, and with over without."""

    without: Estimate
    saved: Estimate
    ratio: Estimate
    capped: int


def capped_times(
    seconds: npt.ArrayLike, with_answer: npt.ArrayLike, reviewers: Sequence[str]
) -> tuple[Floats, int]:
    """Times with pauses cut, and how many were cut.

    The limit of a reviewer in one condition is the median there times e^(3 s), s the reviewer's robust
    standard deviation of log times about those medians (1.4826 · median absolute deviation), and never
    below twice the median. A longer time counts as the limit. It falls on both conditions alike, as a time
    is only compared with those of its own condition. Raises ValueError for a time that is not above 0.
    """
    times = np.asarray(seconds, dtype=np.float64)
    helped = np.asarray(with_answer, dtype=np.bool_)
    if not (np.isfinite(times).all() and (times > 0).all()):
        raise ValueError("times are seconds above 0")
    kept = times.copy()
    codes = group_codes(list(reviewers))
    for reviewer in range(int(codes.max()) + 1 if len(codes) else 0):
        own = codes == reviewer
        centre = np.zeros(len(times))
        for cell in (own & helped, own & ~helped):
            if cell.any():
                centre[cell] = np.median(np.log(times[cell]))
        spread = 1.4826 * float(np.median(np.abs(np.log(times[own]) - centre[own])))
        limit = np.exp(centre[own] + max(_LIMIT * spread, math.log(2)))
        kept[own] = np.minimum(times[own], limit)
    return kept, int((kept < times).sum())


def time_saved(
    seconds: npt.ArrayLike,
    with_answer: npt.ArrayLike,
    items: Sequence[str],
    reviewers: Sequence[str],
    level: float = 0.95,
) -> TimeSaved | None:
    """What the model's answer saves; all of shape (times,).

    Times are cut by :func:`capped_times`; seconds saved are differences of means, as those add up to
    working days; ``ratio`` is of geometric means, which single long times hardly move. Reviewers with fewer
    than 5 times in a condition are left out; None where fewer than 20 times are left in one. Raises
    ValueError for unequal lengths, and as in :func:`capped_times`.
    """
    helped = np.asarray(with_answer, dtype=np.bool_)
    if not len(helped) == len(items) == len(reviewers) == len(np.asarray(seconds)):
        raise ValueError("need a condition, an item and a reviewer for every time")
    used = usable(helped, reviewers)
    if min((helped & used).sum(), (~helped & used).sum()) < FEWEST_TIMES:
        return None
    helped = helped[used]
    names = [name for name, kept in zip(reviewers, used, strict=True) if kept]
    whats = [item for item, kept in zip(items, used, strict=True) if kept]
    times, capped = capped_times(np.asarray(seconds, dtype=np.float64)[used], helped, names)
    gain = contrast(times, helped, whats, names, level)
    logs = contrast(np.log(np.maximum(times, _SHORTEST_SECONDS)), helped, whats, names, level)
    unhelped = ~helped
    alone = times[unhelped]
    half = t_quantile(level, len(alone) - 1) * float(alone.std(ddof=1)) / math.sqrt(len(alone))
    mean = float(alone.mean())
    without = Estimate(
        mean, max(0.0, mean - half), mean + half, len(alone), len(set(np.array(whats)[unhelped])), level, "t"
    )
    ratio = replace(
        logs,
        value=math.exp(logs.value),
        low=math.exp(logs.low),
        high=math.exp(logs.high),
        method=f"geometric means, {logs.method}",
    )
    saved = replace(gain, value=-gain.value, low=-gain.high, high=-gain.low)
    return TimeSaved(without, saved, ratio, capped)


def usable(with_answer: Bools, reviewers: Sequence[str]) -> Bools:
    """The times of reviewers with 5 or more in both conditions, shape (times,)."""
    names = np.array(list(reviewers))
    used = np.zeros(len(names), dtype=np.bool_)
    for name in set(reviewers):
        own = names == name
        if min((own & with_answer).sum(), (own & ~with_answer).sum()) >= FEWEST_IN_CONDITION:
            used |= own
    return used


def contrast(
    values: npt.ArrayLike,
    treated: npt.ArrayLike,
    items: Sequence[str],
    reviewers: Sequence[str],
    level: float = 0.95,
    span: float = 0.0,
) -> Estimate:
    """Mean of ``values`` where ``treated`` minus where not, within reviewers; shape (values,).

    The differences of reviewers are weighted by n1·n0/(n1 + n0), as least squares with an effect for each
    reviewer would. Two variances are added (Cameron and Miller 2015, section V): that over items (Welch's,
    summed within an item) and, from two reviewers on, that over reviewers. The interval is Student's t on
    Satterthwaite's degrees of freedom. ``span`` is the width of the range of a bounded value: with it a
    pseudo-value at either end keeps the interval from being a point. Raises ValueError where a reviewer has
    fewer than two values in a condition.
    """
    numbers = np.asarray(values, dtype=np.float64)
    helped = np.asarray(treated, dtype=np.bool_)
    who, what = group_codes(list(reviewers)), group_codes(list(items))
    count = int(who.max()) + 1
    differences, weights = np.zeros(count), np.zeros(count)
    cells = [[(who == r) & (helped == condition) for condition in (False, True)] for r in range(count)]
    for r, (off, on) in enumerate(cells):
        if min(off.sum(), on.sum()) < 2:
            raise ValueError("every reviewer needs two values in each condition")
        differences[r] = numbers[on].mean() - numbers[off].mean()
        weights[r] = on.sum() * off.sum() / (on.sum() + off.sum())
    weights /= weights.sum()
    value = float(weights @ differences)

    scores = np.zeros(len(numbers))
    variances, freedoms = [], []
    for r, pair in enumerate(cells):
        for cell, sign in zip(pair, (-1, 1), strict=True):
            n = int(cell.sum())
            residuals = numbers[cell] - numbers[cell].mean()
            scores[cell] = sign * weights[r] / n * residuals * math.sqrt(n / (n - 1))
            variances.append(float((scores[cell] ** 2).sum()))
            freedoms.append(n - 1)
    over_items = float((np.bincount(what, weights=scores) ** 2).sum())
    over_items = max(over_items, sum(variances) / 2)  # items whose scores happen to cancel prove nothing
    total = sum(variances)
    item_freedom = (
        total**2 / sum(v**2 / f for v, f in zip(variances, freedoms, strict=True)) if total else min(freedoms)
    )
    over_items += sum(span**2 / 2 / (int((helped == one).sum()) + 2) ** 2 for one in (True, False))
    over_reviewers = 0.0
    if count > 1:
        over_reviewers = count / (count - 1) * float((weights**2 * (differences - value) ** 2).sum())
    variance = over_items + over_reviewers
    parts = over_items**2 / item_freedom + over_reviewers**2 / max(1, count - 1)
    freedom = variance**2 / parts if parts else item_freedom
    half = t_quantile(level, max(1, int(freedom))) * math.sqrt(variance)
    return Estimate(
        value,
        value - half,
        value + half,
        len(numbers),
        int(what.max()) + 1,
        level,
        _METHOD if count > 1 else _ONE,
    )
