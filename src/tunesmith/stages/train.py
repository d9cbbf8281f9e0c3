"""Stage 4: the base is tuned, watched on validation; the best checkpoint becomes the tuned candidate."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tunesmith.data.portions import QUARTERS, first_quarters
from tunesmith.errors import UserError
from tunesmith.files import file_sha256, read_record
from tunesmith.records import Cost, Dataset, FileHash, Plan, Row, Scorecard
from tunesmith.run_records import Agreement, TaskPart, Training
from tunesmith.stages.answering import (
    cutting_of,
    judging_identity,
    judging_of,
    tuned_text_card,
    watched_text_metric,
    writing_of,
)
from tunesmith.stages.label_training import tuned_label_card, watched_label_metric
from tunesmith.stages.memory import give_back, held_mb, start_measuring
from tunesmith.stages.passages import documents_sha256, library_of
from tunesmith.stages.session import Session, machine, usable_cores
from tunesmith.stages.together import gather, other_datasets, score_parts
from tunesmith.stats.watch import WatchedLosses, judge_course, loss_gap
from tunesmith.workspace import RESULT, adapter_folder, cached, checkpoints, model_folder, stage_key

if TYPE_CHECKING:  # torch takes seconds to import
    from tunesmith.models.loading import LoadedModel
    from tunesmith.models.rendering import Tokens
    from tunesmith.training.fit import Fit
    from tunesmith.training.long_rows import TrainingRows

PACKAGES = (
    "tunesmith.engine",
    "tunesmith.models",
    "tunesmith.training",
    "tunesmith.candidates.tuned",
    "tunesmith.candidates.calibration",
    "tunesmith.candidates.scope",
    "tunesmith.candidates.tuned_prompts",
    "tunesmith.candidates.forms",
    "tunesmith.candidates.shown",
    "tunesmith.candidates.retrieval",
    "tunesmith.candidates.answers",
    "tunesmith.evaluation.memorisation",
    "tunesmith.evaluation.metrics",
    "tunesmith.evaluation.scorecards",
    "tunesmith.evaluation.judging",
    "tunesmith.candidates.texts",
    "tunesmith.data.made",
    "tunesmith.data.portions",
    "tunesmith.data.windowed",
    "tunesmith.data.windows",
    "tunesmith.data.questions",
    "tunesmith.task.kinds",
    "tunesmith.stats",
    "tunesmith.stages.answering",
    "tunesmith.stages.general",
    "tunesmith.stages.label_training",
    "tunesmith.stages.together",
    "tunesmith.stages.train",
    "tunesmith.records",
    "tunesmith.run_records",
)

# Settings of what is trained beside the task's own model; they decide nothing about it.
BESIDE = {"learning_curve", "compare_methods", "compare_learning_rates"}
# Rows on which our log-probabilities are compared with those of what was saved.
COMPARED_ROWS = 8


@dataclass(frozen=True)
class TrainResult:
    """How training went, and the tuned candidate on validation; ``together``: of each of several tasks."""

    training: Training
    validation: Scorecard
    files: tuple[FileHash, ...]
    message: str | None
    seconds: float
    together: tuple[TaskPart, ...] = ()


def check_training(session: Session) -> None:
    """What can be known to be wrong before any work is done.

    Raises UserError where bitsandbytes or the device is missing, ``train.start_from`` holds no adapter for
    this base, or one of ``train.add_tokens`` is a token already.
    """
    settings = session.task.train
    if settings.device != "cpu":
        from tunesmith.engine.devices import find_device

        find_device(settings.device)
    if settings.method == "qlora":
        from tunesmith.models.quantised import check_bitsandbytes

        check_bitsandbytes()
    if settings.add_tokens:
        from tunesmith.models.tokenizing import add_tokens, load_tokenizer

        add_tokens(load_tokenizer(session.base()), settings.add_tokens)
    if settings.start_from is not None:
        from tunesmith.models.adapters import load_adapter

        folder = session.task.resolve(settings.start_from)
        if not folder.is_dir():
            raise UserError(
                f"train.start_from: there is no folder {folder}",
                fix="give the folder of an adapter; a relative path starts at the folder of the task file",
            )
        load_adapter(folder, session.base().sha256)


def train_adapter(session: Session, dataset: Dataset, plan: Plan, quarters: int = QUARTERS) -> TrainResult:
    """Train the task's adapter, on so many quarters of its rows, or go on where an interrupted run stopped.

    Raises KeyboardInterrupt after a checkpoint when Ctrl-C was pressed; UserError when the loss is not
    finite.
    """
    folder = _stage_folder(session, dataset, plan, quarters)
    result = cached(folder, TrainResult, lambda path: _train(session, dataset, plan, path, quarters))[0]
    return _as_it_lies(session, result)


def _as_it_lies(session: Session, result: TrainResult) -> TrainResult:
    lies = session.folder.trained(result.training.adapter_folder)
    return replace(result, training=replace(result.training, adapter_folder=str(lies)))


def stored_training(session: Session, dataset: Dataset, plan: Plan) -> TrainResult | None:
    """What :func:`train_adapter` would find done; None where it would have to train."""
    result = _stage_folder(session, dataset, plan) / RESULT
    try:
        return _as_it_lies(session, read_record(result, TrainResult)) if result.is_file() else None
    except ValueError:  # half a file, or of another version
        return None


def _stage_folder(session: Session, dataset: Dataset, plan: Plan, quarters: int = QUARTERS) -> Path:
    task = session.task
    inputs = {
        "dataset": dataset.manifest.version,
        "instruction": task.instruction,
        "train": task.train.model_dump(exclude=BESIDE),
        "also": [(other.task.instruction, data.manifest.version) for other, data in other_datasets(session)],
        "judging": judging_identity(task),
        "passages": [task.opponents.retrieval.model_dump(), documents_sha256(task)]
        if task.opponents.retrieval.with_tuned
        else None,
        "planted": task.guards.canaries,
        "forgetting_curve": task.guards.forgetting_curve,
        "start": _start_sha256(session),
        "base": session.base().sha256,
        "precision": plan.precision,
        "micro_batch_tokens": plan.micro_batch_tokens,
        "threads": usable_cores(),
        "processor": machine()["processor"],
    }
    if quarters < QUARTERS:
        inputs["quarters"] = quarters
    return session.folder.stage("train", stage_key("train", inputs, PACKAGES))


def _start_sha256(session: Session) -> str | None:
    start = session.task.train.start_from
    if start is None:
        return None
    from tunesmith.models.adapters import WEIGHTS_FILE

    return file_sha256(session.task.resolve(start) / WEIGHTS_FILE)


def _train(session: Session, dataset: Dataset, plan: Plan, folder: Path, quarters: int) -> TrainResult:
    import torch

    from tunesmith.candidates.tuned import TunedModel
    from tunesmith.data.versions import read_split
    from tunesmith.data.windowed import in_windows
    from tunesmith.engine.adapters import continue_from, make_trainable
    from tunesmith.engine.added_tokens import grow
    from tunesmith.engine.classifier_head import with_head
    from tunesmith.engine.devices import find_device
    from tunesmith.engine.lora import trained_weights
    from tunesmith.evaluation.judging import learned_rows, questions, taught_rows
    from tunesmith.evaluation.memorisation import planted_rows
    from tunesmith.models.adapters import METHOD_TITLES
    from tunesmith.models.rendering import check_rendering, instructed, render_row
    from tunesmith.stages.general import general_text_change
    from tunesmith.training.fit import fit
    from tunesmith.training.long_rows import training_rows

    started = time.perf_counter()
    task, settings = session.task, session.task.train
    judging = judging_of(task, dataset.manifest.labels)
    train = taught_rows(judging, read_split(dataset, "train"))
    if quarters < QUARTERS:
        train = first_quarters(train, quarters, settings.seed, task.kind == "classify")
    validation = learned_rows(judging, read_split(dataset, "validation"))
    cutting = cutting_of(task)
    watched = in_windows(taught_rows(judging, validation), cutting).rows
    # A copy of its own: an adapter that a stage before left behind must play no part.
    session.release()
    give_back()  # what earlier stages held is no memory of this training
    loaded = with_head(session.load_again(plan.precision), judging.labels, settings.seed)
    loaded = grow(loaded, settings.add_tokens or ())
    device = find_device(settings.device)
    start_measuring(device)
    make_trainable(loaded.model, settings, loaded.head, len(loaded.tokenizer))
    if settings.start_from is not None:
        continue_from(loaded.model, task.resolve(settings.start_from), loaded.base.sha256, settings)
    # What is shown to the model, and how long its answers may be, is of the task's own rows.
    learned = [*train, *planted_rows(task.guards.canaries)]
    trained_on = training_rows(loaded, task.instruction, learned, settings, cutting)
    check_rendering(loaded, trained_on.tokens, trained_on.rows)
    gathered = gather(loaded, session, dataset, trained_on)
    trained_on = gathered.trained_on
    validated = [render_row(loaded, instructed(task.instruction, row), row.target) for row in watched]
    asked = questions(judging, validation)
    tuned = TunedModel(loaded, task.instruction, judging.labels, cutting=cutting)
    writing = None if task.kind == "classify" else writing_of(session, loaded, judging, train)
    metric = None
    if settings.watch_metric and writing is None:
        metric = watched_label_metric(tuned, judging, asked)
    elif settings.watch_metric and writing is not None:
        metric = watched_text_metric(writing, judging, asked)
    title = METHOD_TITLES[settings.method]
    if settings.method != "full":
        title += f" r={settings.rank}"
    if quarters < QUARTERS:
        title += f", {quarters / QUARTERS:.0%} of the rows"
    with session.bar("train", f"{loaded.base.name}, {title}") as report:
        fitted = fit(
            loaded,
            trained_on.tokens,
            validated,
            settings,
            checkpoints(folder),
            report,
            [row.source for row in trained_on.rows],
            metric,
            general_text_change(loaded) if task.guards.forgetting_curve and quarters == QUARTERS else None,
            plan.micro_batch_tokens,
            plan.recompute,
            gathered.mixture,
        )
    every = max(1, len(watched) // COMPARED_ROWS)
    trained, adapter_sha256, agreement = _save(
        loaded, folder, validated[::every][:COMPARED_ROWS], settings.add_tokens or ()
    )
    # Before the model is asked anything, which measures anew.
    trained_cost = Cost(fitted.seconds, len(trained_on.rows), fitted.trained_tokens, held_mb(device))
    validation_losses, training_losses = _watched_losses(fitted, trained_on, watched, validated)

    cards = []
    retrieval = task.opponents.retrieval
    for passages in (0, *(retrieval.k if retrieval.with_tuned else ())):
        if writing is None:
            library = library_of(task, train) if passages else None
            shown = replace(tuned, passages=passages, library=library)
            cards.append(tuned_label_card(session, shown, judging, asked, adapter_sha256))
        else:
            cards.append(tuned_text_card(session, writing, judging, asked, adapter_sha256, passages))
    # On a tie without passages, which is cheaper.
    card = max(cards, key=lambda one: judging.sign * one.metrics[judging.metric].value)
    together = score_parts(loaded, session, gathered, card)
    trainable = sum(parameter.numel() for parameter in trained_weights(loaded.model))
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
        cost=trained_cost,
        adapter_folder=str(trained),
        adapter_sha256=adapter_sha256,
        long_rows=trained_on.long,
        course=judge_course([point.step for point in fitted.validation], validation_losses, training_losses),
        agreement=agreement,
        loss_gap=loss_gap(validation_losses, training_losses, _best_place(fitted)),
    )
    files = tuple(
        FileHash(f"{trained.name}/{path.name}", file_sha256(path), path.stat().st_size)
        for path in sorted(trained.iterdir())
    )
    # What was needed to go on is no longer needed, and is several times the adapter's size.
    shutil.rmtree(checkpoints(folder), ignore_errors=True)
    return TrainResult(training, card, files, fitted.message, time.perf_counter() - started, together)


def _watched_losses(
    fitted: Fit, trained_on: TrainingRows, validation: Sequence[Row], validated: Sequence[Tokens]
) -> tuple[WatchedLosses, WatchedLosses]:
    """Those of the validation rows, and of the training rows that were watched."""
    watched = fitted.watched_rows
    return (
        WatchedLosses(
            fitted.validation_losses,
            [sum(row.learn) for row in validated],
            [row.group for row in validation],
        ),
        WatchedLosses(
            fitted.training_losses,
            [sum(trained_on.tokens[row].learn) for row in watched],
            [trained_on.rows[row].group for row in watched],
        ),
    )


def _best_place(fitted: Fit) -> int:
    """Which validation the kept checkpoint was scored at."""
    return next(place for place, point in enumerate(fitted.validation) if point.step == fitted.best_step)


def _save(
    loaded: LoadedModel, folder: Path, rows: Sequence[Tokens], added: Sequence[str]
) -> tuple[Path, str, Agreement]:
    """Write what was trained; where it lies, the hash of its weights, and how it reads back on ``rows``."""
    import torch

    from tunesmith.engine.adapters import read_adapter
    from tunesmith.engine.agreement import adapter_agreement, model_agreement
    from tunesmith.engine.full import master_weights
    from tunesmith.models.adapters import save_adapter
    from tunesmith.models.loading import load_base
    from tunesmith.models.merging import save_model

    masters = master_weights(loaded.model)
    if not masters:
        path = adapter_folder(folder)
        adapter = replace(read_adapter(loaded.model), added_tokens=tuple(added))  # not those of the base
        sha256 = save_adapter(path, adapter, loaded.base.name, loaded.base.sha256)
        if adapter.added_tokens:  # whoever loads the adapter needs them
            loaded.tokenizer.save_pretrained(path)
        return path, sha256, adapter_agreement(loaded, path, rows)
    path = model_folder(folder)
    shutil.rmtree(path, ignore_errors=True)  # of a run that was stopped right after saving it
    sha256 = save_model(loaded, dict(masters), path, torch.float32, "full")
    saved = load_base(replace(loaded.base, folder=str(path)), next(loaded.model.parameters()).dtype, "eager")
    return path, sha256, model_agreement(loaded, saved.model, rows)
