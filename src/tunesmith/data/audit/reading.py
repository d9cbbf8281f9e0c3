"""What checks need beside inputs and targets: the other columns of the files, and benchmark files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tunesmith.data.formats import read_table
from tunesmith.data.rows import rows_of
from tunesmith.data.sources import SourceSpec, table_names
from tunesmith.records import Row


def other_columns(spec: SourceSpec, rows: Sequence[Row]) -> dict[str, tuple[str | None, ...]]:
    """The columns that are neither input nor target, as text, one value a row; None where there is none.

    Columns of lists and objects are left out, and so is everything of packaged sources.
    """
    if spec.package is not None:
        return {}
    paths = [Path(path) for path in spec.path] + ([Path(spec.test_path)] if spec.test_path else [])
    names = table_names(paths)
    used = {spec.input, spec.target, spec.messages}
    values: dict[str, dict[str, object]] = {}
    columns: dict[str, None] = {}
    for path in paths:
        table = read_table(path, names[path])
        columns.update(dict.fromkeys(name for name in table.columns if name not in used))
        values |= {f"{table.name}:{record.line}": record.fields for record in table.records}
    fields = {}
    for name in columns:
        cells = [values.get(row.source, {}).get(name) for row in rows]
        if not any(isinstance(cell, (list, dict, bytes)) for cell in cells):
            fields[name] = tuple(None if cell is None else str(cell) for cell in cells)
    return fields


def benchmark_rows(path: Path, spec: SourceSpec) -> tuple[Row, ...]:
    """The rows of a benchmark file, with the same columns as the task's data; without ids.

    Raises UserError when the file cannot be read or lacks a column.
    """
    return tuple(rows_of(read_table(path), spec.input, spec.target, spec.messages))
