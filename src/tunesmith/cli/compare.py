"""Shortlisting base models on a few rows of a task."""

from __future__ import annotations

from typing import Annotated

import typer

from tunesmith.cli.options import RUNS, JsonOption, RunsOption, TaskArgument, find_task
from tunesmith.cli.output import emit, stage_console

BasesArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[BASE]...",
        help="Catalog names, folders, .gguf files or Hub ids with their revision (owner/name@commit). "
        "Left out: the bases that the task names.",
    ),
]


def compare(
    task: TaskArgument,
    bases: BasesArgument = None,
    rows: Annotated[
        int, typer.Option("--rows", min=50, max=500, help="How many validation rows each base answers.")
    ] = 100,
    hourly_price: Annotated[
        float | None, typer.Option("--hourly-price", min=0.0, help="What an hour of this machine costs.")
    ] = None,
    runs: RunsOption = RUNS,
    as_json: JsonOption = False,
) -> None:
    """Shortlist base models on a few validation rows.

    Each is prompted as the task says; those clearly worse are dropped early. Nothing is trained.
    """
    found = find_task(task, runs)
    from tunesmith.report.comparison import comparison_table
    from tunesmith.stages.answering import check_judging
    from tunesmith.stages.compare import compare_bases
    from tunesmith.stages.data import make_dataset
    from tunesmith.stages.session import Session

    named = bases or [found.task.base, *found.task.opponents.bases]
    console = stage_console(as_json)
    with found.folder.lock():
        found.folder.keep_task_file(found.task_file)
        check_judging(found.task)
        session = Session(found.task, found.folder, console)
        dataset, _ = make_dataset(session)
        comparison = compare_bases(session, dataset, named, rows)
    if as_json:
        emit(comparison, as_json, "")
    else:
        console.print(comparison_table(comparison, hourly_price))


def register(app: typer.Typer) -> None:
    app.command("compare")(compare)
