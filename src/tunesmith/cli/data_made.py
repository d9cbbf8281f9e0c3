"""``tunesmith data weak``, ``augment`` and ``next``: rows that no person wrote, and what to label next."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tunesmith.cli.options import RUNS, JsonOption, RunsOption, TaskArgument, find_task
from tunesmith.cli.output import emit, one_line, one_of, stage_console

if TYPE_CHECKING:
    from tunesmith.records import Estimate
    from tunesmith.stages.next_rows import NextRows
    from tunesmith.stages.weak import WeakLabels

SHOWN = 10
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


def next(
    task: TaskArgument,
    pool: Annotated[
        Path | None, typer.Option("--pool", help="Unlabelled rows, with the task's input column.")
    ] = None,
    rows: Annotated[int, typer.Option("--rows", min=1, help="How many rows to choose.")] = 100,
    out: Annotated[Path | None, typer.Option("--out", help="Write the queue here.")] = None,
    format: Annotated[
        str, typer.Option("--format", help="Of the queue: jsonl, label-studio or prodigy.")
    ] = "jsonl",
    runs: RunsOption = RUNS,
    as_json: JsonOption = False,
) -> None:
    """Tell what to label and to write next.

    From a pool the rows that would teach most; and combinations that the training rows hardly cover.
    """
    found = find_task(task, runs)
    from tunesmith.data.curation.review import FORMATS
    from tunesmith.stages.next_rows import next_rows
    from tunesmith.stages.session import Session

    with found.folder.lock():
        session = Session(found.task, found.folder, stage_console(as_json))
        done = next_rows(session, pool, rows, out, one_of("--format", format, FORMATS))
    emit(done, as_json, _next_text(done))


def augment(
    task: TaskArgument,
    out: OutOption,
    rules: Annotated[
        Path | None, typer.Option("--rules", help="A YAML file of paraphrases and templates.")
    ] = None,
    swap: Annotated[
        list[str] | None,
        typer.Option("--swap", help="Swap words of this dimension (gender, …); repeatable."),
    ] = None,
    by_model: Annotated[
        int, typer.Option("--by-model", min=0, help="Let the base rewrite so many training rows.")
    ] = 0,
    runs: RunsOption = RUNS,
    as_json: JsonOption = False,
) -> None:
    """Make more training rows from training rows.

    By rules, by swapped words, by the base itself; filtered, and marked by their source.
    """
    found = find_task(task, runs)
    from tunesmith.stages.augment import augment as run_augment
    from tunesmith.stages.session import Session

    with found.folder.lock():
        session = Session(found.task, found.folder, stage_console(as_json))
        done = run_augment(session, out, rules, swap or (), by_model)
    lines = [f"{done.file}: {sum(done.written.values()):,} rows made of {done.train_rows:,} training rows"]
    lines += [f"  {how}: {done.written.get(how, 0):,} of {made:,}" for how, made in done.made.items()]
    lines += [f"  left out: {number:,}, {why}" for why, number in sorted(done.left_out.items())]
    if not done.judged:
        lines.append(
            "whether an answer still fits is unmeasured: answers are free text, read some of the rows"
        )
    lines.append(f"to train on these rows, set in the task file: data.train_extra: {out.name}")
    emit(done, as_json, "\n".join(lines))


def register(group: typer.Typer) -> None:
    for command in (weak, augment, next):
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


def _next_text(done: NextRows) -> str:
    lines = []
    if done.pool_rows:
        lines.append(
            f"{len(done.queue):,} rows to label, of {done.looked_at:,} looked at; {done.known:,} of the "
            f"pool's {done.pool_rows:,} rows are in the data already"
        )
        for row in done.queue[:SHOWN]:
            lines += [f"  {row.source}  {one_line(row.text)}", f"      {'; '.join(row.reasons)}"]
    lines.append(
        f"{len(done.gaps):,} gaps in what the training rows cover (a gap that makes no sense needs no row)"
    )
    lines += [f"  {gap.sentence}" for gap in done.gaps]
    if done.file:
        lines.append(f"the queue: {done.file}")
    return "\n".join(lines)


def _estimate(one: Estimate) -> str:
    return f"{one.value:.1%} [{one.low:.1%}, {one.high:.1%}], {one.rows:,} rows in {one.groups:,} groups"
