"""Which rows say the same: exact duplicates after normalisation, and near-duplicates.

Two texts are near-duplicates when the Jaccard similarity of their word shingles (runs of
``shingle_words`` words) reaches a threshold. Groups are the connected components of that relation, so
two rows of different groups are never near-duplicates of each other.
"""

from __future__ import annotations

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from math import ceil
from typing import TYPE_CHECKING

from tunesmith.files import content_hash
from tunesmith.records import Row

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Shingles = frozenset[tuple[str, ...]]

PERMUTATIONS = 128
SEED = 1
# The chance that banding misses a pair which is exactly at the threshold; above it the chance is smaller.
MISS_CHANCE = 1e-6


def compared_text(row: Row) -> str:
    """The part of the input that tells rows apart: all turns but the system turn, which rows share."""
    said = [message.content for message in row.messages if message.role != "system"]
    return "\n".join(said) or row.text


class _Spacing(dict[int, str]):
    """Character -> its normalised form, filled as characters are met."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        category = unicodedata.category(character)
        if character == "+":
            form = character  # "GPL-2.0+" is another licence than "GPL-2.0", and C++ is not C
        elif category[0] in "PZC" or category in ("Sk", "Sm"):
            form = " "
        elif category[0] == "S" or "\u3040" <= character <= "\u30ff" or "\u3400" <= character <= "\u9fff":
            form = f" {character} "  # emoji, currency signs, kana and Chinese characters are words
        else:
            form = character
        self[code] = form
        return form


_SPACING = _Spacing()


def words(text: str) -> tuple[str, ...]:
    """``text`` as normalised words: NFKC, case folded, without punctuation. Digits, ``+`` and emoji stay.

    A text of punctuation only is one word of its own.
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    return tuple(folded.translate(_SPACING).split()) or (" ".join(folded.split()),)


def shingles(text_words: Sequence[str], shingle_words: int) -> Shingles:
    """All runs of ``shingle_words`` words; a shorter text is one shingle."""
    if len(text_words) < shingle_words:
        return frozenset([tuple(text_words)])
    return frozenset(
        tuple(text_words[start : start + shingle_words])
        for start in range(len(text_words) - shingle_words + 1)
    )


def is_near(first: frozenset[int], second: frozenset[int], similarity: float) -> bool:
    """Whether the Jaccard similarity of two shingle sets is at least ``similarity``."""
    if min(len(first), len(second)) < similarity * max(len(first), len(second)) - 1e-9:
        return False
    shared = len(first & second)
    return shared >= similarity * (len(first) + len(second) - shared) - 1e-9


def group_rows(rows: Sequence[Row], similarity: float = 0.8, shingle_words: int = 3) -> list[str]:
    """One group id per row: the same for exact and near-duplicates, and for chains of them.

    Ids are hashes of content and do not depend on the order of rows. Candidates come from MinHash (Broder
    1997; rensa) with locality-sensitive banding, and each one is verified by its true Jaccard similarity.
    """
    row_words = [words(compared_text(row)) for row in rows]
    texts = sorted(set(row_words))
    parents = _near_components([shingles(text, shingle_words) for text in texts], similarity)
    # A root is the smallest index of its component, so the id is the hash of the group's first text.
    ids = {text: content_hash(texts[_root(parents, index)])[:16] for index, text in enumerate(texts)}
    return [ids[text] for text in row_words]


def with_groups(rows: Iterable[Row], groups: Iterable[str]) -> tuple[Row, ...]:
    """The rows, each with its group id from :func:`group_rows`."""
    return tuple(replace(row, group=group) for row, group in zip(rows, groups, strict=True))


def _near_components(texts: Sequence[Shingles], similarity: float) -> list[int]:
    """Union-find parents over texts; the root of each component is its smallest index."""
    parents = list(range(len(texts)))
    ranked = rarest_first(texts)
    sets = [frozenset(ranks) for ranks in ranked]
    rarest = [ranks[: shared_prefix(len(ranks), similarity)] for ranks in ranked]
    for bucket in _buckets(texts, similarity):
        if len({_root(parents, index) for index in bucket}) == 1:
            continue
        # Thousands of rows from one template share bands without being near-duplicates. Those that are also
        # share one of their rarest shingles, which keeps the comparisons few.
        by_shingle: defaultdict[int, dict[int, list[int]]] = defaultdict(dict)
        for index in bucket:
            for rank in rarest[index]:
                _link(parents, by_shingle[rank], index, sets, similarity)
    return parents


def _link(
    parents: list[int],
    components: dict[int, list[int]],
    index: int,
    sets: Sequence[frozenset[int]],
    similarity: float,
) -> None:
    """Join ``index`` with every component it is near to: one near member is enough."""
    for root, members in components.items():
        if _root(parents, root) == _root(parents, index):
            continue
        if any(is_near(sets[index], sets[member], similarity) for member in members):
            _join(parents, root, index)
    components.setdefault(_root(parents, index), []).append(index)


def rarest_first(texts: Sequence[Shingles]) -> list[list[int]]:
    """Each text's shingles as numbers, the shingle that the fewest texts have first."""
    frequency = Counter(shingle for text in texts for shingle in text)
    rank = {shingle: number for number, shingle in enumerate(sorted(frequency, key=frequency.__getitem__))}
    return [sorted(rank[shingle] for shingle in text) for text in texts]


def shared_prefix(size: int, similarity: float) -> int:
    """Of how many of their rarest shingles near-duplicates share at least one.

    Prefix filtering (Chaudhuri et al. 2006; Bayardo et al. 2007): ``n - ceil(similarity n) + 1`` of a set
    of n. It misses nothing.
    """
    return size - ceil(similarity * size - 1e-9) + 1


def _root(parents: list[int], index: int) -> int:
    while parents[index] != index:
        parents[index] = parents[parents[index]]
        index = parents[index]
    return index


def _join(parents: list[int], first: int, second: int) -> None:
    low, high = sorted((_root(parents, first), _root(parents, second)))
    parents[high] = low


def rows_per_band(similarity: float) -> int:
    """The widest band (fewest false candidates) that misses a pair at the threshold with ``MISS_CHANCE``."""
    width = 1
    while (1 - similarity ** (width + 1)) ** (PERMUTATIONS // (width + 1)) <= MISS_CHANCE:
        width += 1
        if width == PERMUTATIONS:
            break
    return width


def _buckets(texts: Sequence[Shingles], similarity: float) -> Iterable[list[int]]:
    """Texts that share a band of their MinHash signatures, for every band."""
    import numpy as np
    from rensa import RMinHash

    tokens = [[" ".join(shingle) for shingle in text] for text in texts]
    signatures = np.array(RMinHash.digests_from_token_sets(tokens, PERMUTATIONS, SEED), dtype=np.uint32)
    width = rows_per_band(similarity)
    for start in range(0, PERMUTATIONS - width + 1, width):
        yield from _equal_rows(signatures[:, start : start + width])


def _equal_rows(band: NDArray[np.uint32]) -> list[list[int]]:
    buckets: defaultdict[bytes, list[int]] = defaultdict(list)
    for index, signature in enumerate(band):
        buckets[signature.tobytes()].append(index)
    return [bucket for bucket in buckets.values() if len(bucket) > 1]
