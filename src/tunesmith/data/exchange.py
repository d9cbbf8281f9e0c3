"""Rows as files for other tools: JSONL as it was read, and CSV that is safe to open in a spreadsheet."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path

from tunesmith.data.csv_files import safe_cell
from tunesmith.files import write_text
from tunesmith.records import Row


def write_jsonl(path: Path, rows: Sequence[Row]) -> None:
    """One object a line: id, source, group, messages and target; rejected and fields where there are any."""
    records = [
        {
            "id": row.id,
            "source": row.source,
            "group": row.group,
            "messages": [{"role": turn.role, "content": turn.content} for turn in row.messages],
            "target": row.target,
            **({} if row.rejected is None else {"rejected": row.rejected}),
            **({"fields": dict(row.fields)} if row.fields else {}),
        }
        for row in rows
    ]
    write_text(path, "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records))


def write_csv(path: Path, rows: Sequence[Row]) -> int:
    """Columns id, source, group, input, target, and rejected where there is any.

    Returns how many cells were made harmless.

    A cell that a spreadsheet would take for a formula gets an apostrophe in front, which spreadsheets
    take for "this is text"; remove it when reading the file with anything else.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    pairs = any(row.rejected is not None for row in rows)
    writer.writerow(["id", "source", "group", "input", "target", *(["rejected"] if pairs else [])])
    harmless = 0
    for row in rows:
        cells = [
            row.id,
            row.source,
            row.group,
            row.text,
            row.target,
            *([row.rejected or ""] if pairs else []),
        ]
        safe = [safe_cell(cell) for cell in cells]
        harmless += sum(one != other for one, other in zip(cells, safe, strict=True))
        writer.writerow(safe)
    write_text(path, text.getvalue())
    return harmless
