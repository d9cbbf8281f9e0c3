"""Which texts are chained together by near-duplicates: MinHash candidates, verified by true Jaccard."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from tunesmith.data.numbered import Indices
from tunesmith.data.shingles import ShingleSets, are_near, incidence, prefixes

PERMUTATIONS = 128
SEED = 1
# The chance that banding misses a pair which is exactly at the threshold; above it the chance is smaller.
MISS_CHANCE = 1e-6

_TEXTS_AT_ONCE = 20_000  # whose shingles stay in the processor's cache
_PAIRS_AT_ONCE = 500_000
_STAR_ROUNDS = 4
_NO_PAIRS: Indices = np.zeros((0, 2), np.int64)


def near_components(sets: ShingleSets, similarity: float, together: Indices = _NO_PAIRS) -> Indices:
    """For each text the smallest index among the texts it is chained to, shape (texts,).

    ``together``, shape (pairs, 2), are texts that are chained whatever they say; they are not compared.
    Candidates share a band of their MinHash signatures (Broder 1997) and one of their rarest
    shingles; each one that is not chained already is verified by its true Jaccard similarity.
    """
    parents = np.arange(len(sets.offsets) - 1)
    _join(parents, together[:, 0], together[:, 1])
    matrix = incidence(sets)
    for band in _bands(sets, similarity):
        members, buckets = _together(np.argsort(band), band)
        members, buckets = _undecided(parents, members, buckets)
        # Thousands of rows from one template share bands without being near-duplicates. Those that are also
        # share one of their rarest shingles, which keeps the comparisons few.
        positions, shingles = prefixes(sets, members, similarity)
        keys = buckets[positions] * matrix.shape[1] + shingles
        order = np.argsort(keys)
        entries, buckets = _together(order, keys)
        members = members[positions[entries]]
        _join_near(parents, *_undecided(parents, members, buckets), matrix, similarity)
    return _roots(parents, np.arange(len(parents)))


def rows_per_band(similarity: float) -> int:
    """The widest band (fewest false candidates) that misses a pair at the threshold with ``MISS_CHANCE``."""
    width = 1
    while (1 - similarity ** (width + 1)) ** (PERMUTATIONS // (width + 1)) <= MISS_CHANCE:
        width += 1
        if width == PERMUTATIONS:
            break
    return width


def _bands(sets: ShingleSets, similarity: float) -> NDArray[np.uint64]:
    """One number a band, equal where all signatures of the band are; shape (bands, texts).

    A signature is the smallest of a text's shingles under a random order, here a·x + b on 32 bits with an odd
    a (Broder 1997; Dietzfelbinger et al. 1997).
    """
    width = rows_per_band(similarity)
    random = np.random.default_rng(SEED)
    factors = random.integers(0, 2**31, PERMUTATIONS, dtype=np.uint32) * np.uint32(2) + np.uint32(1)
    shifts = random.integers(0, 2**32, PERMUTATIONS, dtype=np.uint32)
    texts = len(sets.offsets) - 1
    bands = np.zeros((PERMUTATIONS // width, texts), np.uint64)
    for start in range(0, texts, _TEXTS_AT_ONCE):
        offsets = sets.offsets[start : start + _TEXTS_AT_ONCE + 1]
        numbers = sets.numbers[offsets[0] : offsets[-1]].astype(np.uint64)
        shingles = (_mixed(numbers) >> np.uint64(32)).astype(np.uint32)
        begins = offsets[:-1] - offsets[0]
        for band, folded in enumerate(bands[:, start : start + _TEXTS_AT_ONCE]):
            for order in range(band * width, (band + 1) * width):
                signature = np.minimum.reduceat(shingles * factors[order] + shifts[order], begins)
                folded[:] = _mixed(folded ^ signature)
    return bands


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """A bijection that spreads neighbouring numbers over all 64 bits (SplitMix64, Steele et al. 2014)."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _together(order: Indices, keys: NDArray[np.generic]) -> tuple[Indices, Indices]:
    """Of ``order``, which sorts ``keys``, those that share their key with another, and their buckets."""
    ordered = keys[order]
    begins = np.concatenate([[True], ordered[1:] != ordered[:-1]]) if len(order) else np.zeros(0, bool)
    buckets = np.cumsum(begins) - 1
    shared = np.bincount(buckets)[buckets] > 1
    return order[shared], buckets[shared]


