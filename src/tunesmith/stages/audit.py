"""The audit of a task's data: every check, each kept as soon as it is finished."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tunesmith.data.audit.findings import AuditData, CheckResult
from tunesmith.errors import UserError
from tunesmith.files import content_hash, file_sha256, read_record
from tunesmith.records import SplitName
from tunesmith.stages.data import GroupedRows, read_grouped, source_identity, source_spec
from tunesmith.stages.session import Session
from tunesmith.workspace import RESULT, cached, stage_key

PACKAGES = (
    "tunesmith.data",
    "tunesmith.stats",
    "tunesmith.wheels",
    "tunesmith.records",
    "tunesmith.task.kinds",
)

Told = Callable[[CheckResult], None]


class _BrokenError(Exception):
    """A check broke down; its answer is shown but not kept, so that the next audit tries again."""

    def __init__(self, result: CheckResult) -> None:
        super().__init__(result.summary)
        self.result = result


@dataclass(frozen=True)
class Audit:
    """What an audit found: the number of rows, and each check's answer in the order of the checks."""

    rows: int
    results: tuple[CheckResult, ...]


def audit(
    session: Session,
    benchmarks: Sequence[Path] = (),
    only: Sequence[str] = (),
    tell: Told = lambda result: None,
    read: GroupedRows | None = None,
) -> Audit:
    """Run every check on the task's data, or only those named, telling ``tell`` of each as it ends.

    A check that is finished is kept in the task's folder under the hash of the data and the code, and not
    run again: Ctrl-C loses nothing but the check that it stops. A check that breaks down is *unmeasured*.
    ``benchmarks`` are files (read like the task's data) of which the data should hold no row.

    Raises UserError for everything that is wrong with the data, and for an unknown check.
    """
    from tunesmith.data.audit.checks import CHECKS, run_check

    for name in only:
        if name not in CHECKS:
            raise UserError(f"there is no check {name!r}", f"there are: {', '.join(CHECKS)}")
    read = read or read_grouped(session)
    data = audit_data(session, read, benchmarks)
    key = _key(session, benchmarks)
    results = []
    for name in only or CHECKS:

        def compute(_: Path, name: str = name) -> CheckResult:
            result, ended = run_check(name, data)
            if not ended:
                raise _BrokenError(result)
            return result

        try:
            result, _ = cached(_place(session, name, key), CheckResult, compute)
        except _BrokenError as broken:
            result = broken.result
        results.append(result)
        tell(result)
    return Audit(len(data.rows), tuple(results))


def stored_audit(session: Session) -> tuple[CheckResult, ...]:
    """The answers of the checks that were run on the task's present data, without running any."""
    from tunesmith.data.audit.checks import CHECKS

    key, found = _key(session, ()), []
    for name in CHECKS:
        path = _place(session, name, key) / RESULT
        try:
            found += [read_record(path, CheckResult)] if path.is_file() else []
        except ValueError:  # half a file: that check was not finished
            continue
    return tuple(found)


def _key(session: Session, benchmarks: Sequence[Path]) -> str:
    inputs = {
        "data": session.task.data.model_dump(
            exclude={"plan", "train_extra", "weigh_weak_labels", "licence", "attribution"}
        ),
        "split": session.task.split.columns,
        "kind": session.task.kind,
        "files": source_identity(session),
        "benchmarks": [content_hash([path.name, file_sha256(path)]) for path in benchmarks],
    }
    return stage_key("audit", inputs, PACKAGES)


def _place(session: Session, check: str, key: str) -> Path:
    return session.folder.stage(f"audit-{check.lower().replace(' ', '-')}", key)


def audit_data(session: Session, read: GroupedRows, benchmarks: Sequence[Path] = ()) -> AuditData:
    """The rows of the task as checks want them, with the other columns of their files.

    Rows of a test file of its own count as given to the test, and the others to train; a column may give the
    splits (``split.given``). Rows that the task will split itself have no split yet.
    """
    from tunesmith.data.audit.reading import benchmark_rows, other_columns
    from tunesmith.data.given import given_splits

    rows = (*read.rows, *read.test_rows)
    given = bool(read.test_rows)
    of_rows: SplitName | None = "train" if given else None
    of_tests: SplitName = "test"
    splits = (*((of_rows,) * len(read.rows)), *((of_tests,) * len(read.test_rows)))
    if read.spec.given is not None:
        named = given_splits(rows, read.spec.given)
        splits = tuple(named[row.id] for row in rows)
    spec = source_spec(session)
    return AuditData(
        rows,
        splits,
        other_columns(spec, rows, session.cache, session.say),
        {path.name: benchmark_rows(path, spec) for path in benchmarks},
        f"{session.task.description} {session.task.instruction}".strip(),
        read.spec.near_duplicate_similarity,
        read.spec.shingle_words,
        kept_together=read.spec.conflicts_by_input,
        kind=session.task.kind,
    )
