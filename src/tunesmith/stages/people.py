"""Everything that people said about a finished run, for its report, its costs and the gate."""

from __future__ import annotations

from dataclasses import replace

from tunesmith.errors import UserError
from tunesmith.evaluation.costs import LABOUR, labour_break_even
from tunesmith.evaluation.review import human_check
from tunesmith.files import write_json
from tunesmith.people_records import People
from tunesmith.records import Check
from tunesmith.run_records import RunSummary
from tunesmith.stages.judge import judge_result
from tunesmith.stages.review import contest_of, finished_run, review_result
from tunesmith.stages.timed import labour_result
from tunesmith.task import Task
from tunesmith.workspace import TaskFolder


def people_of(task: Task, folder: TaskFolder, summary: RunSummary) -> People | None:
    """What people said of the candidates of ``summary``; None where they said nothing."""
    try:
        contest = contest_of(task, folder, summary)
    except UserError:  # no opponent that answered everything
        return None
    if not contest.where.is_dir():
        return None
    reviewed = any(contest.where.glob("judgements-*.jsonl")) or any(contest.where.glob("grades-*.jsonl"))
    review = review_result(task, folder, contest) if reviewed else None
    timed = any(contest.where.glob("timed-*.jsonl"))
    labour = labour_result(task, folder, contest) if timed else None
    judge = judge_result(task, contest)
    return People(review, labour, judge) if review or labour or judge else None


def with_people(task: Task, folder: TaskFolder, summary: RunSummary) -> RunSummary:
    """``summary`` with what people said, and with working time among its costs."""
    people = people_of(task, folder, summary)
    costs = summary.costs
    if costs is not None:
        others = tuple(one for one in costs.break_even if one.opponent != LABOUR)
        labour = people.labour if people else None
        paid = labour_break_even(labour, costs.candidates, summary.training.cost.seconds, task.cost)
        costs = replace(costs, break_even=(*others, *([paid] if paid else [])))
    return replace(summary, people=people, costs=costs)


def tell_people(task: Task, folder: TaskFolder) -> People | None:
    """Bring the report and the summary of the last finished run up to date with what people said."""
    from tunesmith.report.page import write_report

    stored = finished_run(task, folder)
    summary = with_people(task, folder, stored)
    if summary != stored:
        write_report(summary, folder.report)
        write_json(folder.summary, summary)
    return summary.people


def people_checks(task: Task, folder: TaskFolder, adapter_sha256: str) -> tuple[Check, ...]:
    """The human check of every criterion, for the gate; read from disk as it is now.

    Where nobody has judged the model with that hash the checks are there only if the task asks for them:
    unmeasured.
    """
    blocking = task.review.blocking
    reviewed = None
    try:
        run = finished_run(task, folder)
        people = people_of(task, folder, run) if run.training.adapter_sha256 == adapter_sha256 else None
        reviewed = people.review if people else None
    except UserError:
        if not blocking:
            return ()
    if reviewed is not None:
        return tuple(criterion.check for criterion in reviewed.criteria)
    if not blocking:
        return ()
    return tuple(human_check(criterion, None, None, None, blocking) for criterion in task.review.criteria)
