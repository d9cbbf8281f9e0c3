"""Two frozen versions compared: which rows came, went and changed, and why."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Literal

from tunesmith.data.versions import read_repairs, read_split
from tunesmith.records import Dataset, Row

SPLITS: tuple[Literal["train", "validation"], ...] = ("train", "validation")


@dataclass(frozen=True)
class RowDifference:
    """One row that is not the same in both versions; ``split`` is where it is, or was."""

    row: str
    source: str
    split: str
    what: Literal["came", "went", "changed", "moved"]
    before: str | None
    after: str | None
    why: str


@dataclass(frozen=True)
class Difference:
    """``same_test`` is known by hash alone: comparing versions reads no test row."""

    first: str
    second: str
    same_test: bool
    rows: tuple[RowDifference, ...]


def compare(first: Dataset, second: Dataset) -> Difference:
    """What changed in train and validation from one version to another.

    The reasons come from the repair plans' records of both versions; a row without one was read from
    another source, or drawn otherwise.
    """
    old = {row.id: (name, row) for name in SPLITS for row in read_split(first, name)}
    new = {row.id: (name, row) for name in SPLITS for row in read_split(second, name)}
    repairs: defaultdict[str, dict[str, None]] = defaultdict(dict)
    for change in read_repairs(second):
        repairs[change.row][f"{change.check}: {change.finding} ({change.action})"] = None
    why = {row: ", ".join(reasons) for row, reasons in repairs.items()}
    undone = {change.row: f"no longer repaired ({change.check})" for change in read_repairs(first)}
    moved = "drawn for another split"
    if settings := _other_settings(first, second):
        moved += f" (other settings: {', '.join(settings)})"
    found = []
    for row_id in sorted(old.keys() | new.keys()):
        before, after = old.get(row_id), new.get(row_id)
        reason = why.get(row_id) or undone.get(row_id)
        if before is None and after is not None:
            found.append(_difference(after, "came", None, _told(after[1]), reason or "not there before"))
        elif after is None and before is not None:
            reason = reason or "not in the source any more, or in no split of it"
            found.append(_difference(before, "went", _told(before[1]), None, reason))
        elif before is not None and after is not None:
            if _content(before[1]) != _content(after[1]):
                told = reason or "the source changed"
                found.append(_difference(after, "changed", _told(before[1]), _told(after[1]), told))
            elif reason and before[1].fields != after[1].fields:
                values = [
                    "; ".join(
                        f"{name}: {value}" for name, value in one.fields if (name, value) not in other.fields
                    )
                    for one, other in ((before[1], after[1]), (after[1], before[1]))
                ]
                found.append(_difference(after, "changed", values[0], values[1], reason))
            elif before[0] != after[0]:
                found.append(_difference(after, "moved", before[0], after[0], moved))
    return Difference(
        first.manifest.version,
        second.manifest.version,
        first.manifest.test_sha256 == second.manifest.test_sha256,
        tuple(found),
    )


def _other_settings(first: Dataset, second: Dataset) -> list[str]:
    """The settings of the split that the versions do not share."""
    old, new = first.manifest.recipe, second.manifest.recipe
    names = dict.fromkeys([*old, *new])
    return [name for name in names if name != "repair_plan_sha256" and old.get(name) != new.get(name)]


def _content(row: Row) -> tuple[object, str, str | None]:
    return row.messages, row.target, row.rejected


def _told(row: Row) -> str:
    return f"{row.text} -> {row.target}" + ("" if row.rejected is None else f" (not: {row.rejected})")


def _difference(
    where: tuple[str, Row],
    what: Literal["came", "went", "changed", "moved"],
    before: str | None,
    after: str | None,
    why: str,
) -> RowDifference:
    return RowDifference(where[1].id, where[1].source, where[0], what, before, after, why)
