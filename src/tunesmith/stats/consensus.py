"""What several annotators together say about each item, and how reliable each of them is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_SMOOTHING = 0.01  # pseudo-counts, so that a pair of labels that was never confused is not impossible


@dataclass(frozen=True)
class Consensus:
    """The result of :func:`dawid_skene`.

    ``labels`` names the columns; ``probabilities``: (items, labels), rows sum to 1; ``confusion``:
    (annotators, true label, given label), the last axis sums to 1; ``iterations`` that EM took.
    """

    labels: tuple[str, ...]
    annotators: tuple[str, ...]
    probabilities: Floats
    prior: Floats
    confusion: Floats
    iterations: int

    def answers(self) -> list[str]:
        """The most probable label of each item; the first in the alphabet on a tie."""
        return [self.labels[index] for index in self.probabilities.argmax(axis=1)]

    def accuracy(self) -> dict[str, float]:
        """Each annotator's estimated chance of giving the true label."""
        return {
            name: float(self.prior @ np.diagonal(self.confusion[index]))
            for index, name in enumerate(self.annotators)
        }


def dawid_skene(
    annotations: Sequence[tuple[int, str, str]], items: int, iterations: int = 200, tolerance: float = 1e-6
) -> Consensus:
    """Consensus labels by expectation–maximisation (Dawid and Skene 1979), started from majority votes.

    ``annotations`` are (item, annotator, label), items counted from 0; an item without any gets the prior.
    EM ends when no probability moves by more than ``tolerance``. Raises ValueError when there are none.
    """
    if not annotations:
        raise ValueError("no annotations")
    labels = tuple(sorted({label for _, _, label in annotations}))
    annotators = tuple(sorted({annotator for _, annotator, _ in annotations}))
    number = {label: index for index, label in enumerate(labels)}
    who = {annotator: index for index, annotator in enumerate(annotators)}
    item = np.array([item for item, _, _ in annotations])
    annotator = np.array([who[name] for _, name, _ in annotations])
    given = np.array([number[label] for _, _, label in annotations])

    votes = np.zeros((items, len(labels)))
    np.add.at(votes, (item, given), 1.0)
    probabilities = _normalised(votes + (votes.sum(axis=1, keepdims=True) == 0))
    done, moved = 0, np.inf
    while done < iterations and moved > tolerance:
        prior = _normalised(probabilities.sum(axis=0) + _SMOOTHING)
        confusion = np.full((len(annotators), len(labels), len(labels)), _SMOOTHING)
        np.add.at(confusion.swapaxes(1, 2), (annotator, given), probabilities[item])
        confusion = _normalised(confusion)
        logarithms = np.tile(np.log(prior), (items, 1))
        np.add.at(logarithms, item, np.log(confusion.swapaxes(1, 2)[annotator, given]))
        updated = _normalised(np.exp(logarithms - logarithms.max(axis=1, keepdims=True)))
        moved = float(np.abs(updated - probabilities).max())
        probabilities = updated
        done += 1
    return Consensus(labels, annotators, probabilities, prior, confusion, done)


def _normalised(values: Floats) -> Floats:
    normalised: Floats = values / values.sum(axis=-1, keepdims=True)
    return normalised
