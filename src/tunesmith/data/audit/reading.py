"""What checks need beside inputs and targets: the other columns of the files, and benchmark files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from tunesmith.data.formats import open_table
from tunesmith.data.parsed import Record
from tunesmith.data.rows import rows_of
from tunesmith.data.sources import SourceSpec, columns_of, places_of, tables_of
from tunesmith.records import Row


def other_columns(
    spec: SourceSpec, rows: Sequence[Row], cache: Path, say: Callable[[str], None]
) -> dict[str, tuple[str | None, ...]]:
    """The columns that are neither input nor target, as text, one value a row; None where there is none.

    Columns of lists and objects are left out, and so is everything of packaged sources and documents.
    """
    if spec.package is not None:
        return {}
    read = columns_of(spec)
    used = {*read.input, read.target, read.messages, read.rejected}
    values: dict[str, dict[str, object]] = {}
    columns: dict[str, None] = {}
    for place in places_of(spec, cache, say):
        for table in tables_of(place) if not place.documents else ():
            for record in table.records:
                if isinstance(record, Record):
                    columns.update(dict.fromkeys(name for name in record.fields if name not in used))
                    values[f"{table.name}:{record.line}"] = record.fields
    fields = {}
    for name in columns:
        cells = [values.get(row.source, {}).get(name) for row in rows]
        if not any(isinstance(cell, (list, dict, bytes)) for cell in cells):
            fields[name] = tuple(None if cell is None else str(cell) for cell in cells)
    return fields


def benchmark_rows(path: Path, spec: SourceSpec) -> tuple[Row, ...]:
    """The rows of a benchmark file, with the input and target of the task's data; without ids.

    Raises UserError when the file cannot be read or lacks a column.
    """
    return rows_of(open_table(path), replace(columns_of(spec), fields=(), split_fields=())).rows
