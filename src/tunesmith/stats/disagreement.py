"""How unsure a committee of classifiers is, how far it disagrees, and what occurs together too rarely."""

from __future__ import annotations

import numpy as np
from scipy.stats import poisson

from tunesmith.stats.clusters import Floats


def entropy(probabilities: Floats) -> Floats:
    """Shannon entropy over the last axis, in nats."""
    likely = np.maximum(probabilities, 1e-12)
    return np.asarray(-(likely * np.log(likely)).sum(axis=-1))


def disagreement(members: Floats) -> Floats:
    """The mean Kullback-Leibler divergence of each member from the committee's mean, in nats, shape (rows,).

    ``members``: (members, rows, labels) (McCallum and Nigam 1998, "Employing EM and Pool-Based Active
    Learning"). It equals the entropy of the mean less the mean entropy: doubt that more labels would settle.
    """
    return np.asarray(np.maximum(entropy(members.mean(axis=0)) - entropy(members).mean(axis=0), 0.0))


def percentiles(values: Floats) -> Floats:
    """Each value's mid-rank from 0 to 1, shape (rows,); equal values get equal ranks."""
    ordered = np.sort(values)
    low, high = np.searchsorted(ordered, values, "left"), np.searchsorted(ordered, values, "right")
    return np.asarray((low + high) / (2 * len(values)))


def rarely_together(observed: int, expected: float) -> float:
    """The chance of so few rows or fewer, were two things unrelated that ``expected`` rows would then share.

    The lower tail of the Poisson distribution: a little above the hypergeometric's, so on the safe side.
    """
    return float(poisson.cdf(observed, expected))
