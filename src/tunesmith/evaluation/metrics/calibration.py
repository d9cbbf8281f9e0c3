"""Do stated probabilities mean what they say?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tunesmith.evaluation.metrics.answered import Answered, RowScores, needed
from tunesmith.evaluation.metrics.classification import accuracy
from tunesmith.records import Estimate
from tunesmith.stats.clusters import Codes, Floats
from tunesmith.stats.intervals import proportion_interval
from tunesmith.stats.jackknife import Statistic, noise_in_absolute_means, statistic_of_sums

# Equal widths from 0 to 1, as in Guo et al. 2017, "On Calibration of Modern Neural Networks".
BINS = 15


@dataclass(frozen=True)
class ReliabilityBin:
    """Answers with a confidence in [low, high): how confident on average, and how often right."""

    low: float
    high: float
    confidence: float
    right: Estimate


def ece(answered: Answered) -> Statistic:
    """Expected calibration error: |share right − mean confidence| in 15 equal bins, by rows.

    Noise adds to a sum of absolute values: a perfectly calibrated candidate has an ECE above 0 (the more bins
    to the rows, the further). The interval reaches down by the most that may be owed to that.
    """
    confidences, right = _confidences(answered), accuracy(answered).scores
    bins = _bins(confidences)
    gaps = np.zeros((len(right), BINS + 1))
    gaps[np.arange(len(right)), bins] = right - confidences
    gaps[:, BINS] = 1

    def value(sums: Floats) -> Floats:
        return np.asarray(np.abs(sums[:, :BINS]).sum(axis=1) / sums[:, BINS])

    return statistic_of_sums(
        gaps, value, upward_bias=noise_in_absolute_means(gaps[:, :BINS], answered.groups)
    )


def overconfidence(answered: Answered) -> RowScores:
    """Mean confidence less accuracy: above 0 where the candidate is surer than it is right."""
    return RowScores(_confidences(answered) - accuracy(answered).scores, low=-1.0)


def brier(answered: Answered) -> RowScores:
    """Mean squared distance of the confidence from right (1) or wrong (0): Brier's score of the answer given.

    Equals scikit-learn's ``brier_score_loss(right, confidences)``.
    """
    return RowScores((_confidences(answered) - accuracy(answered).scores) ** 2)


def brier_labels(answered: Answered) -> RowScores:
    """Brier's score (1950): Σ over all labels of (probability − is it the target)², from 0 to 2."""
    probabilities = needed(answered.label_probabilities, "brier_labels", "probability for every label")
    place = {label: column for column, label in enumerate(answered.labels)}
    wanted = np.zeros_like(probabilities)
    outside = np.zeros(len(wanted))
    for row, target in enumerate(answered.targets):
        column = place.get(target)
        if column is None:
            outside[row] = 1.0
        else:
            wanted[row, column] = 1.0
    return RowScores(((probabilities - wanted) ** 2).sum(axis=1) + outside, high=2.0)


def reliability(answered: Answered, level: float = 0.95) -> tuple[ReliabilityBin, ...]:
    """The bins of ``ece`` that hold an answer, for a reliability diagram."""
    confidences, right = _confidences(answered), accuracy(answered).scores
    bins, groups = _bins(confidences), np.array(answered.groups)
    return tuple(
        ReliabilityBin(
            low=number / BINS,
            high=(number + 1) / BINS,
            confidence=float(confidences[bins == number].mean()),
            right=proportion_interval(right[bins == number], groups[bins == number].tolist(), level),
        )
        for number in np.unique(bins).tolist()
    )


def _confidences(answered: Answered) -> Floats:
    return np.asarray(needed(answered.confidences, "calibration", "probability for its answers"))


def _bins(confidences: Floats) -> Codes:
    return np.minimum((confidences * BINS).astype(np.intp), BINS - 1)
