"""The audit of a task's data: every check, each kept as soon as it is finished."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from tunesmith.data.audit.findings import AuditData, CheckResult, LengthLimit
from tunesmith.errors import UserError
from tunesmith.files import content_hash, file_sha256, read_record
from tunesmith.records import Row, SplitName
from tunesmith.stages.answering import cutting_of
from tunesmith.stages.data import GroupedRows, read_grouped, source_identity, source_spec
from tunesmith.stages.session import Session
from tunesmith.workspace import RESULT, cached, stage_key

if TYPE_CHECKING:
    from tunesmith.models.tokenizing import BaseTokenizer

PACKAGES = (
    "tunesmith.data",
    "tunesmith.stats",
    "tunesmith.wheels",
    "tunesmith.records",
    "tunesmith.task.kinds",
    "tunesmith.task.audit_settings",
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
    ``benchmarks`` are files (read like the task's data) of which the data should hold no row, beside those
    that the task names.

    Raises UserError for everything that is wrong with the data, for an unknown check, and for a column that
    the task's audit names and the data lacks.
    """
    from tunesmith.data.audit.checks import CHECKS, run_check

    for name in only:
        if name not in CHECKS:
            raise UserError(f"there is no check {name!r}", f"there are: {', '.join(CHECKS)}")
    read = read or read_grouped(session, lenient=True)
    files = (*session.task.benchmark_paths, *benchmarks)
    data = audit_data(session, read, files)
    _check_columns(data)
    keys = _keys(session, files)
    results = []
    for name in only or CHECKS:

        def compute(_: Path, name: str = name) -> CheckResult:
            result, ended = run_check(name, data)
            if not ended:
                raise _BrokenError(result)
            return result

        try:
            result, _ = cached(_place(session, name, keys), CheckResult, compute)
        except _BrokenError as broken:
            result = broken.result
        results.append(result)
        tell(result)
    return Audit(len(data.rows), tuple(results))


def stored_audit(session: Session) -> tuple[CheckResult, ...]:
    """The answers of the checks that were run on the task's present data, without running any."""
    from tunesmith.data.audit.checks import CHECKS

    keys, found = _keys(session, session.task.benchmark_paths), []
    for name in CHECKS:
        path = _place(session, name, keys) / RESULT
        try:
            found += [read_record(path, CheckResult)] if path.is_file() else []
        except ValueError:  # half a file: that check was not finished
            continue
    return tuple(found)


@dataclass(frozen=True)
class _Keys:
    """``inputs`` decide every check's answer, ``own`` those of the checks that they are named for."""

    inputs: dict[str, object]
    own: dict[str, object]

    def of(self, check: str) -> str:
        return stage_key("audit", self.inputs | {"own": self.own.get(check)}, PACKAGES)


def _keys(session: Session, benchmarks: Sequence[Path]) -> _Keys:
    from tunesmith.data.audit.names import recognisers

    task = session.task
    asked, told = task.audit, [task.description, task.instruction]
    inputs: dict[str, object] = {
        "data": task.data.model_dump(
            exclude={"plan", "unusable", "train_extra", "weigh_weak_labels", "licence", "attribution"}
        ),
        "split": task.split.columns,
        "kind": task.kind,
        "files": source_identity(session),
    }
    own: dict[str, object] = {
        "labels": task.split.model_dump(mode="json"),  # which rows are the test and teach nothing
        "unusable rows": task.data.unusable,
        "private data": asked.phone_regions,
        "secrets": asked.phone_regions,
        "lengths": [_base_folder(session), task.instruction],
        "leaks": [content_hash([path.name, file_sha256(path)]) for path in benchmarks if path.is_file()],
        "names of people": [recognisers(), asked.languages],
        "relevance": [*told, asked.examples],
        "domains": asked.domain,
        "language": asked.languages,
        "label rates": asked.groups,
        "age": [asked.dates, asked.oldest, asked.newest],
        "label drift": asked.dates,
    }
    return _Keys(inputs, own)


def _place(session: Session, check: str, keys: _Keys) -> Path:
    return session.folder.stage(f"audit-{check.lower().replace(' ', '-')}", keys.of(check))


def _check_columns(data: AuditData) -> None:
    asked = data.asked
    named = [("audit.domain", asked.domain), ("audit.dates", asked.dates)]
    for setting, column in [*named, *(("audit.groups", name) for name in asked.groups or ())]:
        if column is not None and column not in data.fields:
            found = ", ".join(data.fields) or "none"
            raise UserError(
                f"{setting}: the data has no further column {column!r} (found: {found})",
                f"give {setting} a column that is neither input nor target, or leave it out",
            )


def _base_folder(session: Session) -> str | None:
    """Where the base lies, if it is on this machine: nothing is fetched for an audit."""
    from tunesmith.models.catalog import folder_on_disk

    folder = folder_on_disk(session.task.base, session.task.folder, session.cache)
    return None if folder is None else str(folder)


def length_limit(session: Session) -> LengthLimit | str:
    """The context of the task's base, and how a row's tokens are counted; or why that is not known.

    Of an input that is read in windows the longest window counts. Where the base's files prove how many
    tokens a text can have at most, the tokenizer is loaded for the first row that could be too long.
    """
    from tunesmith.data.windowed import in_windows
    from tunesmith.models.token_bounds import token_bound

    name = session.task.base
    folder = _base_folder(session)
    if folder is None:
        return f"the base {name} is not on this machine yet: `tunesmith base {name}` fetches it"
    tokenizer = cache(lambda: _tokenizer(name, folder))
    cutting = cutting_of(session.task)

    def count_tokens(row: Row) -> int:
        from tunesmith.models.rendering import instructed, render_row

        parts = in_windows([row], cutting).rows
        messages = [instructed(session.task.instruction, part) for part in parts]
        answers = [part.target for part in parts]
        return max(len(render_row(tokenizer(), *one).ids) for one in zip(messages, answers, strict=True))

    instruction_bytes = len(session.task.instruction.encode())
    bound = token_bound(Path(folder))
    if bound is None:
        usual = LengthLimit(count_tokens, tokenizer().context_tokens)
        return replace(usual, beside_tokens=usual.beside_tokens + instruction_bytes)
    # The instruction is a turn of its own, and a template may put one more before it.
    beside = instruction_bytes + 2 * (bound.template_bytes + 1)
    return LengthLimit(count_tokens, bound.context_tokens, beside, bound.template_bytes + 1)


def _tokenizer(name: str, folder: str) -> BaseTokenizer:
    from tunesmith.models.catalog import Base
    from tunesmith.models.tokenizing import load_tokenizer

    return load_tokenizer(Base(name, folder, "", "", ""))


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
        asked=session.task.audit,
        length_limit=partial(length_limit, session),
        unusable=read.source.unusable,
        leaves_out=session.task.data.unusable == "set_aside",
        tested=_tested(read, rows),
    )


def _tested(read: GroupedRows, rows: Sequence[Row]) -> frozenset[int]:
    """Which of ``rows`` will be the test; none as long as the data cannot be split."""
    from tunesmith.data.splits import split_rows

    try:
        split = split_rows(read.rows, read.spec, read.test_rows)
    except UserError:
        return frozenset()
    ids = {row.id for row in split.test}
    return frozenset(place for place, row in enumerate(rows) if row.id in ids)
