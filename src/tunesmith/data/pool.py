"""Rows without an answer: a pool of unlabelled inputs, read with the columns of the task."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tunesmith.data.parsed import BadRecord, refuse, row_fix
from tunesmith.data.places import find_place
from tunesmith.data.rows import ColumnsRead, RowError, asked_row
from tunesmith.data.sources import tables_of
from tunesmith.errors import UserError
from tunesmith.files import content_hash
from tunesmith.records import Row


def read_pool(
    path: Path, columns: ColumnsRead, cache: Path, say: Callable[[str], None] = lambda message: None
) -> tuple[Row, ...]:
    """The inputs in a file, folder or glob, each once; targets are empty, and a target column is not read.

    Ids are hashes of the input. Raises UserError when a row has no input that can be read.
    """
    if not (
        columns.input or columns.messages
    ):  # packaged data has no columns; queues are written with this one
        columns = replace(columns, input=("text",))
    rows: dict[str, Row] = {}
    for table in tables_of(find_place(str(path), cache, say)):
        bad: list[BadRecord] = []
        read = 0
        for record in table.records:
            read += 1
            if isinstance(record, BadRecord):
                bad.append(record)
                continue
            try:
                row = asked_row(record, columns, table.name)
            except RowError as problem:
                bad.append(BadRecord(record.line, str(problem), row_fix(table.name)))
                continue
            id = content_hash([row.messages])[:16]
            rows.setdefault(id, replace(row, id=id))
        refuse(table.name, bad, read)
    if not rows:
        raise UserError(f"{path}: the pool holds no rows", "give a file with inputs to look at")
    return tuple(rows.values())
