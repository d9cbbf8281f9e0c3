"""Frozen dataset versions: checked for leaks, named by their content, never changed afterwards."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from tunesmith.data.curation.apply import Change, read_changes, write_changes
from tunesmith.data.dates import date_ranges
from tunesmith.data.leaks import Leak, leaks_between
from tunesmith.data.made import check_only_trained_on, count_made
from tunesmith.data.sources import Source
from tunesmith.data.splits import Split, SplitSpec
from tunesmith.data.tables import examples_sha256, read_rows, rows_sha256, write_rows
from tunesmith.data.windowed import in_windows
from tunesmith.errors import UserError
from tunesmith.files import content_hash, file_sha256, read_record, write_json
from tunesmith.records import AuditAnswer, Dataset, FileHash, Manifest, Row, SplitCounts, SplitName

VERSION_CHARACTERS = 12
LEAKS_SHOWN = 5
CHANGES_FILE = "changes.parquet"
SPLIT_FILES: dict[SplitName, str] = {
    "train": "train.parquet",
    "validation": "validation.parquet",
    "test": "test.parquet",
}


@dataclass(frozen=True)
class AppliedRepair:
    """What was done to a split: the version it was, the plan's SHA-256 (hex), and every change."""

    parent: str
    plan_sha256: str
    changes: tuple[Change, ...]


