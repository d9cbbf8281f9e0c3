"""The only file that knows folder and file names on disk; the lock of a task; the cache of its stages.

::

    <root>/<task>/ledger.jsonl            the hash chain of freezes, test openings and verdicts
                  datasets/<version>/     frozen dataset versions
                  stages/<stage>-<key>/   one folder per stage and inputs; result.json is written last
                  curation/               changes, rows set aside and review queue of the last applied plan
                  endpoints/              what endpoints answered on validation, and what it cost
                  sealed/                 what was scored on the sealed test
                  review/<pairs>/         pairs.jsonl, and one file of judgements for each reviewer
                  exports.jsonl           what was exported of the frozen versions, when and where to
                  task.yaml, origin.json  the task as it was last run, and where its file lies
                  report.html, summary.json
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import tunesmith
from tunesmith.errors import UserError
from tunesmith.files import content_hash, file_sha256, read_record, write_json, write_text

SOURCE_ROOT = Path(tunesmith.__file__).parent.parent
RESULT = "result.json"
ORIGIN = "origin.json"

RecordType = TypeVar("RecordType")


@dataclass(frozen=True)
class Origin:
    """Where a task file lay when it was last run. Relative paths in it start at its folder."""

    task_file: str


@dataclass(frozen=True)
class TaskFolder:
    """Everything on disk that belongs to one task."""

    path: Path

    @property
    def ledger(self) -> Path:
        return self.path / "ledger.jsonl"

    @property
    def datasets(self) -> Path:
        return self.path / "datasets"

    @property
    def sealed(self) -> Path:
        return self.path / "sealed"

    def endpoint_answers(self, endpoint: str, sealed: bool) -> Path:
        """What one endpoint answered and cost, on validation or on the sealed test."""
        folder = self.sealed if sealed else self.path / "endpoints"
        return folder / f"endpoint-{endpoint}.jsonl"

    @property
    def embeddings(self) -> Path:
        """Vectors of training rows and passages."""
        return self.path / "embeddings"

    @property
    def curation(self) -> Path:
        """What the repair plan that was last applied did."""
        return self.path / "curation"

    @property
    def exports(self) -> Path:
        """One line for each export of rows: when, of what, and where to."""
        return self.path / "exports.jsonl"

    def trained(self, stored: str) -> Path:
        """Where an adapter or model lies whose path was ``stored`` when the task's folder was perhaps
        elsewhere, or its path relative to another folder."""
        return self.path.joinpath(*Path(stored).parts[-3:])

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    @property
    def summary(self) -> Path:
        return self.path / "summary.json"

    def review(self, contest: str) -> Path:
        """What people said about one pair of candidates; ``contest`` is the hash that names the pairs."""
        return self.path / "review" / contest[:12]

    @property
    def task_file(self) -> Path:
        """The copy of the task file that was last run."""
        return self.path / "task.yaml"

    def stage(self, stage: str, key: str) -> Path:
        """The folder of one stage; ``key`` comes from :func:`stage_key`."""
        return self.path / "stages" / f"{stage}-{key[:12]}"

    def results(self, stage: str) -> tuple[Path, ...]:
        """Every stored ``result.json`` of one stage; other inputs, or other code, gave each its folder."""
        return tuple(sorted(self.path.glob(f"stages/{stage}-*/{RESULT}")))

    def keep_task_file(self, task_file: Path) -> None:
        """Copy the task file that is being run, and remember where it lies."""
        if task_file.absolute() == self.task_file.absolute():
            return  # running the copy again
        write_json(self.path / ORIGIN, Origin(str(task_file.absolute())))
        write_text(self.task_file, task_file.read_text(encoding="utf-8-sig"))

    def origin_folder(self) -> Path | None:
        """The folder that relative paths in the copied task file start from; None when there is no copy."""
        origin = self.path / ORIGIN
        if not origin.is_file():
            return None
        try:
            return Path(read_record(origin, Origin).task_file).parent
        except ValueError:
            raise UserError(
                f"{origin}: broken: it should say where {self.task_file} was copied from",
                "name the task by the path of its own task.yaml; running that repairs it",
            ) from None

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold this task for one process; the system lets go of it when the process ends, however it ends.

        Raises UserError when another process holds it.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            stream = (self.path / ".lock").open("a+")
        except OSError as error:
            raise UserError(
                f"{self.path}: cannot write there: {error.strerror}", "give another folder with --runs"
            ) from error
        with stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                stream.seek(0)
                holder = stream.read().strip() or "another process"
                raise UserError(
                    f"{self.path}: {holder} is running this task",
                    "wait for it to end, or stop it; its finished stages are kept and reused",
                ) from None
            stream.truncate(0)
            stream.write(f"process {os.getpid()} (since {time.strftime('%Y-%m-%d %H:%M:%S')})")
            stream.flush()
            try:
                yield
            finally:
                stream.truncate(0)


@dataclass(frozen=True)
class Workspace:
    """The folder that holds the results of all tasks."""

    root: Path

    def task(self, name: str) -> TaskFolder:
        return TaskFolder(self.root / name)

    def names(self) -> tuple[str, ...]:
        """The tasks that have results here, by name."""
        if not self.root.is_dir():
            return ()
        folders = (path for path in self.root.iterdir() if (path / ORIGIN).is_file())
        return tuple(sorted(path.name for path in folders))


def checkpoints(stage_folder: Path) -> Path:
    """Where the train stage keeps what it needs to continue."""
    return stage_folder / "checkpoints"


def adapter_folder(stage_folder: Path) -> Path:
    """Where the train stage keeps the adapter that it made."""
    return stage_folder / "adapter"


def model_folder(stage_folder: Path) -> Path:
    """Where the train stage keeps the weights of a model that it trained whole."""
    return stage_folder / "model"


def stage_key(stage: str, inputs: Any, packages: Sequence[str], source_root: Path = SOURCE_ROOT) -> str:
    """The SHA-256 (hex) of everything that decides a stage's result.

    ``inputs`` is JSON-like or a record. ``packages`` are the packages and modules whose source code the
    stage runs (``tunesmith.data``, ``tunesmith.files``), below ``source_root``: every file counts, so a
    changed line re-runs exactly the stages that name it.
    Raises ModuleNotFoundError for a package that does not exist.
    """
    sources = {name: _source_hashes(name, source_root) for name in packages}
    return content_hash({"stage": stage, "inputs": inputs, "sources": sources})


def _source_hashes(name: str, source_root: Path) -> dict[str, str]:
    path = source_root.joinpath(*name.split("."))
    module = path.with_suffix(".py")
    if module.is_file():
        return {module.name: file_sha256(module)}
    files = {str(file.relative_to(path)): file for file in sorted(path.rglob("*")) if file.is_file()}
    sources = {
        name: file_sha256(file)
        for name, file in files.items()
        if "__pycache__" not in file.parts and not file.name.startswith(".")
    }
    if not sources:
        raise ModuleNotFoundError(f"no package or module {name} below {source_root}")
    return sources


def cached(
    folder: Path, record_type: type[RecordType], compute: Callable[[Path], RecordType]
) -> tuple[RecordType, bool]:
    """The record in ``folder``'s ``result.json`` and True, or ``compute(folder)``, stored, and False.

    A result that does not parse as ``record_type`` is computed again. ``compute`` may leave files of its own
    in the folder, and finds them again when it was interrupted: ``result.json`` is written last, atomically.
    """
    result = folder / RESULT
    if result.is_file():
        try:
            return read_record(result, record_type), True
        except (
            ValueError
        ):  # pydantic's ValidationError is one: half a file, or a record that has changed since
            pass
    folder.mkdir(parents=True, exist_ok=True)
    write_json(result, compute(folder))
    # Read back, so that a fresh result and a reused one are the same to the bit and the type.
    return read_record(result, record_type), False
