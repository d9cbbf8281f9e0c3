"""The sealed test: the one function that reads test rows, and that writes to the ledger before it does."""

from __future__ import annotations

from collections.abc import Sequence
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
        UserError: the test file was edited or is missing (nothing is written then), or the ledger is broken.
    """
    path = Path(dataset.folder) / TEST_FILE
    test_sha256 = dataset.manifest.test_sha256
    expected = next((file.sha256 for file in dataset.manifest.files if file.name == TEST_FILE), None)
    if not path.is_file() or file_sha256(path) != expected:
        raise UserError(
            f"{path}: the sealed test is missing or was edited after the freeze",
            f"Delete {dataset.folder} and run `tunesmith data freeze` to freeze it again.",
        )
    if contest_id not in distinct_contests(ledger_path, test_sha256):
        append(
            ledger_path,
            "test_opened",
            {
                "test_sha256": test_sha256,
                "dataset_version": dataset.manifest.version,
                "contest_id": contest_id,
                "candidates": list(candidate_names),
            },
        )
    opening = opening_number(ledger_path, test_sha256, contest_id)
    rows = read_rows(path)
    if examples_sha256(rows) != test_sha256:
        raise UserError(
            f"{path}: the rows are not those that the manifest names",
            f"Delete {dataset.folder} and run `tunesmith data freeze` to freeze it again.",
        )
    return rows, opening
