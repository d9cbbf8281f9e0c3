"""``tunesmith review``: people compare answers, not knowing whose they are, or do items against the clock."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tunesmith.cli.options import RUNS, FoundTask, JsonOption, RunsOption, TaskArgument, find_task
from tunesmith.cli.output import emit, say, stage_console
from tunesmith.errors import UserError

if TYPE_CHECKING:
    from tunesmith.people_records import People


def review(
    task: TaskArgument,
    reviewer: Annotated[
        str | None, typer.Option("--reviewer", metavar="NAME", help="Who judges; one name for each person.")
    ] = None,
    timed: Annotated[
        bool, typer.Option("--timed", help="Do items instead, with and without the model's answer, timed.")
    ] = False,
    export: Annotated[
        Path | None, typer.Option("--export", metavar="FILE", help="Write the reviewer's Label Studio tasks.")
    ] = None,
    import_file: Annotated[
        Path | None, typer.Option("--import", metavar="FILE", help="Read what Label Studio exported.")
    ] = None,
    judge: Annotated[bool, typer.Option("--judge", help="Ask the model that judges beside people.")] = False,
    results: Annotated[bool, typer.Option("--results", help="Only show what was said so far.")] = False,
    runs: RunsOption = RUNS,
    as_json: JsonOption = False,
) -> None:
    """Compare answers blindly, the tuned and the best.

    Pairs come in random order and position. Ctrl-C is safe: the same command goes on.
    """
    chosen = sum([export is not None, import_file is not None, judge, results])
    if chosen > 1 or (timed and (judge or results)):
        raise UserError(
            "more than one thing to do at once", "give one of --timed, --export, --import, --judge, --results"
        )
    found = find_task(task, runs)
    from tunesmith.stages.people import tell_people

    with found.folder.lock():
        if judge:
            from tunesmith.stages.judge import run_judge
            from tunesmith.stages.session import Session

            run_judge(Session(found.task, found.folder, stage_console(as_json)))
        elif not results:
            _with_reviewer(found, reviewer, timed, export, import_file, as_json)
        people = tell_people(found.task, found.folder) if export is None else None
    if export is None:
        _show(people, as_json)


def register(app: typer.Typer) -> None:
    app.command("review")(review)


def _with_reviewer(
    found: FoundTask,
    reviewer: str | None,
    timed: bool,
    export: Path | None,
    import_file: Path | None,
    as_json: bool,
) -> None:
    if reviewer is None:
        raise UserError("nobody is named as reviewer", "say who judges: --reviewer anna (or --results)")
    from tunesmith.stages import review as blind
    from tunesmith.stages import timed as clocked

    asked = found.task, found.folder, reviewer
    if export is not None:
        count = (clocked.export_timed if timed else blind.export_review)(*asked, export)
        say(f"{count} tasks written to {export}, and how to show them to {export.with_suffix('.config.xml')}")
        if as_json:
            emit({"file": str(export), "tasks": count}, as_json, "")
    elif import_file is not None:
        count = (clocked.import_timed if timed else blind.import_review)(*asked, import_file)
        say(f"{count} new from {import_file}")
    elif timed:
        clocked.run_timed(*asked, _edit, say)
    else:
        blind.run_review(*asked, _ask, say)


def _show(people: People | None, as_json: bool) -> None:
    from tunesmith.report.people_terminal import people_lines

    emit(people, as_json, "\n".join(people_lines(people)) if people else "nobody has judged anything yet")


def _ask(prompt: str) -> str:
    """A line from the keyboard. The prompt goes to stderr: stdout is for the result."""
    import sys

    sys.stderr.write(prompt)
    sys.stderr.flush()
    line = sys.stdin.readline()
    if not line:
        raise EOFError
    return line


def _edit(prompt: str, draft: str) -> str:
    """A line that begins as ``draft`` where there is a keyboard to change it with."""
    import sys

    if not (draft and sys.stdin.isatty() and sys.stdout.isatty()):
        return _ask(prompt)
    import readline

    readline.set_startup_hook(lambda: readline.insert_text(draft))
    try:
        return input(prompt)
    finally:
        readline.set_startup_hook()