def freeze(
    folder: Path,
    *,
    task: str,
    source: Source,
    split: Split,
    spec: SplitSpec,
    repair: AppliedRepair | None = None,
    folds: Sequence[Dataset] = (),
    checks: Sequence[AuditAnswer] = (),
) -> Dataset:
    """Write ``split`` as ``folder/<first 12 hex digits of its version>``, whole or not at all.

    The version is the hash of all rows and of the manifest, without the rows' sources, the files they
    came from and the audit's ``checks`` (some depend on what is installed): the same rows in another order
    are the same version. If it exists already it is verified and
    returned as it is. ``repair`` says what a repair plan did to ``split``; it is written beside the rows.
    ``folds`` are the frozen versions of the folds of a ``split`` without a test.

    Raises:
        UserError: a leak between splits or a made row outside train (nothing is written), or the existing
            version was edited.
    """
    check_only_trained_on(split)
    leaks = leaks_between(
        in_windows(split.train, spec.cutting).rows,
        in_windows(split.validation, spec.cutting).rows,
        in_windows(split.test, spec.cutting).rows,
        spec.near_duplicate_similarity,
        spec.shingle_words,
        spec.keep_together,
    )
    if leaks:
        raise UserError(*_leak_message(leaks))
    rows: dict[SplitName, Sequence[Row]] = {
        "train": split.train,
        "validation": split.validation,
        "test": split.test,
    }
    manifest = Manifest(
        version="",
        task=task,
        labels=split.labels,
        unmeasured_labels=split.unmeasured_labels,
        source_rows=source.read_rows + source.made_rows,
        rows=len(source.rows) + len(source.test_rows) + source.made_rows,
        groups=split.groups,
        conflict_groups=split.conflict_groups,
        splits={name: _counts(members) for name, members in rows.items() if name != "test" or not folds},
        set_aside=source.set_aside + split.set_aside,
        sources=source.files,
        test_sha256=examples_sha256([*split.test, *(row for fold in folds for row in _test_rows(fold))]),
        licence=source.licence,
        attribution=source.attribution,
        recipe=spec.recipe() | ({"repair_plan_sha256": repair.plan_sha256} if repair else {}),
        leaks=0,
        parents=(repair.parent,) if repair else (),
        made=count_made(split.train),
        date_ranges={} if spec.time is None else date_ranges(rows, spec.time),
        folds=tuple(fold.manifest.version for fold in folds),
        checks=tuple(checks),
    )
    manifest = replace(
        manifest, version=_version(manifest, split.train, split.validation, rows_sha256(split.test))
    )
    home = folder / manifest.version[:VERSION_CHARACTERS]
    if home.exists():
        return load_dataset(home)
    folder.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=folder, prefix=".partial-"))
    try:
        for name, members in rows.items():
            write_rows(partial / SPLIT_FILES[name], members)
        names = [*SPLIT_FILES.values()]
        if repair:
            write_changes(partial / CHANGES_FILE, repair.changes)
            names.append(CHANGES_FILE)
        files = tuple(_file_hash(partial / name) for name in names)
        manifest = replace(manifest, files=files)
        write_json(partial / "manifest.json", manifest)
        _sync(partial)
        partial.chmod(0o755)
        partial.rename(home)
        _sync_folder(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return Dataset(str(home), manifest)


def load_dataset(folder: Path) -> Dataset:
    """The frozen version in ``folder``, after checking its manifest and files against their hashes.

    Raises:
        UserError: there is no such version, or something in it was edited or is missing.
    """
    path = folder / "manifest.json"
    if not path.is_file():
        raise UserError(
            f"{folder}: no frozen dataset there (no manifest.json)", "Run `tunesmith data freeze` first."
        )
    try:
        manifest = read_record(path, Manifest)
    except ValueError as error:
        raise UserError(f"{path}: not a dataset manifest", _again(folder)) from error
    for file in manifest.files:
        if not (folder / file.name).is_file():
            raise UserError(
                f"{folder / file.name}: this file of the frozen dataset is missing", _again(folder)
            )
        found = file_sha256(folder / file.name)
        if found != file.sha256:
            raise UserError(
                f"{folder / file.name}: edited after the freeze: its SHA-256 is {found}, the manifest has "
                f"{file.sha256}",
                _again(folder),
            )
    names = {file.name for file in manifest.files}
    repaired = [CHANGES_FILE] if manifest.parents else []
    if names != {*SPLIT_FILES.values(), *repaired}:
        raise UserError(f"{path}: edited after the freeze: it does not list the three splits", _again(folder))
    train, validation, test = (read_rows(folder / name) for name in SPLIT_FILES.values())
    if _version(manifest, train, validation, rows_sha256(test)) != manifest.version or (
        examples_sha256(test) != manifest.test_sha256 and not manifest.folds
    ):
        raise UserError(
            f"{path}: edited after the freeze: its content does not hash to version {manifest.version}",
            _again(folder),
        )
    return Dataset(str(folder), manifest)


def fold_folders(dataset: Dataset) -> tuple[Path, ...]:
    """Where the versions of a cross-fitted version's folds lie; none of another version."""
    beside = Path(dataset.folder).parent
    return tuple(beside / version[:VERSION_CHARACTERS] for version in dataset.manifest.folds)


def load_folds(dataset: Dataset) -> tuple[Dataset, ...]:
    """The versions of a cross-fitted version's folds, in order. Errors as in :func:`load_dataset`."""
    return tuple(load_dataset(folder) for folder in fold_folders(dataset))


def read_repairs(dataset: Dataset) -> list[Change]:
    """What the repair plan of a version changed; nothing where it was made without one."""
    path = Path(dataset.folder) / CHANGES_FILE
    return read_changes(path) if dataset.manifest.parents else []


def read_split(dataset: Dataset, split: Literal["train", "validation"]) -> list[Row]:
    """The rows of train or validation, sorted by id. Test rows come from ``open_test`` alone.

    Raises:
        ValueError: any other split is asked for.
    """
    if split not in ("train", "validation"):
        raise ValueError(f"read_split reads train and validation, not {split!r}: use open_test")
    return read_rows(Path(dataset.folder) / SPLIT_FILES[split])


def _test_rows(dataset: Dataset) -> list[Row]:
    return read_rows(Path(dataset.folder) / SPLIT_FILES["test"])


def _version(
    manifest: Manifest, train: Sequence[Row], validation: Sequence[Row], test_rows_sha256: str
) -> str:
    facts = asdict(replace(manifest, version="", sources=(), files=(), checks=()))
    for name in ("parents", "made", "date_ranges", "folds", "checks"):
        if not facts[name]:
            del facts[name]  # versions keep the names they had before these were recorded
    return content_hash([facts, rows_sha256(train), rows_sha256(validation), test_rows_sha256])


def _counts(rows: Sequence[Row]) -> SplitCounts:
    return SplitCounts(len(rows), len({row.group for row in rows}), sum(row.conflict for row in rows))


def _file_hash(path: Path) -> FileHash:
    return FileHash(path.name, file_sha256(path), path.stat().st_size)


def _leak_message(leaks: Sequence[Leak]) -> tuple[str, str]:
    shown = "; ".join(
        f"{leak.kind}: {leak.first_source} ({leak.first_split}) and "
        f"{leak.second_source} ({leak.second_split})"
        for leak in leaks[:LEAKS_SHOWN]
    )
    more = "; ..." if len(leaks) > LEAKS_SHOWN else ""
    return (
        f"{len(leaks):,} rows leak from one split to another, nothing was frozen: {shown}{more}",
        "Rows that say the same must be in one split: let split_rows draw them, or remove one of each pair.",
    )


def _again(folder: Path) -> str:
    return f"Frozen versions are never edited. Delete {folder}, then freeze again: `tunesmith data freeze`."


def _sync(folder: Path) -> None:
    for file in folder.iterdir():
        with file.open("rb") as stream:
            os.fsync(stream.fileno())


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
