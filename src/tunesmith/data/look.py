"""A first look at a data file: its columns, and which of them are likely the input and the target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tunesmith.data.formats import FileFormat, read_table

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
TARGET_NAMES = ("label", "target", "intent", "category", "class", "answer", "output", "topic", "sentiment")
LABEL_WORDS = 6  # a label is a name, seldom a sentence
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
    """What a file holds. ``messages`` names a column of conversations; then input and target are None."""

    name: str
    format: FileFormat
    rows: int
    columns: tuple[ColumnLook, ...]
    input: str | None
    target: str | None
    messages: str | None


def look(path: Path) -> FileLook:
    """Describe a data file and propose its fields; None where nothing fits.

    The target is a column with at least two and at most half as many values as rows, each of a few words;
    the input is the longest other text. Usual names win over unusual ones.

    Raises:
        UserError: the file cannot be read (see :func:`read_table`).
    """
    table = read_table(path)
    cells = {column: [record.fields.get(column) for record in table.records] for column in table.columns}
    columns = tuple(_look_at(name, values, table.format) for name, values in cells.items())
    messages = next((name for name, values in cells.items() if _are_conversations(values)), None)
    target_column = None if messages else _target(columns, cells)
    input_column = None if messages else _input(columns, cells, target_column)
    return FileLook(
        table.name, table.format, len(table.records), columns, input_column, target_column, messages
    )


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
        and all(isinstance(turn, dict) and {"role", "content"} <= turn.keys() for turn in value)
        for value in values
    )


def _name_rank(name: str, known: Sequence[str]) -> int:
    return known.index(name.lower()) if name.lower() in known else len(known)


def _mean_words(values: Sequence[object]) -> float:
    filled = _filled(values)
    return sum(len(str(value).split()) for value in filled) / len(filled) if filled else 0.0


def _target(columns: Sequence[ColumnLook], cells: dict[str, list[object]]) -> str | None:
    fitting = [
        column
        for column in columns
        if column.type in ("text", "number", "true/false", "mixed")
        and 2 <= column.distinct <= len(cells[column.name]) / 2
        and _mean_words(cells[column.name]) <= LABEL_WORDS
    ]
    fitting.sort(key=lambda column: (_name_rank(column.name, TARGET_NAMES), -column.filled, column.distinct))
    return fitting[0].name if fitting else None


def _input(columns: Sequence[ColumnLook], cells: dict[str, list[object]], target: str | None) -> str | None:
    fitting = [column for column in columns if column.type in ("text", "mixed") and column.name != target]
    fitting.sort(key=lambda column: (_name_rank(column.name, INPUT_NAMES), -_mean_words(cells[column.name])))
    return fitting[0].name if fitting else None
