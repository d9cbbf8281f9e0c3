"""Two frozen versions compared: which rows came, went and changed, and why."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from tunesmith.data.versions import read_repairs, read_split
from tunesmith.records import Dataset, Row

SPLITS: tuple[Literal["train", "validation"], ...] = ("train", "validation")
# Of the words of both texts, so many must be in each for the one to be the other, edited.
FEWEST_SHARED_WORDS = 0.5


_NOT_BEFORE = "not in the source before, or in no split of it"
_NO_MORE = "not in the source any more, or in no split of it"


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
    another source, edited in it, or drawn otherwise.
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
    reasons = undone | why
    edited = _edited(
        [row for name, (_, row) in old.items() if name not in new and name not in reasons],
        [row for name, (_, row) in new.items() if name not in old and name not in reasons],
    )
    was = set(edited.values())
    found = []
    for row_id in sorted((old.keys() | new.keys()) - was):
        before, after = old.get(edited.get(row_id, row_id)), new.get(row_id)
        reason = reasons.get(row_id)
        if before is None and after is not None:
            found.append(_difference(after, "came", None, _told(after[1]), reason or _NOT_BEFORE))
        elif after is None and before is not None:
            found.append(_difference(before, "went", _told(before[1]), None, reason or _NO_MORE))
        elif before is not None and after is not None:
            if _content(before[1]) != _content(after[1]):
                what = "answer" if before[1].messages == after[1].messages else "text"
                told = reason or f"its {what} is another one in the source"
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


def _edited(went: Sequence[Row], came: Sequence[Row]) -> dict[str, str]:
    """From the id of a row that came to that of the row that it was before it was edited in the source.

    An id is the hash of a row's content, so an edited row has another. Two rows are taken for one where the
    input is the same, or else where both were read from the same place and share half of their words; and
    only where no further row could be meant.
    """
    found: dict[str, str] = {}
    keys: tuple[Callable[[Row], str], ...] = (lambda row: row.text, lambda row: row.source)
    for key in keys:
        taken = set(found.values())
        before = _alone([row for row in went if row.id not in taken], key)
        after = _alone([row for row in came if row.id not in found], key)
        for name in before.keys() & after.keys():
            if _shared_words(before[name].text, after[name].text) >= FEWEST_SHARED_WORDS:
                found[after[name].id] = before[name].id
    return found


def _alone(rows: Sequence[Row], key: Callable[[Row], str]) -> Mapping[str, Row]:
    grouped: defaultdict[str, list[Row]] = defaultdict(list)
    for row in rows:
        grouped[key(row)].append(row)
    return {name: members[0] for name, members in grouped.items() if len(members) == 1}


def _shared_words(first: str, second: str) -> float:
    one, two = set(first.lower().split()), set(second.lower().split())
    return len(one & two) / len(one | two) if one | two else 1.0


def _other_settings(first: Dataset, second: Dataset) -> list[str]:
    """The settings of the split that the versions do not share."""
    old, new = first.manifest.recipe, second.manifest.recipe
    names = dict.fromkeys([*old, *new])
    return [name for name in names if name != "repair_plan_sha256" and old.get(name) != new.get(name)]


def _content(row: Row) -> tuple[object, str, str | None]:
    return row.messages, row.target, row.rejected


def _told(row: Row) -> str:
    return f"{row.text} → {row.target}" + ("" if row.rejected is None else f" (not: {row.rejected})")


def _difference(
    where: tuple[str, Row],
    what: Literal["came", "went", "changed", "moved"],
    before: str | None,
    after: str | None,
    why: str,
) -> RowDifference:
    return RowDifference(where[1].id, where[1].source, where[0], what, before, after, why)
