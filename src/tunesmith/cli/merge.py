"""``tunesmith merge``: the tuned model as one folder of weights."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tunesmith.cli.options import RUNS, JsonOption, RunsOption, TaskArgument, find_task
from tunesmith.cli.output import emit, stage_console


def merge(
    task: TaskArgument,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where to write it; must not exist.")],
    precision: Annotated[str, typer.Option("--precision", help="Of the weights: bf16 or fp32.")] = "bf16",
    runs: RunsOption = RUNS,
    as_json: JsonOption = False,
) -> None:
    """Write adapter and base as one model.

    The folder loads in Transformers, and in what reads its models, without Tunesmith and without PEFT.
    Weights in bf16 are rounded once more; the training stage tells how far merged weights are from the
    adapter.
    """
    found = find_task(task, runs)
    from tunesmith.stages.merge import merge as write
    from tunesmith.stages.session import Session

    merged = write(Session(found.task, found.folder, stage_console(as_json=True)), folder, precision)
    lines = [f"{merged.folder}: merged weights in {merged.precision}, {merged.sha256[:12]}"]
    if merged.verdict != "TRAIN":
        lines.append(f"The verdict on this model was {merged.verdict}: see the report.")
    emit(merged, as_json, "\n".join(lines))


def register(app: typer.Typer) -> None:
    app.command("merge")(merge)
