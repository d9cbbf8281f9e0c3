""" "None of these": every kind of candidate gives no label to a row that it is not sure enough of.

The score is the probability, over all labels, of the best label other than "none of these". A label is given
where it reaches the threshold and, with a candidate that learned such rows as a label of their own, is
likelier than that one. Whoever makes a candidate chooses its threshold on validation; from then on its
settings hold it, and its id says so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tunesmith.candidates.answers import Answers
from tunesmith.files import content_hash
from tunesmith.records import Candidate, Row, Settings


@dataclass(frozen=True)
class Scoping:
    """``threshold`` chooses one, of validation rows and their scores [rows]."""

    none_label: str
    threshold: Callable[[Sequence[Row], NDArray[np.float64]], float]


@dataclass(frozen=True)
class InScope:
    """For each row the best label that is not "none of these", its probability, and whether it is the
    likeliest of all."""

    labels: list[str]
    probabilities: NDArray[np.float64]
    likeliest: NDArray[np.bool_]


def best_in_scope(scores: NDArray[np.float64], labels: Sequence[str], none_label: str) -> InScope:
    """The best label other than ``none_label``, with its probability over all ``labels``.

    ``scores`` [rows, labels] are log-probabilities, or decision values, already divided by a temperature.
    """
    shares = np.exp(scores - scores.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    inside = np.array([index for index, label in enumerate(labels) if label != none_label])
    best = inside[scores[:, inside].argmax(axis=1)]
    likeliest = best == scores.argmax(axis=1)
    return InScope([labels[index] for index in best], shares[np.arange(len(best)), best], likeliest)


def threshold_of(candidate: Candidate) -> float | None:
    """Below this probability the candidate answers "none of these"; None where it always gives a label."""
    threshold = candidate.settings.get("threshold")
    return None if threshold is None else float(str(threshold))


def scoped(
    candidate: Candidate, scoping: Scoping, rows: Sequence[Row], best: InScope, more: Settings
) -> Candidate:
    """``candidate`` with the threshold that suits its ``best`` labels of validation ``rows``.

    ``more`` are further settings that decide these answers.
    """
    threshold = scoping.threshold(rows, np.where(best.likeliest, best.probabilities, 0.0))
    chosen: Settings = {**more, "none_label": scoping.none_label, "threshold": threshold}
    identity = content_hash([candidate.id, chosen])
    return replace(candidate, id=identity, settings={**candidate.settings, **chosen})


def with_none(candidate: Candidate, best: InScope, tokens: int) -> Answers:
    """``best`` as a candidate with a threshold answers it.

    The probability of "none of these" is that the best label does not fit.
    """
    threshold, none_label = float(str(candidate.settings["threshold"])), str(candidate.settings["none_label"])
    given = best.likeliest & (best.probabilities >= threshold)
    labels = [label if fits else none_label for label, fits in zip(best.labels, given, strict=True)]
    return Answers(labels, np.where(given, best.probabilities, 1 - best.probabilities), tokens)
