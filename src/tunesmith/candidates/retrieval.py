"""Passages for prompts, found by BM25 or by embeddings.

BM25 (Robertson and Zaragoza 2009, "The Probabilistic Relevance Framework"): the score of a passage is the
sum over the words t of the query, each as often as it stands there, of
idf_t · tf_t (k1 + 1) / (tf_t + k1 (1 − b + b · length / mean length)), where
idf_t = ln(1 + (N − n_t + 0.5) / (n_t + 0.5)) is never negative, as in Lucene.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import CountVectorizer

from tunesmith.files import content_hash
from tunesmith.models.embedding import Embedder
from tunesmith.records import Row

# The usual ones; Robertson and Zaragoza find values of 1.2 to 2 and 0.5 to 0.8 good in general.
K1 = 1.2
B = 0.75


@dataclass(frozen=True)
class Passage:
    """A text that may be shown. ``row_id`` and ``group`` where it is a training row."""

    text: str
    source: str
    row_id: str = ""
    group: str = ""


@dataclass(frozen=True)
class Library:
    """All passages, with their index."""

    passages: tuple[Passage, ...]

    @cached_property
    def sha256(self) -> str:
        """Names the library by what can be found in it."""
        return content_hash([[passage.text, passage.row_id, passage.group] for passage in self.passages])

    @cached_property
    def _words(self) -> CountVectorizer:
        return CountVectorizer(token_pattern=r"\w+").fit([passage.text for passage in self.passages])

    @cached_property
    def _weights(self) -> csr_matrix:
        """What a word adds to the score of a passage, shape (words, passages)."""
        counts = self._words.transform([passage.text for passage in self.passages]).tocoo()
        lengths = np.asarray(counts.sum(axis=1)).ravel()
        containing = np.bincount(counts.col, minlength=counts.shape[1])
        idf = np.log1p((counts.shape[0] - containing + 0.5) / (containing + 0.5))
        relative = lengths[counts.row] / lengths.mean()
        weights = counts.data * (K1 + 1) / (counts.data + K1 * (1 - B + B * relative)) * idf[counts.col]
        return csr_matrix((weights, (counts.col, counts.row)), shape=counts.shape[::-1])

    def find(self, row: Row, count: int) -> tuple[Passage, ...]:
        """Up to ``count`` passages that share words with the row, the best last; none of the row's group."""
        scores = (self._words.transform([row.text]) @ self._weights).toarray().ravel()
        return self._best(row, scores, count, int((scores > 0).sum()))

    def find_by_embeddings(
        self, embedder: Embedder, rows: Sequence[Row], count: int
    ) -> list[tuple[Passage, ...]]:
        """For each row the ``count`` passages of highest cosine, the best last; none of the row's group."""
        known = embedder.known([passage.text for passage in self.passages])
        cosines = embedder.embed([row.text for row in rows]) @ known.T
        return [
            self._best(row, scores, count, len(scores)) for row, scores in zip(rows, cosines, strict=True)
        ]

    def _best(self, row: Row, scores: NDArray[np.floating], count: int, eligible: int) -> tuple[Passage, ...]:
        """Up to ``count`` of the ``eligible`` passages that score highest, the best last."""
        found: list[Passage] = []
        for index in np.argsort(-scores, kind="stable")[:eligible]:
            if len(found) == count:
                break
            passage = self.passages[index]
            own = passage.row_id == row.id or (row.group and passage.group == row.group)
            if not (passage.row_id and own):
                found.append(passage)
        return tuple(reversed(found))


def library_of_rows(train: Sequence[Row]) -> Library:
    """Training rows as passages, each with its answer. Raises ValueError where no row has a word."""
    return _with_words(
        [Passage(f"{row.text}\nAnswer: {row.target}", row.source, row.id, row.group) for row in train]
    )


def library_of_texts(texts: Sequence[tuple[str, str]]) -> Library:
    """Passages from (source, text). Raises ValueError where no text has a word."""
    return _with_words([Passage(text, source) for source, text in texts])


def _with_words(passages: Sequence[Passage]) -> Library:
    kept = tuple(passage for passage in passages if re.search(r"\w", passage.text))
    if not kept:
        raise ValueError("there is no word in any passage")
    return Library(kept)
