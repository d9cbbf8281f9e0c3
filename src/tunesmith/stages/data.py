"""Stage 1: read, group, split and freeze the task's data."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tunesmith import ledger
from tunesmith.errors import UserError
from tunesmith.files import content_hash, file_sha256
from tunesmith.records import AuditAnswer, Dataset, Row, SourceFile
from tunesmith.stages.answering import cutting_of, judging_identity, judging_of
from tunesmith.stages.session import Session
from tunesmith.task.kinds import LABELLED
from tunesmith.workspace import cached, stage_key

if TYPE_CHECKING:
    from tunesmith.data.sources import Source, SourceSpec
    from tunesmith.data.splits import Split, SplitSpec

PACKAGES = ("tunesmith.data", "tunesmith.stats", "tunesmith.wheels", "tunesmith.records")


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
    from tunesmith.data.versions import fold_folders, load_dataset

    task = session.task
    inputs = {
        "task": task.name,
        "data": task.data.model_dump(),
        "split": task.split.model_dump(),
        "files": source_identity(session),
        "plan": plan_identity(session),
        "kind": task.kind,
        "json_schema": judging_identity(task)[3],
        "extra": [_identity(path) for path in session.task.extra_paths],
    }
    folder = session.folder.stage("data", stage_key("data", inputs, PACKAGES))
    result, reused = cached(folder, DataResult, lambda _: _freeze(session))
    if reused and not Path(result.dataset_folder).is_dir():
        result = _freeze(session)
    dataset = load_dataset(Path(result.dataset_folder))
    if not all(path.is_dir() for path in fold_folders(dataset)):
        result = _freeze(session)
    return dataset, result


@dataclass(frozen=True)
class GroupedRows:
    """What was read from the task's source, every row with its group; ``test_rows`` only of a test file."""

    source: Source
    rows: tuple[Row, ...]
    test_rows: tuple[Row, ...]
    spec: SplitSpec


def read_grouped(session: Session, lenient: bool = False) -> GroupedRows:
    """Read the task's source and group it; ``lenient`` sets unusable records aside, whatever the task says.

    Raises UserError for everything that is wrong with the data.
    """
    from tunesmith.data.duplicates import with_groups
    from tunesmith.data.sources import read_source
    from tunesmith.data.splits import SplitSpec
    from tunesmith.data.windowed import group_documents

    data, split_settings = session.task.data, session.task.split
    named = source_spec(session)
    named = replace(named, unusable="set_aside") if lenient else named
    source = read_source(named, session.cache, session.say)
    if not data.package:
        source = replace(source, licence=data.licence or "", attribution=data.attribution or "")
    spec = SplitSpec(
        train=split_settings.train,
        validation=split_settings.validation,
        test=None if split_settings.test == "crossfit" else split_settings.test,
        seed=split_settings.seed,
        rows_per_group=data.rows_per_group,
        near_duplicate_similarity=data.near_duplicate_similarity,
        shingle_words=data.shingle_words,
        keep_together=split_settings.keep_together or (),
        time=split_settings.time,
        given=split_settings.given,
        labelled=session.task.kind in LABELLED,
        label_sets=session.task.kind == "tag",
        cutting=cutting_of(session.task),
        folds=split_settings.crossfit_folds,
    )
    everything = [*source.rows, *source.test_rows]
    groups = group_documents(
        everything, spec.cutting, spec.near_duplicate_similarity, spec.shingle_words, spec.keep_together
    )
    rows = with_groups(everything, groups)
    return GroupedRows(source, rows[: len(source.rows)], rows[len(source.rows) :], spec)


def source_spec(session: Session) -> SourceSpec:
    """Where the task's data is, and which columns and rows of it are read."""
    from tunesmith.data.sources import LICENCE_NOTICES, SourceSpec

    data = session.task.data
    return SourceSpec(
        package=LICENCE_NOTICES if data.package else None,
        path=tuple(str(path) for path in session.task.data_paths),
        test_path=str(session.task.resolve(data.test_path)) if data.test_path else None,
        input=data.input,
        target=data.target,
        messages=data.messages,
        min_words=data.min_words,
        max_words=data.max_words,
        most_frequent_labels=data.most_frequent_labels,
        rejected=data.rejected,
        fields=data.fields or (),
        split_fields=session.task.split.columns,
        label_sets=session.task.kind == "tag",
        label_separator=data.label_separator,
        unusable=data.unusable,
    )


def source_identity(session: Session) -> list[str]:
    """Names and contents of the files that the task's data is read from."""
    return [_identity(path) for path in _files(session)]


def plan_identity(session: Session) -> list[str]:
    """Name and content of the task's repair plan and of the answers beside it; empty without a plan."""
    from tunesmith.data.curation.review import answers_beside

    if session.task.data.plan is None:
        return []
    path = session.task.resolve(session.task.data.plan)
    return [_identity(path), _identity(answers_beside(path))]


