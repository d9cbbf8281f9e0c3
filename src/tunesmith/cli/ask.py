"""``tunesmith ask``: one answer of the tuned model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from tunesmith.cli.options import RUNS, JsonOption, RunsOption, TaskArgument, find_task
from tunesmith.cli.output import emit, stage_console

if TYPE_CHECKING:
    from tunesmith.stages.ask import Asked


def ask(
    task: TaskArgument,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="What to ask the tuned model.")],
    runs: RunsOption = RUNS,
    as_json: JsonOption = False,
) -> None:
    """Ask the tuned model.

    Prints its answer, the answer's probability, and the training rows most like the text.
    """
    found = find_task(task, runs)
    from tunesmith.stages.ask import ask as answer
    from tunesmith.stages.session import Session

    asked = answer(Session(found.task, found.folder, stage_console(as_json=True)), text)
    emit(asked, as_json, _as_text(asked))


def register(app: typer.Typer) -> None:
    app.command("ask")(ask)


def _short(text: str) -> str:
    line = " ".join(text.split())
    return f"{line[:100]}{'…' if len(line) > 100 else ''}"


def _as_text(asked: Asked) -> str:
    behind = [choice for choice in asked.choices if choice.label != asked.answer]
    others = ", ".join(f"{choice.label} {choice.probability:.1%}" for choice in behind)
    sure = "" if asked.probability is None else f"   {asked.probability:.1%}"
    lines = [f"{asked.answer}{sure}" + (f"   (then {others})" if others else ""), ""]
    if asked.threshold is not None:
        lines += [f"A label is given from a probability of {asked.threshold:.1%} on.", ""]
    lines.append("nearest training rows")
    for row in asked.nearest:
        lines.append(f"  {row.similarity:.2f}  {_short(row.target)}   {row.source}")
        lines.append(f"        {_short(row.text)}")
    if asked.verdict != "TRAIN":
        lines += ["", f"The verdict on this model was {asked.verdict}: see the report."]
    return "\n".join(lines)
