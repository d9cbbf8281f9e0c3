"""``tunesmith data``: audit, repair, freeze and look at the data of a task."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from tunesmith.cli import data_made
from tunesmith.cli.options import RUNS, JsonOption, RunsOption, TaskArgument, find_folder, find_task
from tunesmith.cli.output import emit, one_line, one_of, stage_console
from tunesmith.errors import UserError

if TYPE_CHECKING:
    from tunesmith.records import SplitName
    from tunesmith.stages.session import Session

PlanOption = Annotated[
    Path | None,
    typer.Option("--plan", help="The repair plan; default: data.plan of the task, or repair-plan.yaml."),
]
SplitOption = Annotated[str, typer.Option("--split", help="train, validation or test.")]
VersionOption = Annotated[
    str | None, typer.Option("--version", help="A frozen version, by its beginning; default: the last one.")
]
SpendOption = Annotated[
    bool, typer.Option("--spend-test", help="Show the sealed test. It is spent: no later verdict may use it.")
]
SHOWN = 10
MaskOption = Annotated[
    bool, typer.Option("--mask", help="As the model is given them, with what is learned marked.")
]
DIFFERENCES_SHOWN = 20


def audit(
    task: TaskArgument,
    benchmark: Annotated[
        list[Path] | None,
        typer.Option("--benchmark", help="A file of which the data should hold no row; repeatable."),
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option("--check", help="Run this check only; repeatable.")
    ] = None,
    runs: RunsOption = RUNS,
    as_json: JsonOption = False,
) -> None:
    """Find what is wrong with the data.

    Finished checks are kept: Ctrl-C is safe. Exit code 0: nothing failed; 1: a check failed.
    """
    found = find_task(task, runs)
    from tunesmith.cli.audit_table import AuditTable
    from tunesmith.stages.audit import audit as run_audit
    from tunesmith.stages.session import Session

    console = stage_console(as_json)
    with found.folder.lock(), AuditTable(console) as table:
        found.folder.keep_task_file(found.task_file)
        session = Session(found.task, found.folder, console)
        result = run_audit(session, benchmark or (), only or (), table.add)
    if as_json:
        emit(result, as_json, "")
    if any(check.answer == "failed" for check in result.results):
        sys.stdout.flush()
        raise typer.Exit(1)


def plan(
    task: TaskArgument, plan: PlanOption = None, runs: RunsOption = RUNS, as_json: JsonOption = False
) -> None:
    """Write the repair plan that the audit proposes.

    A YAML file to read and edit: what to do about each kind of finding, with counts and examples.
    """
    found = find_task(task, runs)
    from tunesmith.cli.audit_table import AuditTable
    from tunesmith.stages.curate import plan_path, write_plan
    from tunesmith.stages.session import Session

    console = stage_console(as_json)
    with found.folder.lock(), AuditTable(console) as table:
        session = Session(found.task, found.folder, console)
        written = write_plan(session, plan_path(session, plan), table.add)
    emit(
        written,
        as_json,
        f"{written.plan_file}: what to do about {written.findings} findings\n"
        f"next: read it, edit it, then: tunesmith data apply {task}",
    )


def apply(
    task: TaskArgument, plan: PlanOption = None, runs: RunsOption = RUNS, as_json: JsonOption = False
) -> None:
    """Apply the repair plan and show what it changes.

    Only training rows change, and the source never does. Set data.plan in the task file to train on them.
    """
    session, plan_file = _curation(task, plan, runs, as_json)
    from tunesmith.stages.curate import apply as run_apply

    with session.folder.lock():
        applied = run_apply(session, plan_file)
    lines = [
        f"{applied.plan_file}: train {applied.train_rows_before:,} -> {applied.train_rows_after:,} rows",
        *(f"  {count:>7,}  {name}" for name, count in applied.changes.items()),
        f"  {applied.set_aside:>7,}  set aside: {applied.set_aside_file}",
        f"  {applied.waiting_for_review:>7,}  wait for review: tunesmith data review {task} --export FILE",
        *(f"  not applied: {reason}" for reason in applied.unapplied),
        f"every change: {applied.changes_file}",
    ]
    if session.task.data.plan is None:
        lines.append(f"to train on the repaired rows, set in the task file: data.plan: {plan_file.name}")
    emit(applied, as_json, "\n".join(lines))


def review(
    task: TaskArgument,
    out: Annotated[Path | None, typer.Option("--export", help="Write the review queue here.")] = None,
    reviewed: Annotated[Path | None, typer.Option("--import", help="Read the answers from here.")] = None,
    format: Annotated[
        str, typer.Option("--format", help="Of the export: jsonl, label-studio or prodigy.")
    ] = "jsonl",
    plan: PlanOption = None,
    runs: RunsOption = RUNS,
    as_json: JsonOption = False,
) -> None:
    """Hand rows to a person, and take the answers.

    Answers are kept beside the repair plan, and change rows of any split when the plan is applied.
    """
    from tunesmith.data.curation.review import FORMATS

    if (out is None) == (reviewed is None):
        raise UserError("nothing to do", "give either --export FILE or --import FILE")
    session, plan_file = _curation(task, plan, runs, as_json)
    from tunesmith.stages.curate import export_queue, import_answers

    with session.folder.lock():
        if reviewed is not None:
            done = import_answers(session, plan_file, reviewed)
            text = f"{done.rows:,} answers, kept in {done.file}"
        else:
            assert out is not None
            done = export_queue(session, plan_file, out, one_of("--format", format, FORMATS))
            text = f"{done.file}: {done.rows:,} rows to review"
    emit(done, as_json, text)


def freeze(task: TaskArgument, runs: RunsOption = RUNS, as_json: JsonOption = False) -> None:
    """Read, group, split and freeze the data.

    With data.plan in the task file the training rows are repaired first.
    """
    from tunesmith.cli.stages import run_upto

    done = run_upto(task, runs, as_json, "data")
    if as_json:
        emit(done.dataset, as_json, "")


def diff(
    task: TaskArgument,
    first: Annotated[str, typer.Argument(metavar="VERSION1", help="A frozen version, by its beginning.")],
    second: Annotated[str, typer.Argument(metavar="VERSION2", help="Another one.")],
    runs: RunsOption = RUNS,
    as_json: JsonOption = False,
) -> None:
    """Compare two versions row by row.

    Which training and validation rows came, went, changed or moved, and why. No test row is read.
    """
    from tunesmith.stages.versions import compare_versions

    found = compare_versions(find_folder(task, runs), first, second)
    counts = Counter((row.what, row.why) for row in found.rows)
    lines = [
        f"{found.first[:12]} -> {found.second[:12]}: {len(found.rows):,} rows differ; "
        f"{'the same' if found.same_test else 'another'} sealed test",
        *(f"  {count:>7,}  {what}: {why}" for (what, why), count in sorted(counts.items())),
    ]
    for row in found.rows[:DIFFERENCES_SHOWN]:
        lines.append(f"{row.what:<8}{row.split:<11}{row.source}  {row.why}")
        lines += [f"        - {one_line(row.before)}"] if row.before else []
        lines += [f"        + {one_line(row.after)}"] if row.after else []
    if len(found.rows) > DIFFERENCES_SHOWN:
        lines.append(f"… {len(found.rows) - DIFFERENCES_SHOWN:,} more: --json has all of them")
    emit(found, as_json, "\n".join(lines))


def show(
    task: TaskArgument,
    split: SplitOption = "train",
    rows: Annotated[int, typer.Option("--rows", min=1, help="How many rows to show.")] = SHOWN,
    version: VersionOption = None,
    spend_test: SpendOption = False,
    mask: MaskOption = False,
    runs: RunsOption = RUNS,
    as_json: JsonOption = False,
) -> None:
    """Show rows of a frozen version.

    Test rows are shown only with --spend-test, after which no later verdict may use that test. With --mask
    they are shown as the model is given them, before a run too: what is not frozen yet is frozen first.
    """
    from tunesmith.report.numbers import audit_in_words
    from tunesmith.stages.versions import find_version, rows_of_split

    name = _split_name(split)
    if mask:
        _show_masked(task, name, rows, version, spend_test, runs, as_json)
        return
    folder = find_folder(task, runs)
    dataset = find_version(folder, version)
    with folder.lock():
        found = rows_of_split(folder, dataset, name, spend_test)
    shown = found[:rows]
    checks = dataset.manifest.checks
    lines = [f"{dataset.manifest.version[:12]} {name}: {len(found):,} rows, {len(shown):,} shown"]
    lines += [f"its source's audit: {audit_in_words(checks)}"] if checks else []
    for row in shown:
        lines += [f"{row.source}  ->  {one_line(row.target)}", f"    {one_line(row.text)}"]
    record = {"version": dataset.manifest.version, "split": name, "checks": checks, "rows": shown}
    emit(record, as_json, "\n".join(lines))


def export(
    task: TaskArgument,
    out: Annotated[Path, typer.Option("--out", help="The file to write, .jsonl or .csv.")],
    split: SplitOption = "train",
    number: Annotated[
        int | None, typer.Option("--rows", min=1, help="Only so many rows, the best by --by.")
    ] = None,
    by: Annotated[
        str, typer.Option("--by", help="quality, diversity, random or longest; with --rows.")
    ] = "random",
    seed: Annotated[int, typer.Option("--seed", min=0, help="Settles ties, and draws at random.")] = 0,
    version: VersionOption = None,
    spend_test: SpendOption = False,
    runs: RunsOption = RUNS,
    as_json: JsonOption = False,
) -> None:
    """Write a split as JSONL or CSV, whole or in part.

    In CSV, cells that a spreadsheet would run as formulas are made harmless with an apostrophe.
    """
    from tunesmith.data.curation.subset import MEASURES
    from tunesmith.stages.versions import EXPORT_FORMATS, export_rows, find_version

    folder = find_folder(task, runs)
    name = _split_name(split)
    file_format = one_of("the ending of --out", out.suffix.lstrip(".").lower(), EXPORT_FORMATS)
    measure = one_of("--by", by, MEASURES)
    dataset = find_version(folder, version)
    with folder.lock():
        done = export_rows(folder, dataset, name, out, file_format, number, measure, seed, spend_test)
    text = f"{done.file}: {done.rows:,} rows of {done.split}, version {done.version[:12]}"
    if done.harmless_cells:
        text += f"; {done.harmless_cells:,} cells begin with an apostrophe now, so that they are no formulas"
    emit(done, as_json, text)


def register(app: typer.Typer) -> None:
    group = typer.Typer(help="Audit, repair, freeze and look at the data.", no_args_is_help=True)
    for command in (audit, plan, apply, review, freeze, diff, show, export):
        group.command(command.__name__)(command)
    data_made.register(group)
    app.add_typer(group, name="data")


def _curation(task: str, plan: Path | None, runs: Path, as_json: bool) -> tuple[Session, Path]:
    found = find_task(task, runs)
    from tunesmith.stages.curate import plan_path
    from tunesmith.stages.session import Session

    session = Session(found.task, found.folder, stage_console(as_json))
    return session, plan_path(session, plan)


def _show_masked(
    task: str,
    split: SplitName,
    rows: int,
    version: str | None,
    spend_test: bool,
    runs: Path,
    as_json: bool,
) -> None:
    found = find_task(task, runs)
    from tunesmith.cli.masks import print_masked
    from tunesmith.stages.masks import dataset_to_show, masked_rows
    from tunesmith.stages.session import Session
    from tunesmith.stages.versions import rows_of_split

    session = Session(found.task, found.folder, stage_console(as_json))
    with found.folder.lock():
        dataset = dataset_to_show(session, version)
        every = rows_of_split(found.folder, dataset, split, spend_test)
    shown = masked_rows(session, every[:rows], trained=split == "train")
    head = f"{dataset.manifest.version[:12]} {split}: {len(every):,} rows, {len(shown):,} shown"
    if as_json:
        emit({"version": dataset.manifest.version, "split": split, "rows": shown}, as_json, "")
    else:
        print_masked(head, shown)


def _split_name(given: str) -> SplitName:
    from tunesmith.records import SplitName

    names: tuple[SplitName, ...] = get_args(SplitName)
    return one_of("--split", given, names)
