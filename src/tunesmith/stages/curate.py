"""From the audit to repaired training rows: the plan, applying it, and people's answers."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tunesmith.errors import UserError
from tunesmith.files import write_text
from tunesmith.records import Row, SplitName
from tunesmith.stages.audit import Told, audit, audit_data
from tunesmith.stages.data import GroupedRows, read_grouped
from tunesmith.stages.session import Session

if TYPE_CHECKING:
    from tunesmith.data.curation.apply import Repaired
    from tunesmith.data.curation.review import ReviewAnswer, ReviewFormat
    from tunesmith.data.splits import Split

PLAN = "repair-plan.yaml"


@dataclass(frozen=True)
class PlanWritten:
    """Where the plan is, and how many findings it speaks of."""

    plan_file: str
    findings: int


@dataclass(frozen=True)
class Applied:
    """What applying a plan did. ``changes`` counts by "check: action"; the files hold everything."""

    plan_file: str
    changes: dict[str, int]
    train_rows_before: int
    train_rows_after: int
    set_aside: int
    waiting_for_review: int
    unapplied: tuple[str, ...]
    changes_file: str
    set_aside_file: str
    queue_file: str
    seconds: float


@dataclass(frozen=True)
class Reviewed:
    """The queue that was written, or the answers that were read."""

    file: str
    rows: int


def plan_path(session: Session, given: Path | None) -> Path:
    """The plan that is meant: the one given, the task's own, or ``repair-plan.yaml`` beside the task file."""
    if given is not None:
        return given
    return session.task.resolve(session.task.data.plan or PLAN)


def write_plan(session: Session, path: Path, tell: Told = lambda result: None) -> PlanWritten:
    """Audit the data and write the repair plan that the checks propose. Never overwrites a plan.

    Raises UserError when the file exists, and for everything that is wrong with the data.
    """
    from tunesmith.data.curation.plan import plan_text

    if path.exists():
        raise UserError(
            f"{path}: there is a repair plan already", "give another name with --plan, or remove it first"
        )
    read = read_grouped(session)
    found = audit(session, tell=tell, read=read)
    split = _split(read)
    text = plan_text(session.task.name, found.results, audit_data(session, read), _split_of_rows(split))
    try:
        write_text(path, text)
    except OSError as error:
        raise UserError(
            f"{path}: cannot be written: {error.strerror}", "give a place you may write to with --plan"
        ) from error
    return PlanWritten(str(path), sum(len(result.findings) for result in found.results))


def repair_split(session: Session, read: GroupedRows, split: Split, plan_file: Path) -> Repaired:
    """``split`` repaired as the plan and people's answers say; every check that is not kept is run."""
    from tunesmith.data.curation.apply import apply_plan
    from tunesmith.data.curation.plan import read_plan
    from tunesmith.data.curation.review import answers_beside, read_answers

    results = audit(session, read=read).results
    return apply_plan(
        split,
        audit_data(session, read),
        results,
        read_plan(plan_file, results),
        read_answers(answers_beside(plan_file)),
        read.spec.near_duplicate_similarity,
        read.spec.shingle_words,
        conflicts_by_input=bool(read.spec.keep_together),
    )


def apply(session: Session, plan_file: Path) -> Applied:
    """Apply a plan without freezing: write its changes, the rows set aside and the review queue.

    The files are in the task's folder under ``curation``. Freezing applies the plan that the task names in
    ``data.plan`` in the same way.
    """
    from tunesmith.data.curation.apply import write_changes
    from tunesmith.data.curation.review import write_queue
    from tunesmith.data.exchange import write_jsonl

    started = time.perf_counter()
    read = read_grouped(session)
    split = _split(read)
    repaired = repair_split(session, read, split, plan_file)
    folder = session.folder.curation
    write_changes(folder / "changes.parquet", repaired.changes)
    write_jsonl(folder / "set_aside.jsonl", repaired.set_aside)
    write_queue(folder / "review.jsonl", repaired.queue, _choices(repaired.split), "jsonl")
    counts: dict[str, int] = {}
    for change in repaired.changes:
        name = f"{change.check}: {change.action}"
        counts[name] = counts.get(name, 0) + 1
    return Applied(
        str(plan_file),
        dict(sorted(counts.items())),
        len(split.train),
        len(repaired.split.train),
        len(repaired.set_aside),
        len(repaired.queue),
        repaired.unapplied,
        str(folder / "changes.parquet"),
        str(folder / "set_aside.jsonl"),
        str(folder / "review.jsonl"),
        time.perf_counter() - started,
    )


def export_queue(session: Session, plan_file: Path, out: Path, format: ReviewFormat) -> Reviewed:
    """Write the plan's review queue for a person, in the format of their tool."""
    from tunesmith.data.curation.review import write_queue

    read = read_grouped(session)
    repaired = repair_split(session, read, _split(read), plan_file)
    write_queue(out, repaired.queue, _choices(repaired.split), format)
    return Reviewed(str(out), len(repaired.queue))


def import_answers(session: Session, plan_file: Path, reviewed: Path) -> Reviewed:
    """Add the answers in a reviewed file to those kept beside the plan; newer ones replace older ones."""
    from tunesmith.data.curation.review import answers_beside, read_answers, read_review, write_answers

    read = read_grouped(session)
    targets = {row.id: row.target for row in (*read.rows, *read.test_rows)}
    new = read_review(reviewed, targets)
    if read.spec.label_sets:
        new = [_as_label_set(answer) for answer in new]
    path = answers_beside(plan_file)
    answers = read_answers(path) | {answer.row: answer for answer in new}
    write_answers(path, answers.values())
    return Reviewed(str(path), len(new))


def _split(read: GroupedRows) -> Split:
    from tunesmith.data.splits import split_rows

    return split_rows(read.rows, read.spec, read.test_rows)


def _choices(split: Split) -> tuple[str, ...]:
    """The labels that a person chooses one of; none where an answer is a text, or a list of labels."""
    return () if split.label_sets else split.labels


def _as_label_set(answer: ReviewAnswer) -> ReviewAnswer:
    from tunesmith.data.label_sets import label_set_text, labels_of

    if answer.target is None:
        return answer
    return replace(answer, target=label_set_text(labels_of(answer.target)))


def _split_of_rows(split: Split) -> dict[str, SplitName]:
    members: list[tuple[SplitName, Sequence[Row]]] = [
        ("train", split.train),
        ("validation", split.validation),
        ("test", split.test),
    ]
    return {row.id: name for name, rows in members for row in rows}
