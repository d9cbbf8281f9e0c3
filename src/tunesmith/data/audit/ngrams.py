"""TF-IDF of n-grams. What is inside a word is counted once a word, not once a text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix, csr_matrix, hstack
from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer

from tunesmith.data.numbered import NumberedWords, numbered_words

MOST_CHARACTERS = 2000  # of a long text its beginning says what it is about
FEWEST_TEXTS = 2


def ngram_matrix(texts: Sequence[str], characters: bool = True) -> csr_matrix | None:
    """TF-IDF of words, word pairs and character n-grams that occur in two texts or more; None without any.

    The same numbers as of scikit-learn's TfidfVectorizer (``\\b\\w+\\b``, 1 and 2 words; ``char_wb``, 2 to 4
    characters; sublinear), columns in the order of their n-grams, words first; shape (texts, n-grams).
    """
    words = CountVectorizer(token_pattern=r"\b\w+\b").build_analyzer()
    found = [_weighted(*_of_words(numbered_words(words(text[:MOST_CHARACTERS]) for text in texts)))]
    if characters:
        ngrams = CountVectorizer(analyzer="char_wb", ngram_range=(2, 4), lowercase=False).build_analyzer()
        spaced = numbered_words(text[:MOST_CHARACTERS].lower().split() for text in texts)
        found.append(_weighted(*word_parts(spaced, ngrams)))
    kept = [matrix for matrix in found if matrix is not None]
    return csr_matrix(hstack(kept)) if kept else None


def word_counts(texts: NumberedWords) -> csr_matrix:
    """How often each text has each word, shape (texts, words)."""
    ones = np.ones(len(texts.numbers), np.int32)
    shape = len(texts.lengths), len(texts.words)
    return csr_matrix(coo_matrix((ones, (texts.owners, texts.numbers)), shape))


def word_parts(
    texts: NumberedWords, parts: Callable[[str], Iterable[str]]
) -> tuple[csr_matrix, tuple[str, ...]]:
    """How often each text has each part of its words, shape (texts, parts), and the parts as met."""
    in_words = numbered_words(list(parts(word)) for word in texts.words)
    counts = csr_matrix(word_counts(texts) @ word_counts(in_words))
    counts.sort_indices()
    return counts, in_words.words


def _of_words(texts: NumberedWords) -> tuple[csr_matrix, list[str]]:
    """How often each text has each word and each pair of neighbours that occur in two texts or more.

    Columns are in the order in which scikit-learn meets them (text by text, words before pairs): sums of
    rounded numbers depend on their order, and so would all that follows.
    """
    owners, words = texts.owners, texts.words
    inside = np.flatnonzero(owners[1:] == owners[:-1])
    pairs = texts.numbers[inside].astype(np.int64) * len(words) + texts.numbers[inside + 1]
    different, first, place = np.unique(pairs, return_index=True, return_inverse=True)
    ones = np.ones(len(pairs), np.int32)
    counts = csr_matrix(coo_matrix((ones, (owners[inside], place)), (len(texts.lengths), len(different))))
    often = _in_enough_texts(counts)
    names = [
        *words,
        *(f"{words[pair // len(words)]} {words[pair % len(words)]}" for pair in different[often].tolist()),
    ]
    met = np.concatenate([np.unique(texts.numbers, return_index=True)[1], inside[first[often]]])
    order = np.lexsort((met, np.arange(len(names)) >= len(words), owners[met]))
    rank = np.argsort(order)
    both = csr_matrix(hstack([word_counts(texts), counts[:, often]]))
    both = csr_matrix((both.data, rank[both.indices], both.indptr), both.shape)
    both.sort_indices()
    return both, [names[column] for column in order.tolist()]


def _weighted(counts: csr_matrix, names: Sequence[str]) -> csr_matrix | None:
    """TF-IDF of what occurs in two texts or more, in the order of the names; None where nothing does."""
    often = _in_enough_texts(counts)
    if not len(often):
        return None
    order = np.array(sorted(often.tolist(), key=names.__getitem__))
    kept = csr_matrix(counts[:, order], dtype=np.float32)
    return csr_matrix(TfidfTransformer(sublinear_tf=True).fit_transform(kept))


def _in_enough_texts(counts: csr_matrix) -> NDArray[np.intp]:
    texts = np.bincount(counts.indices, minlength=counts.shape[1])
    return np.flatnonzero(texts >= FEWEST_TEXTS)
