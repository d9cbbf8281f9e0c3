"""Timed work of people, with and without the tuned model's answer, on validation rows of the last run."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tunesmith.evaluation.review import append_record, read_records, write_records
from tunesmith.evaluation.timed import (
    Edit,
    TimedAnswer,
    TimedItem,
    Turn,
    draw_items,
    labour,
    time_answers,
    turns,
)
from tunesmith.people_records import Labour
from tunesmith.stages.review import (
    Contest,
    answers_of,
    check_reviewer,
    contest_of,
    pairs_of,
    validation_questions,
)
from tunesmith.task import Task
from tunesmith.workspace import TaskFolder


def run_timed(
    task: Task,
    folder: TaskFolder,
    reviewer: str,
    ask: Edit,
    say: Callable[[str], None],
    clock: Callable[[], float] = time.monotonic,
) -> Labour:
    """Let ``reviewer`` do the items they have not done yet, and sum up all times so far.

    Every answer is on disk before the next item. Raises UserError as ``run_review`` does.
    """
    from tunesmith.candidates.replies import read_label

    check_reviewer(reviewer)
    contest = contest_of(task, folder)
    path, labels = _said(contest, reviewer), _labels(task, contest)
    waiting = _waiting(task, folder, contest, reviewer)
    say(task.instruction)
    if labels:
        say("\n".join(f"{number:>4} {label}" for number, label in enumerate(labels, start=1)))
    say(
        "Every second item or so shows the model's answer: Enter takes it, or type another. "
        f"{'A label or its number. ' if labels else ''}The time counts. /p: pause; /q: stop"
    )

    def read(text: str) -> str | None:
        if not labels:
            return text
        if text.isdigit() and 1 <= int(text) <= len(labels) and text not in labels:
            return labels[int(text) - 1]
        return read_label(text, labels)

    time_answers(waiting, reviewer, read, ask, say, lambda one: append_record(path, one), clock)
    return labour_result(task, folder, contest)


def export_timed(task: Task, folder: TaskFolder, reviewer: str, path: Path) -> int:
    """Write the items that one reviewer has not done yet for Label Studio; returns how many."""
    from tunesmith.evaluation.label_studio import write_timed_tasks

    check_reviewer(reviewer)
    contest = contest_of(task, folder)
    waiting = _waiting(task, folder, contest, reviewer)
    write_timed_tasks(path, waiting, contest.name, reviewer, _labels(task, contest))
    return len(waiting)


def import_timed(task: Task, folder: TaskFolder, reviewer: str, path: Path) -> int:
    """Take in what one reviewer did in Label Studio, with its times; returns how many answers are new."""
    from tunesmith.evaluation.label_studio import read_timed_tasks

    check_reviewer(reviewer)
    contest = contest_of(task, folder)
    shown = turns(items_of(task, folder, contest), reviewer)
    own = _said(contest, reviewer)
    done = {one.item for one in read_records(own, TimedAnswer)}
    given = read_timed_tasks(path, shown, contest.name, reviewer)
    new_ones = [one for one in given if one.item not in done]
    for answer in new_ones:
        append_record(own, answer)
    return len(new_ones)


def labour_result(task: Task, folder: TaskFolder, contest: Contest) -> Labour:
    """What all reviewers' times say so far."""
    from tunesmith.evaluation.row_scores import row_judging, unit_scores

    paths = sorted(contest.where.glob("timed-*.jsonl"))
    answers = [answer for path in paths for answer in read_records(path, TimedAnswer)]
    judging, asked = validation_questions(task, folder, contest)
    places = {row.id: place for place, row in enumerate(asked.rows)}

    def score(items: Sequence[str], given: Sequence[str]) -> list[float]:
        if judging.kind == "classify":
            return [
                float(answer == asked.rows[places[item]].target)
                for item, answer in zip(items, given, strict=True)
            ]
        return unit_scores(judging, asked.take([places[item] for item in items]), given)

    metric = "accuracy" if judging.kind == "classify" else row_judging(judging).metric
    return labour(answers, contest.tuned.candidate.name, metric, score)


def items_of(task: Task, folder: TaskFolder, contest: Contest) -> list[TimedItem]:
    """The items of a contest, drawn when they are first asked for, of rows that no pair shows if possible."""
    path = contest.where / "items.jsonl"
    if not path.is_file():
        seen = [pair.item for pair in pairs_of(task, folder, contest)]
        _, asked = validation_questions(task, folder, contest)
        settings = task.review.items, task.split.seed
        write_records(path, draw_items(asked.rows, answers_of(contest.tuned), seen, *settings))
    return read_records(path, TimedItem)


def _labels(task: Task, contest: Contest) -> tuple[str, ...]:
    """What an answer must be one of; empty where it is written."""
    return contest.summary.manifest.labels if task.kind == "classify" else ()


def _waiting(task: Task, folder: TaskFolder, contest: Contest, reviewer: str) -> list[Turn]:
    done = {one.item for one in read_records(_said(contest, reviewer), TimedAnswer)}
    shown = turns(items_of(task, folder, contest), reviewer)
    return [turn for turn in shown if turn.item.item not in done]


def _said(contest: Contest, reviewer: str) -> Path:
    return contest.where / f"timed-{reviewer}.jsonl"
