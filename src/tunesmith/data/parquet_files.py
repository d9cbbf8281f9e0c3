"""Parquet, one batch of rows at a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tunesmith.data.content import FREE_BYTES, LARGEST_RATIO, unpacks_too_far
from tunesmith.data.json_files import repeated
from tunesmith.data.parsed import BadRecord, Record
from tunesmith.errors import UserError

BATCH_ROWS = 1024
# Dictionary encoding stores a value once and repeats it: at worst every row of a batch holds all of a chunk.
LARGEST_BATCH_BYTES = 2 * 2**30


def read_parquet(path: Path, name: str) -> Iterator[Record | BadRecord]:
    """The rows, numbered from 1.

    Raises:
        UserError: not a Parquet file, two columns of one name, or data that unpacks to more than 1 GiB and
            100 times the size of the file.
    """
    import pyarrow
    from pyarrow import parquet

    packed, size, number = path.stat().st_size, 0, 0
    try:
        with parquet.ParquetFile(path) as file:
            names = file.schema_arrow.names
            if len(set(names)) < len(names):
                raise UserError(
                    f"{name}: two columns of the same name: {repeated(names)}",
                    "Rename or remove one of them.",
                )
            chunks = _chunk_sizes(file.metadata)
            _check_size(name, packed, sum(chunks))
            rows = LARGEST_BATCH_BYTES // max([1, *chunks])
            for batch in file.iter_batches(batch_size=max(1, min(BATCH_ROWS, rows))):
                size += sum(_unpacked_bytes(column) for column in batch.columns)
                _check_size(name, packed, size)
                for fields in batch.to_pylist():
                    number += 1
                    yield Record(number, fields)
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"{name}: not a readable Parquet file: {(str(error).splitlines() or ['no reason given'])[0]}",
            "Write the file again.",
        ) from error


def _chunk_sizes(metadata: Any) -> list[int]:
    """The bytes of each column chunk, as the file states them."""
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    return [
        group.column(index).total_uncompressed_size for group in groups for index in range(group.num_columns)
    ]


def _unpacked_bytes(column: Any) -> int:
    import pyarrow

    if pyarrow.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    return int(column.nbytes)


def _check_size(name: str, packed: int, size: int) -> None:
    if unpacks_too_far(size, packed):
        raise UserError(
            f"{name}: {packed:,} bytes of Parquet unpack to {size:,} bytes or more: above "
            f"{FREE_BYTES // 2**30} GiB a file may hold at most {LARGEST_RATIO} times its packed size",
            "Such a file is damaged or made to fill memory. If it is your own, split it into smaller files.",
        )
