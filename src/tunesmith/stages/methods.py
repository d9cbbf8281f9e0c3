"""Other methods beside the chosen one (train.compare_methods): the same training by each, on validation.

The sealed test is opened for the chosen method alone, and nothing here reaches it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from tunesmith.errors import UserError
from tunesmith.guard_records import Latency
from tunesmith.method_records import MethodComparison, MethodLine
from tunesmith.plan_records import PlannedMethod
from tunesmith.records import Dataset, Estimate, PairedGain, Plan, Scorecard
from tunesmith.stages.answering import judging_identity, judging_of
from tunesmith.stages.asking import asker, drawn, latency
from tunesmith.stages.guards import TIMED_ROWS
from tunesmith.stages.seeds import with_seed
from tunesmith.stages.session import Session, machine
from tunesmith.stages.text_guards import TIMED_ROWS as TIMED_TEXTS
from tunesmith.stages.train import TrainResult, train_adapter
from tunesmith.task.compared_methods import compared_settings
from tunesmith.task.train_settings import TrainSettings
from tunesmith.workspace import cached, stage_key

PACKAGES = (
    "tunesmith.candidates",
    "tunesmith.engine",
    "tunesmith.evaluation",
    "tunesmith.models",
    "tunesmith.stats",
    "tunesmith.stages.answerers",
    "tunesmith.stages.asking",
    "tunesmith.stages.general",
    "tunesmith.stages.methods",
    "tunesmith.guard_records",
    "tunesmith.records",
)
ALPHA = 0.025  # gains are told with two-sided 95 % intervals


@dataclass(frozen=True)
class MethodMeasured:
    """What a trained model takes and has forgotten, beside its scorecard."""

    latency: Latency
    forgetting: Estimate | None


def check_methods(session: Session) -> None:
    """Raises UserError, before any work is done, where a method to compare cannot run here."""
    from tunesmith.models.quantised import check_bitsandbytes

    named = session.task.train.compare_methods
    if "qlora" not in named:
        return
    fix = "leave qlora out of train.compare_methods"
    try:
        check_bitsandbytes()
    except UserError as error:
        what = "train.compare_methods: qlora needs bitsandbytes, which is not installed"
        raise UserError(what, f'pip install "tunesmith[qlora]", or {fix}') from error
    from tunesmith.models.tokenizing import base_family

    if base_family(session.base()) == "encoder":
        raise UserError(
            f"train.compare_methods: qlora is not for {session.base().name}, an encoder-only classifier",
            f"{fix} (such bases are small)",
        )


def compare_methods(
    session: Session, dataset: Dataset, plan: Plan, train: TrainResult
) -> MethodComparison | None:
    """Train by each other method with the rows, seed and epochs of ``train``; None where none is named.

    Each training is kept and resumed by itself, and is the one that a task with that method would make.
    Errors as in ``train_adapter``.
    """
    settings, seeds = session.task.train, train.training.seeds
    seed = settings.seed if seeds is None else seeds.chosen
    others = compared_settings(settings, seed)
    if not others:
        return None
    own = with_seed(session, seed)
    chosen = train if seeds is None else train_adapter(own, dataset, plan)
    lines = [_line(own, dataset, plan, chosen, None)]
    planned = {method.method: method for method in plan.methods}
    for other in others:
        session.release()
        beside = _with_settings(session, other)
        fitted = _fitted(plan, planned.get(other.method))
        result = train_adapter(beside, dataset, fitted)
        lines.append(_line(beside, dataset, fitted, result, chosen.validation))
    metric = judging_of(session.task, dataset.manifest.labels).metric
    return MethodComparison(metric, seed, len(seeds.runs) if seeds else 1, settings.epochs, tuple(lines))


def _with_settings(session: Session, settings: TrainSettings) -> Session:
    return session.beside(session.task.model_copy(update={"train": settings}), session.folder)


def _fitted(plan: Plan, method: PlannedMethod | None) -> Plan:
    """The plan with what makes this method fit the memory."""
    if method is None:
        return plan
    return replace(plan, micro_batch_tokens=method.micro_batch_tokens, recompute=method.recompute)


def _line(
    session: Session, dataset: Dataset, plan: Plan, result: TrainResult, chosen: Scorecard | None
) -> MethodLine:
    """``session`` is the one that trained ``result``; ``chosen`` the card it is compared with."""
    from tunesmith.stats.intervals import mean_interval

    measured = _measured(session, dataset, plan, result)
    training, settings = result.training, session.task.train
    seconds = mean_interval(measured.latency.seconds, measured.latency.groups)
    judging = judging_of(session.task, dataset.manifest.labels)
    return MethodLine(
        method=settings.method,
        name=result.validation.candidate.name,
        chosen=chosen is None,
        learning_rate=settings.learning_rate,
        trainable_parameters=training.trainable_parameters,
        steps=training.steps,
        best_step=training.best_step,
        train_seconds=training.cost.seconds,
        memory_mb=training.cost.peak_memory_mb,
        latency=replace(seconds, low=max(0.0, seconds.low)),
        score=result.validation.metrics[judging.metric],
        gain=None if chosen is None else _gain(session, dataset, result.validation, chosen),
        forgetting=measured.forgetting,
        loss_gap=training.loss_gap,
        adapter_sha256=training.adapter_sha256,
    )


def _gain(session: Session, dataset: Dataset, card: Scorecard, chosen: Scorecard) -> PairedGain:
    from tunesmith.data.versions import read_split
    from tunesmith.evaluation.judging import goal_gain, questions

    judging = judging_of(session.task, dataset.manifest.labels)
    asked = questions(judging, read_split(dataset, "validation"))
    own, other = ([each.answer for each in one.predictions] for one in (card, chosen))
    return goal_gain(judging, asked, own, other, chosen.candidate.name, ALPHA)


def _measured(session: Session, dataset: Dataset, plan: Plan, result: TrainResult) -> MethodMeasured:
    inputs = {
        "dataset": dataset.manifest.version,
        "instruction": session.task.instruction,
        "tuned": result.validation.candidate,
        "judging": judging_identity(session.task),
        "base": session.base().sha256,
        "precision": plan.precision,
        "machine": machine(),
    }
    folder = session.folder.stage("method", stage_key("method", inputs, PACKAGES))
    return cached(folder, MethodMeasured, lambda _: _measure(session, dataset, plan, result))[0]


def _measure(session: Session, dataset: Dataset, plan: Plan, result: TrainResult) -> MethodMeasured:
    from tunesmith.data.versions import read_split

    labelled = session.task.kind == "classify"
    candidate = result.validation.candidate
    ask = asker(session, dataset, plan, result.training, candidate)
    timed = drawn(read_split(dataset, "validation"), TIMED_ROWS if labelled else TIMED_TEXTS)
    measured = MethodMeasured(latency(candidate, ask, timed), _forgetting(session, plan, result))
    session.release()  # the next method is trained in the memory that this one leaves
    return measured


def _forgetting(session: Session, plan: Plan, result: TrainResult) -> Estimate | None:
    """The change in bits per byte of general text; None where the base gives no likelihood of text."""
    from tunesmith.candidates.tuned import put_adapter
    from tunesmith.engine.lora import lora_disabled
    from tunesmith.evaluation.forgetting import all_text_change
    from tunesmith.stages.general import base_general_scores, tuned_text_bits

    loaded = session.loaded(plan.precision)
    if loaded.family != "decoder":
        return None
    name = result.validation.candidate.name
    tuned = put_adapter(loaded, Path(result.training.adapter_folder))
    with session.bar("train", "general texts by the base") as report, lora_disabled(loaded.model):
        base = base_general_scores(loaded, plan.precision, session.cache, report)
    with session.bar("train", f"general texts by {name}") as report:
        return all_text_change(base, tuned_text_bits(tuned, base, report))
