"""A first look at a data file: its columns, and which of them are likely the input and the target."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from tunesmith.data.formats import FileFormat, OpenTable, Table, in_parts
from tunesmith.data.json_files import TOO_DEEP
from tunesmith.data.parsed import BadRecord, Record, few, place, refuse, row_fix
from tunesmith.data.places import find_place
from tunesmith.data.rows import ColumnsRead, LeftOutError, RowError, row_of
from tunesmith.data.sources import TABLES_EXPLAINED, tables_of

ColumnType = Literal["text", "number", "true/false", "list", "object", "empty", "mixed"]

INPUT_NAMES = (
    "text",
    "input",
    "question",
    "query",
    "prompt",
    "message",
    "utterance",
    "sentence",
    "content",
    "body",
)
TARGET_NAMES = (
    *("label", "target", "intent", "category", "class", "answer", "output", "topic", "sentiment"),
    *("labels", "tags", "topics", "categories"),
)
# Columns with these names hold texts to be written.
TEXT_TARGET_NAMES = (
    *("target", "output", "answer", "response", "completion", "summary", "highlights", "reference", "ref"),
    "reply",
)
LABEL_WORDS = 6  # a label is a name, seldom a sentence
REJECTED = "rejected"
# Columns that belong together by their usual names: (input, target). The first set that is there is taken.
USUAL_SETS: tuple[tuple[tuple[str, ...], str], ...] = (
    (("instruction", "input"), "output"),  # Alpaca
    (("instruction",), "output"),
    (("instruction",), "response"),
    (("prompt",), "completion"),
    (("prompt",), "response"),
    (("prompt",), "chosen"),
    (("question",), "chosen"),
    (("input",), "chosen"),
)
EXAMPLE_CHARACTERS = 80


@dataclass(frozen=True)
class ColumnLook:
    """One column. ``filled`` is the share of rows with a value; ``examples`` are up to three values."""

    name: str
    type: ColumnType
    filled: float
    distinct: int
    examples: tuple[str, ...]


@dataclass(frozen=True)
class FileLook:
    """What a file, or all files of a folder or glob, hold. ``why`` says what they were taken for.

    ``messages`` names a column of conversations; then input and target are None. ``rejected`` names the
    other answer of preference pairs. ``certain`` are the proposed columns that follow from the layout of the
    data, not from their values. ``broken`` are records that cannot be read, by their places.
    """

    name: str
    format: FileFormat
    rows: int
    columns: tuple[ColumnLook, ...]
    input: str | tuple[str, ...] | None
    target: str | None
    messages: str | None
    rejected: str | None
    certain: tuple[str, ...]
    why: tuple[str, ...]
    records: tuple[Record, ...]
    broken: tuple[BadRecord, ...] = ()


@dataclass(frozen=True)
class Pair:
    """An input and its target, as a row would have them."""

    input: str
    target: str


def look(
    entry: Path | str, cache: Path = Path(), say: Callable[[str], None] = lambda message: None
) -> FileLook:
    """Describe data files and propose their fields; None where nothing fits.

    What annotators answered is the target. Else columns with the usual names of prompts and answers are
    taken; else the target is a column with at least two and at most half as many values as rows, each of a
    few words, or of lists of labels, and the input is the longest other text, where usual names win over
    unusual ones.

    Raises:
        UserError: a file cannot be read (see :func:`open_table`), half of its records are broken,
            or one is nested too deep.
    """
    found = find_place(str(entry), cache, say)
    parts = [_readable(table) for table in tables_of(found)]
    tables = [table for table, _ in parts]
    records = tuple(record for table in tables for record in table.records)
    names = dict.fromkeys(column for table in tables for column in table.columns)
    cells = {name: [record.fields.get(name) for record in records] for name in names}
    columns = tuple(_look_at(name, values, tables[0].format) for name, values in cells.items())
    conversations = [name for name, values in cells.items() if _are_conversations(values)]
    # A preference pair may be two conversations; the one to learn from is then "chosen".
    messages = next((name for name in conversations if name.lower() != REJECTED), None)
    asked, target = _usual_set(tuple(cells)) if not messages else (None, None)
    votes = next((record.votes for record in records if record.votes), None)
    if votes and not messages:
        asked, target = None, _voted(list(votes), columns)
    if messages == "prompt" and {"prompt", "chosen", REJECTED} <= cells.keys():
        asked, target, messages = "prompt", "chosen", None
    certain = [*((asked,) if isinstance(asked, str) else asked or ()), *([target] if target else [])]
    if tables[0].format == "documents":
        asked = asked or "text"
        certain.append("text")
    if not messages:
        target = target or _target(columns, cells)
        asked = asked or _input(columns, cells, target)
    paired = REJECTED in cells and (target == "chosen" or messages == "chosen")
    return FileLook(
        name=found.name,
        format=tables[0].format,
        rows=len(records),
        columns=columns,
        input=None if messages else asked,
        target=None if messages else target,
        messages=messages,
        rejected=REJECTED if paired else None,
        certain=tuple(certain),
        why=(*([found.note] if found.note else []), *(table.why for table in tables[:TABLES_EXPLAINED])),
        records=records,
        broken=tuple(bad for _, broken in parts for bad in broken),
    )


def text_target(columns: Sequence[ColumnLook]) -> str | None:
    """The column whose usual name says that it holds texts to be written; None without one."""
    fitting = [
        column
        for column in columns
        if column.type in ("text", "object", "mixed") and column.name.lower() in TEXT_TARGET_NAMES
    ]
    fitting.sort(key=lambda column: _name_rank(column.name, TEXT_TARGET_NAMES))
    return fitting[0].name if fitting else None


def pairs(seen: FileLook, columns: ColumnsRead) -> tuple[list[Pair], tuple[BadRecord, ...]]:
    """Inputs and targets of those records that make a row, and the records that cannot be used, by place.

    Records that a person left out are neither.
    """
    found, bad = [], list(seen.broken)
    for record in seen.records:
        try:
            row = row_of(record, columns, seen.name)
        except RowError as problem:
            bad.append(BadRecord(place(seen.name, record.line), str(problem), row_fix(seen.name)))
        except LeftOutError:
            continue
        else:
            found.append(Pair(row.text, row.target))
    return found, tuple(bad)


def _readable(table: OpenTable) -> tuple[Table, tuple[BadRecord, ...]]:
    """A table's records and, by place, what is broken in it.

    Refused where that is half of them or more, or made to harm.
    """
    read, bad = in_parts(table)
    records = len(read.records) + len(bad)
    harmful = [one for one in bad if TOO_DEEP in one.what]
    if harmful or not few(len(bad), records):
        refuse(table.name, harmful or bad, records)
    return read, tuple(replace(one, line=place(table.name, one.line)) for one in bad)


def _filled(values: Sequence[object]) -> list[object]:
    return [value for value in values if value is not None and str(value).strip()]


def _look_at(name: str, values: Sequence[object], file_format: FileFormat) -> ColumnLook:
    filled = _filled(values)
    distinct = list(dict.fromkeys(str(value) for value in filled))
    types = {_csv_type(str(value)) if file_format == "csv" else _type(value) for value in filled}
    kind: ColumnType = types.pop() if len(types) == 1 else "mixed" if types else "empty"
    examples = tuple(_short(value) for value in distinct[:3])
    return ColumnLook(name, kind, len(filled) / len(values), len(distinct), examples)


def _type(value: object) -> ColumnType:
    if isinstance(value, bool):
        return "true/false"
    if isinstance(value, (int, float)):
        return "number"
    if isinstance(value, list):
        return "list"
    return "object" if isinstance(value, dict) else "text"


def _csv_type(cell: str) -> ColumnType:
    try:
        float(cell)
    except ValueError:
        return "text"
    return "number"


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= EXAMPLE_CHARACTERS else line[: EXAMPLE_CHARACTERS - 1] + "…"


def _are_conversations(values: Sequence[object]) -> bool:
    return all(
        isinstance(value, list)
        and bool(value)
        and all(
            isinstance(turn, dict)
            and ({"role", "content"} <= turn.keys() or {"from", "value"} <= turn.keys())
            for turn in value
        )
        for value in values
    )


def are_label_lists(values: Sequence[object]) -> bool:
    """Whether all values are lists of names of a few words, at least one of them not empty."""
    return any(values) and all(
        isinstance(value, list)
        and all(isinstance(label, str) and len(label.split()) <= LABEL_WORDS for label in value)
        for value in values
    )


def _usual_set(names: Sequence[str]) -> tuple[str | tuple[str, ...] | None, str | None]:
    for inputs, target in USUAL_SETS:
        if {*inputs, target} <= set(names):
            return (inputs[0] if len(inputs) == 1 else inputs), target
    return None, None


def _voted(names: Sequence[str], columns: Sequence[ColumnLook]) -> str | None:
    """Of the columns that people annotated, the first with more than one answer ("answer" itself last)."""
    distinct = {column.name: column.distinct for column in columns}
    ranked = sorted(names, key=lambda name: (name == "answer", distinct.get(name, 0) < 2))
    return next((name for name in ranked if distinct.get(name, 0) > 1), None)


def _name_rank(name: str, known: Sequence[str]) -> int:
    return known.index(name.lower()) if name.lower() in known else len(known)


def _mean_words(values: Sequence[object]) -> float:
    filled = _filled(values)
    return sum(len(str(value).split()) for value in filled) / len(filled) if filled else 0.0


def _target(columns: Sequence[ColumnLook], cells: dict[str, list[object]]) -> str | None:
    fitting = [
        column
        for column in columns
        if (
            column.type in ("text", "number", "true/false", "mixed")
            and 2 <= column.distinct <= len(cells[column.name]) / 2
            and _mean_words(cells[column.name]) <= LABEL_WORDS
        )
        or (column.distinct >= 2 and are_label_lists(cells[column.name]))
    ]
    fitting.sort(key=lambda column: (_name_rank(column.name, TARGET_NAMES), -column.filled, column.distinct))
    return fitting[0].name if fitting else None


def _input(columns: Sequence[ColumnLook], cells: dict[str, list[object]], target: str | None) -> str | None:
    fitting = [column for column in columns if column.type in ("text", "mixed") and column.name != target]
    fitting.sort(key=lambda column: (_name_rank(column.name, INPUT_NAMES), -_mean_words(cells[column.name])))
    return fitting[0].name if fitting else None