def _freeze(session: Session) -> DataResult:
    from tunesmith.data.audit.findings import recorded
    from tunesmith.data.splits import split_rows
    from tunesmith.data.versions import AppliedRepair, freeze
    from tunesmith.evaluation.judging import check_targets
    from tunesmith.stages.audit import stored_audit
    from tunesmith.stages.curate import repair_split

    started = time.perf_counter()
    read = read_grouped(session)
    if session.task.kind not in LABELLED:
        check_targets(judging_of(session.task), (*read.rows, *read.test_rows))
    known = recorded(stored_audit(session))
    if read.spec.folds is not None:
        return _freeze_folds(session, read, known, started)
    split = split_rows(read.rows, read.spec, read.test_rows)
    folder, task = session.folder.datasets, session.task.name
    source, notes = read.source, split.notes
    if session.task.data.plan is None:
        split, source = with_made_rows(session, read, split)
    dataset = freeze(folder, task=task, source=source, split=split, spec=read.spec, checks=known)
    if session.task.data.plan is not None:
        plan = session.task.resolve(session.task.data.plan)
        repaired = repair_split(session, read, split, plan)
        repair = AppliedRepair(dataset.manifest.version, file_sha256(plan), repaired.changes)
        changed = [change.row for change in repaired.changes]
        split, source = with_made_rows(session, read, repaired.split, changed)
        dataset = freeze(
            folder,
            task=task,
            source=source,
            split=split,
            spec=read.spec,
            repair=repair,
            checks=repaired.checks,
        )
        notes += (
            f"repair plan {plan.name}: {len(repaired.changes):,} changes; "
            f"{len(repaired.queue):,} rows wait for review",
            *repaired.unapplied,
        )
    _check_test_fits(session, split.test)
    _note_in_ledger(session, dataset)
    return DataResult(dataset.folder, read.source.notes + notes, time.perf_counter() - started)


def _check_test_fits(session: Session, rows: Sequence[Row]) -> None:
    """UserError where test rows are longer than the base's context, if the base is on this machine: after
    the freeze only the verdict sees them, which would fail after all the training."""
    from tunesmith.data.audit.formats import count_where_long
    from tunesmith.stages.audit import length_limit

    limit = length_limit(session)
    if isinstance(limit, str):
        return
    long = [found for found in count_where_long(rows, limit) if found[0] > limit.context_tokens]
    if long:
        listed = ", ".join(f"{rows[index].source} ({tokens:,} tokens)" for tokens, index in long[:3])
        more = f" and {len(long) - 3:,} more" if len(long) > 3 else ""
        raise UserError(
            f"test: {len(long):,} of {len(rows):,} rows do not fit {session.task.base}'s context of "
            f"{limit.context_tokens:,} tokens: {listed}{more}",
            "set data.max_words to leave long rows out (they are counted), data.window_words to read them in "
            "parts, or choose a base with a longer context",
        )


def _freeze_folds(
    session: Session, read: GroupedRows, known: Sequence[AuditAnswer], started: float
) -> DataResult:
    """A version for each fold, and one of all rows that names them; only that one is in the ledger."""
    from tunesmith.data.folds import split_folds
    from tunesmith.data.versions import freeze

    dealt = split_folds(read.rows, read.spec)
    folder, task = session.folder.datasets, session.task.name
    folds = [
        freeze(folder, task=task, source=read.source, split=part, spec=read.spec, checks=known)
        for part in dealt.parts
    ]
    dataset = freeze(
        folder,
        task=task,
        source=read.source,
        split=dealt.whole,
        spec=read.spec,
        folds=folds,
        checks=known,
    )
    _note_in_ledger(session, dataset)
    return DataResult(dataset.folder, read.source.notes + dealt.whole.notes, time.perf_counter() - started)


def with_made_rows(
    session: Session, read: GroupedRows, split: Split, changed: Sequence[str] = ()
) -> tuple[Split, Source]:
    """The split with the made rows of ``data.train_extra`` in train, and the source with their files."""
    from tunesmith.data.made import add_made, read_made

    paths = session.task.extra_paths
    if not paths:
        return split, read.source
    files = [(path, read_made(path)) for path in paths]
    made = [row for _, rows in files for row in rows]
    everything = (*read.rows, *read.test_rows)
    spec = read.spec
    added = add_made(
        split,
        made,
        everything,
        changed,
        spec.near_duplicate_similarity,
        spec.shingle_words,
        session.task.data.weigh_weak_labels,
        spec.cutting,
    )
    used = tuple(SourceFile(path.name, file_sha256(path), len(rows)) for path, rows in files)
    return added, replace(read.source, files=read.source.files + used, made_rows=len(made))


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
                **({"folds": list(dataset.manifest.folds)} if dataset.manifest.folds else {}),
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
