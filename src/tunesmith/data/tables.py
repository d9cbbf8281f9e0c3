"""Rows as Parquet, written so that equal rows give equal bytes, and their content hash."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
from pyarrow import parquet

from tunesmith.files import canonical_json, content_hash
from tunesmith.records import Message, Row

SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field(
            "messages", pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())])), nullable=False
        ),
        pa.field("target", pa.string(), nullable=False),
        pa.field("group", pa.string(), nullable=False),
        pa.field("conflict", pa.bool_(), nullable=False),
    ]
)
# Columns of those files only whose rows have them, so that other data keep their bytes and their version.
OPTIONAL = {
    "fields": pa.field(
        "fields", pa.list_(pa.struct([("name", pa.string()), ("value", pa.string())])), nullable=False
    ),
    "rejected": pa.field("rejected", pa.string()),
    "annotations": pa.field(
        "annotations",
        pa.list_(pa.struct([("annotator", pa.string()), ("answer", pa.string())])),
        nullable=False,
    ),
}


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Write rows in the order given. No time stamps, one row group: the same bytes with the same pyarrow."""
    used = {name for row in rows for name in _optional(row)}
    schema = pa.schema([*SCHEMA, *(OPTIONAL[name] for name in OPTIONAL if name in used)])
    table = pa.Table.from_pylist(
        [
            {
                "id": row.id,
                "source": row.source,
                "messages": [{"role": turn.role, "content": turn.content} for turn in row.messages],
                "target": row.target,
                "group": row.group,
                "conflict": row.conflict,
                "fields": [{"name": name, "value": value} for name, value in row.fields],
                "rejected": row.rejected,
                "annotations": [{"annotator": who, "answer": answer} for who, answer in row.annotations],
            }
            for row in rows
        ],
        schema=schema,
    )
    parquet.write_table(table, path, compression="zstd", row_group_size=max(1, len(rows)), version="2.6")


def read_rows(path: Path) -> list[Row]:
    """The rows of a file that :func:`write_rows` wrote, in order."""
    return [
        Row(
            id=record["id"],
            source=record["source"],
            messages=tuple(Message(turn["role"], turn["content"]) for turn in record["messages"]),
            target=record["target"],
            group=record["group"],
            conflict=record["conflict"],
            fields=tuple((field["name"], field["value"]) for field in record.get("fields", ())),
            rejected=record.get("rejected"),
            annotations=tuple(
                (given["annotator"], given["answer"]) for given in record.get("annotations", ())
            ),
        )
        for record in parquet.read_table(path, partitioning=None).to_pylist()
    ]


def examples_sha256(rows: Sequence[Row]) -> str:
    """Hash of what is asked and answered, whatever the order, ids, groups and sources of the rows."""
    return content_hash(
        sorted(
            canonical_json([row.messages, row.target, *([row.rejected] if row.rejected is not None else [])])
            for row in rows
        )
    )


def rows_sha256(rows: Sequence[Row]) -> str:
    """Hash of everything about the rows but their sources, whatever their order."""
    return content_hash(
        sorted(
            canonical_json([row.id, row.messages, row.target, row.group, row.conflict, *_extras(row)])
            for row in rows
        )
    )


def _optional(row: Row) -> dict[str, object]:
    """Those of a row's optional parts that it has."""
    parts: dict[str, object] = {
        "fields": row.fields,
        "rejected": row.rejected,
        "annotations": row.annotations,
    }
    return {name: part for name, part in parts.items() if part not in (None, ())}


def _extras(row: Row) -> list[object]:
    optional = _optional(row)
    return [optional] if optional else []
