"""What a data file is, decided by its content and then by its name, and why; and its records.

Every defect of a file is one UserError with its place.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from tunesmith.data.annotated import label_studio, prodigy, tool_of
from tunesmith.data.content import Compression, check_text, compression_of, head_of, opened, text_of
from tunesmith.data.csv_files import DELIMITERS, delimiter_of, read_csv
from tunesmith.data.json_files import read_json_array, read_jsonl
from tunesmith.data.parquet_files import read_parquet
from tunesmith.data.parsed import BadRecord, Record, refuse
from tunesmith.errors import UserError
from tunesmith.files import file_sha256

TableFormat = Literal["jsonl", "json", "csv", "parquet"]
DocumentFormat = Literal["text", "pdf", "docx"]
FileFormat = TableFormat | DocumentFormat | Literal["documents"]

TABLES: dict[str, TableFormat] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
}
DOCUMENTS: dict[str, DocumentFormat] = {".txt": "text", ".md": "text", ".pdf": "pdf", ".docx": "docx"}
SUFFIXES = (*TABLES, *DOCUMENTS)
PACKED_SUFFIXES = (".gz", ".gzip", ".zst", ".zstd")
_MAGIC: dict[bytes, tuple[FileFormat, str]] = {
    b"PAR1": ("parquet", "Parquet"),
    b"%PDF-": ("pdf", "PDF"),
}


@dataclass(frozen=True)
class DataFile:
    """A file whose format is known. ``why`` is the sentence that says how."""

    path: Path
    name: str
    format: FileFormat
    compression: Compression | None
    why: str


@dataclass(frozen=True)
class OpenTable:
    """A table about to be read: its records come one by one and once. ``why`` says what it was taken for."""

    name: str
    format: FileFormat
    sha256: str
    why: str
    records: Iterator[Record | BadRecord]


@dataclass(frozen=True)
class Table:
    """A data file, read. ``columns`` are in order of first appearance."""

    name: str
    format: FileFormat
    sha256: str
    why: str
    columns: tuple[str, ...]
    records: tuple[Record, ...]


def read_table(path: Path, name: str | None = None) -> Table:
    """Read a data file whole; ``name`` is what messages and sources call it (default: the file name).

    Raises:
        UserError: see :func:`open_table`, or some records are broken (the first 20 and their number).
    """
    return whole(open_table(path, name))


def whole(table: OpenTable) -> Table:
    """All records of a table in memory.

    Raises:
        UserError: some records are broken.
    """
    read, bad = in_parts(table)
    refuse(table.name, bad, len(read.records) + len(bad))
    return read


def in_parts(table: OpenTable) -> tuple[Table, tuple[BadRecord, ...]]:
    """The records of a table that can be read, in memory, and those that cannot."""
    read = list(table.records)
    records = tuple(record for record in read if isinstance(record, Record))
    columns = dict.fromkeys(column for record in records for column in record.fields)
    bad = tuple(record for record in read if isinstance(record, BadRecord))
    return Table(table.name, table.format, table.sha256, table.why, tuple(columns), records), bad


def open_table(path: Path, name: str | None = None) -> OpenTable:
    """Recognise and check a table, and begin to read it. A CSV file is split at the delimiter of its header.

    Raises:
        UserError: missing, empty, not UTF-8, null bytes, too long a line, too much packed into it, or no
            table; while reading: whatever keeps all further records from being read.
    """
    file = recognise(path, name or path.name)
    if file.format not in get_args(TableFormat):
        raise UserError(
            f"{file.name}: a document, where a table is needed ({file.why})",
            f"Give one of {', '.join(TABLES)}.",
        )
    try:
        if file.format != "parquet":
            check_text(path, file.name, file.compression, lines=file.format != "json")
        sha256 = file_sha256(path)
    except OSError as error:
        raise _unreadable(file.name, error) from error
    records = _records(file)
    first = next(records, None)
    if first is None:
        raise UserError(f"{file.name}: the file holds no rows", "Give a file that holds at least one row.")
    records = itertools.chain([first], records)
    tool = tool_of(first.fields) if isinstance(first, Record) else None
    why = file.why
    if tool == "Label Studio":
        records, why = label_studio(records), f"{why}; tasks of Label Studio: 'data' with 'annotations'"
    elif tool == "Prodigy":
        records, why = prodigy(records), f"{why}; examples of Prodigy: 'answer' with '_input_hash'"
    return OpenTable(file.name, file.format, sha256, why, records)


def recognise(path: Path, name: str) -> DataFile:
    """Decide what a file is: by its first bytes where they tell, else by its suffix.

    Raises:
        UserError: there is no such file, it is empty, or neither its content nor its suffix is known.
    """
    suffix = suffix_of(path)
    if not path.exists() and suffix not in SUFFIXES:
        raise _unknown(name, suffix)
    try:
        if not path.is_file():
            raise _missing(path, name)
        if path.stat().st_size == 0:
            raise UserError(f"{name}: the file is empty", "Give a file that holds at least one row.")
        compression = compression_of(path)
        head = head_of(path, name, compression)
    except OSError as error:
        raise _unreadable(name, error) from error
    file_format, because = _format_of(head, suffix, name)
    packed = f", packed with {compression}" if compression else ""
    if compression and file_format in ("parquet", "pdf", "docx"):
        raise UserError(f"{name}: {because}{packed}", f"Unpack it first: {compression} -d {name}")
    return DataFile(path, name, file_format, compression, f"{name}: read as {because}{packed}")


def suffix_of(path: Path) -> str:
    """The suffix that tells the format: ``.jsonl`` of ``tickets.jsonl.gz``."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in PACKED_SUFFIXES:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def _format_of(head: bytes, suffix: str, name: str) -> tuple[FileFormat, str]:
    """The format, and what it is and why in words."""
    for magic, (file_format, title) in _MAGIC.items():
        if head.startswith(magic):
            return file_format, f"{title}, as it begins with {magic.decode()}"
    if head.startswith(b"PK\x03\x04"):
        if suffix == ".docx":
            return "docx", "DOCX, by its suffix and as it is a zip archive"
        raise _unknown(name, suffix, "a zip archive")
    named = TABLES.get(suffix) or DOCUMENTS.get(suffix)
    if named in ("parquet", "pdf", "docx"):
        title = {"parquet": "Parquet", "pdf": "PDF", "docx": "DOCX"}[named]
        raise UserError(
            f"{name}: not a readable {title} file: its first bytes are not those of one",
            "Write the file again, or correct its suffix.",
        )
    text = head.decode("utf-8-sig", errors="replace").lstrip()
    by_suffix = f"by its suffix {suffix}"
    if named == "text":
        return "text", f"plain text, {by_suffix}"
    if named == "csv":
        delimiter = DELIMITERS[delimiter_of(text)]
        return "csv", f"CSV, {by_suffix}, with the delimiter of its header: {delimiter}"
    if re.match(r"\[\s*\{", text) or (text.startswith("[") and named != "jsonl"):
        return "json", "a JSON array, as it begins with ["
    if text.startswith("{") and (named == "jsonl" or _stands_alone(text)):
        return "jsonl", "JSON Lines, as its first line is a JSON object"
    if named == "jsonl":
        return "jsonl", f"JSON Lines, {by_suffix}"
    if named == "json":
        raise UserError(
            f"{name}: neither a JSON array of objects nor JSON Lines",
            f"Take the array out of it, for example: jq -c '.data[]' {name} > data.jsonl",
        )
    raise _unknown(name, suffix)


