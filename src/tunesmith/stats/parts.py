"""Is a part of the rows worse off than the rest? For scores of any kind, clustered by group."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import stdtr

from tunesmith.records import Estimate
from tunesmith.stats.clusters import Codes, clustered_ratio, t_quantile
from tunesmith.stats.rates import rate_difference


@dataclass(frozen=True)
class PartDifference:
    """Mean score of a part less that of the rest, and the two-sided p-value that there is no difference."""

    difference: Estimate
    p_value: float


def part_difference(
    scores: npt.ArrayLike, part: npt.ArrayLike, codes: Codes, level: float = 0.95
) -> PartDifference | None:
    """Scores where ``part`` holds, less those elsewhere; None where either holds fewer than two groups.

    ``scores``: shape (rows,), in 0 to 1; ``part``: booleans; ``codes`` numbers the groups. Right and wrong is
    left to :func:`tunesmith.stats.rates.rate_difference` (exact p-value). Other scores: cluster-t on the
    linearised difference, with one pseudo-row at each end of the range joined to each part, and the p-value
    of the same t. Raises ValueError when lengths differ.
    """
    values = np.asarray(scores, dtype=np.float64)
    inside = np.asarray(part, dtype=np.bool_)
    if min(len(np.unique(codes[inside])), len(np.unique(codes[~inside]))) < 2:
        return None
    if np.isin(values, (0.0, 1.0)).all():
        rates = rate_difference(values.astype(np.bool_), inside, codes, level)
        return PartDifference(rates.difference, rates.p_value)
    groups = int(codes.max()) + 1
    x = np.append(values, [1.0, 0.0, 1.0, 0.0])
    d = np.append(inside, [True, True, False, False])
    g = np.append(codes, groups + np.arange(4))
    centre = float(x[d].mean() - x[~d].mean())
    shares = np.where(d, (x - x[d].mean()) / d.sum(), -(x - x[~d].mean()) / (~d).sum())
    error = clustered_ratio(shares * len(x), np.ones(len(x)), g).standard_error or 0.0
    freedom = max(1, min(len(np.unique(codes[inside])), len(np.unique(codes[~inside]))) - 1)
    half = t_quantile(level, freedom) * error
    value = float(values[inside].mean() - values[~inside].mean())
    p_value = 1.0 if error == 0 else min(1.0, 2 * float(stdtr(freedom, -abs(centre) / error)))
    method = "cluster-t on the linearised difference of means, with pseudo-rows"
    low, high = max(-1.0, centre - half), min(1.0, centre + half)
    if math.isnan(low) or math.isnan(high):
        raise ValueError("every score must be finite")
    estimate = Estimate(value, min(value, low), max(value, high), len(values), groups, level, method)
    return PartDifference(estimate, p_value)
