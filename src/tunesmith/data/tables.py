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


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Write rows in the order given. No time stamps, one row group: the same bytes with the same pyarrow."""
    table = pa.Table.from_pylist(
        [
            {
                "id": row.id,
                "source": row.source,
                "messages": [{"role": turn.role, "content": turn.content} for turn in row.messages],
                "target": row.target,
                "group": row.group,
                "conflict": row.conflict,
            }
            for row in rows
        ],
        schema=SCHEMA,
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
        )
        for record in parquet.read_table(path, partitioning=None).to_pylist()
    ]


def examples_sha256(rows: Sequence[Row]) -> str:
    """Hash of what is asked and answered, whatever the order, ids, groups and sources of the rows."""
    return content_hash(sorted(canonical_json([row.messages, row.target]) for row in rows))


def rows_sha256(rows: Sequence[Row]) -> str:
    """Hash of everything about the rows but their sources, whatever their order."""
    return content_hash(
        sorted(canonical_json([row.id, row.messages, row.target, row.group, row.conflict]) for row in rows)
    )
