"""What an entry of ``data.path`` stands for: a file, a folder, a glob, or a dataset on the Hub."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tunesmith.data.documents import is_document, label_files
from tunesmith.data.formats import PACKED_SUFFIXES, SUFFIXES, suffix_of
from tunesmith.data.hub import HUB, fetch_from_hub
from tunesmith.errors import UserError

# Files that go with data and are none of it.
_ABOUT = ("readme", "license", "licence", "notice", "changelog", "citation", "copying")
_LISTED = 5


@dataclass(frozen=True)
class Place:
    """The files behind one entry: tables, each read on its own, or documents, read together.

    ``names`` are what messages and sources call the files; ``note`` says what a folder or glob was taken
    for, and is None for a single file.
    """

    name: str
    files: tuple[Path, ...]
    names: tuple[str, ...]
    documents: bool
    note: str | None


def find_place(entry: str, cache: Path, say: Callable[[str], None]) -> Place:
    """The files that ``entry`` stands for, sorted by their paths.

    Raises:
        UserError: nothing there, tables and documents mixed, or the Hub cannot be reached.
    """
    if entry.startswith(HUB):
        found = fetch_from_hub(entry, cache, say)
        return Place(entry, found.files, found.names, False, found.note)
    path = Path(entry)
    if path.is_file() or not (path.is_dir() or glob.has_magic(entry)):
        return Place(path.name, (path,), (path.name,), path.is_file() and is_document(path), None)
    root, candidates = _candidates(entry)
    about = [file for file in candidates if file.stem.lower() in _ABOUT]
    known = [file for file in candidates if suffix_of(file) in SUFFIXES and file not in about]
    documents = [file for file in known if is_document(file)]
    labels = set(label_files(documents))
    tables = [file for file in known if not is_document(file) and file not in labels]
    kind = "folder" if path.is_dir() else "glob"
    if not known:
        raise UserError(
            f"{entry}: this {kind} holds no data files" if kind == "folder" else f"{entry}: no file fits",
            f"Name data files ({', '.join(SUFFIXES)}; also packed as {', '.join(PACKED_SUFFIXES)}).",
        )
    if documents and tables:
        raise UserError(
            f"{entry}: this {kind} mixes tables ({_some(tables)}) with documents ({_some(documents)})",
            f"Name the tables alone, for example {root}/*{tables[0].suffix}, or the documents; labels of "
            f"documents are read from labels.csv or a JSON object of the same name.",
        )
    ignored = [file for file in candidates if file not in known and file not in labels]
    note = f"{path.name if kind == 'folder' else entry}: a {kind} of {len(documents or tables):,} "
    note += "documents" if documents else f"tables: {_some(tables)}"
    if ignored:
        note += f"; left out: {_some(ignored)}"
    files = documents or tables
    names = tuple(file.relative_to(root).as_posix() for file in files)
    return Place(path.name if kind == "folder" else entry, tuple(files), names, bool(documents), note)


def files_behind(entry: str) -> tuple[Path, ...]:
    """Every file on disk that decides what ``entry`` reads, labels of documents included; none of the Hub."""
    if entry.startswith(HUB):
        return ()
    path = Path(entry)
    candidates = _candidates(entry)[1] if path.is_dir() or glob.has_magic(entry) else (path,)
    labels = label_files([file for file in candidates if is_document(file)])
    return tuple(sorted({*candidates, *labels}))


def _candidates(entry: str) -> tuple[Path, list[Path]]:
    """The folder that names are relative to, and all files in the folder or of the glob but hidden ones."""
    path = Path(entry)
    found = [*path.rglob("*")] if path.is_dir() else [Path(one) for one in glob.glob(entry, recursive=True)]
    files = sorted(file for file in found if file.is_file())
    root = (
        path if path.is_dir() else Path(os.path.commonpath([file.parent for file in files] or [path.parent]))
    )
    shown = [file for file in files if not any(part.startswith(".") for part in file.relative_to(root).parts)]
    return root, shown


def _some(files: Sequence[Path]) -> str:
    more = f" and {len(files) - _LISTED:,} more" if len(files) > _LISTED else ""
    return ", ".join(file.name for file in files[:_LISTED]) + more
