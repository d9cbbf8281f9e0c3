"""``tunesmith new``: begin a task from a data file."""

from __future__ import annotations

import difflib
import os
import re
import statistics
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tunesmith.cli.options import JsonOption
from tunesmith.cli.output import emit, one_of, say
from tunesmith.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tunesmith.data.look import FileLook, Pair
    from tunesmith.data.parsed import BadRecord
    from tunesmith.data.rows import ColumnsRead
    from tunesmith.task.kinds import Kind
    from tunesmith.task.template import Columns, Seen


def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the task, and of the folder to make.")],
    data: Annotated[
        Path, typer.Option("--data", help="Your examples: a file, folder, glob or hub:owner/name.")
    ],
    input_column: Annotated[
        str | None, typer.Option("--input", help="The column the model is given.")
    ] = None,
    target_column: Annotated[str | None, typer.Option("--target", help="The column with the answer.")] = None,
    test: Annotated[
        Path | None, typer.Option("--test", help="A test file of its own, if there is one.")
    ] = None,
    base: Annotated[str | None, typer.Option("--base", help="The model to start from.")] = None,
    kind: Annotated[
        str | None,
        typer.Option(
            "--kind", help="classify, tag, extract, generate, summarise, answer, chat; default: by the data"
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Begin a task from a data file.

    Looks at the file and writes NAME/task.yaml, with every setting explained, and a JSON Schema for editors.
    """
    from tunesmith.data.kind_guess import guess_kind, json_fields, mostly_attributes
    from tunesmith.data.label_sets import label_rows
    from tunesmith.data.look import are_label_lists, look, pairs
    from tunesmith.files import write_json, write_text
    from tunesmith.task import task_json_schema
    from tunesmith.task.kinds import KINDS
    from tunesmith.task.sections import PATTERNS, SLUG
    from tunesmith.task.template import DEFAULT_BASE, SCHEMA_FILE, begin_task, few_rows
    from tunesmith.wheels import cache_folder

    asked_kind = None if kind is None else one_of("--kind", kind, KINDS)
    if not re.fullmatch(SLUG, name):
        raise UserError(f"{name!r} cannot name a task", f"use {PATTERNS[SLUG]}")
    task_file = Path(name) / "task.yaml"
    if task_file.exists():
        raise UserError(f"{task_file} exists already", "choose another name, or remove that file first")
    cache = cache_folder()
    looked = look(str(data), cache, say)
    columns = _choose_columns(looked, data, input_column, target_column, asked_kind)
    label_lists = columns.target is not None and are_label_lists(
        [record.fields.get(columns.target) for record in looked.records]
    )
    read_as = replace(_read(columns), label_sets=label_lists)
    found, bad = pairs(looked, read_as)
    names = (columns.input,) if isinstance(columns.input, str) else columns.input or ()
    guessed, why = guess_kind(found, names, columns.messages is not None)
    if label_lists:
        guessed, why = "tag", "the targets are lists of labels"
    chosen = asked_kind or guessed
    why = f"kind: {chosen}" + (", as asked" if asked_kind else f": {why} (--kind sets another)")
    fields = json_fields(found) if chosen == "extract" else []
    labelled = chosen == "classify" or (chosen == "tag" and label_lists)
    looked_test = look(str(test), cache, say) if test else None
    seen = _seen(looked, looked_test, found, mostly_attributes(found))
    bad_tests = pairs(looked_test, read_as)[1] if looked_test else ()
    seen = replace(seen, unusable=_unusable(looked, bad) or _unusable(looked_test, bad_tests))
    if label_lists:
        seen = replace(seen, labels=dict(label_rows(pair.target for pair in found).most_common()))
    test_path = _from_folder(test, task_file.parent) if test else None
    few = few_rows(seen)
    text = begin_task(
        name,
        _from_folder(data, task_file.parent),
        test_path,
        columns,
        seen,
        base or DEFAULT_BASE,
        chosen,
        fields,
    )
    try:
        write_json(task_file.parent / SCHEMA_FILE, task_json_schema())
        write_text(task_file, text)
    except OSError as error:
        raise UserError(
            f"{task_file}: cannot be written: {error.strerror}", "go to a folder you may write to"
        ) from error
    result = {
        "task_file": str(task_file),
        "kind": chosen,
        "kind_because": why,
        "schema_file": str(task_file.parent / SCHEMA_FILE),
        "input": columns.input,
        "target": columns.target,
        "messages": columns.messages,
        "rejected": columns.rejected,
        "read_as": looked.why,
        "rows": seen.rows,
        "test_rows": seen.test_rows,
        "labels": len(seen.labels) if labelled else 0,
        "few_rows": few,
        "unusable": len(bad) + len(bad_tests),
        "sets_unusable_aside": bool(seen.unusable),
    }
    given = columns.input if isinstance(columns.input, str) else " + ".join(columns.input or ())
    read = columns.messages or f"{given} -> {columns.target}"
    read += f" (rejected: {columns.rejected})" if columns.rejected else ""
    emit(
        result,
        as_json,
        "".join(f"{sentence}\n" for sentence in looked.why)
        + f"{why}\n"
        + f"{task_file}: {seen.rows:,} rows, {read}, {len(seen.labels):,} "
        + f"{'labels' if labelled else 'different targets'}\n"
        + (f"{few}\n" if few else "")
        + (
            f"left out, as the task says with data.unusable: set_aside: {seen.unusable}\n"
            if seen.unusable
            else ""
        )
        + f"next: read it, set the instruction and goal.gain, then: tunesmith run {task_file}",
    )


def register(app: typer.Typer) -> None:
    app.command("new")(new)


def _choose_columns(
    seen: FileLook, path: Path, given_input: str | None, given_target: str | None, kind: Kind | None
) -> Columns:
    """The columns that were asked for; those left out only where the file leaves no doubt."""
    from tunesmith.data.look import INPUT_NAMES, TARGET_NAMES, TEXT_TARGET_NAMES, text_target
    from tunesmith.task.kinds import LABELLED
    from tunesmith.task.template import Columns

    names = [column.name for column in seen.columns]
    for option, given in (("--input", given_input), ("--target", given_target)):
        if given is not None and given not in names:
            near = difflib.get_close_matches(given, names, n=1)
            fix = f"did you mean {option} {near[0]}?" if near else f"give {option} one of these columns"
            raise UserError(f"{path}: no column {given!r} (found: {', '.join(names)})", fix)
    if seen.messages and given_input is None and given_target is None:
        return Columns(None, None, seen.messages, seen.rejected)
    if isinstance(seen.input, tuple) and given_input is None and given_target in (None, seen.target):
        return Columns(seen.input, seen.target, None)
    proposed, other = seen.target, given_target
    usual: tuple[str, ...] = TARGET_NAMES
    written = text_target(seen.columns)
    if written is not None and (proposed is None or kind not in (None, *LABELLED)):
        proposed, usual = written, TEXT_TARGET_NAMES
        other = given_target or written
    likely = None if seen.input == other else seen.input
    asked = given_input or _sure("--input", likely, INPUT_NAMES, seen, path, other)
    target = given_target or _sure("--target", proposed, usual, seen, path, given_input)
    return Columns(
        asked,
        target,
        None,
        seen.rejected if target == seen.target else None,
    )


def _sure(
    option: str,
    proposed: str | tuple[str, ...] | None,
    usual: tuple[str, ...],
    seen: FileLook,
    path: Path,
    other: str | None,
) -> str:
    if isinstance(proposed, tuple):
        proposed = proposed[0]
    names = [column.name for column in seen.columns]
    only_two = len(names) == 2
    if only_two and other is not None:
        return next(name for name in names if name != other)
    if (
        proposed is not None
        and proposed != other
        and (only_two or proposed in seen.certain or proposed.lower() in usual)
    ):
        return proposed
    shown = "; ".join(
        f"{column.name} ({column.type}, {column.distinct:,} values: {', '.join(column.examples)[:60]})"
        for column in seen.columns
    )
    holds = "the model is given" if option == "--input" else "holds the answer"
    fix = f"name it with {option}" + (
        f", perhaps {option} {proposed}" if proposed and proposed != other else ""
    )
    raise UserError(f"{path}: which column {holds}? Found: {shown}", fix)


def _read(columns: Columns) -> ColumnsRead:
    from tunesmith.data.rows import ColumnsRead

    inputs = (columns.input,) if isinstance(columns.input, str) else columns.input or ()
    return ColumnsRead(inputs, columns.target, columns.messages)


def _seen(seen: FileLook, test: FileLook | None, found: Sequence[Pair], attributes: bool) -> Seen:
    from tunesmith.task.template import Seen

    lengths = [len(pair.input.split()) for pair in found] or [0]
    labels = dict(Counter(pair.target for pair in found).most_common())
    test_rows = test.rows if test else None
    return Seen(seen.rows, test_rows, labels, round(statistics.median(lengths)), max(lengths), attributes)


def _unusable(seen: FileLook | None, bad: Sequence[BadRecord]) -> str:
    """Which records cannot be used; empty where all can, or too many cannot for a task to leave them out."""
    from tunesmith.data.parsed import few, lines_of

    records = 0 if seen is None else len(seen.records) + len(seen.broken)
    if not bad or not few(len(bad), records):
        return ""
    these = "1 row that cannot be used" if len(bad) == 1 else f"{len(bad):,} rows that cannot be used"
    return f"{these} of {records:,}: {lines_of(bad)} ({bad[0].what})"


def _from_folder(path: Path, folder: Path) -> str:
    """A path as the task file has to write it: relative to its own folder, unless it was given absolute."""
    if path.is_absolute() or str(path).startswith("hub:"):
        return str(path)
    return Path(os.path.relpath(path, folder)).as_posix()
