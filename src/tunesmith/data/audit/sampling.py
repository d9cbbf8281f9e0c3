"""A fixed sample of rows for checks whose work grows faster than the data."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from tunesmith.records import Row

SEED = 0


def sample_rows(rows: Sequence[Row], most: int, seed: int = SEED) -> tuple[int, ...]:
    """Indices of whole groups drawn at random, ``most`` rows or a little fewer, ascending; all if they fit.

    The draw depends on the rows' groups (or ids), not on their order.
    """
    if len(rows) <= most:
        return tuple(range(len(rows)))
    members: dict[str, list[int]] = {}
    for index, row in enumerate(rows):
        members.setdefault(row.group or row.id, []).append(index)
    order = sorted(members, key=lambda group: hashlib.sha256(f"{seed}:{group}".encode()).digest())
    taken: list[int] = []
    for group in order:
        if len(taken) + len(members[group]) <= most:
            taken += members[group]
    return tuple(sorted(taken))


def sample_told(taken: int, rows: int) -> str:
    """How a summary ends that speaks of a sample from :func:`sample_rows`; nothing where it has every row."""
    return f" (a sample of {taken:,} of {rows:,} rows: whole groups, seed {SEED})" if taken < rows else ""
