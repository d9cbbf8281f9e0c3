"""From a source named in the task to rows, each with the place it came from.

Files hold one example per record: input and target fields, or a ``messages`` field with a conversation
whose last assistant turn is the target. Packages are read from their wheels.
"""

from __future__ import annotations

import difflib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tunesmith.data.documents import open_documents
from tunesmith.data.duplicates import compared_text
from tunesmith.data.formats import OpenTable, open_table
from tunesmith.data.label_sets import label_set_text, target_labels
from tunesmith.data.licences import LICENCE, named_licences, read_notices
from tunesmith.data.parsed import BadRecord
from tunesmith.data.places import Place, find_place
from tunesmith.data.rows import ColumnsRead, RowsRead, Unusable, rows_of
from tunesmith.errors import UserError
from tunesmith.files import canonical_json, content_hash
from tunesmith.records import Message, Row, SetAside, SourceFile
from tunesmith.wheels import fetch_wheel

# 50 groups for the test (fewer leave every gain unmeasured) and 50 rows to train and validate on.
MINIMUM_ROWS = 100
MINIMUM_ROWS_PER_FILE = 50
TABLES_EXPLAINED = 5  # of a folder: how many of its files are explained one by one

LICENCE_NOTICES = "licensedcode-data==32.1.0"
PACKAGES = {LICENCE_NOTICES: "18f60bde6dbabbc0a925d45ed80089cdbb7168156a2a1c118737198f9b743b96"}


@dataclass(frozen=True)
class SourceSpec:
    """Where the data is: a ``package``, or files at ``path`` (and ``test_path``) with named fields.

    A path is a file, a folder, a glob, or a dataset on the Hub (``hub:owner/name``). ``rejected`` names the
    answer not wanted of preference pairs; ``fields`` are further columns to keep with every row, and
    ``split_fields`` those that the split needs, as (setting, column).
    ``min_words``, ``max_words`` and ``most_frequent_labels`` narrow the rows of any source. With
    ``label_sets`` a target is a set of labels (:mod:`tunesmith.data.label_sets`).
    """

    package: str | None
    path: tuple[str, ...]
    test_path: str | None
    input: str | tuple[str, ...] | None
    target: str | None
    messages: str | None
    min_words: int | None
    max_words: int | None
    most_frequent_labels: int | None
    rejected: str | None = None
    fields: tuple[str, ...] = ()
    split_fields: tuple[tuple[str, str], ...] = ()
    label_sets: bool = False
    label_separator: str | None = None
    unusable: Unusable = "refuse"


@dataclass(frozen=True)
class Source:
    """What was read. ``test_rows`` are given only by a test file.

    ``read_rows`` counts every record of the source; ``set_aside`` those that its annotators or the task's
    filters exclude. ``notes`` say what each file was taken for, and where
    records were left out. ``made_rows`` counts rows to train on that nobody wrote. ``unusable`` are
    records that were set aside because they are no rows, by their places.
    """

    rows: tuple[Row, ...]
    test_rows: tuple[Row, ...]
    files: tuple[SourceFile, ...]
    licence: str
    attribution: str
    read_rows: int
    set_aside: tuple[SetAside, ...]
    notes: tuple[str, ...] = ()
    made_rows: int = 0
    unusable: tuple[BadRecord, ...] = ()


def read_source(spec: SourceSpec, cache: Path, say: Callable[[str], None] = lambda message: None) -> Source:
    """Read, check and filter the source that ``spec`` names. ``cache`` holds what is downloaded.

    Row ids are hashes of content (the second row of the same content gets ``-2``), so they do not depend
    on the order of rows. A label that occurs only in the test file is kept there: it is never trained
    on, always counts as wrong, and :func:`split_rows` says so in its notes.

    Raises:
        UserError: anything wrong with the files, fewer than 100 rows, or only one class.
    """
    source = (
        _read_files(spec, cache, say)
        if spec.package is None
        else _read_package(spec.package, spec.label_sets, cache, say)
    )
    source = _filtered(source, spec)
    _check_enough(source, has_test_file=spec.test_path is not None)
    return source


