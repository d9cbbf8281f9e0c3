"""From a source named in the task to rows, each with the place it came from.

Files hold one example per record: an input and a target field, or a ``messages`` field with a
conversation whose last assistant turn is the target. Packages are read from their wheels.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tunesmith.data.duplicates import compared_text
from tunesmith.data.formats import read_table
from tunesmith.data.licences import LICENCE, read_notices
from tunesmith.data.rows import rows_of
from tunesmith.errors import UserError
from tunesmith.files import content_hash
from tunesmith.records import Message, Row, SetAside, SourceFile
from tunesmith.wheels import fetch_wheel

# 50 groups for the test (fewer leave every gain unmeasured) and 50 rows to train and validate on.
MINIMUM_ROWS = 100
MINIMUM_ROWS_PER_FILE = 50

LICENCE_NOTICES = "licensedcode-data==32.1.0"
PACKAGES = {LICENCE_NOTICES: "18f60bde6dbabbc0a925d45ed80089cdbb7168156a2a1c118737198f9b743b96"}


@dataclass(frozen=True)
class SourceSpec:
    """Where the data is: a ``package``, or files at ``path`` (and ``test_path``) with named fields.

    ``min_words``, ``max_words`` and ``most_frequent_labels`` narrow the rows of any source.
    """

    package: str | None
    path: tuple[str, ...]
    test_path: str | None
    input: str | None
    target: str | None
    messages: str | None
    min_words: int | None
    max_words: int | None
    most_frequent_labels: int | None


@dataclass(frozen=True)
class Source:
    """What was read. ``test_rows`` are given only by a test file.

    ``read_rows`` counts every record of the source; ``set_aside`` those that the task's filters exclude.
    """

    rows: tuple[Row, ...]
    test_rows: tuple[Row, ...]
    files: tuple[SourceFile, ...]
    licence: str
    attribution: str
    read_rows: int
    set_aside: tuple[SetAside, ...]


def read_source(spec: SourceSpec, cache: Path, say: Callable[[str], None] = lambda message: None) -> Source:
    """Read, check and filter the source that ``spec`` names. ``cache`` holds downloaded wheels.

    Row ids are hashes of content (the second row of the same content gets ``-2``), so they do not depend
    on the order of rows. A label that occurs only in the test file is kept there: it is never trained
    on, always counts as wrong, and :func:`split_rows` says so in its notes.

    Raises:
        UserError: anything wrong with the files, fewer than 100 rows, or only one class.
    """
    source = _read_files(spec) if spec.package is None else _read_package(spec.package, cache, say)
    source = _filtered(source, spec)
    _check_enough(source, has_test_file=spec.test_path is not None)
    return source


def _read_package(package: str, cache: Path, say: Callable[[str], None]) -> Source:
    if package not in PACKAGES:
        near = difflib.get_close_matches(package, PACKAGES, n=1, cutoff=0.0)[0]
        raise UserError(
            f"data.package: '{package}' is not a packaged source (known: {', '.join(PACKAGES)})",
            f"Set data.package: {near}, or name a file with data.path.",
        )
    wheel = fetch_wheel(package, PACKAGES[package], cache, say)
    read = read_notices(wheel)
    rows = [
        Row("", notice.source, (Message("user", notice.text),), notice.expression) for notice in read.notices
    ]
    return Source(
        rows=_with_ids(rows),
        test_rows=(),
        files=(SourceFile(wheel.name, PACKAGES[package], read.rule_files),),
        licence=LICENCE,
        attribution=read.attribution,
        read_rows=read.rule_files,
        set_aside=_aside("rules that are not licence notices", read.rule_files - len(rows)),
    )


def _read_files(spec: SourceSpec) -> Source:
    if not spec.path:
        raise UserError("data: no source is named", "Set data.path to a file or data.package to a package.")
    paths = [Path(path) for path in spec.path]
    names = table_names([*paths, *([Path(spec.test_path)] if spec.test_path else [])])
    tables = [read_table(path, names[path]) for path in paths]
    test_table = read_table(Path(spec.test_path), names[Path(spec.test_path)]) if spec.test_path else None
    files = [*tables, *([test_table] if test_table else [])]
    test_rows = rows_of(test_table, spec.input, spec.target, spec.messages) if test_table else []
    rows = [row for table in tables for row in rows_of(table, spec.input, spec.target, spec.messages)]
    # Test rows first: their ids must not depend on what else is in the source.
    with_ids = _with_ids([*test_rows, *rows])
    return Source(
        rows=with_ids[len(test_rows) :],
        test_rows=with_ids[: len(test_rows)],
        files=tuple(SourceFile(table.name, table.sha256, len(table.records)) for table in files),
        licence="",
        attribution="",
        read_rows=len(with_ids),
        set_aside=(),
    )


def table_names(paths: Sequence[Path]) -> dict[Path, str]:
    """What messages and sources call each file: its name, or its path where two have one name."""
    times = Counter(path.name for path in set(paths))
    if len(set(paths)) < len(paths):
        twice = next(path for path, count in Counter(paths).items() if count > 1)
        raise UserError(
            f"data: {twice} is named twice", "Name each file once; the test file must be another."
        )
    return {path: path.name if times[path.name] == 1 else str(path) for path in paths}


def _with_ids(rows: Iterable[Row]) -> tuple[Row, ...]:
    seen: Counter[str] = Counter()
    result = []
    for row in rows:
        key = content_hash([row.messages, row.target])[:16]
        seen[key] += 1
        result.append(replace(row, id=key if seen[key] == 1 else f"{key}-{seen[key]}"))
    return tuple(result)


def _aside(reason: str, rows: int) -> tuple[SetAside, ...]:
    return (SetAside(reason, rows, 0),) if rows else ()


def _filtered(source: Source, spec: SourceSpec) -> Source:
    low, high = spec.min_words or 0, spec.max_words
    if spec.min_words is not None or high is not None:
        limits = f"{low} words or more" if high is None else f"{low} to {high} words"

        def fits(row: Row) -> bool:
            words = len(compared_text(row).split())
            return low <= words and (high is None or words <= high)

        source = _keep(source, fits, f"inputs that do not have {limits}")
    if spec.most_frequent_labels is not None:
        counts = Counter(row.target for row in source.rows)
        ranked = sorted(counts, key=lambda label: (-counts[label], label))
        top = frozenset(ranked[: spec.most_frequent_labels])
        reason = f"labels that are not among the {spec.most_frequent_labels} most frequent"
        source = _keep(source, lambda row: row.target in top, reason)
    return source


def _keep(source: Source, keep: Callable[[Row], bool], reason: str) -> Source:
    rows = tuple(row for row in source.rows if keep(row))
    test_rows = tuple(row for row in source.test_rows if keep(row))
    dropped = len(source.rows) + len(source.test_rows) - len(rows) - len(test_rows)
    return replace(
        source, rows=rows, test_rows=test_rows, set_aside=source.set_aside + _aside(reason, dropped)
    )


def _check_enough(source: Source, has_test_file: bool) -> None:
    name = ", ".join(file.name for file in source.files)
    filters = " after the filters" if source.set_aside else ""
    if has_test_file:
        short = min(len(source.rows), len(source.test_rows))
        if short < MINIMUM_ROWS_PER_FILE:
            raise UserError(
                f"{name}: {len(source.rows):,} rows to train and validate on and "
                f"{len(source.test_rows):,} test rows{filters}: too few",
                f"Collect at least {MINIMUM_ROWS_PER_FILE} of each: with fewer than 50 test groups every "
                f"gain is unmeasured.",
            )
    elif len(source.rows) < MINIMUM_ROWS:
        raise UserError(
            f"{name}: {len(source.rows):,} rows in all{filters}: too few",
            f"Collect at least {MINIMUM_ROWS} rows: 50 for the test (with fewer than 50 test groups every "
            f"gain is unmeasured) and 50 to train and validate on.",
        )
    labels = {row.target for row in source.rows}
    if len(labels) == 1:
        raise UserError(
            f"{name}: only one class: every target is '{next(iter(labels))}'",
            "Name the field that holds the answers with data.target, or add rows of another class.",
        )
