"""What candidates share: labels as tokens, what choices go by, and what is returned, an answer per row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tunesmith.engine.trees import LabelTree, label_tree
from tunesmith.models.loading import LoadedModel
from tunesmith.models.rendering import label_tokens
from tunesmith.records import Row


@dataclass(frozen=True)
class Answers:
    """``labels[i]`` answers row i: a label, or a text that was written.

    ``probabilities`` [rows] belong to the answers and are None where a candidate has none; ``tokens`` went
    through a language model; ``spend`` is what an endpoint charged for them, and ``seconds`` how long it
    took, also for answers that were kept.
    """

    labels: list[str]
    probabilities: NDArray[np.float64] | None
    tokens: int
    spend: float = 0.0
    seconds: float | None = None


# What choices on validation go by, larger when better: of rows and the answers to them.
Value = Callable[[Sequence[Row], Sequence[str]], float]


def accuracy(rows: Sequence[Row], answers: Sequence[str]) -> float:
    """Share of the rows whose answer is the target."""
    wanted = np.array([row.target for row in rows])
    return float((np.array(answers) == wanted).mean())


def task_tree(loaded: LoadedModel, labels: Sequence[str]) -> LabelTree:
    """The labels of a task as the base's tokens. Raises UserError where the base cannot tell two apart."""
    return label_tree(label_tokens(loaded, labels), loaded.end_token)


def answers_from_scores(scores: NDArray[np.float64], labels: tuple[str, ...], tokens: int) -> Answers:
    """The label with the highest score (log scale) per row, normalised over the label set."""
    best = scores.argmax(axis=1)
    shifted = np.exp(scores - scores.max(axis=1, keepdims=True))
    probabilities = shifted / shifted.sum(axis=1, keepdims=True)
    return Answers([labels[index] for index in best], probabilities[np.arange(len(best)), best], tokens)
