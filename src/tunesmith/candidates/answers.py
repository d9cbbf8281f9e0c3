"""What every candidate returns: one label and its probability per row."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Answers:
    """``labels[i]`` answers row i. ``probabilities`` [rows] belong to the answers and are None where a
    candidate has none; ``tokens`` went through a language model."""

    labels: list[str]
    probabilities: NDArray[np.float64] | None
    tokens: int


def answers_from_scores(scores: NDArray[np.float64], labels: tuple[str, ...], tokens: int) -> Answers:
    """The label with the highest score (log scale) per row, normalised over the label set."""
    best = scores.argmax(axis=1)
    shifted = np.exp(scores - scores.max(axis=1, keepdims=True))
    probabilities = shifted / shifted.sum(axis=1, keepdims=True)
    return Answers([labels[index] for index in best], probabilities[np.arange(len(best)), best], tokens)
