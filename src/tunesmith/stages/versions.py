"""Frozen versions of a task's data: find one, show and export its rows, compare two."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tunesmith import ledger
from tunesmith.data_records import ExportedFile
from tunesmith.errors import UserError
from tunesmith.files import content_hash, file_sha256, record_parser, write_text
from tunesmith.records import Dataset, Row, SplitName
from tunesmith.workspace import TaskFolder

if TYPE_CHECKING:
    from tunesmith.data.curation.subset import Measure
    from tunesmith.data.differences import Difference

ExportFormat = Literal["jsonl", "csv"]
EXPORT_FORMATS: tuple[ExportFormat, ...] = ("jsonl", "csv")


@dataclass(frozen=True)
class Exported:
    """What was written. ``harmless_cells`` counts cells that a spreadsheet would have run as formulas."""

    file: str
    version: str
    split: SplitName
    rows: int
    harmless_cells: int


def find_version(folder: TaskFolder, version: str | None) -> Dataset:
    """The frozen version whose name begins so; without a name the one that was frozen last.

    Raises UserError when there is none, when the beginning fits several, and when it was edited.
    """
    from tunesmith.data.versions import load_dataset

    frozen = frozen_versions(folder)
    known = sorted(path.name for path in folder.datasets.glob("*") if (path / "manifest.json").is_file())
    if not known:
        raise UserError(
            f"{folder.datasets}: no frozen dataset there", "freeze one: `tunesmith data freeze TASK`"
        )
    if version is None:
        fitting = [name for name in known if frozen and frozen[-1].startswith(name)] or known[-1:]
    else:
        fitting = [name for name in known if name.startswith(version) or version.startswith(name)]
    if len(fitting) != 1 or version == "":
        raise UserError(
            f"{folder.datasets}: {len(fitting)} frozen versions begin with {version!r}",
            f"there are: {', '.join(known)}",
        )
    return load_dataset(folder.datasets / fitting[0])


def frozen_versions(folder: TaskFolder) -> list[str]:
    """The versions that the ledger names, in the order in which they were first frozen."""
    lines = ledger.read(folder.ledger)
    return [str(line.data.get("dataset_version")) for line in lines if line.event == "frozen"]


def compare_versions(folder: TaskFolder, first: str, second: str) -> Difference:
    """Which training and validation rows came, went and changed between two versions, and why."""
    from tunesmith.data.differences import compare

    return compare(find_version(folder, first), find_version(folder, second))


def rows_of_split(folder: TaskFolder, dataset: Dataset, split: SplitName, spend_test: bool) -> list[Row]:
    """The rows of a split for a person to see. Test rows only with ``spend_test``.

    The ledger says so before the first row is read, and the test is spent: no later contest may use it.
    Raises UserError when it is asked for without.
    """
    from tunesmith.data.sealed import SHOWN, open_test
    from tunesmith.data.versions import read_split

    if split != "test":
        return read_split(dataset, split)
    if not spend_test:
        raise UserError(
            "the test is sealed: whoever has seen its rows can no longer be judged by it without bias",
            "look at --split validation. With --spend-test the rows are shown, the ledger records it, and "
            "no later verdict may use this test",
        )
    seen_by = [SHOWN]
    rows, _ = open_test(
        dataset, folder.ledger, content_hash([dataset.manifest.test_sha256, seen_by]), seen_by
    )
    return rows


def export_rows(
    folder: TaskFolder,
    dataset: Dataset,
    split: SplitName,
    out: Path,
    format: ExportFormat,
    number: int | None = None,
    measure: Measure = "random",
    seed: int = 0,
    spend_test: bool = False,
) -> Exported:
    """Write a split's rows, or the best ``number`` of them by ``measure`` (see ``select_rows``).

    The file is noted among the task's exports, and the next report tells of it.
    """
    from tunesmith.data.curation.subset import select_rows
    from tunesmith.data.exchange import write_csv, write_jsonl

    noted = read_exports(folder)
    rows: Sequence[Row] = rows_of_split(folder, dataset, split, spend_test)
    if number is not None:
        rows = select_rows(rows, number, measure, seed)
    harmless = 0
    try:
        if format == "csv":
            harmless = write_csv(out, rows)
        else:
            write_jsonl(out, rows)
    except OSError as error:
        raise UserError(
            f"{out}: cannot be written: {error.strerror}", "give a place you may write to with --out"
        ) from error
    version = dataset.manifest.version
    chosen = "all" if number is None else f"by {measure}, seed {seed}"
    export = ExportedFile(
        datetime.now(UTC).isoformat(timespec="seconds"),
        version,
        split,
        format,
        len(rows),
        chosen,
        str(out),
        str(Path.cwd()),
        file_sha256(out),
    )
    write_text(folder.exports, "".join(json.dumps(asdict(line)) + "\n" for line in (*noted, export)))
    return Exported(str(out), version, split, len(rows), harmless)


def read_exports(folder: TaskFolder) -> list[ExportedFile]:
    """Every export that was noted, the oldest first. Raises UserError for a line that is none."""
    if not folder.exports.is_file():
        return []
    found = []
    for number, line in enumerate(folder.exports.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            found.append(record_parser(ExportedFile).validate_json(line))
        except ValueError as error:
            raise UserError(
                f"{folder.exports}, line {number}: no note of an export",
                "remove that line; only reports read it",
            ) from error
    return found
