"""Splits that a column of the data gives."""

from __future__ import annotations

from collections.abc import Sequence

from tunesmith.data.dates import sources_with_values
from tunesmith.errors import UserError
from tunesmith.records import Row, SetAside, SplitName

# The most sealed first: it keeps the rows of a group that is in several.
_SEALED: tuple[SplitName, ...] = ("test", "validation", "train")
_NAMES: dict[str, SplitName] = {
    "train": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
}


def given_splits(rows: Sequence[Row], column: str) -> dict[str, SplitName]:
    """The split that each row's ``column`` names, by row id.

    Raises:
        UserError: rows with another value or none (the first 20 and their number), or a split without rows.
    """
    named = {row.id: _NAMES.get((row.field(column) or "").lower()) for row in rows}
    unknown = [row for row in rows if named[row.id] is None]
    if unknown:
        raise UserError(
            f"split.given: {len(unknown):,} of {len(rows):,} rows name no split in '{column}': "
            f"{sources_with_values(unknown, column)}",
            f"Known are {', '.join(_NAMES)}: correct these rows, or remove them.",
        )
    missing = [name for name in reversed(_SEALED) if name not in named.values()]
    if missing:
        raise UserError(
            f"split.given: no row has {' or '.join(missing)} in '{column}'",
            "Give rows to train, validation and test, or leave split.given out and set sizes to draw.",
        )
    return {row: name for row, name in named.items() if name is not None}


def in_one_split(
    rows: Sequence[Row], named: dict[str, SplitName]
) -> tuple[list[Row], dict[str, SplitName], tuple[SetAside, ...]]:
    """Rows of which no group is in two splits, the split of each group, and the account of the others.

    A group that is in several splits keeps its rows in the most sealed of them.
    """
    of_group: dict[str, SplitName] = {}
    for name in reversed(_SEALED):
        of_group |= {row.group: name for row in rows if named[row.id] == name}
    kept = [row for row in rows if named[row.id] == of_group[row.group]]
    aside = []
    for name in _SEALED[:2]:
        left = [row.group for row in rows if named[row.id] != of_group[row.group] == name]
        if left:
            aside.append(SetAside(f"in one group with rows given to {name}", len(left), len(set(left))))
    return kept, of_group, tuple(aside)
