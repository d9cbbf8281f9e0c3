"""The training loop: LoRA by supervised learning, watched on validation, resumable to the bit."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from tunesmith.engine.forward import Batch, common_prefix, make_batch
from tunesmith.engine.lora import lora_parameters
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

STEPS_BETWEEN_CHECKPOINTS = 20

# Activations of about 0.7 MB a token (135M base) are held for the backward pass: longer batches are cut
# into parts whose gradients add up to the same step.
TOKENS_PER_MICRO_BATCH = 2048
ADAM_BETAS = (0.9, 0.999)
ADAM_EPSILON = 1e-8


@dataclass(frozen=True)
class Fit:
    """What a run of the loop leaves behind; the model then holds the best adapter."""

    train: tuple[TrainPoint, ...]
    validation: tuple[ValidationPoint, ...]
    best_step: int
    stopped_early: bool
    steps: int
    trained_tokens: int
    supervised_tokens: int
    seconds: float
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
    machine with the same number of threads. Raises UserError when the loss is not finite.
    """
    parameters = lora_parameters(loaded.model)
    optimiser = torch.optim.AdamW(
        parameters,
        lr=settings.learning_rate,
        betas=ADAM_BETAS,
        eps=ADAM_EPSILON,
        weight_decay=settings.weight_decay,
        fused=True,
    )
    schedule = _Schedule(len(train), settings)
    shared = _shared_prefix([*train, *validation])
    config = content_hash(
        [
            settings.model_dump(),
            loaded.base.sha256,
            str(next(loaded.model.parameters()).dtype),
            torch.get_num_threads(),
            content_hash([tokens.ids for tokens in train]),
            content_hash([tokens.ids for tokens in validation]),
        ]
    )
    lengths = [len(tokens.ids) for tokens in train]
    validation_batches = [
        _batch(loaded, validation, chosen, shared)
        for chosen in batches_by_length([len(tokens.ids) for tokens in validation])
    ]
    first_rows = sorted(range(len(train)), key=lambda index: lengths[index])[:2]
    loss_of, message = choose_loss(loaded.model, _batch(loaded, train, first_rows, shared))

    run = _Run(config)
    resumed = load_checkpoint(checkpoints, config)
    if resumed is not None:
        run = _Run.resume(resumed[0])
        _restore(optimiser, parameters, resumed[1], resumed[0].step)
        run.best = resumed[1].best
    started = time.perf_counter() - run.seconds
    stopped_early = run.out_of_patience(settings.patience)
    with _interrupt_after_step() as interrupted:
        while run.step < schedule.steps and not stopped_early:
            epoch, index = divmod(run.step, schedule.steps_per_epoch)
            chosen = epoch_batches(lengths, settings.batch_size, settings.seed, epoch)[index]
            micro_batches = [
                _batch(loaded, train, [chosen[at] for at in part], shared)
                for part in batches_by_length([lengths[row] for row in chosen], TOKENS_PER_MICRO_BATCH)
            ]
            point = _step(loaded, loss_of, micro_batches, optimiser, parameters, schedule, run.step, settings)
            run.step += 1
            run.train.append(point)
            run.trained_tokens += sum(batch.useful_tokens for batch in micro_batches)
            run.supervised_tokens += sum(len(batch.targets) for batch in micro_batches)
            if run.step in schedule.validation_steps:
                loss = _validation_loss(loaded, loss_of, validation_batches)
                run.note_validation(ValidationPoint(run.step, point.epoch, loss), parameters)
                stopped_early = run.out_of_patience(settings.patience) and run.step < schedule.steps
            run.seconds = time.perf_counter() - started
            if (
                run.step % STEPS_BETWEEN_CHECKPOINTS == 0
                or run.step in schedule.validation_steps
                or interrupted.is_set()
            ):
                save_checkpoint(checkpoints, run.progress(), _state(optimiser, parameters, run.best))
            report(run.step, schedule.steps, run.note())
            if interrupted.is_set():
                raise KeyboardInterrupt
    with torch.no_grad():
        for parameter, best in zip(parameters, run.best, strict=True):
            parameter.copy_(best)
    return Fit(
        tuple(run.train),
        tuple(run.validation),
        run.best_step,
        stopped_early,
        run.step,
        run.trained_tokens,
        run.supervised_tokens,
        run.seconds,
        message,
    )


def validation_loss(loaded: LoadedModel, loss_of: LossFunction, rows: Sequence[Tokens]) -> float:
    """Mean −log p per learned token over ``rows``, in nats."""
    shared = _shared_prefix(rows)
    chosen = batches_by_length([len(tokens.ids) for tokens in rows])
    return _validation_loss(loaded, loss_of, [_batch(loaded, rows, batch, shared) for batch in chosen])


