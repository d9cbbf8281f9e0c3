"""The story: from a task to a verdict, every stage in order.

Each stage is a function from what came before to a record; each is cached by everything that decides it, so
a second run does only what has changed. ``upto`` in :func:`run_stages` is how a single command runs the
stages it needs and no more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rich.console import RenderableType

from tunesmith.records import Dataset
from tunesmith.report import terminal
from tunesmith.report.fold_terminal import fold_line, fold_lines
from tunesmith.report.guard_terminal import closing_lines, guard_lines
from tunesmith.report.method_terminal import method_lines
from tunesmith.run_records import PilotPower, RunSummary
from tunesmith.stages.answering import check_judging
from tunesmith.stages.crossfit import judge_folds, make_folds
from tunesmith.stages.data import DataResult, make_dataset
from tunesmith.stages.data_curve import measure_data_curve
from tunesmith.stages.entailing import check_entailment
from tunesmith.stages.guards import GuardsResult, measure_guards
from tunesmith.stages.harness import check_tasks
from tunesmith.stages.methods import check_methods, compare_methods
from tunesmith.stages.opponents import OpponentsResult, measure_opponents
from tunesmith.stages.pilot import run_pilot
from tunesmith.stages.plan import PlanResult, make_plan
from tunesmith.stages.seeds import is_trained, train_seeds
from tunesmith.stages.session import Session
from tunesmith.stages.summary import summarise, write_summary
from tunesmith.stages.together import interference
from tunesmith.stages.track import check_tracking, store_path, track_run
from tunesmith.stages.train import TrainResult, check_training
from tunesmith.stages.verdict import VerdictResult, check_test, own_probes_sha256, reach_verdict

Stage = Literal["data", "plan", "opponents", "train", "verdict", "report"]


@dataclass(frozen=True)
class Run:
    """What has been reached; later stages are None when an earlier one was asked for."""

    dataset: Dataset
    data: DataResult
    plan: PlanResult | None = None
    opponents: OpponentsResult | None = None
    train: TrainResult | None = None
    verdict: VerdictResult | None = None
    summary: RunSummary | None = None
    guards: GuardsResult | None = None
    pilot: PilotPower | None = None


def run_task(session: Session) -> RunSummary:
    """Run every stage of the session's task and write its report.

    Raises UserError for anything the user can mend; KeyboardInterrupt leaves every finished stage and the
    last training checkpoint for the next call.
    """
    summary = run_stages(session, "report").summary
    assert summary is not None  # "report" is the last stage
    return summary


def run_stages(session: Session, upto: Stage) -> Run:
    """Run the stages of the task in order, up to and including ``upto``, telling the console of each."""
    check_judging(session.task)
    check_tracking(session)
    if upto != "data":
        check_training(session)
        check_methods(session)
        own_probes_sha256(session)  # a broken file is told before any work is done
        check_entailment(session)
        check_tasks(session)
    dataset, data = make_dataset(session)
    _tell(session, terminal.data_lines(dataset.manifest))
    for note in data.notes:
        session.say(note)
    if upto == "data":
        return Run(dataset, data)
    if upto in ("verdict", "report"):
        check_test(session, dataset)

    plan = make_plan(session, dataset)
    _tell(session, terminal.plan_lines(plan.plan))
    if plan.pilot is not None:
        _tell(session, terminal.pilot_lines(plan.pilot))
    if upto == "plan":
        return Run(dataset, data, plan)
    if upto in ("verdict", "report"):
        check_test(session, dataset, is_trained(session, dataset, plan.plan))

    opponents = measure_opponents(session, dataset, plan.plan)
    _tell(session, terminal.opponents_lines(opponents.scorecards, opponents.finalists, session.task.metric))
    if opponents.message:
        session.say(opponents.message)
    pilot = run_pilot(session, dataset, opponents)
    if pilot is not None:
        _tell(session, terminal.pilot_lines(pilot))
    if upto == "opponents":
        return Run(dataset, data, plan, opponents, pilot=pilot)

    train = train_seeds(session, dataset, plan.plan)
    _tell(session, terminal.training_lines(train.training, train.validation.candidate, session.task.metric))
    if train.message:
        session.say(train.message)
    changes = interference(session, dataset, plan.plan, train.together)
    if changes:
        _tell(session, terminal.interference_lines(changes))
    data_curve = measure_data_curve(session, dataset, plan.plan, train)
    if data_curve is not None:
        _tell(session, terminal.data_curve_lines(data_curve))
    methods = compare_methods(session, dataset, plan.plan, train)
    if methods is not None:
        _tell(session, method_lines(methods))
    folds = []
    for fold in make_folds(session, dataset, plan.plan):
        folds.append(fold)
        _tell(
            session,
            fold_line(len(folds), len(dataset.manifest.folds), fold.dataset.manifest, fold.train.training),
        )
    if upto == "train":
        return Run(dataset, data, plan, opponents, train, pilot=pilot)

    guards = measure_guards(session, dataset, plan.plan, opponents, train)
    _tell(session, guard_lines(guards.guarded))

    if folds:
        verdict = judge_folds(session, dataset, plan.plan, folds, opponents, train, guards.evidence)
    else:
        verdict = reach_verdict(session, dataset, plan.plan, opponents, train, guards.evidence)
    told = (verdict.verdict, verdict.scorecards, verdict.forgetting)
    _tell(session, terminal.verdict_lines(*told, "all folds" if folds else "sealed test"))
    if verdict.crossfit is not None:
        _tell(session, fold_lines(verdict.crossfit, session.task.metric))
    if upto == "verdict":
        return Run(dataset, data, plan, opponents, train, verdict, guards=guards, pilot=pilot)

    summary = summarise(
        session, dataset, data, plan, opponents, train, verdict, guards, changes, pilot, data_curve, methods
    )
    write_summary(session, summary)
    if track_run(session, dataset, summary):
        session.say(f"recorded in {store_path(session)}")
    _tell(session, closing_lines(summary))
    _tell(session, terminal.report_line(session.folder.report))
    return Run(dataset, data, plan, opponents, train, verdict, summary, guards, pilot)


def _tell(session: Session, lines: RenderableType) -> None:
    session.console.print(lines)
