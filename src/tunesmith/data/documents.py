"""Documents as records: plain text, PDF and DOCX, with labels from files beside them.

A document's label is in a JSON object of the same name (``report.pdf``, ``report.json``), or all labels are
in one table beside the documents: ``labels.csv`` (or .tsv, .jsonl, .json, .parquet) with a column ``file``.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tunesmith.data.content import LONGEST_LINE_BYTES, check_text, opened, text_of
from tunesmith.data.formats import DOCUMENTS, TABLES, DataFile, OpenTable, read_table, recognise, suffix_of
from tunesmith.data.json_files import parse_object
from tunesmith.data.parsed import BadRecord, Record
from tunesmith.errors import UserError
from tunesmith.files import file_sha256

LABELS_STEM = "labels"
DOCUMENT_COLUMN = "file"
INSTALL = 'pip install "tunesmith[documents]"'
# The parts of a DOCX archive are read into memory.
LARGEST_DOCX_BYTES = 4 * LONGEST_LINE_BYTES
_LABEL_FIX = (
    f"Give it a JSON object of the same name (report.pdf: report.json), or a line in {LABELS_STEM}.csv "
    f"beside it, with its name in the column '{DOCUMENT_COLUMN}'."
)


def is_document(path: Path) -> bool:
    return suffix_of(path) in DOCUMENTS


def label_files(documents: Sequence[Path]) -> tuple[Path, ...]:
    """The files beside documents that hold their labels, sorted."""
    folders = sorted({document.parent for document in documents})
    tables = [folder / f"{LABELS_STEM}{suffix}" for folder in folders for suffix in TABLES]
    found = [file for file in [*tables, *(_sidecar(document) for document in documents)] if file.is_file()]
    return tuple(sorted(set(found)))


def open_documents(name: str, documents: Sequence[Path], names: Sequence[str]) -> OpenTable:
    """One record for each document: ``file``, ``text``, and the fields of its label.

    Raises:
        UserError: an unknown document format, a broken label file; while reading: pypdf or python-docx is
            needed and not there.
    """
    files = [recognise(path, called) for path, called in zip(documents, names, strict=True)]
    labelled = label_files(documents)
    sidecars = {_sidecar(document) for document in documents}
    tables = [path for path in labelled if path not in sidecars]
    labels = _labels(tables, documents)
    whence = "no labels beside them"
    if tables:
        whence = f"labels from {', '.join(path.name for path in tables)}"
    elif labelled:
        whence = f"labels from {len(labelled):,} JSON files of the same names"
    hashes = [file_sha256(path) for path in [*documents, *labelled]]
    kinds = sorted({file.format for file in files})
    return OpenTable(
        name=name,
        format="documents",
        sha256=hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest(),
        why=f"{name}: read as {len(files):,} documents ({', '.join(kinds)}), {whence}",
        records=_records(files, labels, needed=bool(labelled)),
    )


def document_text(file: DataFile) -> str:
    """The text of one document; pages and blocks are parted by blank lines.

    Raises:
        UserError: its reader is not installed, or it cannot be read.
    """
    if file.format == "pdf":
        return _pdf(file)
    if file.format == "docx":
        return _docx(file)
    check_text(file.path, file.name, file.compression)
    with opened(file.path, file.name, file.compression) as raw, text_of(raw, newline=None) as stream:
        text = stream.read(LONGEST_LINE_BYTES + 1)
    if len(text) > LONGEST_LINE_BYTES:
        raise UserError(
            f"{file.name}: a document of more than {LONGEST_LINE_BYTES // 2**20} MiB", "Split it into parts."
        )
    return text


def _records(
    files: Sequence[DataFile], labels: dict[Path, dict[str, object]], needed: bool
) -> Iterator[Record | BadRecord]:
    for file in files:
        try:
            label = labels.get(file.path.resolve()) or _sidecar_fields(file)
            if label is None and needed:
                yield BadRecord(file.name, "a document without a label", _LABEL_FIX)
                continue
            text = document_text(file)
        except UserError as error:
            if INSTALL in error.fix:
                raise
            yield BadRecord(file.name, error.what.removeprefix(f"{file.name}: "), error.fix)
            continue
        if not text.strip():
            yield BadRecord(
                file.name,
                "no text was found in this document" + (" (is it a scan?)" if file.format == "pdf" else ""),
                "Run text recognition (OCR) over it, or remove it.",
            )
            continue
        yield Record(file.name, {DOCUMENT_COLUMN: file.path.name, "text": text, **(label or {})})


def _sidecar(document: Path) -> Path:
    return document.with_suffix(".json")


def _sidecar_fields(file: DataFile) -> dict[str, object] | None:
    path = _sidecar(file.path)
    if not path.is_file():
        return None
    name = str(Path(file.name).with_suffix(".json"))
    check_text(path, name, None)
    try:
        fields = parse_object(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise UserError(
            f"{name}: the label of {file.path.name} is not readable JSON: {error}", "Correct this file."
        ) from None
    if not isinstance(fields, dict):
        raise UserError(
            f"{name}: the label of {file.path.name} is not a JSON object but a {type(fields).__name__}",
            'Write one object into it, for example {"label": "invoice"}.',
        )
    return fields


def _labels(tables: Sequence[Path], documents: Sequence[Path]) -> dict[Path, dict[str, object]]:
    known = {document.resolve() for document in documents}
    labels: dict[Path, dict[str, object]] = {}
    for path in tables:
        table = read_table(path)
        if DOCUMENT_COLUMN not in table.columns:
            raise UserError(
                f"{table.name}: no column '{DOCUMENT_COLUMN}' (found: {', '.join(table.columns)})",
                f"The column '{DOCUMENT_COLUMN}' must name the document that each row labels.",
            )
        for record in table.records:
            document = (path.parent / str(record.fields.get(DOCUMENT_COLUMN))).resolve()
            if document not in known or document in labels:
                found = "labelled twice" if document in labels else "no such document beside it"
                raise UserError(
                    f"{table.name}:{record.line}: '{record.fields.get(DOCUMENT_COLUMN)}': {found}",
                    "Correct or remove this row.",
                )
            labels[document] = {
                name: value for name, value in record.fields.items() if name != DOCUMENT_COLUMN
            }
    return labels


def _pdf(file: DataFile) -> str:
    try:
        import pypdf
    except ImportError:
        raise _missing_reader(file, "pypdf") from None
    import logging

    # Its warnings about sloppy files are of no use to a person; what cannot be read is an error below.
    logging.getLogger("pypdf").setLevel(logging.ERROR)
    try:
        reader = pypdf.PdfReader(file.path)
        if reader.is_encrypted and not reader.decrypt(""):
            raise UserError(f"{file.name}: this PDF asks for a password", "Save it without one.")
        return "\n\n".join(page.extract_text().strip() for page in reader.pages).strip()
    except UserError:
        raise
    except Exception as error:  # a parser of foreign files: pypdf lets errors of many types through
        raise _unreadable(file, "PDF", error) from error


def _docx(file: DataFile) -> str:
    try:
        import docx
    except ImportError:
        raise _missing_reader(file, "python-docx") from None
    try:
        with zipfile.ZipFile(file.path) as archive:
            size = sum(part.file_size for part in archive.infolist())
        if size > LARGEST_DOCX_BYTES:
            raise UserError(
                f"{file.name}: unpacks to {size:,} bytes; at most {LARGEST_DOCX_BYTES // 2**20} MiB are read",
                "Split the document, or remove the pictures from it.",
            )
        return "\n\n".join(filter(None, map(_block_text, docx.Document(str(file.path)).iter_inner_content())))
    except UserError:
        raise
    except Exception as error:  # a parser of foreign files: broken XML, missing parts, broken archives
        raise _unreadable(file, "DOCX", error) from error


def _block_text(block: Any) -> str:
    """A paragraph's text, or a table's rows, cells parted by tabs."""
    if hasattr(block, "rows"):
        return "\n".join("\t".join(cell.text.strip() for cell in row.cells) for row in block.rows)
    return str(block.text).strip()


def _missing_reader(file: DataFile, package: str) -> UserError:
    return UserError(
        f"{file.name}: {file.format.upper()} documents are read with {package}, which is not installed",
        INSTALL,
    )


def _unreadable(file: DataFile, title: str, error: Exception) -> UserError:
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return UserError(f"{file.name}: not a readable {title} document: {reason}", "Save the document again.")
