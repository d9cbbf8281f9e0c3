"""The arguments that commands share, and how they find their task.

A command is a function in a module of its verb group, registered in ``cli/__init__.py``::

    def plan(task: TaskArgument, runs: RunsOption = RUNS, as_json: JsonOption = False) -> None:
        \"\"\"Tell what this test can prove.\"\"\"
        from tunesmith.stages import make_plan          # heavy imports only here: --help stays quick

        found = find_task(task, runs)
        with found.folder.lock():                       # commands that write
            result = make_plan(found.task, found.folder)
        emit(result, as_json, text=plan_as_text(result))

Its docstring is its help, the first sentence in at most 50 characters. It raises UserError for bad input, and
``typer.Exit(1)`` after ``emit`` when a check failed.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tunesmith.errors import UserError

if TYPE_CHECKING:
    from tunesmith.task import Task
    from tunesmith.workspace import TaskFolder

TaskArgument = Annotated[
    str, typer.Argument(metavar="TASK", help="A task file, or the name of a task that was run before.")
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print the result as one JSON object; progress goes to stderr.")
]
RunsOption = Annotated[
    Path,
    typer.Option("--runs", envvar="TUNESMITH_RUNS", help="The folder that holds the results of all tasks."),
]
RUNS = Path("runs")


@dataclass(frozen=True)
class FoundTask:
    """A task, the file it was read from, and the folder of its results."""

    task: Task
    task_file: Path
    folder: TaskFolder


def find_task(name_or_path: str, runs: Path) -> FoundTask:
    """The task with this name in ``runs`` (as it was last run), or in this file.

    Raises UserError when there is none, and for everything that is wrong in the file.
    """
    from tunesmith.task import load_task
    from tunesmith.workspace import TaskFolder, Workspace

    path = Path(name_or_path)
    if is_path(name_or_path):
        # A copy among the results is read as if it still lay where it was copied from.
        task = load_task(path, TaskFolder(path.parent).origin_folder() if path.name == "task.yaml" else None)
        return FoundTask(task, path, Workspace(runs).task(task.name))
    folder = find_folder(name_or_path, runs)
    if not folder.task_file.is_file():
        raise _no_such_task(name_or_path, runs)
    return FoundTask(load_task(folder.task_file, folder.origin_folder()), folder.task_file, folder)


def find_folder(name_or_path: str, runs: Path) -> TaskFolder:
    """The results of a task, by its name or its file, for commands that need no more than its folder."""
    from tunesmith.workspace import Workspace

    if is_path(name_or_path):
        return find_task(name_or_path, runs).folder
    folder = Workspace(runs).task(name_or_path)
    if not folder.path.is_dir():
        raise _no_such_task(name_or_path, runs)
    return folder


def is_path(name_or_path: str) -> bool:
    """Names of tasks have neither a slash nor an ending."""
    return "/" in name_or_path or name_or_path.endswith((".yaml", ".yml")) or name_or_path in (".", "..", "")


def _no_such_task(name: str, runs: Path) -> UserError:
    from tunesmith.workspace import Workspace

    names = Workspace(runs).names()
    if near := difflib.get_close_matches(name, names, n=1):
        fix = f"did you mean {near[0]}?"
    elif names:
        fix = f"there are: {', '.join(names)}"
    else:
        fix = "run a task first (`tunesmith run my-task/task.yaml`), or say where its results are with --runs"
    if (Path(name) / "task.yaml").is_file():
        fix = f"to name it by its file: {name}/task.yaml"
    return UserError(f"no task {name!r} has been run in {runs}", fix)
