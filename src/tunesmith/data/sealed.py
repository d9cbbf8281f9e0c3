"""The sealed test: the one function that reads test rows, and that writes to the ledger before it does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from tunesmith.data.tables import examples_sha256, read_rows
from tunesmith.errors import UserError
from tunesmith.files import file_sha256
from tunesmith.ledger import append, distinct_contests, opening_number
from tunesmith.records import Dataset, Row

TEST_FILE = "test.parquet"


def open_test(
    dataset: Dataset, ledger_path: Path, contest_id: str, candidate_names: Sequence[str]
) -> tuple[list[Row], int]:
    """The test rows, and k: this is the k-th distinct contest on this test.

    The ledger line is on disk before the first row is read. A contest that opened this test before gets
    its rows and its k again without another line.

    Raises:
        UserError: the test file was edited or is missing, or the version is cross-fitted (nothing is written
            then), or the ledger is broken.
    """
    if dataset.manifest.folds:
        raise UserError(
            f"{dataset.folder}: a cross-fitted version has no test of its own: its rows are judged in "
            f"{len(dataset.manifest.folds)} folds",
            "all of its rows are in train and validation",
        )
    _check_unedited(dataset)
    test_sha256, version = dataset.manifest.test_sha256, dataset.manifest.version
    opening = _noted(ledger_path, test_sha256, version, contest_id, candidate_names)
    rows = read_rows(Path(dataset.folder) / TEST_FILE)
    _check_named(rows, dataset)
    return rows, opening


def open_folds(
    dataset: Dataset,
    folds: Sequence[Dataset],
    ledger_path: Path,
    contest_id: str,
    candidate_names: Sequence[str],
) -> tuple[list[list[Row]], int]:
    """The rows of every fold of a cross-fitted version, and k, as :func:`open_test`: one contest opens all.

    The ledger line, with the versions of the folds, is on disk before the first row is read. Folds that were
    dealt otherwise, from the same rows, are the same test and share its count. Errors as in ``open_test``.
    """
    for fold in folds:
        _check_unedited(fold)
    test_sha256, version = dataset.manifest.test_sha256, dataset.manifest.version
    versions = [fold.manifest.version for fold in folds]
    opening = _noted(ledger_path, test_sha256, version, contest_id, candidate_names, {"folds": versions})
    rows = [read_rows(Path(fold.folder) / TEST_FILE) for fold in folds]
    _check_named([row for members in rows for row in members], dataset)
    return rows, opening


def _check_unedited(dataset: Dataset) -> None:
    path = Path(dataset.folder) / TEST_FILE
    expected = next((file.sha256 for file in dataset.manifest.files if file.name == TEST_FILE), None)
    if not path.is_file() or file_sha256(path) != expected:
        raise UserError(
            f"{path}: the sealed test is missing or was edited after the freeze",
            f"Delete {dataset.folder} and run `tunesmith data freeze` to freeze it again.",
        )


def _noted(
    ledger_path: Path,
    test_sha256: str,
    version: str,
    contest_id: str,
    candidate_names: Sequence[str],
    more: Mapping[str, Sequence[str]] | None = None,
) -> int:
    """Write the line of this contest, unless it is there; its k."""
    if contest_id not in distinct_contests(ledger_path, test_sha256):
        append(
            ledger_path,
            "test_opened",
            {
                "test_sha256": test_sha256,
                "dataset_version": version,
                "contest_id": contest_id,
                "candidates": list(candidate_names),
                **(more or {}),
            },
        )
    return opening_number(ledger_path, test_sha256, contest_id)


def _check_named(rows: Sequence[Row], dataset: Dataset) -> None:
    if examples_sha256(rows) != dataset.manifest.test_sha256:
        raise UserError(
            f"{dataset.folder}: the test rows are not those that the manifest names",
            f"Delete {dataset.folder} and run `tunesmith data freeze` to freeze it again.",
        )
