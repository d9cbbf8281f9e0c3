"""``tunesmith new``: begin a task from a data file."""

from __future__ import annotations

import difflib
import os
import re
import statistics
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tunesmith.cli.options import JsonOption
from tunesmith.cli.output import emit
from tunesmith.errors import UserError

if TYPE_CHECKING:
    from tunesmith.data.formats import Table
    from tunesmith.data.look import FileLook
    from tunesmith.task.template import Columns, Seen


def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the task, and of the folder to make.")],
    data: Annotated[Path, typer.Option("--data", help="Your examples: JSONL, CSV or Parquet.")],
    input_column: Annotated[
        str | None, typer.Option("--input", help="The column the model is given.")
    ] = None,
    target_column: Annotated[str | None, typer.Option("--target", help="The column with the answer.")] = None,
    test: Annotated[
        Path | None, typer.Option("--test", help="A test file of its own, if there is one.")
    ] = None,
    base: Annotated[str | None, typer.Option("--base", help="The model to start from.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Begin a task from a data file.

    Looks at the file and writes NAME/task.yaml, with every setting explained, and a JSON Schema for editors.
    """
    from tunesmith.data.formats import read_table
    from tunesmith.data.look import look
    from tunesmith.files import write_json, write_text
    from tunesmith.task import task_json_schema
    from tunesmith.task.settings import PATTERNS, SLUG
    from tunesmith.task.template import DEFAULT_BASE, SCHEMA_FILE, begin_task

    if not re.fullmatch(SLUG, name):
        raise UserError(f"{name!r} cannot name a task", f"use {PATTERNS[SLUG]}")
    task_file = Path(name) / "task.yaml"
    if task_file.exists():
        raise UserError(f"{task_file} exists already", "choose another name, or remove that file first")
    columns = _choose_columns(look(data), data, input_column, target_column)
    seen = _seen(read_table(data), read_table(test) if test else None, columns)
    test_path = _from_folder(test, task_file.parent) if test else None
    text = begin_task(
        name, _from_folder(data, task_file.parent), test_path, columns, seen, base or DEFAULT_BASE
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
        "schema_file": str(task_file.parent / SCHEMA_FILE),
        "input": columns.input,
        "target": columns.target,
        "messages": columns.messages,
        "rows": seen.rows,
        "test_rows": seen.test_rows,
        "labels": len(seen.labels),
    }
    read = columns.messages or f"{columns.input} -> {columns.target}"
    emit(
        result,
        as_json,
        f"{task_file}: {seen.rows:,} rows, {read}, {len(seen.labels):,} labels\n"
        f"next: read it, set the instruction and goal.gain, then: tunesmith run {task_file}",
    )


def register(app: typer.Typer) -> None:
    app.command("new")(new)


def _choose_columns(seen: FileLook, path: Path, given_input: str | None, given_target: str | None) -> Columns:
    """The columns that were asked for; those left out only where the file leaves no doubt."""
    from tunesmith.data.look import INPUT_NAMES, TARGET_NAMES
    from tunesmith.task.template import Columns

    names = [column.name for column in seen.columns]
    for option, given in (("--input", given_input), ("--target", given_target)):
        if given is not None and given not in names:
            near = difflib.get_close_matches(given, names, n=1)
            fix = f"did you mean {option} {near[0]}?" if near else f"give {option} one of these columns"
            raise UserError(f"{path}: no column {given!r} (found: {', '.join(names)})", fix)
    if seen.messages and given_input is None and given_target is None:
        return Columns(None, None, seen.messages)
    return Columns(
        given_input or _sure("--input", seen.input, INPUT_NAMES, seen, path, given_target),
        given_target or _sure("--target", seen.target, TARGET_NAMES, seen, path, given_input),
        None,
    )


def _sure(
    option: str, proposed: str | None, usual: tuple[str, ...], seen: FileLook, path: Path, other: str | None
) -> str:
    names = [column.name for column in seen.columns]
    only_two = len(names) == 2
    if only_two and other is not None:
        return next(name for name in names if name != other)
    if proposed is not None and proposed != other and (only_two or proposed.lower() in usual):
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


def _seen(table: Table, test_table: Table | None, columns: Columns) -> Seen:
    from tunesmith.task.template import Seen

    pairs = [_input_and_target(record.fields, columns) for record in table.records]
    lengths = [len(given.split()) for given, _ in pairs]
    labels = dict(Counter(target for _, target in pairs).most_common())
    test_rows = len(test_table.records) if test_table else None
    return Seen(len(pairs), test_rows, labels, round(statistics.median(lengths)), max(lengths))


def _input_and_target(fields: dict[str, Any], columns: Columns) -> tuple[str, str]:
    if columns.messages is None:
        return str(fields.get(columns.input or "", "")), str(fields.get(columns.target or "", "")).strip()
    turns = [str(turn["content"]) for turn in fields[columns.messages]]
    return " ".join(turns[:-1]), turns[-1].strip()


def _from_folder(path: Path, folder: Path) -> str:
    """A path as the task file has to write it: relative to its own folder, unless it was given absolute."""
    return str(path) if path.is_absolute() else Path(os.path.relpath(path, folder)).as_posix()
