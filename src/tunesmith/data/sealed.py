"""The sealed test: the one function that reads test rows, and that writes to the ledger before it does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from tunesmith.data.tables import examples_sha256, read_rows
from tunesmith.errors import UserError
from tunesmith.files import content_hash, file_sha256
from tunesmith.ledger import append, distinct_contests, opening_number, openings
from tunesmith.records import Dataset, Row

TEST_FILE = "test.parquet"
# Who opens a test to show its rows to a person.
SHOWN = "shown to a person"


def open_test(
    dataset: Dataset, ledger_path: Path, contest_id: str, candidate_names: Sequence[str]
) -> tuple[list[Row], int]:
    """The test rows, and k: this is the k-th distinct contest on this test, or on one with rows of it.

    The ledger line is on disk before the first row is read. A contest that opened this test before gets
    its rows and its k again without another line.

    Raises:
        UserError: the test file was edited or is missing, or a person has seen its rows before this contest,
            or the version is cross-fitted (nothing is written then), or the ledger is broken.
    """
    if dataset.manifest.folds:
        raise UserError(
            f"{dataset.folder}: a cross-fitted version has no test of its own: its rows are judged in "
            f"{len(dataset.manifest.folds)} folds",
            "all of its rows are in train and validation",
        )
    _check_unedited(dataset)
    test_sha256, version = dataset.manifest.test_sha256, dataset.manifest.version
    if SHOWN not in candidate_names and contest_id not in distinct_contests(ledger_path, test_sha256):
        check_unspent(dataset, ledger_path)
    _note(ledger_path, test_sha256, version, contest_id, candidate_names)
    rows = read_rows(Path(dataset.folder) / TEST_FILE)
    _check_named(rows, dataset)
    return rows, _opening(dataset, ledger_path, contest_id, rows)


def check_unspent(dataset: Dataset, ledger_path: Path) -> None:
    """UserError (exit code 3) where the rows of the sealed test were shown to a person: who has seen which
    rows are lost can no longer be judged by them."""
    test_sha256 = dataset.manifest.test_sha256
    for line in openings(ledger_path):
        if line.data.get("test_sha256") == test_sha256 and SHOWN in line.data.get("candidates", ()):
            raise UserError(
                f"{dataset.folder}: its sealed test was shown to a person on {line.time[:10]} (line "
                f"{line.seq} of {ledger_path}): no verdict may use it any more",
                "test on rows that nobody has seen: give a new test file (data.test_path), or new data",
                exit_code=3,
            )


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
    _note(ledger_path, test_sha256, version, contest_id, candidate_names, {"folds": versions})
    rows = [read_rows(Path(fold.folder) / TEST_FILE) for fold in folds]
    together = [row for members in rows for row in members]
    _check_named(together, dataset)
    return rows, _opening(dataset, ledger_path, contest_id, together)


def _check_unedited(dataset: Dataset) -> None:
    path = Path(dataset.folder) / TEST_FILE
    expected = next((file.sha256 for file in dataset.manifest.files if file.name == TEST_FILE), None)
    if not path.is_file() or file_sha256(path) != expected:
        raise UserError(
            f"{path}: the sealed test is missing or was edited after the freeze",
            f"Delete {dataset.folder} and run `tunesmith data freeze` to freeze it again.",
        )


def _note(
    ledger_path: Path,
    test_sha256: str,
    version: str,
    contest_id: str,
    candidate_names: Sequence[str],
    more: Mapping[str, Sequence[str]] | None = None,
) -> None:
    """Write the line of this contest, unless it is there."""
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


def _opening(dataset: Dataset, ledger_path: Path, contest_id: str, rows: Sequence[Row]) -> int:
    """k, over all contests on tests that share an input with ``rows``: a test with some rows more, one row
    less or another label is no new one. Tests whose version is gone are taken to share some."""
    test_sha256 = dataset.manifest.test_sha256
    asked = {content_hash(row.messages) for row in rows}
    related: dict[str, bool] = {test_sha256: True}
    for line in openings(ledger_path):
        other = str(line.data.get("test_sha256"))
        if other not in related:
            versions = line.data.get("folds") or [line.data.get("dataset_version")]
            files = [Path(dataset.folder).parent / str(version)[:12] / TEST_FILE for version in versions]
            related[other] = any(
                not file.is_file() or any(content_hash(row.messages) in asked for row in read_rows(file))
                for file in files
            )
    others = [other for other, shares in related.items() if shares]
    return opening_number(ledger_path, test_sha256, contest_id, others)


def _check_named(rows: Sequence[Row], dataset: Dataset) -> None:
    if examples_sha256(rows) != dataset.manifest.test_sha256:
        raise UserError(
            f"{dataset.folder}: the test rows are not those that the manifest names",
            f"Delete {dataset.folder} and run `tunesmith data freeze` to freeze it again.",
        )
