"""``tunesmith task``: look at task files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tunesmith.cli.options import JsonOption
from tunesmith.cli.output import emit
from tunesmith.errors import UserError


def check(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="The task file.")], as_json: JsonOption = False
) -> None:
    """Check a task file.

    Every problem is shown at once, with its line and its fix.
    """
    from tunesmith.data.places import files_behind
    from tunesmith.stages.answering import check_judging
    from tunesmith.stages.harness import check_installed
    from tunesmith.task import load_task

    task = load_task(path)
    entries = [*task.data_paths, *([task.resolve(task.data.test_path)] if task.data.test_path else [])]
    for entry in entries:
        files = files_behind(str(entry))
        if not (str(entry).startswith("hub:") or files) or not all(file.is_file() for file in files):
            raise UserError(
                f"{path}: data: there is no file {entry}",
                f"correct the path; a relative one starts at the folder of the task file, {task.folder}",
            )
    check_judging(task)
    check_installed(task)
    emit(task.model_dump(mode="json"), as_json, f"{path}: no problems (task {task.name}, base {task.base})")


def schema(as_json: JsonOption = False) -> None:
    """Print the JSON Schema of task files.

    Editors use it to complete, explain and check settings. It is the same with and without --json.
    """
    from tunesmith.task import task_json_schema

    emit(task_json_schema(), True, "")


def register(app: typer.Typer) -> None:
    group = typer.Typer(help="Look at task files.")
    group.command("check")(check)
    group.command("schema")(schema)
    app.add_typer(group, name="task")
