"""What prompts may find passages in: a folder of documents, or the training rows."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from tunesmith.errors import UserError
from tunesmith.files import content_hash, file_sha256
from tunesmith.records import Row
from tunesmith.task import Task

if TYPE_CHECKING:  # scikit-learn takes a second to import
    from tunesmith.candidates.retrieval import Library

PASSAGE_WORDS = 120
OVERLAP_WORDS = 20


def library_of(task: Task, train: Sequence[Row]) -> Library | None:
    """What the task's prompts may find passages in; None where no prompt shows any.

    Raises UserError where the folder of documents is missing, empty, or cannot be read.
    """
    retrieval = task.opponents.retrieval
    if not retrieval.k:
        return None
    from tunesmith.candidates.retrieval import library_of_rows, library_of_texts

    if retrieval.documents is None:
        return library_of_rows(train)
    try:
        return library_of_texts(_passages(_documents(task), task.resolve(retrieval.documents)))
    except ValueError as error:
        raise UserError(
            f"opponents.retrieval.documents: {error} of {retrieval.documents}", "give documents with text"
        ) from None


def documents_sha256(task: Task) -> str | None:
    """The hash of all documents, for cache keys; None where there are none to read."""
    retrieval = task.opponents.retrieval
    if not retrieval.k or retrieval.documents is None:
        return None
    return content_hash([[path.name, file_sha256(path)] for path in _documents(task)])


def _documents(task: Task) -> tuple[Path, ...]:
    from tunesmith.data.documents import is_document

    named = str(task.opponents.retrieval.documents)
    folder = task.resolve(named)
    if not folder.is_dir():
        raise UserError(
            f"opponents.retrieval.documents: there is no folder {folder}",
            "a relative path starts at the folder of the task file",
        )
    found = tuple(path for path in sorted(folder.rglob("*")) if path.is_file() and is_document(path))
    if not found:
        raise UserError(
            f"opponents.retrieval.documents: no text, PDF or DOCX file in {folder}", "check the path"
        )
    return found


@lru_cache(maxsize=1)
def _passages(documents: tuple[Path, ...], folder: Path) -> tuple[tuple[str, str], ...]:
    """(source, text) of every window of every document."""
    from tunesmith.data.documents import document_text
    from tunesmith.data.formats import recognise
    from tunesmith.data.windows import cut_windows

    found = []
    for path in documents:
        name = str(path.relative_to(folder))
        text = document_text(recognise(path, name))
        if text.strip():
            windows = cut_windows(text, PASSAGE_WORDS, OVERLAP_WORDS)
            found += [(f"{name}:{window.start}", window.text.strip()) for window in windows]
    return tuple(found)
