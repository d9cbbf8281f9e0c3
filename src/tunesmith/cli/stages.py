"""The stages of a run as commands: all of them, or up to one."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from tunesmith.cli.options import RUNS, JsonOption, RunsOption, TaskArgument, find_task
from tunesmith.cli.output import emit, stage_console

if TYPE_CHECKING:
    from tunesmith.pipeline import Run, Stage

# What `tunesmith verdict` tells scripts; `run` ends with 0 whenever a verdict was reached.
VERDICT_EXIT_CODES = {"TRAIN": 0, "DON'T": 1, "CANNOT TELL YET": 3}


def run(task: TaskArgument, runs: RunsOption = RUNS, as_json: JsonOption = False) -> None:
    """Run every stage, from the data to the report.

    What has not changed since the last run is reused. Ctrl-C is safe: the same command goes on.
    """
    done = run_upto(task, runs, as_json, "report")
    if as_json:
        emit(done.summary, as_json, "")


def plan(task: TaskArgument, runs: RunsOption = RUNS, as_json: JsonOption = False) -> None:
    """Tell what the test can prove, and the cost."""
    done = run_upto(task, runs, as_json, "plan")
    if as_json and done.plan:
        emit({**asdict(done.plan.plan), "pilot": done.plan.pilot}, as_json, "")


def opponents(task: TaskArgument, runs: RunsOption = RUNS, as_json: JsonOption = False) -> None:
    """Measure what the tuned model has to beat."""
    done = run_upto(task, runs, as_json, "opponents")
    if as_json:
        emit(done.opponents, as_json, "")


def train(task: TaskArgument, runs: RunsOption = RUNS, as_json: JsonOption = False) -> None:
    """Fine-tune the base, watched on validation."""
    done = run_upto(task, runs, as_json, "train")
    if as_json:
        emit(done.train, as_json, "")


def verdict(task: TaskArgument, runs: RunsOption = RUNS, as_json: JsonOption = False) -> None:
    """Open the sealed test and reach the verdict.

    Exit code 0: TRAIN; 1: DON'T; 3: CANNOT TELL YET.
    """
    done = run_upto(task, runs, as_json, "verdict")
    if as_json:
        emit(done.verdict, as_json, "")
    if done.verdict and (code := VERDICT_EXIT_CODES[done.verdict.verdict.decision]):
        sys.stdout.flush()
        raise typer.Exit(code)


def report(task: TaskArgument, runs: RunsOption = RUNS, as_json: JsonOption = False) -> None:
    """Write report.html, running what is missing."""
    run(task, runs, as_json)


def register(app: typer.Typer) -> None:
    for name, command in (
        ("run", run),
        ("plan", plan),
        ("opponents", opponents),
        ("train", train),
        ("verdict", verdict),
        ("report", report),
    ):
        app.command(name)(command)


def run_upto(name_or_path: str, runs: RunsOption, as_json: bool, upto: Stage) -> Run:
    """Run the stages of a task up to one, holding its lock."""
    found = find_task(name_or_path, runs)
    # Imported after the task file has been read: its mistakes are told at once.
    from tunesmith.pipeline import run_stages
    from tunesmith.stages.session import Session

    with found.folder.lock():
        found.folder.keep_task_file(found.task_file)
        return run_stages(Session(found.task, found.folder, stage_console(as_json)), upto)