class _Schedule:
    """Steps, learning rates and validation points, all known beforehand."""

    def __init__(self, rows: int, settings: TrainSettings) -> None:
        self.steps_per_epoch = math.ceil(rows / settings.batch_size)
        self.steps = max(1, round(self.steps_per_epoch * settings.epochs))
        self.warmup = max(1, round(self.steps * settings.warmup_share))
        self.peak = settings.learning_rate
        between = self.steps_per_epoch / settings.validations_per_epoch
        points = {round(between * count) for count in range(1, math.ceil(self.steps / between) + 1)}
        self.validation_steps = {min(max(point, 1), self.steps) for point in points} | {self.steps}

    def learning_rate(self, step: int) -> float:
        """Linear warm-up from 0, then linear decay towards 0 after the last step."""
        if step < self.warmup:
            return self.peak * (step + 1) / self.warmup
        return self.peak * (self.steps - step) / max(1, self.steps - self.warmup)


class _Run:
    """What changes while training, apart from tensors the optimiser owns."""

    def __init__(self, config: str) -> None:
        self.config = config
        self.step = 0
        self.train: list[TrainPoint] = []
        self.validation: list[ValidationPoint] = []
        self.best_step = 0
        self.best_loss: float | None = None
        self.best: list[Tensor] = []
        self.trained_tokens = 0
        self.supervised_tokens = 0
        self.seconds = 0.0

    @classmethod
    def resume(cls, progress: Progress) -> _Run:
        run = cls(progress.config)
        run.step = progress.step
        run.train, run.validation = list(progress.train), list(progress.validation)
        run.best_step, run.best_loss = progress.best_step, progress.best_loss
        run.trained_tokens, run.supervised_tokens = progress.trained_tokens, progress.supervised_tokens
        run.seconds = progress.seconds
        return run

    def progress(self) -> Progress:
        return Progress(
            self.config,
            self.step,
            tuple(self.train),
            tuple(self.validation),
            self.best_step,
            self.best_loss,
            self.trained_tokens,
            self.supervised_tokens,
            self.seconds,
        )

    def note_validation(self, point: ValidationPoint, parameters: Sequence[Tensor]) -> None:
        self.validation.append(point)
        if self.best_loss is None or point.loss < self.best_loss:
            self.best_loss, self.best_step = point.loss, point.step
            self.best = [parameter.detach().clone() for parameter in parameters]

    def out_of_patience(self, patience: int) -> bool:
        return sum(1 for point in self.validation if point.step > self.best_step) >= patience

    def note(self) -> str:
        rate = self.trained_tokens / max(self.seconds, 1e-9)
        validated = f" · val loss {self.validation[-1].loss:.3f}" if self.validation else ""
        return f"{rate:,.0f} tok/s · loss {self.train[-1].loss:.3f}{validated}"


def _step(
    loaded: LoadedModel,
    loss_of: LossFunction,
    micro_batches: Sequence[Batch],
    optimiser: torch.optim.Optimizer,
    parameters: Sequence[Tensor],
    schedule: _Schedule,
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
    for batch in micro_batches:
        loss = loss_of(loaded.model, batch) / targets
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        value += float(loss.detach())
    norm = float(torch.nn.utils.clip_grad_norm_(parameters, settings.max_gradient_norm))
    if not math.isfinite(value) or not math.isfinite(norm):
        raise UserError(
            f"training stopped at step {step + 1}: the loss is {value} and the gradient norm {norm}",
            fix=f"lower train.learning_rate (now {settings.learning_rate:g}); the last good checkpoint is kept",
        )
    optimiser.step()
    seconds = time.perf_counter() - started
    return TrainPoint(
        step + 1,
        (step + 1) / schedule.steps_per_epoch,
        value,
        learning_rate,
        norm,
        sum(batch.useful_tokens for batch in micro_batches) / seconds,
    )


@torch.no_grad()
def _validation_loss(loaded: LoadedModel, loss_of: LossFunction, batches: Sequence[Batch]) -> float:
    total = sum(float(loss_of(loaded.model, batch)) for batch in batches)
    return total / sum(len(batch.targets) for batch in batches)


def _batch(loaded: LoadedModel, rows: Sequence[Tokens], chosen: Sequence[int], shared: int) -> Batch:
    ids = [rows[index].ids for index in chosen]
    learn = [rows[index].learn for index in chosen]
    return make_batch(ids, learn, loaded.pad_token, shared)


def _shared_prefix(rows: Sequence[Tokens]) -> int:
    return common_prefix([tokens.ids for tokens in rows], [tokens.learn.index(True) for tokens in rows])


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
