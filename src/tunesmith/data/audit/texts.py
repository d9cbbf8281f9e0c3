"""The texts of a data set one after the other, what a repair changes in them, and how a text is quoted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from tunesmith.data.audit.findings import AuditData, Finding, Severity
from tunesmith.records import Row

Side = Literal["input", "target", "rejected"]
# The turn of the answer that is not wanted, of a preference pair.
REJECTED = 0

EXCERPT_CHARACTERS = 60
LABEL_WORDS = 6
LABEL_CHARACTERS = 80
# A system turn or a label comes again and again: its answer is remembered.
_REMEMBERED = 4096


@dataclass(frozen=True)
class Change:
    """A text that a repair would change: of the ``turn`` that :func:`texts` gives it."""

    row: int
    turn: int | None
    before: str
    after: str


def texts(data: AuditData) -> Iterator[tuple[int, int | None, str]]:
    """Every text with its row and its turn: -1 is the last message before the answer, None the target, and 0
    the rejected answer."""
    for index, row in enumerate(data.rows):
        turns = len(row.messages)
        for place, message in enumerate(row.messages):
            yield index, place - turns, message.content
        yield index, None, row.target
        if row.rejected is not None:
            yield index, REJECTED, row.rejected


def side_of(turn: int | None) -> Side:
    """Which part of a row a turn of :func:`texts` is."""
    return "target" if turn is None else "rejected" if turn == REJECTED else "input"


def kept_columns(data: AuditData) -> Iterator[tuple[int, str, str]]:
    """Every text of a column that is kept beside the rows, with its row and the column's name."""
    for index, row in enumerate(data.rows):
        for name, text in row.fields:
            yield index, name, text


def text_of(row: Row, side: Side | Literal["column"], turn: int, column: str | None = None) -> str:
    """A row's target, its rejected answer, the content of one message of its input, or a kept column."""
    if side == "input":
        return row.messages[turn].content
    if side == "column":
        return dict(row.fields).get(column or "", "")
    return row.target if side == "target" else row.rejected or ""


def answers_last(turn: int | None) -> int:
    """Sorts turns: messages from the last one back, then the target, then the rejected answer."""
    return 10**9 if turn is None else 10**9 + 1 if turn == REJECTED else -turn


def changes(data: AuditData, repair: Callable[[str], str]) -> list[Change]:
    """Every text that ``repair`` changes."""
    remembered = lru_cache(_REMEMBERED)(repair)
    found = []
    for row, turn, text in texts(data):
        after = remembered(text)
        if after is not text and after != text:
            found.append(Change(row, turn, text, after))
    return found


def fix_findings(
    kind: str, severity: Severity, found: list[Change], evidence: Callable[[list[Change]], str]
) -> list[Finding]:
    """One finding per turn, one for the targets and one for rejected answers, with the repaired texts."""
    findings = []
    for turn in sorted({change.turn for change in found}, key=answers_last):
        here = [change for change in found if change.turn == turn]
        findings.append(
            Finding(
                kind=kind,
                severity=severity,
                rows=tuple(change.row for change in here),
                evidence=evidence(here),
                repair="fix",
                field=side_of(turn),
                fixed=tuple(change.after for change in here),
                turn=-1 if turn is None else turn,
            )
        )
    return findings


def label_counts(data: AuditData) -> Counter[str] | None:
    """How often each target occurs when targets are labels; None when they are free text.

    Labels are short (at least 95 % have six words or fewer), and few of them serve many rows: at most 20, or
    one for every five rows. A kind of task that writes texts has none, however few its texts are.
    """
    if data.kind != "classify":
        return None
    counts = Counter(row.target for row in data.rows)
    if not counts or len(counts) > max(20, len(data.rows) / 5):
        return None
    short = sum(count for target, count in counts.items() if _is_short(target))
    return counts if short >= 0.95 * len(data.rows) else None


def _is_short(target: str) -> bool:
    return len(target) <= LABEL_CHARACTERS and len(target.split()) <= LABEL_WORDS


def last_user_text(data: AuditData, index: int) -> str:
    """What a row asks: its last message before the answer; empty when it has none."""
    messages = data.rows[index].messages
    return messages[-1].content if messages else ""


def difference(before: str, after: str) -> str:
    """What a repair changes, with a little of the text before it."""
    start = next(
        (place for place, (one, other) in enumerate(zip(before, after, strict=False)) if one != other),
        min(len(before), len(after)),
    )
    start = max(0, start - 15)
    return f"{excerpt(before[start:])} becomes {excerpt(after[start:])}"


def excerpt(text: str, characters: int = EXCERPT_CHARACTERS) -> str:
    """The start of a text in quotes, on one line, with control characters written as escapes."""
    line = " ".join(text[: 4 * characters].split())
    cut = line[: characters - 1] + "…" if len(line) > characters else line
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in cut)
    return f"'{shown}'"


def count(number: int, one: str, many: str | None = None) -> str:
    """A number with its noun: "1 row", "2,000 rows"."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def share(part: int, whole: int) -> str:
    """ "12 of 3,400 (0.35 %)"."""
    if not part:
        return f"{part:,} of {whole:,}"
    percent = 100 * part / whole
    return f"{part:,} of {whole:,} ({percent:.{0 if percent >= 10 else 1 if percent >= 1 else 2}f} %)"
