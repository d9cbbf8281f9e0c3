""" "None of these": every kind of candidate gives no label to a row that it is not sure enough of.

The score is the probability, over all labels, of the best label other than "none of these"; a candidate that
was trained on such rows as a label of their own gives them little of it. Whoever makes a candidate chooses
its threshold on validation; from then on its settings hold it, and its id says so.
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


def answers_in_scope(
    scores: NDArray[np.float64], labels: Sequence[str], none_label: str, tokens: int = 0
) -> Answers:
    """The best label other than ``none_label``, with its probability over all ``labels``.

    ``scores`` [rows, labels] are log-probabilities, or decision values, already divided by a temperature.
    """
    shares = np.exp(scores - scores.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    inside = np.array([index for index, label in enumerate(labels) if label != none_label])
    best = inside[scores[:, inside].argmax(axis=1)]
    return Answers([labels[index] for index in best], shares[np.arange(len(best)), best], tokens)


def threshold_of(candidate: Candidate) -> float | None:
    """Below this probability the candidate answers "none of these"; None where it always gives a label."""
    threshold = candidate.settings.get("threshold")
    return None if threshold is None else float(str(threshold))


def scoped(
    candidate: Candidate, scoping: Scoping, rows: Sequence[Row], best: Answers, more: Settings
) -> Candidate:
    """``candidate`` with the threshold that suits its answers ``best`` to validation ``rows``.

    ``more`` are further settings that decide these answers.
    """
    assert best.probabilities is not None  # of answers_in_scope
    threshold = scoping.threshold(rows, best.probabilities)
    chosen: Settings = {**more, "none_label": scoping.none_label, "threshold": threshold}
    identity = content_hash([candidate.id, chosen])
    return replace(candidate, id=identity, settings={**candidate.settings, **chosen})


def with_none(candidate: Candidate, best: Answers) -> Answers:
    """``best`` as the candidate answers it: "none of these" below its threshold.

    The probability of such an answer is that the best label does not fit.
    """
    threshold, none_label = threshold_of(candidate), str(candidate.settings["none_label"])
    assert threshold is not None
    assert best.probabilities is not None
    given = best.probabilities >= threshold
    labels = [label if fits else none_label for label, fits in zip(best.labels, given, strict=True)]
    return Answers(labels, np.where(given, best.probabilities, 1 - best.probabilities), best.tokens)