def _read_package(package: str, label_sets: bool, cache: Path, say: Callable[[str], None]) -> Source:
    if package not in PACKAGES:
        near = difflib.get_close_matches(package, PACKAGES, n=1, cutoff=0.0)[0]
        raise UserError(
            f"data.package: '{package}' is not a packaged source (known: {', '.join(PACKAGES)})",
            f"Set data.package: {near}, or name a file with data.path.",
        )
    wheel = fetch_wheel(package, PACKAGES[package], cache, say)
    read = read_notices(wheel)
    rows = [
        Row(
            "",
            notice.source,
            (Message("user", notice.text),),
            label_set_text(named_licences(notice.expression)) if label_sets else notice.expression,
        )
        for notice in read.notices
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


def _read_files(spec: SourceSpec, cache: Path, say: Callable[[str], None]) -> Source:
    if not spec.path:
        raise UserError("data: no source is named", "Set data.path to a file or data.package to a package.")
    columns = columns_of(spec)
    places = places_of(spec, cache, say)
    # The test first: the ids of its rows must not depend on what else is in the source.
    read = [_read_place(place, columns) for place in places]
    tables = [table for place in read for table in place.tables]
    tests = sum(len(one.rows) for _, one in tables[: len(read[0].tables)]) if spec.test_path else 0
    with_ids = _with_ids([row for _, one in tables for row in one.rows], tests)
    aside: Counter[str] = Counter()
    for _, one in tables:
        aside.update(one.aside)
    in_order = [*read[1:], read[0]] if spec.test_path else read
    return Source(
        rows=with_ids[tests:],
        test_rows=with_ids[:tests],
        files=tuple(file for place in in_order for file, _ in place.tables),
        licence="",
        attribution="",
        read_rows=sum(one.records for _, one in tables),
        set_aside=tuple(SetAside(f"rows {why}", rows, 0) for why, rows in aside.items()),
        notes=tuple(note for place in in_order for note in place.notes),
        unusable=tuple(bad for place in in_order for _, table in place.tables for bad in table.unusable),
    )


def columns_of(spec: SourceSpec) -> ColumnsRead:
    """Which columns make a row."""
    return ColumnsRead(
        (spec.input,) if isinstance(spec.input, str) else spec.input or (),
        spec.target,
        spec.messages,
        spec.rejected,
        spec.fields,
        spec.split_fields,
        spec.label_sets,
        spec.label_separator,
        spec.unusable,
    )


def places_of(spec: SourceSpec, cache: Path, say: Callable[[str], None]) -> list[Place]:
    """Where the files of a source are, the test's first, with names that tell all of them apart."""
    entries = [*([spec.test_path] if spec.test_path else []), *spec.path]
    return _named([find_place(entry, cache, say) for entry in entries])


@dataclass(frozen=True)
class _PlaceRead:
    tables: tuple[tuple[SourceFile, RowsRead], ...]
    notes: tuple[str, ...]


def _read_place(place: Place, columns: ColumnsRead) -> _PlaceRead:
    tables: list[tuple[SourceFile, RowsRead]] = []
    notes = [place.note] if place.note else []
    for table in tables_of(place):
        read = rows_of(table, columns)
        notes += [*([table.why] if len(tables) < TABLES_EXPLAINED else []), *read.notes]
        tables.append((SourceFile(table.name, table.sha256, read.records), read))
    return _PlaceRead(tuple(tables), tuple(notes))


def tables_of(place: Place) -> Iterator[OpenTable]:
    """The tables of a place, each opened when its turn comes; documents make one table."""
    if place.documents:
        yield open_documents(place.name, place.files, place.names)
    else:
        for path, name in zip(place.files, place.names, strict=True):
            yield open_table(path, name)


def _named(places: Sequence[Place]) -> list[Place]:
    """The places with names that tell all their files apart: full paths where short names do not."""
    paths = [file.absolute() for place in places for file in place.files]
    if len(set(paths)) < len(paths):
        twice = next(path for path, count in Counter(paths).items() if count > 1)
        raise UserError(
            f"data: {twice} is named twice", "Name each file once; the test file must be another."
        )
    times = Counter(name for place in places for name in place.names)
    return [
        replace(
            place,
            names=tuple(
                name if times[name] == 1 else str(path)
                for path, name in zip(place.files, place.names, strict=True)
            ),
        )
        for place in places
    ]


def _with_ids(rows: Sequence[Row], tests: int = 0) -> tuple[Row, ...]:
    """Rows with ids by content; the first ``tests`` rows are those of the test.

    Of rows with one content, those of the test come first, then what else they hold decides.
    """
    same: defaultdict[str, list[int]] = defaultdict(list)
    for index, row in enumerate(rows):
        asked = [row.messages, row.target, *([row.rejected] if row.rejected is not None else [])]
        same[content_hash(asked)[:16]].append(index)
    ids = [""] * len(rows)
    for key, members in same.items():
        if len(members) > 1:
            members.sort(
                key=lambda index: (
                    index >= tests,
                    canonical_json([rows[index].fields, rows[index].annotations]),
                )
            )
        for number, index in enumerate(members, start=1):
            ids[index] = key if number == 1 else f"{key}-{number}"
    return tuple(replace(row, id=id) for row, id in zip(rows, ids, strict=True))


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
        sets = spec.label_sets
        counts = target_labels(source.rows, sets)
        ranked = sorted(counts, key=lambda label: (-counts[label], label))
        top = frozenset(ranked[: spec.most_frequent_labels])
        reason = f"labels that are not among the {spec.most_frequent_labels} most frequent"
        source = _keep(source, lambda row: top.issuperset(target_labels([row], sets)), reason)
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
