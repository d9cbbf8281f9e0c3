"""Stage 6: everything a report shows, gathered into one record, and the report itself."""

from __future__ import annotations

from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version

from tunesmith.curve_records import DataCurve
from tunesmith.files import file_sha256, read_record, write_json
from tunesmith.method_records import MethodComparison
from tunesmith.records import Dataset, FileHash, Scorecard
from tunesmith.run_records import Interference, PilotPower, RunSummary
from tunesmith.stages.answering import judging_of
from tunesmith.stages.crossfit import gains_by_finalist
from tunesmith.stages.data import DataResult
from tunesmith.stages.data_care import care_of_data
from tunesmith.stages.guards import GuardsResult
from tunesmith.stages.opponents import OpponentsResult
from tunesmith.stages.people import with_people
from tunesmith.stages.plan import PlanResult
from tunesmith.stages.session import Session, machine
from tunesmith.stages.train import TrainResult
from tunesmith.stages.verdict import VerdictResult
from tunesmith.stages.version_story import story_of_version

REPORTED_PACKAGES = (
    "tunesmith",
    "torch",
    "transformers",
    "tokenizers",
    "safetensors",
    "scikit-learn",
    "scipy",
    "numpy",
    "pyarrow",
)

# The ways of tuning that a decision table is expected to compare.
TUNING_METHODS = {"lora": "LoRA", "qlora": "QLoRA", "full": "full fine-tuning"}


def summarise(
    session: Session,
    dataset: Dataset,
    data: DataResult,
    plan: PlanResult,
    opponents: OpponentsResult,
    train: TrainResult,
    verdict: VerdictResult,
    guards: GuardsResult,
    interference: tuple[Interference, ...] = (),
    pilot: PilotPower | None = None,
    data_curve: DataCurve | None = None,
    methods: MethodComparison | None = None,
) -> RunSummary:
    """Gather the run; the date is that of the first time this very result was gathered."""
    from tunesmith.data.versions import read_split
    from tunesmith.evaluation.costs import decision_table
    from tunesmith.evaluation.judging import label_scores, questions
    from tunesmith.evaluation.scorecards import confusions, duels, text_duels

    task = session.task
    judging = judging_of(task, dataset.manifest.labels)
    asked = questions(judging, read_split(dataset, "validation"))
    best = _best_opponent(opponents, judging.metric, judging.sign)
    labelled = task.kind == "classify"
    wins, losses = (
        duels(asked.rows, train.validation, best) if labelled else text_duels(asked, train.validation, best)
    )
    folds = verdict.crossfit.folds if verdict.crossfit else ()
    gains = gains_by_finalist(verdict.verdict.gains, opponents) if folds else verdict.verdict.gains
    costs = decision_table(
        opponents.scorecards,
        train.validation,
        train.training,
        guards.evidence.latencies,
        gains,
        verdict.forgetting,
        guards.guarded.gap,
        task.cost,
        _not_run(task.train.method, methods),
        "accuracy" if labelled else judging.metric,
    )
    base = session.base()
    summary = RunSummary(
        task=task.name,
        description=task.description,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        manifest=dataset.manifest,
        plan=plan.plan,
        opponents=opponents.scorecards,
        finalists=opponents.finalists,
        training=train.training,
        tuned_validation=train.validation,
        test_scorecards=verdict.scorecards,
        verdict=verdict.verdict,
        forgetting=verdict.forgetting,
        confusions=confusions(asked.rows, train.validation) if labelled else (),
        wins=wins,
        losses=losses,
        stage_seconds={
            "data": data.seconds,
            "plan": plan.seconds,
            "opponents": opponents.seconds + sum(fold.opponents_seconds for fold in folds),
            "train": train.seconds + sum(fold.train_seconds for fold in folds),
            "guards": guards.seconds,
            "verdict": verdict.seconds,
        },
        versions=_versions(),
        machine=machine(),
        files=(
            *train.files,
            FileHash(
                f"base {base.name}: weights, tokenizer and configuration", base.sha256, _size_bytes(session)
            ),
            FileHash(
                "task.yaml", file_sha256(session.folder.task_file), session.folder.task_file.stat().st_size
            ),
        ),
        interference=interference,
        base_licence=f"{base.licence}: {base.origin}",
        guarded=guards.guarded,
        test_slices=verdict.slices,
        costs=costs,
        notes=(*data.notes, *(message for message in (opponents.message, train.message) if message)),
        kind=task.kind,
        pilot=pilot,
        data_care=care_of_data(session, dataset),
        label_scores=label_scores(judging, asked, _answers(train.validation)) if task.kind == "tag" else (),
        crossfit=verdict.crossfit,
        data_curve=data_curve,
        version_story=story_of_version(session, dataset),
        methods=methods,
    )
    return _dated(session, with_people(task, session.folder, summary))


def write_summary(session: Session, summary: RunSummary) -> None:
    """Write ``report.html`` and then ``summary.json``; nothing is written when nothing has changed."""
    from tunesmith.report.page import write_report

    if session.folder.report.is_file() and _stored(session) == summary:
        return
    write_report(summary, session.folder.report)
    write_json(session.folder.summary, summary)


def _dated(session: Session, summary: RunSummary) -> RunSummary:
    from dataclasses import replace

    stored = _stored(session)
    if stored is not None and replace(summary, created=stored.created) == stored:
        return stored
    return summary


def _stored(session: Session) -> RunSummary | None:
    if not session.folder.summary.is_file():
        return None
    try:
        return read_record(session.folder.summary, RunSummary)
    except ValueError:  # of another version of Tunesmith
        return None


def _answers(card: Scorecard) -> list[str]:
    return [prediction.answer for prediction in card.predictions]


def _best_opponent(opponents: OpponentsResult, metric: str, sign: int) -> Scorecard:
    scored = [card for card in opponents.scorecards if card.stopped_after_rows is None]
    return max(scored, key=lambda card: sign * card.metrics[metric].value)


def _versions() -> dict[str, str]:
    found = {}
    for package in REPORTED_PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _not_run(method: str, methods: MethodComparison | None) -> list[str]:
    """The ways of tuning that were not measured, as train.compare_methods names them."""
    ran = {method, *(line.method for line in methods.lines)} if methods else {method}
    return [f"{title} ({name})" for name, title in TUNING_METHODS.items() if name not in ran]


def _size_bytes(session: Session) -> int:
    from pathlib import Path

    return sum(path.stat().st_size for path in Path(session.base().folder).glob("*.safetensors"))
