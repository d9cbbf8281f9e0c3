"""The leak check on final splits: nothing that is being tested may have been seen.

It finds near-duplicates by an exact set-similarity join instead of MinHash, looks at final rows instead of
groups, and compares texts in two more ways, so that a mistake in the grouping cannot hide itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from tunesmith.data.duplicates import compared_text, words
from tunesmith.records import Row, SplitName

PAIRS_AT_ONCE = 500_000

LeakKind = Literal["same text", "near-duplicate", "same group", "same source", "same value"]


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
    keep_together: Sequence[str] = (),
) -> tuple[Leak, ...]:
    """Every row that has the same text, group or source as a row of another split, or a near-duplicate there.

    Rows that share a value of a ``keep_together`` field must not be apart either. One leak per such row, with
    one partner in an earlier split (train, validation, test in this order).
    Near-duplicates are found by prefix filtering over all rows (see :func:`shared_prefix`).
    """
    rows = [*train, *validation, *test]
    given: list[tuple[SplitName, Sequence[Row]]] = [
        ("train", train),
        ("validation", validation),
        ("test", test),
    ]
    splits = [name for name, members in given for _ in members]
    partners = leak_partners(rows, splits, similarity, shingle_words, keep_together)
    return tuple(
        Leak(kind, splits[first], rows[first].source, splits[second], rows[second].source)
        for second, (first, kind) in sorted(partners.items())
    )


def leak_partners(
    rows: Sequence[Row],
    splits: Sequence[str],
    similarity: float = 0.8,
    shingle_words: int = 3,
    keep_together: Sequence[str] = (),
) -> dict[int, tuple[int, LeakKind]]:
    """By its index, each row with a partner in an earlier split: the partner's index and what they share.

    ``splits`` names the split of each row; rows of one split follow each other, the earlier split first.
    """
    texts = ["\n".join(words(compared_text(row))) for row in rows]
    found: dict[int, tuple[int, LeakKind]] = {}
    equal: list[tuple[LeakKind, Iterable[str | None]]] = [
        ("same source", (row.source for row in rows)),
        ("same text", (" ".join(compared_text(row).casefold().split()) or None for row in rows)),
        ("same text", texts),
        ("same group", (row.group or None for row in rows)),
    ]
    equal += [("same value", [row.field(column) for row in rows]) for column in keep_together]
    for kind, keys in equal:
        for second, first in _equal(keys, splits).items():
            found.setdefault(second, (first, kind))
    for second, first in _near(texts, splits, similarity, shingle_words).items():
        found.setdefault(second, (first, "near-duplicate"))
    return found


def _equal(keys: Iterable[str | None], splits: Sequence[str]) -> dict[int, int]:
    """Row -> the first row of an earlier split that has the same key."""
    earliest: dict[str | None, int] = {}
    partners = {}
    for second, key in enumerate(keys):
        first = earliest.setdefault(key, second)
        if key is not None and splits[first] != splits[second]:  # no group, no value: that says nothing
            partners[second] = first
    return partners


def _near(
    texts: Sequence[str], splits: Sequence[str], similarity: float, shingle_words: int
) -> dict[int, int]:
    """Row -> a row of an earlier split that is a near-duplicate. ``texts`` have one word a line.

    Near-duplicates share one of their rarest shingles (see :func:`prefixes`), so all that do are compared.
    """
    import numpy as np

    from tunesmith.data.shingles import are_near, incidence, prefixes, shingle_sets

    numbers = {name: number for number, name in enumerate(dict.fromkeys(splits))}
    split = np.array([numbers[name] for name in splits])
    sets = shingle_sets((text.split("\n") for text in texts), shingle_words)
    matrix = incidence(sets)
    members, shingles = prefixes(sets, np.arange(len(texts)), similarity)
    order = np.argsort(shingles, kind="stable")  # rows stay in order, so earlier splits come first
    members, shingles = members[order], shingles[order]
    begins = np.searchsorted(shingles, shingles, side="left")
    keys = shingles * len(numbers) + split[members]
    earlier = np.searchsorted(keys, keys, side="left") - begins
    partners: dict[int, int] = {}
    wanted = np.flatnonzero(earlier)
    total = np.cumsum(earlier[wanted])
    start = 0
    while start < len(wanted):
        done = total[start - 1] if start else 0
        end = max(start + 1, int(np.searchsorted(total, done + PAIRS_AT_ONCE, side="right")))
        entries = wanted[start:end]
        entries = entries[[member not in partners for member in members[entries].tolist()]]
        counts = earlier[entries]
        within = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
        first = members[np.repeat(begins[entries], counts) + within]
        second = np.repeat(members[entries], counts)
        # Long texts share hundreds of their rarest shingles: each pair is compared once.
        second, first = np.divmod(np.unique(second * len(texts) + first), len(texts))
        near = are_near(matrix, first, second, similarity)
        for one, other in zip(first[near].tolist(), second[near].tolist(), strict=True):
            partners.setdefault(other, one)
        start = end
    return partners
