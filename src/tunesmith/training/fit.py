"""The training loop: LoRA by supervised learning, watched on validation, resumable to the bit."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import transformers
from torch import Tensor

from tunesmith.engine.forward import Batch, common_prefix, make_batch, summed_loss
from tunesmith.engine.full import masters_to_weights
from tunesmith.engine.lora import adapter_dropout, trainable_parameters
from tunesmith.engine.scoring import batches_by_length
from tunesmith.engine.selfcheck import LossFunction, choose_loss
from tunesmith.errors import UserError
from tunesmith.files import content_hash
from tunesmith.models.loading import LoadedModel
from tunesmith.models.rendering import Tokens
from tunesmith.progress import Report, silent
from tunesmith.records import TrainPoint, ValidationPoint
from tunesmith.task.settings import TrainSettings
from tunesmith.training.batches import epoch_batches
from tunesmith.training.checkpoints import Progress, State, load_checkpoint, save_checkpoint
from tunesmith.training.schedule import Schedule

STEPS_BETWEEN_CHECKPOINTS = 20

# Activations of about 0.7 MB a token (135M base) are held for the backward pass: longer batches are cut
# into parts whose gradients add up to the same step.
TOKENS_PER_MICRO_BATCH = 2048
ADAM_BETAS = (0.9, 0.999)
ADAM_EPSILON = 1e-8


@dataclass(frozen=True)
class Fit:
    """What a run of the loop leaves behind; the model then holds the best adapter.

    ``tokens_per_second`` counts tokens as rendered, without padding, in training steps alone.
    ``fast_paths`` names the exact shortcuts that were taken; ``message`` says why one was not.
    """

    train: tuple[TrainPoint, ...]
    validation: tuple[ValidationPoint, ...]
    best_step: int
    stopped_early: bool
    steps: int
    trained_tokens: int
    supervised_tokens: int
    seconds: float
    tokens_per_second: float
    fast_paths: tuple[str, ...]
    message: str | None


def fit(
    loaded: LoadedModel,
    train: Sequence[Tokens],
    validation: Sequence[Tokens],
    settings: TrainSettings,
    checkpoints: Path,
    report: Report = silent,
) -> Fit:
    """Train the adapter attached to ``loaded`` and leave it at the step with the lowest validation loss.

    The loss is the mean −log p over a batch's learned tokens, in nats. AdamW with linear warm-up and
    linear decay; training stops after ``settings.patience`` validations without improvement. Stopped by
    Ctrl-C it finishes the step, writes a checkpoint and raises KeyboardInterrupt; called again with the
    same arguments it goes on and ends with the weights of an uninterrupted run, bit for bit on the same
    machine with the same number of threads. Raises UserError when a loss is not finite, or when the
    checkpoints are those of another configuration.
    """
    parameters = trainable_parameters(loaded.model)
    optimiser = torch.optim.AdamW(
        parameters,
        lr=settings.learning_rate,
        betas=ADAM_BETAS,
        eps=ADAM_EPSILON,
        weight_decay=settings.weight_decay,
        fused=True,
    )
    schedule = Schedule(len(train), settings)
    shared = common_prefix(
        [row.ids for row in (*train, *validation)],
        [row.learn.index(True) for row in (*train, *validation)],
    )
    lengths = [len(row.ids) for row in train]
    validation_batches = [
        _batch(loaded, validation, chosen, shared)
        for chosen in batches_by_length([len(row.ids) for row in validation])
    ]
    config = _config(loaded, train, validation, settings)
    shortest = sorted(range(len(train)), key=lambda index: lengths[index])[:2]
    loss_of, message = choose_loss(loaded.model, _batch(loaded, train, shortest, shared))

    progress = Progress(config)
    best: list[Tensor] = []
    resumed = load_checkpoint(checkpoints, config, [tuple(parameter.shape) for parameter in parameters])
    if resumed is not None:
        progress, state = resumed
        _restore(optimiser, parameters, state, progress.step)
        masters_to_weights(loaded.model)
        best = state.best
    started = time.perf_counter() - progress.seconds
    epoch, batches = -1, list[list[int]]()
    with _interrupt_after_step() as interrupted:
        while progress.step < schedule.steps and not _out_of_patience(progress, settings.patience):
            if progress.step // schedule.steps_per_epoch != epoch:
                epoch = progress.step // schedule.steps_per_epoch
                batches = epoch_batches(lengths, settings.batch_size, settings.seed, epoch)
            chosen = batches[progress.step % schedule.steps_per_epoch]
            micro_batches = [
                _batch(loaded, train, [chosen[at] for at in part], shared)
                for part in batches_by_length([lengths[row] for row in chosen], TOKENS_PER_MICRO_BATCH)
            ]
            point = _step(
                loaded, loss_of, micro_batches, optimiser, parameters, schedule, progress.step, settings
            )
            tokens = sum(part.useful_tokens for part in micro_batches)
            supervised = sum(len(part.targets) for part in micro_batches)
            progress = replace(
                progress,
                step=point.step,
                train=(*progress.train, point),
                trained_tokens=progress.trained_tokens + tokens,
                supervised_tokens=progress.supervised_tokens + supervised,
                step_seconds=progress.step_seconds + tokens / point.tokens_per_second,
            )
            validates = point.step in schedule.validation_steps
            if validates:
                loss = _validation_loss(loaded, loss_of, validation_batches)
                _check_finite(point.step, f"validation loss is {loss}", settings, loss)
                seen = ValidationPoint(point.step, point.epoch, loss)
                progress = replace(progress, validation=(*progress.validation, seen))
                if progress.best_loss is None or loss < progress.best_loss:
                    progress = replace(progress, best_step=point.step, best_loss=loss)
                    best = [parameter.detach().clone() for parameter in parameters]
            progress = replace(progress, seconds=time.perf_counter() - started)
            stop = interrupted.is_set()
            if validates or stop or point.step % STEPS_BETWEEN_CHECKPOINTS == 0:
                save_checkpoint(checkpoints, progress, _state(optimiser, parameters, best))
            report(point.step, schedule.steps, _note(progress))
            if stop:
                raise KeyboardInterrupt
    with torch.no_grad():
        for parameter, value in zip(parameters, best, strict=True):
            parameter.copy_(value)
    masters_to_weights(loaded.model)
    return Fit(
        progress.train,
        progress.validation,
        progress.best_step,
        progress.step < schedule.steps,
        progress.step,
        progress.trained_tokens,
        progress.supervised_tokens,
        progress.seconds,
        progress.trained_tokens / progress.step_seconds,
        _fast_paths(loaded, loss_of, shared),
        message,
    )


def _step(
    loaded: LoadedModel,
    loss_of: LossFunction,
    micro_batches: Sequence[Batch],
    optimiser: torch.optim.Optimizer,
    parameters: Sequence[Tensor],
    schedule: Schedule,
    step: int,
    settings: TrainSettings,
) -> TrainPoint:
    started = time.perf_counter()
    learning_rate = schedule.learning_rate(step)
    for group in optimiser.param_groups:
        group["lr"] = learning_rate
    optimiser.zero_grad(set_to_none=True)
    targets = sum(len(batch.targets) for batch in micro_batches)
    value = 0.0
    with adapter_dropout(loaded.model, settings.seed, step):
        for batch in micro_batches:
            loss = loss_of(loaded.model, batch) / targets
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            value += float(loss.detach())
    norm = float(torch.nn.utils.clip_grad_norm_(parameters, settings.max_gradient_norm))
    _check_finite(step + 1, f"loss is {value} and the gradient norm {norm}", settings, value, norm)
    optimiser.step()
    masters_to_weights(loaded.model)
    seconds = time.perf_counter() - started
    return TrainPoint(
        step + 1,
        (step + 1) / schedule.steps_per_epoch,
        value,
        learning_rate,
        norm,
        sum(batch.useful_tokens for batch in micro_batches) / seconds,
    )


def _check_finite(step: int, found: str, settings: TrainSettings, *values: float) -> None:
    if not all(math.isfinite(value) for value in values):
        raise UserError(
            f"training stopped at step {step}: the {found}",
            fix=f"lower train.learning_rate (now {settings.learning_rate:g}) and run again",
        )


@torch.no_grad()
def _validation_loss(loaded: LoadedModel, loss_of: LossFunction, batches: Sequence[Batch]) -> float:
    """Mean −log p per learned token, in nats."""
    total = sum(float(loss_of(loaded.model, batch)) for batch in batches)
    return total / sum(len(batch.targets) for batch in batches)


def _batch(loaded: LoadedModel, rows: Sequence[Tokens], chosen: Sequence[int], shared: int) -> Batch:
    ids = [rows[index].ids for index in chosen]
    learn = [rows[index].learn for index in chosen]
    return make_batch(ids, learn, loaded.pad_token, shared)


def _config(
    loaded: LoadedModel, train: Sequence[Tokens], validation: Sequence[Tokens], settings: TrainSettings
) -> dict[str, str]:
    """All that decides the weights a run ends with, in words a person can compare."""
    named = {f"train.{name}": str(value) for name, value in settings.model_dump().items()}
    for name, rows in (("training rows", train), ("validation rows", validation)):
        named[name] = content_hash([[row.ids, row.learn] for row in rows])[:12]
    return named | {
        "base": loaded.base.sha256[:12],
        "precision": str(next(loaded.model.parameters()).dtype).removeprefix("torch."),
        "threads": str(torch.get_num_threads()),
        "attention": str(loaded.model.config._attn_implementation),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def _out_of_patience(progress: Progress, patience: int) -> bool:
    return sum(1 for point in progress.validation if point.step > progress.best_step) >= patience


def _note(progress: Progress) -> str:
    rate = progress.trained_tokens / progress.seconds
    validated = f" · val loss {progress.validation[-1].loss:.3f}" if progress.validation else ""
    return f"{rate:,.0f} tok/s · loss {progress.train[-1].loss:.3f}{validated}"


def _fast_paths(loaded: LoadedModel, loss_of: LossFunction, shared: int) -> tuple[str, ...]:
    if loss_of is not summed_loss:
        return ()
    prefix = (f"{shared} prefix tokens computed once a batch",) if shared else ()
    attention = f"{loaded.model.config._attn_implementation} attention"
    return (*prefix, "output head at supervised positions only", attention)


def _state(optimiser: torch.optim.Optimizer, parameters: Sequence[Tensor], best: list[Tensor]) -> State:
    states = [optimiser.state[parameter] for parameter in parameters]
    return State(
        list(parameters),
        [state["exp_avg"] for state in states],
        [state["exp_avg_sq"] for state in states],
        best,
    )


def _restore(optimiser: torch.optim.Optimizer, parameters: Sequence[Tensor], state: State, step: int) -> None:
    with torch.no_grad():
        for index, parameter in enumerate(parameters):
            parameter.copy_(state.parameters[index])
            optimiser.state[parameter] = {
                "step": torch.tensor(float(step)),
                "exp_avg": state.first_moments[index],
                "exp_avg_sq": state.second_moments[index],
            }


@contextmanager
def _interrupt_after_step() -> Iterator[threading.Event]:
    """Turn the first Ctrl-C into a flag read between steps; a second one stops at once."""
    flag = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield flag
        return
    before = signal.getsignal(signal.SIGINT)

    def on_interrupt(number: int, frame: object) -> None:
        flag.set()
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield flag
    finally:
        signal.signal(signal.SIGINT, before)
    if flag.is_set():  # pressed in the very last moment
        raise KeyboardInterrupt
