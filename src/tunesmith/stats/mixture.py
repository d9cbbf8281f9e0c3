"""How much of one distribution can be hidden in another."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from tunesmith.records import Estimate
from tunesmith.stats.intervals import wilson

# The shares of the component's mass below a threshold at which the two distributions are compared.
QUANTILES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
NARROW = 2  # the third tail still holds enough rows to count
STEADY = 1.5


def largest_share(
    observed: npt.ArrayLike, component: npt.ArrayLike, level: float = 0.95
) -> tuple[Estimate, bool]:
    """The largest share of ``observed`` that can come from ``component``, and whether that share is there.

    Both are scores, shapes (rows,) and (draws,), small where the component is. In every tail a mixture holds
    at least its share times the component's mass, so the smallest ratio over the tails bounds the share from
    above (mixture proportion estimation; Blanchard, Lee and Scott 2010). In a tail that holds nothing else
    the ratio is the share itself. Rows of another kind thin out towards narrow tails: where the ratio of a
    narrow tail is as high (within a factor of 1.5 and its interval) as the one that bounds the share, the
    second answer is True. Where it is lower, the share is no more than a bound.

    The interval is Wilson's in the tail with the lowest upper bound, at a level corrected for the number of
    tails (Bonferroni). Raises ValueError when either is empty.
    """
    scores, drawn = np.sort(np.asarray(observed, np.float64)), np.sort(np.asarray(component, np.float64))
    if not len(scores) or not len(drawn):
        raise ValueError("need observed and component scores")
    critical = NormalDist().inv_cdf(1 - (1 - level) / 2 / len(QUANTILES))
    tails = []
    for threshold in np.quantile(drawn, QUANTILES):
        mass = float(np.searchsorted(drawn, threshold, side="right")) / len(drawn)
        held = float(np.searchsorted(scores, threshold, side="right")) / len(scores)
        low, high = wilson(held, len(scores), critical)
        tails.append((held / mass, low / mass, high / mass))
    value, low, high = min(tails, key=lambda tail: tail[2])
    there = low > 0 and tails[NARROW][2] * STEADY >= value and tails[NARROW][0] * STEADY**2 >= value
    rows = len(scores)
    estimate = Estimate(
        min(1.0, value), min(1.0, low), min(1.0, high), rows, rows, level, "smallest tail ratio, Wilson"
    )
    return estimate, there