def _stands_alone(head: str) -> bool:
    """Whether the first line is an object of its own, or too long to tell (a document of one object, laid
    out for people, has short lines)."""
    line, newline, _ = head.partition("\n")
    return line.rstrip().endswith("}") or not newline


def _records(file: DataFile) -> Iterator[Record | BadRecord]:
    if file.format == "parquet":
        yield from read_parquet(file.path, file.name)
        return
    with ExitStack() as stack:
        raw = stack.enter_context(opened(file.path, file.name, file.compression))
        stream = stack.enter_context(text_of(raw, newline="" if file.format == "csv" else "\n"))
        if file.format == "csv":
            yield from read_csv(stream, file.name)
        elif file.format == "json":
            yield from read_json_array(stream, file.name)
        else:
            yield from read_jsonl(stream)


def _unknown(name: str, suffix: str, content: str | None = None) -> UserError:
    found = f"the suffix '{suffix}' is unknown" if suffix else "the file has no suffix"
    fix = f"Give one of {', '.join(SUFFIXES)}."
    if suffix in (".xlsx", ".xls", ".ods"):
        fix += " Save the sheet as 'CSV UTF-8'."
    elif content:
        fix += " Unpack the archive first."
    return UserError(
        f"{name}: {found}, and its content does not tell the format" + (f": {content}" if content else ""),
        fix,
    )


def _missing(path: Path, name: str) -> UserError:
    if path.is_dir():
        return UserError(f"{name}: this is a folder, not a file", f"Name a data file ({', '.join(TABLES)}).")
    beside = sorted(file.name for file in path.parent.glob("*") if suffix_of(file) in SUFFIXES)
    hint = f" Data files there: {', '.join(beside[:10])}." if beside else ""
    return UserError(f"{name}: there is no such file ({path})", f"Check the path.{hint}")


def _unreadable(name: str, error: OSError) -> UserError:
    return UserError(f"{name}: the file cannot be read: {error.strerror or error}", "Check its permissions.")
