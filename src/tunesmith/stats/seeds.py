"""How much a result owes to its seed: the mean and the spread of one score over several trainings."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from scipy.special import chdtri

from tunesmith.records import Answer, Estimate
from tunesmith.stats.clusters import t_quantile

# With two seeds the spread is known to a factor of 30 at best.
FEWEST_SEEDS = 3


def mean_over_seeds(scores: Sequence[float], level: float = 0.95) -> Estimate:
    """The mean score of ``scores`` (one for each of two or more seeds) with Student's interval.

    It is about other seeds on the same rows: how the score would vary over other rows is not in it. ``rows``
    and ``groups`` of the estimate count seeds.
    """
    mean = statistics.mean(scores)
    half = t_quantile(level, len(scores) - 1) * statistics.stdev(scores) / math.sqrt(len(scores))
    return Estimate(mean, mean - half, mean + half, len(scores), len(scores), level, "Student's t over seeds")


def spread_over_seeds(scores: Sequence[float], level: float = 0.95) -> Estimate:
    """Their standard deviation with the chi-squared interval of a normal one; rows and groups as above."""
    deviation, freedom = statistics.stdev(scores), len(scores) - 1
    low, high = (
        deviation * math.sqrt(freedom / float(chdtri(freedom, tail)))
        for tail in ((1 - level) / 2, (1 + level) / 2)
    )
    return Estimate(
        deviation, low, high, len(scores), len(scores), level, "chi-squared, standard deviation over seeds"
    )


def seed_noise(scores: Sequence[float], alpha_one_sided: float = 0.05) -> float:
    """How much lower than the mean of ``scores`` one more seed may come out: a one-sided prediction bound."""
    critical = t_quantile(1 - 2 * alpha_one_sided, len(scores) - 1)
    return critical * statistics.stdev(scores) * math.sqrt(1 + 1 / len(scores))


def beyond_seed_noise(gain: float, scores: Sequence[float], alpha_one_sided: float = 0.05) -> Answer:
    """Is ``gain`` larger than what another seed may take away? Unmeasured for fewer than three seeds."""
    if len(scores) < FEWEST_SEEDS:
        return "unmeasured"
    return "passed" if gain > seed_noise(scores, alpha_one_sided) else "failed"
