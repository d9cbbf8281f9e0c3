"""``tunesmith gate``: may this model be used? For scripts, pipelines and people."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from tunesmith.cli.options import RUNS, JsonOption, RunsOption, TaskArgument, find_task
from tunesmith.cli.output import emit

if TYPE_CHECKING:
    from tunesmith.stages.gate import Gate

EXIT_CODES = {"passed": 0, "failed": 1, "unmeasured": 3}


def gate(task: TaskArgument, runs: RunsOption = RUNS, as_json: JsonOption = False) -> None:
    """Check the latest verdict, from disk alone.

    Exit code 0: every check that must pass has passed; 1: one failed; 3: one could not be measured.
    """
    found = find_task(task, runs)
    from tunesmith.stages.gate import check_gate

    result = check_gate(found.task, found.folder)
    emit(result, as_json, _as_text(result))
    if code := EXIT_CODES[result.answer]:
        raise typer.Exit(code)


def register(app: typer.Typer) -> None:
    app.command("gate")(gate)


def _as_text(result: Gate) -> str:
    lines = []
    for check in result.checks:
        weight = "" if check.blocking else "  (reported only)"
        lines += [f"{check.answer:<11} {check.name}{weight}", f"{'':<11} {check.evidence}"]
    stopping = [check.name for check in result.checks if check.blocking and check.answer != "passed"]
    reason = f": {'; '.join(stopping)}" if stopping else ""
    return "\n".join([*lines, "", f"gate {result.answer}{reason}"])
