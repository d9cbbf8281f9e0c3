"""Blind review of the tuned model against the best opponent, on validation rows of the last finished run."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tunesmith.errors import UserError
from tunesmith.evaluation.grading import Grade, grade, judgements_of, singles, summarise_grades
from tunesmith.evaluation.review import (
    Judgement,
    Pair,
    append_record,
    draw_pairs,
    read_records,
    review,
    showings,
    summarise_review,
    write_records,
)
from tunesmith.files import content_hash, read_record
from tunesmith.people_records import ReviewResult
from tunesmith.records import Scorecard
from tunesmith.run_records import RunSummary
from tunesmith.stages.answering import judging_of
from tunesmith.task import Task
from tunesmith.task.kinds import SMALLER_IS_BETTER
from tunesmith.workspace import TaskFolder

if TYPE_CHECKING:
    from tunesmith.data.questions import Questions
    from tunesmith.evaluation.judging import Judging

REVIEWER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


@dataclass(frozen=True)
class Contest:
    """The two candidates of a finished run, and the folder with what people said of them."""

    summary: RunSummary
    tuned: Scorecard
    opponent: Scorecard
    name: str
    where: Path


def contest_of(task: Task, folder: TaskFolder, summary: RunSummary | None = None) -> Contest:
    """The contest of ``summary``, or of the last finished run.

    Raises UserError where there is none, or no finalist answered every validation row.
    """
    summary = summary or finished_run(task, folder)
    tuned, opponent = summary.tuned_validation, _best_finalist(summary)
    if len(opponent.predictions) != len(tuned.predictions):
        raise UserError(
            f"{task.name}: no finalist answered every validation row, so there is nothing to compare with",
            "name more opponents, and run the task again",
        )
    settings = [summary.manifest.version, tuned.candidate.id, opponent.candidate.id, task.review.items]
    name = content_hash(settings)
    return Contest(summary, tuned, opponent, name, folder.review(name))


def finished_run(task: Task, folder: TaskFolder) -> RunSummary:
    """The summary of the last finished run. Raises UserError where there is none, or it cannot be read."""
    if not folder.summary.is_file():
        raise UserError(
            f"{task.name}: no finished run to review", f"run it first: tunesmith run {folder.task_file}"
        )
    try:
        return read_record(folder.summary, RunSummary)
    except ValueError as error:
        raise UserError(
            f"{folder.summary}: written by another version, or broken",
            f"write it again: tunesmith run {folder.task_file}",
        ) from error


def check_reviewer(reviewer: str) -> None:
    """UserError where the name is not one for a file."""
    if not REVIEWER.fullmatch(reviewer):
        raise UserError(
            f"reviewer {reviewer!r}: found other characters than letters, digits, - and _",
            "give a short name: --reviewer anna",
        )


def run_review(
    task: Task, folder: TaskFolder, reviewer: str, ask: Callable[[str], str], say: Callable[[str], None]
) -> ReviewResult:
    """Let ``reviewer`` judge what they have not judged yet, and sum up what all reviewers said.

    The pairs are drawn once for these two candidates and this number of items; every judgement is on disk
    before the next question, so a stopped review goes on where it was. Raises UserError when there is no
    finished run, or the name is not one for a file.
    """
    check_reviewer(reviewer)
    contest = contest_of(task, folder)
    pairs, settings = pairs_of(task, folder, contest), task.review
    path = _said(contest, task, reviewer)
    if settings.form == "single":
        grade(
            singles(pairs, reviewer, settings.repeats),
            read_records(path, Grade),
            settings.criteria,
            reviewer,
            ask,
            say,
            lambda one: append_record(path, one),
        )
    else:
        review(
            showings(pairs, reviewer, settings.repeats),
            read_records(path, Judgement),
            settings.criteria,
            reviewer,
            ask,
            say,
            lambda judgement: append_record(path, judgement),
        )
    return review_result(task, folder, contest)


def export_review(task: Task, folder: TaskFolder, reviewer: str, path: Path) -> int:
    """Write one reviewer's tasks for Label Studio; returns how many. Errors as in :func:`run_review`."""
    from tunesmith.evaluation.label_studio import write_pair_tasks, write_single_tasks

    check_reviewer(reviewer)
    contest = contest_of(task, folder)
    pairs, settings = pairs_of(task, folder, contest), task.review
    if settings.form == "single":
        alone = singles(pairs, reviewer, settings.repeats)
        write_single_tasks(path, alone, contest.name, reviewer, settings.criteria)
        return len(alone)
    shown = showings(pairs, reviewer, settings.repeats)
    write_pair_tasks(path, shown, contest.name, reviewer, settings.criteria)
    return len(shown)


