"""Stage 4: LoRA on the base, watched on validation; the best checkpoint becomes the tuned candidate."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from tunesmith.records import Cost, Dataset, FileHash, Plan, Scorecard, Training
from tunesmith.stages.memory import peak_mb, reset_peak
from tunesmith.stages.session import Session, machine, usable_cores
from tunesmith.workspace import adapter_folder, cached, checkpoints, stage_key

PACKAGES = (
    "tunesmith.engine",
    "tunesmith.models",
    "tunesmith.training",
    "tunesmith.candidates.tuned",
    "tunesmith.candidates.answers",
    "tunesmith.evaluation.scorecards",
    "tunesmith.stages.train",
    "tunesmith.records",
)

# Labels left out when validation is scored hold at most this share of the best one's probability.
CALIBRATION_MASS = 0.01


@dataclass(frozen=True)
class TrainResult:
    """How training went, and the tuned candidate on validation."""

    training: Training
    validation: Scorecard
    files: tuple[FileHash, ...]
    message: str | None
    seconds: float


def train_adapter(session: Session, dataset: Dataset, plan: Plan) -> TrainResult:
    """Train the task's adapter, or go on where an interrupted run stopped.

    Raises KeyboardInterrupt after a checkpoint when Ctrl-C was pressed; UserError when the loss is not
    finite.
    """
    task = session.task
    inputs = {
        "dataset": dataset.manifest.version,
        "instruction": task.instruction,
        "train": task.train.model_dump(),
        "base": session.base().sha256,
        "precision": plan.precision,
        "threads": usable_cores(),
        "processor": machine()["processor"],
    }
    folder = session.folder.stage("train", stage_key("train", inputs, PACKAGES))
    return cached(folder, TrainResult, lambda path: _train(session, dataset, plan, path))[0]


def _train(session: Session, dataset: Dataset, plan: Plan, folder: Path) -> TrainResult:
    import torch

    from tunesmith.candidates.tuned import (
        TunedModel,
        answer_tuned,
        fit_temperature,
        score_tuned,
        tuned_candidate,
    )
    from tunesmith.data.versions import read_split
    from tunesmith.engine.lora import attach_lora, lora_layers, lora_parameters
    from tunesmith.evaluation.scorecards import scorecard
    from tunesmith.files import file_sha256
    from tunesmith.models.adapters import save_adapter
    from tunesmith.models.rendering import check_rendering, instructed, render_row
    from tunesmith.training.fit import fit

    started = time.perf_counter()
    task, settings = session.task, session.task.train
    train, validation = read_split(dataset, "train"), read_split(dataset, "validation")
    # A copy of its own: an adapter that a stage before left behind must play no part.
    loaded = session.load_again(plan.precision)
    reset_peak()
    attach_lora(loaded.model, settings.rank, settings.alpha, settings.seed)
    rendered = [
        [render_row(loaded, instructed(task.instruction, row), row.target) for row in rows]
        for rows in (train, validation)
    ]
    check_rendering(loaded, rendered[0], train)
    with session.bar("train", f"{loaded.base.name}, LoRA r={settings.rank}") as report:
        fitted = fit(loaded, rendered[0], rendered[1], settings, checkpoints(folder), report)
    adapter = adapter_folder(folder)
    weights = {name: (layer.lora_a, layer.lora_b) for name, layer in lora_layers(loaded.model).items()}
    adapter_sha256 = save_adapter(
        adapter, weights, settings.rank, settings.alpha, loaded.base.name, loaded.base.sha256
    )
    trained_seconds = fitted.seconds

    labels = dataset.manifest.labels
    tuned = TunedModel(loaded, task.instruction, labels)
    scoring = time.perf_counter()
    with session.bar("train", "tuned model on validation") as report:
        scores = score_tuned(tuned, validation, CALIBRATION_MASS, report)
    candidate = tuned_candidate(
        tuned, adapter_sha256, fit_temperature(scores.log_probabilities, labels, validation)
    )
    answers = answer_tuned(candidate, labels, scores)
    cost = Cost(time.perf_counter() - scoring, len(validation), scores.tokens, peak_mb())
    card = scorecard(candidate, "validation", validation, answers, labels, cost)
    trainable = sum(parameter.numel() for parameter in lora_parameters(loaded.model))
    training = Training(
        train=fitted.train,
        validation=fitted.validation,
        best_step=fitted.best_step,
        stopped_early=fitted.stopped_early,
        steps=fitted.steps,
        trained_tokens=fitted.trained_tokens,
        supervised_tokens=fitted.supervised_tokens,
        trainable_parameters=trainable,
        total_parameters=sum(parameter.numel() for parameter in loaded.model.parameters()),
        tokens_per_second=fitted.tokens_per_second,
        precision=plan.precision,
        threads=torch.get_num_threads(),
        fast_paths=fitted.fast_paths,
        cost=Cost(trained_seconds, len(train), fitted.trained_tokens, peak_mb()),
        adapter_folder=str(adapter),
        adapter_sha256=adapter_sha256,
    )
    files = tuple(
        FileHash(f"adapter/{path.name}", file_sha256(path), path.stat().st_size)
        for path in sorted(adapter.iterdir())
    )
    # What was needed to go on is no longer needed, and is several times the adapter's size.
    shutil.rmtree(checkpoints(folder), ignore_errors=True)
    return TrainResult(training, card, files, fitted.message, time.perf_counter() - started)
