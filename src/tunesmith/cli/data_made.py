"""``tunesmith data weak``: labels and rows that no person wrote, to train on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tunesmith.cli.options import RUNS, JsonOption, RunsOption, TaskArgument, find_task
from tunesmith.cli.output import emit, stage_console

if TYPE_CHECKING:
    from tunesmith.records import Estimate
    from tunesmith.stages.weak import WeakLabels

OutOption = Annotated[Path, typer.Option("--out", help="The file to write, JSON Lines.")]


def weak(
    task: TaskArgument,
    functions: Annotated[
        list[Path],
        typer.Option("--functions", help="Labelling functions: a .py file, or rules in YAML; repeatable."),
    ],
    pool: Annotated[Path, typer.Option("--pool", help="Unlabelled rows, with the task's input column.")],
    out: OutOption,
    gold: Annotated[
        Path | None,
        typer.Option("--gold", help="Rows with labels to measure on; default: the task's validation rows."),
    ] = None,
    least_probability: Annotated[
        float, typer.Option("--least-probability", min=0, max=1, help="Write only rows at least so sure.")
    ] = 0.5,
    runs: RunsOption = RUNS,
    as_json: JsonOption = False,
) -> None:
    """Label rows by functions and patterns.

    The votes are weighed by a label model; how good the labels are is measured on rows with people's labels.
    """
    found = find_task(task, runs)
    from tunesmith.stages.session import Session
    from tunesmith.stages.weak import label_weakly

    with found.folder.lock():
        session = Session(found.task, found.folder, stage_console(as_json))
        done = label_weakly(session, functions, pool, out, gold, least_probability)
    emit(done, as_json, _weak_text(done))


def register(group: typer.Typer) -> None:
    for command in (weak,):
        group.command(command.__name__)(command)


def _weak_text(done: WeakLabels) -> str:
    lines = [
        f"{done.file}: {done.written_rows:,} of {done.pool_rows:,} rows labelled, probability "
        f"{done.least_probability:g} or more ({done.voted_rows:,} got a vote)",
        "function: votes · with another's vote · against another's · accuracy: estimated, on gold",
    ]
    for function in done.functions:
        gold = "no vote there" if function.gold_accuracy is None else _estimate(function.gold_accuracy)
        lines.append(
            f"  {function.name}: {function.voted:,} · {function.overlaps:,} · {function.conflicts:,} · "
            f"{function.estimated_accuracy:.1%}, {gold}"
        )
    if done.gold is None:
        lines.append(f"quality unmeasured: {done.why_unmeasured}")
    else:
        gold_set = done.gold
        lines += [
            f"measured on {gold_set.name} ({gold_set.accuracy.level:.0%} intervals)",
            f"  labelled          {_estimate(gold_set.covered)}",
            f"  right             {_estimate(gold_set.accuracy)}",
            f"  majority vote     {_estimate(gold_set.majority_accuracy)}",
            f"  overconfidence    {_estimate(gold_set.overconfidence)}",
            f"  calibration error {_estimate(gold_set.ece)}",
        ]
    lines.append(f"to train on these rows, set in the task file: data.train_extra: {Path(done.file).name}")
    return "\n".join(lines)


def _estimate(one: Estimate) -> str:
    return f"{one.value:.1%} [{one.low:.1%}, {one.high:.1%}], {one.rows:,} rows in {one.groups:,} groups"
