"""Rows of validation and test as they were before a person's answer changed them, for results both ways."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

from tunesmith.data.curation.apply import REVIEW, Change
from tunesmith.records import Message, Row, SplitName


def changed_by_review(changes: Sequence[Change], split: SplitName) -> int:
    """How many rows of a split people's answers changed or dropped."""
    return len({change.row for change in _of(changes, split)})


def before_review(rows: Sequence[Row], changes: Sequence[Change]) -> list[Row]:
    """``rows``, in order, with the targets that they had before."""
    old = {change.row: change.before for change in changes if _is_relabelled(change)}
    return [replace(row, target=old[row.id]) if row.id in old else row for row in rows]


def dropped_by_review(
    changes: Sequence[Change], split: SplitName, below: str | None = None
) -> tuple[Row, ...]:
    """The rows of a split that people dropped, sorted by id; only ids up to ``below`` where it is given (of a
    candidate that was asked the rows with the smallest ids only)."""
    rows = []
    for change in _of(changes, split):
        if change.action == "fix" or (below is not None and change.row > below):
            continue
        held = json.loads(change.before)
        messages = tuple(Message(turn["role"], turn["content"]) for turn in held["messages"])
        rows.append(Row(change.row, change.source, messages, held["target"], change.group or change.row))
    return tuple(sorted(rows, key=lambda row: row.id))


def _of(changes: Sequence[Change], split: SplitName) -> list[Change]:
    return [change for change in changes if change.check == REVIEW and change.split == split]


def _is_relabelled(change: Change) -> bool:
    return change.check == REVIEW and change.action == "fix" and change.field == "target"
