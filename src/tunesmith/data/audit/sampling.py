"""A fixed sample of rows for checks whose work grows faster than the data."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from tunesmith.records import Row


def sample_rows(rows: Sequence[Row], most: int, seed: int = 0) -> tuple[int, ...]:
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
