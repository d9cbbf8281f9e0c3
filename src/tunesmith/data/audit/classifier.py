"""A fast classifier on n-grams, cross-validated by group: what the rows themselves say about a label."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.decomposition import TruncatedSVD
from sklearn.linear_model import LogisticRegression

from tunesmith.data.audit.ngrams import ngram_matrix
from tunesmith.data.duplicates import compared_text
from tunesmith.records import Row

FOLDS = 5
DIMENSIONS = 400
INVERSE_PENALTY = 30.0
BASIS_ROWS = 20_000  # more rows hardly turn the 400 directions in which texts differ most

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class CrossValidated:
    """Held-out class probabilities: each row's come from a model that saw no row of its group.

    ``probabilities``: (rows, labels), rows sum to 1; ``targets`` index into ``labels``.
    """

    labels: tuple[str, ...]
    targets: npt.NDArray[np.intp]
    probabilities: Floats

    @property
    def of_target(self) -> Floats:
        """The probability of each row's own label, shape (rows,)."""
        return self.probabilities[np.arange(len(self.targets)), self.targets]

    @property
    def right(self) -> npt.NDArray[np.bool_]:
        """Whether the most probable label is the row's own, shape (rows,)."""
        right: npt.NDArray[np.bool_] = self.probabilities.argmax(axis=1) == self.targets
        return right


def text_features(rows: Sequence[Row]) -> Floats | None:
    """Unit vectors of word and character n-grams (TF-IDF, truncated SVD), shape (rows, ≤ 400).

    The directions of the SVD are those of at most 20,000 rows, evenly spaced. None where the texts have no
    words and no characters in common.
    """
    matrix = ngram_matrix([compared_text(row) for row in rows])
    if matrix is None:
        return None
    basis = matrix[:: max(1, -(-len(rows) // BASIS_ROWS))]
    dimensions = min(DIMENSIONS, basis.shape[0] - 1, basis.shape[1] - 1)
    if dimensions < 2:
        return None
    vectors: Floats = TruncatedSVD(dimensions, n_iter=2, random_state=0).fit(basis).transform(matrix)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return vectors


def group_folds(
    groups: Sequence[str], targets: Sequence[str], folds: int, seed: int = 0
) -> npt.NDArray[np.intp]:
    """The fold of each row: whole groups, spread evenly over labels, whatever the order of rows."""
    label = dict(zip(reversed(groups), reversed(targets), strict=True))
    order = sorted(label, key=lambda group: (label[group], _hash(seed, group)))
    fold = {group: place % folds for place, group in enumerate(order)}
    return np.array([fold[group] for group in groups], dtype=np.intp)


def cross_validate(
    vectors: Floats,
    targets: Sequence[str],
    groups: Sequence[str],
    left_out: npt.NDArray[np.bool_] | None = None,
    fold: npt.NDArray[np.intp] | None = None,
) -> CrossValidated:
    """Held-out probabilities of a multinomial logistic regression, five folds of whole groups.

    Rows that are ``left_out``, shape (rows,), are predicted but never trained on. A label that a fold's
    training rows lack gets probability 0 there. ``fold`` (rows,) : :func:`group_folds` unless given.
    """
    labels = tuple(sorted(set(targets)))
    number = {label: index for index, label in enumerate(labels)}
    codes = np.array([number[target] for target in targets], dtype=np.intp)
    fold = group_folds(groups, targets, FOLDS) if fold is None else fold
    probabilities = np.zeros((len(codes), len(labels)))
    for held_out in range(FOLDS):
        train, test = fold != held_out, fold == held_out
        if left_out is not None:
            train &= ~left_out
        if not test.any():
            continue
        known = np.unique(codes[train])
        if len(known) == 1:
            probabilities[np.ix_(test, known)] = 1.0
            continue
        model = LogisticRegression(C=INVERSE_PENALTY, max_iter=100, tol=1e-3)
        model.fit(vectors[train], codes[train])
        probabilities[np.ix_(test, model.classes_)] = model.predict_proba(vectors[test])
    return CrossValidated(labels, codes, probabilities)


def _hash(seed: int, text: str) -> str:
    return hashlib.sha256(f"{seed}:{text}".encode()).hexdigest()
