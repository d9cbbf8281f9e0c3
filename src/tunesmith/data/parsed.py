"""What every reader yields: records of a file, or what is wrong with them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from tunesmith.errors import UserError

LINES_SHOWN = 20
# Marks rows that no person wrote or labelled (see ``made``).
MADE_COLUMN = "tunesmith_made_by"

# (annotator, answer), in the order of the file.
Votes = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Record:
    """One record. ``line`` is where it starts, 1-based; in Parquet and in a JSON array, its number; for a
    document, its name.

    ``votes`` holds, for each column that people annotated, who answered what; ``fields`` has the answer of
    the majority, or None where nobody answered or no answer has one. ``refused`` says why a person left
    the record out (skipped, rejected, ignored).
    """

    line: int | str
    fields: dict[str, object]
    votes: dict[str, Votes] | None = None
    refused: str | None = None


@dataclass(frozen=True, slots=True)
class BadRecord:
    """A record that cannot be used, and how to mend it."""

    line: int | str
    what: str
    fix: str


def place(name: str, line: int | str) -> str:
    """``tickets.jsonl:118``, or the document's own name."""
    return line if isinstance(line, str) else f"{name}:{line}"


def refuse(name: str, bad: Sequence[BadRecord], records: int, or_else: str = "") -> None:
    """Raise one UserError for all bad records: the first in words, the first 20 by line, and their number.

    ``or_else`` is said after how to mend them.
    """
    if not bad:
        return
    what = f"{place(name, bad[0].line)}: {bad[0].what}"
    if len(bad) == 1:
        raise UserError(what, bad[0].fix + or_else)
    alike = {one.fix for one in bad} == {bad[0].fix} and bad[0].fix != row_fix(name)
    raise UserError(
        f"{what}; {len(bad):,} of {records:,} rows cannot be used: {lines_of(bad)}",
        (bad[0].fix if alike else row_fix(name, len(bad))) + or_else,
    )


def lines_of(bad: Sequence[BadRecord]) -> str:
    """The first 20 lines."""
    more = ", ..." if len(bad) > LINES_SHOWN else ""
    return ", ".join(str(one.line) for one in bad[:LINES_SHOWN]) + more


def few(bad: int, records: int) -> bool:
    """Whether so many bad records may be left out: less than half of all."""
    return 2 * bad < records


def row_fix(name: str, rows: int = 1) -> str:
    return f"Correct or remove {'this row' if rows == 1 else 'these rows'} in {name}, then run again."


def majority(votes: Votes) -> str | None:
    """The answer more people gave than any other; None without votes and on a tie."""
    ranked = Counter(answer for _, answer in votes).most_common(2)
    if not ranked or (len(ranked) == 2 and ranked[0][1] == ranked[1][1]):
        return None
    return ranked[0][0]
