"""Where the rows that are in no split went, and what a person should know about those that are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from tunesmith.data.dates import date_ranges
from tunesmith.data.drawing import Group
from tunesmith.data.label_sets import target_labels
from tunesmith.records import Row, SetAside, SplitName


def account_of(
    rows: Sequence[Row],
    own: dict[str, list[Row]],
    kept: dict[str, list[Row]],
    left: Sequence[Group],
    unlearned: Sequence[Row],
    in_test: set[str],
    keep_together: Sequence[str],
) -> tuple[SetAside, ...]:
    """Every row that is in no split, by reason.

    ``own`` are the groups to draw from, ``kept`` what the limit of rows per group left of them, ``left``
    those that were not drawn, ``unlearned`` contradicted rows of training groups, ``in_test`` the groups of
    the test file.
    """
    touching = Counter(row.group for row in rows if row.group in in_test)
    capped = {group: len(members) - len(kept[group]) for group, members in own.items()}
    torn = [group for group in left if group.label is None]
    torn_rows = sum(group.size for group in torn) + len(unlearned)
    torn_groups = len(torn) + len({row.group for row in unlearned})
    more = [group for group in left if group.label is not None]
    touching_test = "in one group with test rows" if keep_together else "near-duplicates of test rows"
    account = [
        (touching_test, sum(touching.values()), len(touching)),
        ("beyond rows_per_group", sum(capped.values()), sum(number > 0 for number in capped.values())),
        ("conflicting targets, not trained on", torn_rows, torn_groups),
        ("more rows than the splits ask for", sum(group.size for group in more), len(more)),
    ]
    return tuple(SetAside(reason, number, groups) for reason, number, groups in account if number)


def note_untrained(
    trained: set[str], split: dict[SplitName, tuple[Row, ...]], label_sets: bool = False
) -> tuple[str, ...]:
    """A note on labels that only validation and test have."""
    asked = [row for name in ("validation", "test") for row in split[name]]
    untrained = set(target_labels(asked, label_sets)) - trained
    if not untrained:
        return ()
    rows = sum(not untrained.isdisjoint(target_labels([row], label_sets)) for row in asked)
    labels = ", ".join(f"'{label}'" for label in sorted(untrained)[:20])
    return (
        f"{rows:,} validation and test rows have {len(untrained)} labels that no training row "
        f"has ({labels}): they always count as wrong",
    )


def note_fields(
    keep_together: Sequence[str],
    time: str | None,
    split: Mapping[SplitName, Sequence[Row]],
    rows: Sequence[Row],
) -> tuple[str, ...]:
    """What the named fields made of the split: rows without a value, and the dates of each split."""
    notes = []
    for column in keep_together:
        without = sum(row.field(column) is None for row in rows)
        if without:
            notes.append(f"{without:,} rows have no '{column}': they stay with their near-duplicates alone")
    if time is not None:
        ranges = date_ranges(split, time)
        told = [f"{name} {' to '.join(ranges[name])}" for name in ("train", "validation", "test")]
        notes.append(f"dates in '{time}': {', '.join(told)}")
    return tuple(notes)
