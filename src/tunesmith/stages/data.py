"""Stage 1: read, group, split and freeze the task's data."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

from tunesmith import ledger
from tunesmith.files import content_hash, file_sha256
from tunesmith.records import Dataset
from tunesmith.stages.session import Session
from tunesmith.workspace import cached, stage_key

PACKAGES = ("tunesmith.data", "tunesmith.wheels", "tunesmith.records")


@dataclass(frozen=True)
class DataResult:
    """The frozen version's folder, remarks for people, and the seconds it took when it was made."""

    dataset_folder: str
    notes: tuple[str, ...]
    seconds: float


def make_dataset(session: Session) -> tuple[Dataset, DataResult]:
    """Freeze the dataset of the task, or find it frozen: the same rows and settings are the same version.

    Raises UserError for everything that is wrong with the data, and when a duplicate would be left between
    splits; nothing is frozen then.
    """
    from tunesmith.data.versions import load_dataset

    task = session.task
    inputs = {
        "task": task.name,
        "data": task.data.model_dump(),
        "split": task.split.model_dump(),
        "files": [_identity(path) for path in _files(session)],
    }
    folder = session.folder.stage("data", stage_key("data", inputs, PACKAGES))
    result, reused = cached(folder, DataResult, lambda _: _freeze(session))
    if reused and not Path(result.dataset_folder).is_dir():
        result = _freeze(session)
    return load_dataset(Path(result.dataset_folder)), result


def _freeze(session: Session) -> DataResult:
    from tunesmith.data.duplicates import group_rows, with_groups
    from tunesmith.data.sources import LICENCE_NOTICES, SourceSpec, read_source
    from tunesmith.data.splits import SplitSpec, split_rows
    from tunesmith.data.versions import freeze

    started = time.perf_counter()
    data, split_settings = session.task.data, session.task.split
    paths = [str(path) for path in session.task.data_paths]
    source = read_source(
        SourceSpec(
            package=LICENCE_NOTICES if data.package else None,
            path=tuple(paths),
            test_path=str(session.task.resolve(data.test_path)) if data.test_path else None,
            input=data.input,
            target=data.target,
            messages=data.messages,
            min_words=data.min_words,
            max_words=data.max_words,
            most_frequent_labels=data.most_frequent_labels,
            rejected=data.rejected,
            fields=data.fields or (),
        ),
        session.cache,
        session.say,
    )
    if not data.package:
        source = replace(source, licence=data.licence or "", attribution=data.attribution or "")
    spec = SplitSpec(
        train=split_settings.train,
        validation=split_settings.validation,
        test=split_settings.test,
        seed=split_settings.seed,
        rows_per_group=data.rows_per_group,
        near_duplicate_similarity=data.near_duplicate_similarity,
        shingle_words=data.shingle_words,
    )
    everything = [*source.rows, *source.test_rows]
    groups = group_rows(everything, spec.near_duplicate_similarity, spec.shingle_words)
    rows = with_groups(everything, groups)
    split = split_rows(rows[: len(source.rows)], spec, rows[len(source.rows) :])
    dataset = freeze(session.folder.datasets, task=session.task.name, source=source, split=split, spec=spec)
    _note_in_ledger(session, dataset)
    return DataResult(dataset.folder, source.notes + split.notes, time.perf_counter() - started)


def _note_in_ledger(session: Session, dataset: Dataset) -> None:
    version = dataset.manifest.version
    known = {line.data.get("dataset_version") for line in ledger.read(session.folder.ledger)}
    if version not in known:
        ledger.append(
            session.folder.ledger,
            "frozen",
            {
                "dataset_version": version,
                "test_sha256": dataset.manifest.test_sha256,
                "rows": {name: counts.rows for name, counts in dataset.manifest.splits.items()},
            },
        )


def _files(session: Session) -> list[Path]:
    """Every file behind the entries of the task; a file that is named but missing is among them."""
    from tunesmith.data.places import files_behind

    test = session.task.data.test_path
    entries = [*session.task.data_paths, *([session.task.resolve(test)] if test else [])]
    return [file for entry in entries for file in files_behind(str(entry))]


def _identity(path: Path) -> str:
    """Name and content; a missing file gets the stage to run, which explains what is wrong."""
    return content_hash([path.name, file_sha256(path) if path.is_file() else None])
