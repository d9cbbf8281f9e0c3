"""The training rows most like a row, by TF-IDF or by embeddings."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer

from tunesmith.models.embedding import Embedder
from tunesmith.records import Row

# Similarities to all of train are held for this many rows at a time.
ROWS_COMPARED_TOGETHER = 256


def most_similar(train: Sequence[Row], rows: Sequence[Row], count: int) -> list[list[tuple[Row, float]]]:
    """The ``count`` training rows most like each row, the most similar first, with their TF-IDF cosine.

    A row is never shown itself, nor a near-duplicate of its group.
    """
    vectorizer = TfidfVectorizer(token_pattern=r"\b\w+\b", ngram_range=(1, 2), sublinear_tf=True)
    try:
        known = vectorizer.fit_transform([row.text for row in train]).T.tocsr()
    except ValueError:  # no words at all ("👍👍"): characters then
        vectorizer = TfidfVectorizer(analyzer="char", sublinear_tf=True)
        known = vectorizer.fit_transform([row.text for row in train]).T.tocsr()
    near: list[list[tuple[Row, float]]] = []
    for start in range(0, len(rows), ROWS_COMPARED_TOGETHER):
        asked = rows[start : start + ROWS_COMPARED_TOGETHER]
        similar = (vectorizer.transform([row.text for row in asked]) @ known).toarray()
        near += _best(train, asked, similar, count)
    return near


def nearest(
    train: Sequence[Row], rows: Sequence[Row], count: int, embedder: Embedder | None = None
) -> list[list[Row]]:
    """The training rows most like each row, by TF-IDF or by ``embedder``; the nearest last."""
    if embedder is None:
        found = most_similar(train, rows, count)
    else:
        known = embedder.known([row.text for row in train])
        found = _best(train, rows, embedder.embed([row.text for row in rows]) @ known.T, count)
    return [[row for row, _ in reversed(near)] for near in found]


def _best(
    train: Sequence[Row], rows: Sequence[Row], similar: NDArray[np.floating], count: int
) -> list[list[tuple[Row, float]]]:
    """The ``count`` best of ``similar`` [rows, train] for each row, but for itself and its group."""
    ids, groups = np.array([row.id for row in train]), np.array([row.group for row in train])
    near = []
    for row, cosines in zip(rows, similar, strict=True):
        own = (ids == row.id) | ((groups == row.group) & (row.group != ""))
        order = np.argsort(np.where(own, np.inf, -cosines), kind="stable")[: min(count, int((~own).sum()))]
        near.append([(train[index], float(cosines[index])) for index in order])
    return near
