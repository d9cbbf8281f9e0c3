"""``tunesmith ledger``: the hash-chained history of a task."""

from __future__ import annotations

import json
from dataclasses import asdict

import typer

from tunesmith.cli.options import RUNS, JsonOption, RunsOption, TaskArgument, find_folder
from tunesmith.cli.output import emit


def verify(task: TaskArgument, runs: RunsOption = RUNS, as_json: JsonOption = False) -> None:
    """Check that a ledger is unbroken.

    The first line that was edited, removed or reordered is named, and the exit code is 1.
    """
    from tunesmith import ledger

    path = find_folder(task, runs).ledger
    head = ledger.verify(path)
    text = f"{path}: {head.lines} lines, unbroken; head {head.hash}"
    emit({"ledger": str(path), **asdict(head)}, as_json, text)


def show(task: TaskArgument, runs: RunsOption = RUNS, as_json: JsonOption = False) -> None:
    """Show what happened to a task.

    Freezes, test openings and verdicts, the oldest first.
    """
    from tunesmith import ledger

    path = find_folder(task, runs).ledger
    lines = ledger.read(path)
    rows = [
        f"{line.seq:>4}  {line.time}  {line.event:<12} {json.dumps(line.data, ensure_ascii=False)}"
        for line in lines
    ]
    emit({"ledger": str(path), "lines": lines}, as_json, "\n".join(rows) or f"{path}: nothing happened yet")


def register(app: typer.Typer) -> None:
    group = typer.Typer(help="The hash-chained history of a task.")
    group.command("verify")(verify)
    group.command("show")(show)
    app.add_typer(group, name="ledger")
