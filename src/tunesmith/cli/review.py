"""``tunesmith review``: people compare answers without knowing whose they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from tunesmith.cli.options import RUNS, JsonOption, RunsOption, TaskArgument, find_task
from tunesmith.cli.output import emit, say
from tunesmith.errors import UserError

if TYPE_CHECKING:
    from tunesmith.evaluation.review import CriterionResult, ReviewResult
    from tunesmith.stats.review import Drift


def review(
    task: TaskArgument,
    reviewer: Annotated[
        str | None, typer.Option("--reviewer", metavar="NAME", help="Who judges; one name for each person.")
    ] = None,
    results: Annotated[bool, typer.Option("--results", help="Only show what was said so far.")] = False,
    runs: RunsOption = RUNS,
    as_json: JsonOption = False,
) -> None:
    """Compare answers blindly, the tuned and the best.

    Pairs come in random order and position. Ctrl-C is safe: the same command goes on.
    """
    found = find_task(task, runs)
    from tunesmith.stages.review import review_result, run_review

    if results:
        result = review_result(found.task, found.folder)
    elif reviewer is None:
        raise UserError("nobody is named as reviewer", "say who judges: --reviewer anna (or --results)")
    else:
        with found.folder.lock():
            result = run_review(found.task, found.folder, reviewer, _ask, say)
    emit(result, as_json, _as_text(result))


def register(app: typer.Typer) -> None:
    app.command("review")(review)


def _ask(prompt: str) -> str:
    """A line from the keyboard. The prompt goes to stderr: stdout is for the result."""
    import sys

    sys.stderr.write(prompt)
    sys.stderr.flush()
    line = sys.stdin.readline()
    if not line:
        raise EOFError
    return line


def _as_text(result: ReviewResult) -> str:
    who = f"{len(result.reviewers)} ({', '.join(result.reviewers)})" if result.reviewers else "none yet"
    lines = [
        f"{result.tuned} against {result.opponent}",
        f"{result.pairs} pairs, {result.equal_answers} with equal answers (ties); reviewers: {who}; "
        f"{result.judgements} judgements",
    ]
    for criterion in result.criteria:
        lines.append(_criterion(criterion))
        lines += [f"  {_drift(drift)}" for drift in criterion.drifts]
    return "\n".join([*lines, *(f"“{comment}”" for comment in result.comments)])


def _criterion(criterion: CriterionResult) -> str:
    rate = criterion.win_rate
    if rate is None:
        return f"{criterion.criterion}: unmeasured"
    bounds = f"[{100 * rate.low:.1f}, {100 * rate.high:.1f}]"
    return (
        f"{criterion.criterion}: tuned preferred {rate.value:.1%} {bounds} "
        f"({rate.rows} judgements of {rate.groups} items; {rate.method})"
    )


def _drift(drift: Drift) -> str:
    if drift.same is None or drift.shift is None:
        return f"{drift.reviewer}: {drift.repeats} repeated items, too few to tell how steady"
    same, shift = drift.same, drift.shift
    return (
        f"{drift.reviewer}: the same on {same.value:.0%} [{100 * same.low:.0f}, {100 * same.high:.0f}] of "
        f"{drift.repeats} repeated items; shift to the tuned answer {100 * shift.value:+.0f} "
        f"[{100 * shift.low:+.0f}, {100 * shift.high:+.0f}] points"
    )
