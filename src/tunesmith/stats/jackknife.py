"""Intervals and paired gains for metrics of a whole set of rows: F1, MCC, BLEU, AUROC, distinct n-grams.

Such a metric is no mean over rows, so its error is measured by leaving out one group after the other (the
delete-a-group jackknife; Efron and Stein 1981, Shao and Tu 1995, section 2).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tunesmith.errors import UserError
from tunesmith.records import Estimate, PairedGain
from tunesmith.stats.clusters import Codes, Floats, group_codes, t_quantile
from tunesmith.stats.intervals import wilson
from tunesmith.stats.paired import FEWEST_GROUPS

_CELLS_AT_ONCE = 4_000_000


@dataclass(frozen=True)
class Statistic:
    """A metric of ``rows`` rows together.

    ``without`` takes one code per row, shape (rows,), numbered from 0, and gives for each code the value with
    its rows left out, shape (codes,); nan where that is undefined. ``low`` and ``high`` are the range of
    possible values, None where it has no end. ``upward_bias`` is the most that chance alone may have added to
    the value (a calibration error is a sum of absolute values, so noise makes it larger, never smaller).
    ``sums``, shape (rows, parts), and ``of_sums`` say what it is made of, where that is sums over rows alone.
    """

    value: float
    rows: int
    without: Callable[[Codes], Floats]
    low: float | None = 0.0
    high: float | None = 1.0
    upward_bias: float = 0.0
    sums: Floats | None = None
    of_sums: Callable[[Floats], Floats] | None = None

    @property
    def span(self) -> float | None:
        """Width of the range; None where it has no end."""
        return None if self.low is None or self.high is None else self.high - self.low


def statistic_of_sums(
    parts: Floats,
    value: Callable[[Floats], Floats],
    low: float | None = 0.0,
    high: float | None = 1.0,
    upward_bias: float = 0.0,
) -> Statistic:
    """A metric that needs only sums over rows. ``parts``: shape (rows, parts); ``value`` takes sums, shape
    (n, parts), and gives one number for each, shape (n,)."""
    total = parts.sum(axis=0, keepdims=True)

    def without(codes: Codes) -> Floats:
        number = int(codes.max()) + 1
        order = np.argsort(codes, kind="stable")
        starts = np.searchsorted(codes[order], np.arange(number))
        sums = np.add.reduceat(parts[order], starts, axis=0)
        at_once = max(1, _CELLS_AT_ONCE // parts.shape[1])
        pieces = [value(total - sums[start : start + at_once]) for start in range(0, number, at_once)]
        return np.concatenate(pieces)

    return Statistic(float(value(total)[0]), len(parts), without, low, high, upward_bias, parts, value)


def jackknife_interval(statistic: Statistic, groups: Sequence[str], level: float = 0.95) -> Estimate:
    """The value with an interval from leaving out each group; ``groups``: one per row.

    The variance is (G−1)/G·Σ(θ₍g₎ − mean)², with one pseudo-row at each end of the range added, so that a
    set without a mistake still has an interval. Metrics with a range get Wilson's interval on the effective
    sample size this variance implies (as shares do), others θ ± t·error, with Student's t of G − 1. The
    interval holds those around the value and around the value less the jackknife's estimate of its bias.
    (Simulated, 800 runs each: 300 rows of 20 labels and 100 rows of 3 labels with F1 0.93, single rows and
    clusters of up to 4; the intervals of macro-F1, weighted F1, balanced accuracy, macro-precision and MCC
    miss the truth in 2.1 to 5.4 % of runs. In 400 runs of such 100 rows plain θ ± t·error missed the
    macro-precision in 11 %.)
    Raises UserError (exit code 3) with fewer than two groups, or where leaving one out leaves no value.
    """
    codes = _codes(statistic, groups)
    left_out = _left_out(statistic, codes)
    number = len(left_out)
    centres = _centres(statistic.value, left_out)
    variance = _variance(left_out)
    critical = t_quantile(level, number - 1)
    if statistic.low is not None and statistic.span:
        lowest, span = statistic.low, statistic.span
        share = (statistic.value - lowest) / span
        pseudo = number / (number - 1) * (share**2 + (1 - share) ** 2) / (statistic.rows + 2) ** 2
        smoothed = (statistic.rows * share + 1) / (statistic.rows + 2)
        effective = smoothed * (1 - smoothed) / (variance / span**2 + pseudo)
        shares = [min(1.0, max(0.0, (centre - lowest) / span)) for centre in centres]
        bounds = [wilson(one, effective, critical) for one in shares]
        low = lowest + span * min(low for low, _ in bounds)
        high = lowest + span * max(high for _, high in bounds)
        method = "delete-a-group jackknife, Wilson on the effective sample size"
    else:
        half = critical * math.sqrt(variance)
        low, high = min(centres) - half, max(centres) + half
        method = "delete-a-group jackknife, Student's t"
    return Estimate(
        value=statistic.value,
        low=_at_least(low - statistic.upward_bias, statistic.low),
        high=max(high, statistic.value),
        rows=statistic.rows,
        groups=number,
        level=level,
        method=method,
    )


def jackknife_gain(
    candidate: Statistic,
    rival: Statistic,
    groups: Sequence[str],
    opponent: str,
    alpha_one_sided: float,
    larger_is_better: bool = True,
    differs: npt.NDArray[np.bool_] | None = None,
) -> PairedGain:
    """``candidate`` minus ``rival`` (the other way round where smaller is better), both of the same rows.

    Leaving a group out of both at once gives the variance of the difference; with a range, one pseudo-win and
    one pseudo-loss join, as in ``paired_gain``, and the interval holds those around the value and around the
    value less its bias. A row's own share in the difference is its pseudo-value (leaving out that row):
    ``wins`` and ``losses`` count their signs, among the rows where ``differs`` (the answers are not the
    same), and ``discordant`` is their mean square; for a mean over rows these are its per-row differences.
    Fewer than 50 groups: bounds and standard error are None (unmeasured). Errors as in
    ``jackknife_interval``; ValueError when the two have different rows or the level is out of range.
    """
    if not 0 < alpha_one_sided < 0.5:
        raise ValueError(f"a one-sided level lies between 0 and 0.5, got {alpha_one_sided}")
    if candidate.rows != rival.rows:
        raise ValueError(f"need the same rows, got {candidate.rows} and {rival.rows}")
    codes = _codes(candidate, groups)
    sign = 1.0 if larger_is_better else -1.0
    value = sign * (candidate.value - rival.value)
    by_group = sign * (_left_out(candidate, codes) - _left_out(rival, codes))
    number, rows = len(by_group), candidate.rows
    singles = np.arange(rows)
    by_row = by_group if number == rows else sign * (candidate.without(singles) - rival.without(singles))
    shares = value + (rows - 1) * (value - by_row)

    span = candidate.span
    pseudo = 0.0 if span is None else 2 * (span / (rows + 2)) ** 2
    shrink = 1.0 if span is None else rows / (rows + 2)
    variance = _variance(by_group) * shrink**2 + number / (number - 1) * pseudo
    independent = float(np.var(shares, ddof=1)) / rows * shrink**2 + rows / (rows - 1) * pseudo
    error = math.sqrt(variance)
    half = t_quantile(1 - 2 * alpha_one_sided, number - 1) * error
    centres = [shrink * centre for centre in _centres(value, by_group)]
    own, other = candidate.upward_bias, rival.upward_bias
    down, up = (own, other) if larger_is_better else (other, own)
    low = _at_least(min(centres) - half - down, None if span is None else -span)
    high = _at_most(max(centres) + half + up, span)
    measured = number >= FEWEST_GROUPS
    counted = shares if differs is None else shares[differs]
    rounding = 1e-9 * max(1.0, float(np.abs(shares).max()))
    return PairedGain(
        opponent=opponent,
        value=value,
        low=low if measured else None,
        high=high if measured else None,
        level=1 - 2 * alpha_one_sided,
        rows=rows,
        groups=number,
        wins=int((counted > rounding).sum()),
        losses=int((counted < -rounding).sum()),
        discordant=float(np.mean(shares**2)),
        design_effect=variance / independent if independent > 0 else 1.0,
        standard_error=error if measured else None,
        mcnemar_p=None,
    )


def noise_in_absolute_means(parts: Floats, groups: Sequence[str]) -> float:
    """The most that noise may have added to Σ|mean of a column|; ``parts``: shape (rows, columns).

    √(2/π) times each mean's clustered standard error, summed: E|m + σZ| − |m| is that much at m = 0 and less
    elsewhere.
    """
    codes = group_codes(groups)
    by_group = np.zeros((int(codes.max()) + 1, parts.shape[1]))
    np.add.at(by_group, codes, parts)
    errors = np.sqrt(((by_group - by_group.mean(axis=0)) ** 2).sum(axis=0)) / len(parts)
    return math.sqrt(2 / math.pi) * float(errors.sum())


def _codes(statistic: Statistic, groups: Sequence[str]) -> Codes:
    if len(groups) != statistic.rows or not groups:
        raise ValueError(f"need one group for each of {statistic.rows} rows, got {len(groups)}")
    codes = group_codes(groups)
    if codes.max() == 0:
        raise UserError(
            f"an interval needs at least 2 groups, found 1 ({len(groups)} rows)",
            "give more data, or check that the rows do not all share one group",
            exit_code=3,
        )
    return codes


def _left_out(statistic: Statistic, codes: Codes) -> Floats:
    values = statistic.without(codes)
    if not (math.isfinite(statistic.value) and np.isfinite(values).all()):
        raise UserError(
            "the rows this is about lie in fewer than 2 groups, so it has no interval",
            "give more rows of the kind that it measures",
            exit_code=3,
        )
    return values


def _centres(value: float, left_out: Floats) -> tuple[float, float]:
    """The value itself, and less its bias by the jackknife (Quenouille 1956)."""
    return value, value - (len(left_out) - 1) * (float(left_out.mean()) - value)


def _variance(left_out: Floats) -> float:
    number = len(left_out)
    return (number - 1) / number * float(((left_out - left_out.mean()) ** 2).sum())


def _at_least(number: float, bound: float | None) -> float:
    return number if bound is None else max(number, bound)


def _at_most(number: float, bound: float | None) -> float:
    return number if bound is None else min(number, bound)
