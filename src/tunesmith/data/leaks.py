"""The leak check on final splits: nothing that is being tested may have been seen.

It finds near-duplicates by an exact set-similarity join instead of MinHash, looks at final rows instead of
groups, and compares texts in two more ways, so that a mistake in the grouping cannot hide itself.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tunesmith.data.duplicates import (
    Shingles,
    compared_text,
    is_near,
    rarest_first,
    shared_prefix,
    shingles,
    words,
)
from tunesmith.records import Row, SplitName

LeakKind = Literal["same text", "near-duplicate", "same group", "same source"]


@dataclass(frozen=True)
class Leak:
    """Two rows of different splits that must not be apart; ``first_split`` is the earlier one."""

    kind: LeakKind
    first_split: SplitName
    first_source: str
    second_split: SplitName
    second_source: str


def leaks_between(
    train: Sequence[Row],
    validation: Sequence[Row],
    test: Sequence[Row],
    similarity: float = 0.8,
    shingle_words: int = 3,
) -> tuple[Leak, ...]:
    """Every row that has the same text, group or source as a row of another split, or a near-duplicate there.

    One leak per such row, with one partner in an earlier split (train, validation, test in this order).
    Near-duplicates are found by prefix filtering over all rows (see :func:`shared_prefix`).
    """
    rows = [*train, *validation, *test]
    given: list[tuple[SplitName, Sequence[Row]]] = [
        ("train", train),
        ("validation", validation),
        ("test", test),
    ]
    splits = [name for name, members in given for _ in members]
    texts = [words(compared_text(row)) for row in rows]
    found: dict[int, tuple[int, LeakKind]] = {}
    equal: list[tuple[LeakKind, list[tuple[str, ...]]]] = [
        ("same source", [(row.source,) for row in rows]),
        ("same text", [tuple(compared_text(row).casefold().split()) for row in rows]),
        ("same text", texts),
        ("same group", [(row.group,) if row.group else () for row in rows]),
    ]
    for kind, keys in equal:
        for second, first in _equal(keys, splits).items():
            found.setdefault(second, (first, kind))
    for second, first in _near([shingles(text, shingle_words) for text in texts], splits, similarity).items():
        found.setdefault(second, (first, "near-duplicate"))
    return tuple(
        Leak(kind, splits[first], rows[first].source, splits[second], rows[second].source)
        for second, (first, kind) in sorted(found.items())
    )


def _equal(keys: Sequence[tuple[str, ...]], splits: Sequence[SplitName]) -> dict[int, int]:
    """Row -> the first row of an earlier split that has the same key."""
    earliest: dict[tuple[str, ...], int] = {}
    partners = {}
    for second, key in enumerate(keys):
        first = earliest.setdefault(key, second)
        if key and splits[first] != splits[second]:  # an empty group says nothing
            partners[second] = first
    return partners


def _near(texts: Sequence[Shingles], splits: Sequence[SplitName], similarity: float) -> dict[int, int]:
    """Row -> the first row of an earlier split that is a near-duplicate."""
    ranked = rarest_first(texts)
    sets = [frozenset(ranks) for ranks in ranked]
    prefixes = [ranks[: shared_prefix(len(ranks), similarity)] for ranks in ranked]
    index: defaultdict[int, list[int]] = defaultdict(list)
    partners = {}
    for second, ranks in enumerate(sets):
        candidates: set[int] = set()
        if splits[second] != "train":
            candidates.update(first for rank in prefixes[second] for first in index[rank])
        for first in sorted(candidates):
            if splits[first] != splits[second] and is_near(sets[first], ranks, similarity):
                partners[second] = first
                break
        for rank in prefixes[second]:
            index[rank].append(second)
    return partners
