"""Texts as sets of numbered word shingles, all of them in two flat arrays, and their Jaccard similarity."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from tunesmith.data.numbered import Indices, NumberedWords, numbered_words

_NO_WORD = 0  # fills up texts that are shorter than one shingle
_TOLERANCE = 1e-9  # for thresholds such as 0.8, which binary fractions only approach
_SHINGLES_AT_ONCE = 10_000_000  # compared in one go: about 400 MB, whether texts are short or long


@dataclass(frozen=True)
class ShingleSets:
    """One set of shingles a text.

    ``numbers[offsets[i]:offsets[i + 1]]`` are the shingles of text i, ascending. The numbers count from 0,
    the shingle that the fewest texts have first. ``offsets``: shape (texts + 1,), ``numbers``: (shingles,).
    """

    offsets: Indices
    numbers: NDArray[np.int32]

    @property
    def sizes(self) -> Indices:
        """How many shingles each text has, shape (texts,)."""
        return np.diff(self.offsets)


def shingle_sets(texts: Iterable[Sequence[str]], shingle_words: int) -> ShingleSets:
    """The sets of all runs of ``shingle_words`` words; a text with fewer words is one shingle.

    Numbering is exact: two shingles have the same number only if they are the same words.
    """
    codes, sizes = _shingle_codes(numbered_words(texts), shingle_words)
    _, codes, frequency = np.unique(codes, return_inverse=True, return_counts=True)
    number = np.empty(len(frequency), np.int64)
    number[np.argsort(frequency, kind="stable")] = np.arange(len(frequency))
    keys = np.repeat(np.arange(len(sizes)) * len(frequency), sizes)
    keys += number[codes]
    del codes
    keys.sort()
    keys = keys[np.diff(keys, prepend=-1) > 0]
    owners, numbers = np.divmod(keys, len(frequency))
    different = np.bincount(owners, minlength=len(sizes))
    return ShingleSets(np.concatenate([[0], np.cumsum(different)]), numbers.astype(np.int32))


def _shingle_codes(texts: NumberedWords, shingle_words: int) -> tuple[Indices, Indices]:
    """A code of every shingle of every text, equal where the words are, and how many each text has."""
    padded = np.maximum(texts.lengths, shingle_words)
    words = np.full(int(padded.sum()), _NO_WORD, np.int32)
    words[_places(_starts(padded), texts.lengths)] = texts.numbers + 1
    counts = padded - shingle_words + 1
    starts = _places(_starts(padded), counts)
    base = len(texts.words) + 1
    codes = words[starts].astype(np.int64)
    highest = base - 1
    for _ in range(1, shingle_words):
        if highest >= np.iinfo(np.int64).max // base - 1:
            different, codes = np.unique(codes, return_inverse=True)
            highest = len(different) - 1
        starts += 1
        codes *= base
        codes += words[starts]
        highest = (highest + 1) * base
    return codes, counts


def shared_prefix(sizes: Indices, similarity: float) -> Indices:
    """Of how many of their rarest shingles near-duplicates share at least one, by the size of a set.

    Prefix filtering (Chaudhuri et al. 2006; Bayardo et al. 2007): ``n - ceil(similarity n) + 1`` of a set
    of n. It misses nothing.
    """
    least = [ceil(similarity * size - _TOLERANCE) for size in range(int(sizes.max(initial=0)) + 1)]
    return sizes - np.array(least, np.int64)[sizes] + 1


def prefixes(sets: ShingleSets, members: Indices, similarity: float) -> tuple[Indices, Indices]:
    """The rarest shingles of ``members``: positions in ``members``, and shingle numbers, shape (entries,)."""
    counts = shared_prefix(sets.sizes[members], similarity)
    entries = sets.numbers[_places(sets.offsets[members], counts)]
    return np.repeat(np.arange(len(members)), counts), entries.astype(np.int64)


def incidence(sets: ShingleSets) -> csr_matrix:
    """Texts × shingles, with ones; the form that :func:`are_near` wants."""
    ones = np.ones(len(sets.numbers), np.int32)
    width = int(sets.numbers.max(initial=-1)) + 1
    return csr_matrix((ones, sets.numbers, sets.offsets), shape=(len(sets.offsets) - 1, width))


def are_near(matrix: csr_matrix, first: Indices, second: Indices, similarity: float) -> NDArray[np.bool_]:
    """Whether the Jaccard similarity of each pair of texts is at least ``similarity``. Shapes (pairs,)."""
    sizes = np.diff(matrix.indptr)
    one, other = sizes[first], sizes[second]
    near: NDArray[np.bool_] = np.minimum(one, other) >= similarity * np.maximum(one, other) - _TOLERANCE
    possible = np.flatnonzero(near)
    total = np.cumsum(one[possible] + other[possible])
    for begin in range(0, int(total.max(initial=0)), _SHINGLES_AT_ONCE):
        left = possible[(total > begin) & (total <= begin + _SHINGLES_AT_ONCE)]
        shared = np.asarray(matrix[first[left]].multiply(matrix[second[left]]).sum(axis=1)).ravel()
        near[left] = shared >= similarity * (one[left] + other[left] - shared) - _TOLERANCE
    return near


def _starts(sizes: Indices) -> Indices:
    """Where each of consecutive runs of these sizes begins."""
    return np.concatenate([[0], np.cumsum(sizes)[:-1]]) if len(sizes) else np.zeros(0, np.int64)


def _places(starts: Indices, counts: Indices) -> Indices:
    """``counts[i]`` consecutive positions from ``starts[i]`` on, for every i, one after the other."""
    return np.arange(int(counts.sum())) + np.repeat(starts - _starts(counts), counts)