def import_review(task: Task, folder: TaskFolder, reviewer: str, path: Path) -> int:
    """Take in what one reviewer said in Label Studio; returns how many judgements are new.

    What this reviewer has already said stays as it is. Raises UserError naming the task in ``path`` that is
    none of this reviewer's.
    """
    from tunesmith.evaluation.label_studio import read_pair_tasks, read_single_tasks

    check_reviewer(reviewer)
    contest = contest_of(task, folder)
    pairs, settings = pairs_of(task, folder, contest), task.review
    own = _said(contest, task, reviewer)
    if settings.form == "single":
        alone = singles(pairs, reviewer, settings.repeats)
        graded = {(one.item, one.tuned, one.again) for one in read_records(own, Grade)}
        grades = read_single_tasks(path, alone, contest.name, reviewer, settings.criteria)
        new_grades = [one for one in grades if (one.item, one.tuned, one.again) not in graded]
        for new in new_grades:
            append_record(own, new)
        return len(new_grades)
    shown = showings(pairs, reviewer, settings.repeats)
    judged = {(one.item, one.again) for one in read_records(own, Judgement)}
    judgements = read_pair_tasks(path, shown, contest.name, reviewer, settings.criteria)
    new_ones = [one for one in judgements if (one.item, one.again) not in judged]
    for judgement in new_ones:
        append_record(own, judgement)
    return len(new_ones)


def review_result(task: Task, folder: TaskFolder, contest: Contest | None = None) -> ReviewResult:
    """What all reviewers said so far about the two candidates of the last finished run."""
    contest = contest or contest_of(task, folder)
    pairs, settings = pairs_of(task, folder, contest), task.review
    names = contest.tuned.candidate.name, contest.opponent.candidate.name
    if settings.form == "single":
        return summarise_grades(pairs, all_grades(contest), settings.criteria, *names, settings.blocking)
    return summarise_review(
        pairs,
        all_judgements(task, contest),
        settings.criteria,
        *names,
        blocking=settings.blocking,
    )


def all_judgements(task: Task, contest: Contest) -> list[Judgement]:
    """The judgements of all reviewers; grades of single answers as the preferences that they come to."""
    if task.review.form == "single":
        return judgements_of(all_grades(contest))
    paths = sorted(contest.where.glob("judgements-*.jsonl"))
    return [judgement for path in paths for judgement in read_records(path, Judgement)]


def all_grades(contest: Contest) -> list[Grade]:
    """The grades of all reviewers."""
    paths = sorted(contest.where.glob("grades-*.jsonl"))
    return [one for path in paths for one in read_records(path, Grade)]


def pairs_of(task: Task, folder: TaskFolder, contest: Contest) -> list[Pair]:
    """The pairs of a contest, drawn when they are first asked for."""
    path = contest.where / "pairs.jsonl"
    if not path.is_file():
        _, asked = validation_questions(task, folder, contest)
        both = answers_of(contest.tuned), answers_of(contest.opponent)
        pairs = draw_pairs(asked.rows, *both, task.review.items, task.split.seed)
        write_records(path, pairs)
    return read_records(path, Pair)


def validation_questions(task: Task, folder: TaskFolder, contest: Contest) -> tuple[Judging, Questions]:
    """What was asked on validation in the contest's run, and how answers are judged."""
    from tunesmith.data.versions import load_dataset, read_split
    from tunesmith.evaluation.judging import questions

    manifest = contest.summary.manifest
    judging = judging_of(task, manifest.labels)
    rows = read_split(load_dataset(folder.datasets / manifest.version[:12]), "validation")
    return judging, questions(judging, rows)


def answers_of(card: Scorecard) -> list[str]:
    return [prediction.answer for prediction in card.predictions]


def _said(contest: Contest, task: Task, reviewer: str) -> Path:
    kind = "grades" if task.review.form == "single" else "judgements"
    return contest.where / f"{kind}-{reviewer}.jsonl"


def _best_finalist(summary: RunSummary) -> Scorecard:
    finalists = [card for card in summary.opponents if card.candidate.id in summary.finalists]
    metric = summary.verdict.metric
    sign = -1 if metric in SMALLER_IS_BETTER else 1
    return max(
        finalists, key=lambda card: (card.stopped_after_rows is None, sign * card.metrics[metric].value)
    )
