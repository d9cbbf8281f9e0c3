"""JSONL, CSV, TSV and Parquet files as records. Every defect of a file is one UserError with its place."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tunesmith.errors import UserError
from tunesmith.files import file_sha256

FileFormat = Literal["jsonl", "csv", "parquet"]

FORMATS: dict[str, FileFormat] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
}


@dataclass(frozen=True)
class Record:
    """One record; ``line`` is where it starts in the file, 1-based (in Parquet: the row number)."""

    line: int
    fields: dict[str, object]


@dataclass(frozen=True)
class Table:
    """A data file, read. ``columns`` are in order of first appearance."""

    name: str
    format: FileFormat
    sha256: str
    columns: tuple[str, ...]
    records: tuple[Record, ...]


def read_table(path: Path, name: str | None = None) -> Table:
    """Read a data file whole; ``name`` is what messages and sources call it (default: the file name).

    CSV is split at whichever of comma, semicolon and tab occurs most in the header.

    Raises:
        UserError: missing, empty, not UTF-8, unknown suffix, broken JSON or CSV, two columns of one name.
    """
    name = name or path.name
    file_format = _format_of(path, name)
    try:
        if not path.is_file():
            raise UserError(*_missing(path, name))
        if path.stat().st_size == 0:
            raise UserError(f"{name}: the file is empty", "Give a file that holds at least one row.")
        sha256 = file_sha256(path)
        if file_format == "parquet":
            columns, records = _parquet(path, name)
        else:
            text = _text(path.read_bytes(), name)
            columns, records = _jsonl(text, name) if file_format == "jsonl" else _csv(text, name)
    except OSError as error:
        raise UserError(
            f"{name}: the file cannot be read: {error.strerror}", "Check its permissions."
        ) from error
    if not records:
        raise UserError(f"{name}: the file holds no rows", "Give a file that holds at least one row.")
    return Table(name, file_format, sha256, columns, tuple(records))


def _format_of(path: Path, name: str) -> FileFormat:
    suffix = path.suffix.lower()
    if suffix in FORMATS:
        return FORMATS[suffix]
    found = f"the suffix '{suffix}' is unknown" if suffix else "the file has no suffix"
    fix = f"Give one of {', '.join(FORMATS)}."
    if suffix == ".json":
        fix += " A JSON array becomes JSONL with: jq -c '.[]' data.json > data.jsonl"
    if suffix in (".xlsx", ".xls", ".ods"):
        fix += " Save the sheet as 'CSV UTF-8'."
    raise UserError(f"{name}: {found}", fix)


def _missing(path: Path, name: str) -> tuple[str, str]:
    if path.is_dir():
        return f"{name}: this is a folder, not a file", f"Name a data file ({', '.join(FORMATS)})."
    beside = sorted(file.name for file in path.parent.glob("*") if file.suffix.lower() in FORMATS)
    hint = f" Data files there: {', '.join(beside[:10])}." if beside else ""
    return f"{name}: there is no such file ({path})", f"Check the path.{hint}"


def _text(data: bytes, name: str) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise UserError(
            f"{name}:1: not UTF-8: the file starts with a UTF-16 byte order mark",
            f"Save it as UTF-8, for example: iconv -f UTF-16 -t UTF-8 {name}",
        )
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # utf-8-sig counts from behind the byte order mark.
        offset = error.start + (3 if data.startswith(b"\xef\xbb\xbf") else 0)
        raise UserError(
            f"{name}:{_line_at(data, offset)}: not UTF-8: byte 0x{data[offset]:02x} at offset {offset:,}",
            f"Save the file as UTF-8, for example: iconv -f WINDOWS-1252 -t UTF-8 {name}",
        ) from None
    offset = data.find(b"\0")
    if offset >= 0:
        raise UserError(
            f"{name}:{_line_at(data, offset)}: a null byte at offset {offset:,}",
            "The file is damaged or not text. Write it again; remove null bytes with: tr -d '\\000'",
        )
    return text


def _line_at(data: bytes, offset: int) -> int:
    return data.count(b"\n", 0, offset) + 1


class _RepeatedKeyError(ValueError):
    pass


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise _RepeatedKeyError(_repeated(key for key, _ in pairs))
    return fields


def _repeated(names: Iterable[str]) -> str:
    return ", ".join(f"'{name}'" for name, times in Counter(names).items() if times > 1)


def _jsonl(text: str, name: str) -> tuple[tuple[str, ...], list[Record]]:
    records: list[Record] = []
    columns: dict[str, None] = {}
    for line, content in enumerate(text.split("\n"), start=1):
        if not content.strip():
            continue
        try:
            fields = json.loads(content, object_pairs_hook=_object)
        except _RepeatedKeyError as error:
            raise UserError(
                f"{name}:{line}: two fields of the same name: {error}",
                "Rename or remove one of them: which value was meant cannot be known.",
            ) from None
        except json.JSONDecodeError as error:
            raise UserError(
                f"{name}:{line}: broken JSON at column {error.colno}: {error.msg}",
                "Each line must hold one complete JSON object. Correct this line.",
            ) from None
        except (ValueError, RecursionError) as error:
            raise UserError(
                f"{name}:{line}: JSON that cannot be read: {error}", "Correct or remove this line."
            ) from None
        if not isinstance(fields, dict):
            raise UserError(
                f"{name}:{line}: not a JSON object but a {type(fields).__name__}",
                'Each line must hold one object, for example {"text": "...", "label": "..."}.',
            )
        columns.update(dict.fromkeys(fields))
        records.append(Record(line, fields))
    return tuple(columns), records


def _csv(text: str, name: str) -> tuple[tuple[str, ...], list[Record]]:
    header_line = text.lstrip("\r\n").split("\n", 1)[0]
    delimiter = max(",;\t", key=header_line.count)
    csv.field_size_limit(2**31 - 1)  # the default cuts off at 128 KiB
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    columns: tuple[str, ...] | None = None
    records: list[Record] = []
    start = 1
    try:
        for cells in reader:
            line, start = start, reader.line_num + 1
            if not cells:
                continue
            if columns is None:
                columns = tuple(cell.strip() for cell in cells)
                if len(set(columns)) < len(columns):
                    raise UserError(
                        f"{name}:{line}: two columns of the same name: {_repeated(columns)}",
                        "Rename or remove one of them in the header.",
                    )
                continue
            if len(cells) != len(columns):
                raise UserError(
                    f"{name}:{line}: {len(cells)} cells, but the header names {len(columns)} columns",
                    "Quote cells that hold the delimiter or a line break, then write the file again.",
                )
            records.append(Record(line, dict(zip(columns, cells, strict=True))))
    except csv.Error as error:
        raise UserError(
            f"{name}:{reader.line_num}: broken CSV: {error}",
            'Quote cells with " and double a " inside a cell, then write the file again.',
        ) from None
    return columns or (), records


def _parquet(path: Path, name: str) -> tuple[tuple[str, ...], list[Record]]:
    import pyarrow
    from pyarrow import parquet

    try:
        names = parquet.read_schema(path).names
        if len(set(names)) < len(names):
            raise UserError(
                f"{name}: two columns of the same name: {_repeated(names)}",
                "Rename or remove one of them.",
            )
        # `partitioning=None`: a folder name such as label=spam is not a column of the file.
        rows = parquet.read_table(path, partitioning=None).to_pylist()
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"{name}: not a readable Parquet file: {str(error).splitlines()[0]}", "Write the file again."
        ) from error
    return tuple(names), [Record(number, fields) for number, fields in enumerate(rows, start=1)]