def _undecided(parents: Indices, members: Indices, buckets: Indices) -> tuple[Indices, Indices]:
    """Only the buckets whose members are not all chained to each other already; renumbered from 0."""
    if not len(members):
        return members, buckets
    begins = np.flatnonzero(np.concatenate([[True], buckets[1:] != buckets[:-1]]))
    sizes = np.diff(np.append(begins, len(members)))
    roots = _roots(parents, members)
    mixed = np.minimum.reduceat(roots, begins) != np.maximum.reduceat(roots, begins)
    return members[np.repeat(mixed, sizes)], np.repeat(np.arange(int(mixed.sum())), sizes[mixed])


def _join_near(
    parents: Indices, members: Indices, buckets: Indices, matrix: csr_matrix, similarity: float
) -> None:
    """Chain all near-duplicates within each bucket."""
    # The first of a bucket against all others: this alone settles a bucket of copies of one text.
    for _ in range(_STAR_ROUNDS):
        if not len(members):
            return
        begins = np.concatenate([[True], buckets[1:] != buckets[:-1]])
        first = members[np.flatnonzero(begins)][buckets]
        _verify(parents, first[~begins], members[~begins], matrix, similarity)
        members, buckets = _undecided(parents, members[~begins], buckets[~begins])
    for first, second in _pairs(members, buckets):
        _verify(parents, first, second, matrix, similarity)


def _pairs(members: Indices, buckets: Indices) -> Iterator[tuple[Indices, Indices]]:
    """All pairs of members of one bucket, some at a time."""
    positions = np.arange(len(members))
    later = np.searchsorted(buckets, buckets, side="right") - positions - 1
    total = np.cumsum(later)
    start = 0
    while start < len(members):
        done = total[start - 1] if start else 0
        end = max(start + 1, int(np.searchsorted(total, done + _PAIRS_AT_ONCE, side="right")))
        counts = later[start:end]
        first = np.repeat(positions[start:end], counts)
        within = np.arange(len(first)) - np.repeat(np.cumsum(counts) - counts, counts)
        yield members[first], members[first + within + 1]
        start = end


def _verify(parents: Indices, first: Indices, second: Indices, matrix: csr_matrix, similarity: float) -> None:
    apart = _roots(parents, first) != _roots(parents, second)
    codes = np.sort(np.minimum(first, second)[apart] * len(parents) + np.maximum(first, second)[apart])
    codes = codes[np.diff(codes, prepend=-1) > 0]
    first, second = codes // len(parents), codes % len(parents)
    for start in range(0, len(first), _PAIRS_AT_ONCE):
        one, other = first[start : start + _PAIRS_AT_ONCE], second[start : start + _PAIRS_AT_ONCE]
        near = are_near(matrix, one, other, similarity)
        _join(parents, one[near], other[near])


def _roots(parents: Indices, members: Indices) -> Indices:
    """The root of each member; ``parents`` is shortened on the way."""
    roots = parents[members]
    while True:
        above = parents[roots]
        if np.array_equal(above, roots):
            parents[members] = roots
            return roots
        roots = above


def _join(parents: Indices, first: Indices, second: Indices) -> None:
    """Chain pairs; a root stays the smallest index of its component."""
    while True:
        one, other = _roots(parents, first), _roots(parents, second)
        apart = one != other
        if not apart.any():
            return
        first, second = first[apart], second[apart]
        low, high = np.minimum(one, other)[apart], np.maximum(one, other)[apart]
        np.minimum.at(parents, high, low)
