"""Blind review of the tuned model against the best opponent, on validation rows of the last finished run."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from tunesmith.errors import UserError
from tunesmith.evaluation.review import (
    Judgement,
    Pair,
    ReviewResult,
    append_judgement,
    draw_pairs,
    read_judgements,
    read_pairs,
    review,
    showings,
    summarise_review,
    write_pairs,
)
from tunesmith.files import content_hash, read_record
from tunesmith.records import Scorecard
from tunesmith.run_records import RunSummary
from tunesmith.stages.answering import judging_of
from tunesmith.task import Task
from tunesmith.task.kinds import SMALLER_IS_BETTER
from tunesmith.workspace import TaskFolder

REVIEWER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


def run_review(
    task: Task, folder: TaskFolder, reviewer: str, ask: Callable[[str], str], say: Callable[[str], None]
) -> ReviewResult:
    """Let ``reviewer`` judge what they have not judged yet, and sum up what all reviewers said.

    The pairs are drawn once for these two candidates and this number of items; every judgement is on disk
    before the next question, so a stopped review goes on where it was. Raises UserError when there is no
    finished run, or the name is not one for a file.
    """
    if not REVIEWER.fullmatch(reviewer):
        raise UserError(
            f"reviewer {reviewer!r}: found other characters than letters, digits, - and _",
            "give a short name: --reviewer anna",
        )
    _, _, where, pairs = _pairs(task, folder)
    path = where / f"judgements-{reviewer}.jsonl"
    review(
        showings(pairs, reviewer, task.review.repeats),
        read_judgements(path),
        task.review.criteria,
        reviewer,
        ask,
        say,
        lambda judgement: append_judgement(path, judgement),
    )
    return review_result(task, folder)


def review_result(task: Task, folder: TaskFolder) -> ReviewResult:
    """What all reviewers said so far about the two candidates of the last finished run."""
    tuned, opponent, where, pairs = _pairs(task, folder)
    judgements: list[Judgement] = []
    for path in sorted(where.glob("judgements-*.jsonl")):
        judgements += read_judgements(path)
    return summarise_review(
        pairs, judgements, task.review.criteria, tuned.candidate.name, opponent.candidate.name
    )


def _pairs(task: Task, folder: TaskFolder) -> tuple[Scorecard, Scorecard, Path, list[Pair]]:
    from tunesmith.data.versions import load_dataset, read_split
    from tunesmith.evaluation.judging import questions

    if not folder.summary.is_file():
        raise UserError(
            f"{task.name}: no finished run to review", f"run it first: tunesmith run {folder.task_file}"
        )
    try:
        summary = read_record(folder.summary, RunSummary)
    except ValueError as error:
        raise UserError(
            f"{folder.summary}: written by another version, or broken",
            f"write it again: tunesmith run {folder.task_file}",
        ) from error
    tuned, opponent = summary.tuned_validation, _best_finalist(summary)
    settings = [summary.manifest.version, tuned.candidate.id, opponent.candidate.id, task.review.items]
    where = folder.review(content_hash(settings))
    path = where / "pairs.jsonl"
    if not path.is_file():
        rows = read_split(load_dataset(folder.datasets / summary.manifest.version[:12]), "validation")
        asked = questions(judging_of(task), rows)
        pairs = draw_pairs(
            asked.rows, _answers(tuned), _answers(opponent), task.review.items, task.split.seed
        )
        write_pairs(path, pairs)
    return tuned, opponent, where, read_pairs(path)


def _best_finalist(summary: RunSummary) -> Scorecard:
    finalists = [card for card in summary.opponents if card.candidate.id in summary.finalists]
    metric = summary.verdict.metric
    sign = -1 if metric in SMALLER_IS_BETTER else 1
    return max(
        finalists, key=lambda card: (card.stopped_after_rows is None, sign * card.metrics[metric].value)
    )


def _answers(card: Scorecard) -> list[str]:
    return [prediction.answer for prediction in card.predictions]
