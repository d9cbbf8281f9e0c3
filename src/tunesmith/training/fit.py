"""The training loop: supervised learning, watched on validation, resumable to the bit."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import transformers
from torch import Tensor

from tunesmith.engine.forward import Batch, summed_loss
from tunesmith.engine.full import masters_to_weights
from tunesmith.engine.lora import adapter_dropout, trainable_parameters
from tunesmith.engine.recompute import recomputing
from tunesmith.engine.selfcheck import LossFunction, choose_loss
from tunesmith.files import content_hash
from tunesmith.models.loading import LoadedModel
from tunesmith.models.rendering import Tokens
from tunesmith.progress import Report, silent
from tunesmith.run_records import TrainPoint, ValidationPoint
from tunesmith.task.train_settings import TrainSettings
from tunesmith.training.batches import (
    WHOLE_ROWS,
    Sharing,
    epoch_batches,
    mean_weight,
    sharing_of,
    two_short_rows,
)
from tunesmith.training.checkpoints import (
    Progress,
    State,
    load_checkpoint,
    save_checkpoint,
)
from tunesmith.training.guard import Guard
from tunesmith.training.interrupts import interrupt_after_step
from tunesmith.training.mixing import Mixture, mixed_batches
from tunesmith.training.optimisers import Penalties, make_optimiser, optimiser_state, restore_optimiser
from tunesmith.training.schedule import Schedule
from tunesmith.training.validation import Metric, Watch, per_example

STEPS_BETWEEN_CHECKPOINTS = 20

# Activations of about 0.7 MB a token (135M base) are held for the backward pass: longer batches are cut
# into parts whose gradients add up to the same step.
TOKENS_PER_MICRO_BATCH = 2048


@dataclass(frozen=True)
class Fit:
    """What a run of the loop leaves behind; the model then holds the best weights.

    ``tokens_per_second`` counts tokens as rendered, without padding, in training steps alone.
    ``validation_losses`` [validations][rows] and ``training_losses`` [validations][watched rows] are the
    sums of −log p over each row's learned tokens; ``watched_rows`` are the indices of those training rows.
    ``fast_paths`` names the exact shortcuts that were taken; ``message`` says why one was not.
    """

    train: tuple[TrainPoint, ...]
    validation: tuple[ValidationPoint, ...]
    validation_losses: tuple[tuple[float, ...], ...]
    training_losses: tuple[tuple[float, ...], ...]
    watched_rows: tuple[int, ...]
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
    sources: Sequence[str] | None = None,
    metric: Metric | None = None,
    general_text: Metric | None = None,
    micro_batch_tokens: int = TOKENS_PER_MICRO_BATCH,
    recompute: bool = False,
    mixture: Mixture | None = None,
) -> Fit:
    """Train ``loaded`` and leave it at its best step: lowest validation loss, or highest ``metric``.

    The loss is the mean −log p over a batch's learned tokens, in nats, smoothed and weighted as the settings
    and the rows' weights say; validation losses never are. Training stops after ``settings.patience``
    validations without improvement. Stopped by Ctrl-C it finishes the step, writes a checkpoint and raises
    KeyboardInterrupt; called again with the same arguments it goes on and ends with the weights of an
    uninterrupted run, bit for bit on the same machine with the same number of threads. ``sources`` name the
    training rows in messages; ``metric`` is measured at every validation, and needed by ``settings.best_by``,
    and so is the change of ``general_text``, which decides nothing. At most ``micro_batch_tokens`` (or one
    row) are held for the backward pass at once, and with ``recompute`` layers keep only their inputs: both as
    the memory plan says. With ``mixture`` ``train`` holds the rows of several tasks, and ``validation`` those
    of the first. Raises UserError when a loss or a weight is not finite, or when the checkpoints are those of
    another configuration.
    """
    if settings.best_by == "metric" and metric is None:
        raise ValueError("the best step by a metric needs the metric")
    parameters = trainable_parameters(loaded.model)
    optimiser = make_optimiser(parameters, settings)
    penalties = Penalties(loaded.model, parameters, settings)
    schedule = Schedule(len(train), settings)
    others = list(zip(mixture.names[1:], mixture.validation, strict=True)) if mixture is not None else []
    sharing = sharing_of(train, [*validation, *(row for _, rows in others for row in rows)], loaded.family)
    lengths = [len(row.ids) for row in train]
    weight = mean_weight(train, settings.loss_per)
    config = _config(loaded, train, validation, settings)
    config["micro-batch tokens"] = str(micro_batch_tokens)
    if mixture is not None:
        config["mixture"] = ", ".join(map(str, (*mixture.sizes, *mixture.shares)))
    checked = sharing.batch(train, two_short_rows(lengths, sharing), loaded.pad_token)
    with recomputing(loaded.model, recompute):
        loss_of, message = choose_loss(loaded.model, checked)
    # Other paths put every row through the model whole, so whole rows must be counted.
    read = sharing if loss_of is summed_loss else WHOLE_ROWS
    watch = Watch(train, validation, loaded.pad_token, read, metric, general_text, others)
    names = sources or [f"training row {index + 1}" for index in range(len(train))]

    progress, best = Progress(config), list[Tensor]()
    generator = torch.Generator().manual_seed(settings.seed).get_state()
    resumed = load_checkpoint(checkpoints, config, [tuple(parameter.shape) for parameter in parameters])
    if resumed is not None:
        progress, state = resumed
        with torch.no_grad():
            for parameter, value in zip(parameters, state.parameters, strict=True):
                parameter.copy_(value)
        restore_optimiser(optimiser, parameters, state.optimiser)
        masters_to_weights(loaded.model)
        best, generator = state.best, state.generator
        watch.validation_losses, watch.training_losses = state.validation_losses, state.training_losses
    started = time.perf_counter() - progress.seconds
    epoch, batches = -1, list[list[int]]()
    with torch.random.fork_rng(devices=[]), interrupt_after_step() as interrupted:
        torch.set_rng_state(generator)
        while progress.step < schedule.steps and not _out_of_patience(progress, settings.patience):
            if progress.step // schedule.steps_per_epoch != epoch:
                epoch = progress.step // schedule.steps_per_epoch
                rows_per_step = settings.batch_size * settings.accumulate
                if mixture is None:
                    batches = epoch_batches(lengths, rows_per_step, settings.seed, epoch, sharing.documents)
                else:
                    batches = mixed_batches(
                        mixture, lengths, rows_per_step, settings.seed, epoch, sharing.documents
                    )
            chosen = batches[progress.step % schedule.steps_per_epoch]
            parts = micro_batches_of(train, chosen, read, settings.batch_size, micro_batch_tokens)
            micro_batches = [read.batch(train, part, loaded.pad_token) for part in parts]
            guard = Guard(
                progress.step + 1, settings, checkpoints, [[names[row] for row in p] for p in parts]
            )
            with recomputing(loaded.model, recompute):
                point = _step(
                    loaded, loss_of, micro_batches, optimiser, penalties, parameters, schedule, guard, weight
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
                seen = watch.measure(loaded.model, loss_of, point)
                guard.check(f"validation loss is {seen.loss}", seen.loss)
                progress = replace(progress, validation=(*progress.validation, seen))
                if _is_better(seen, progress, settings):
                    score = None if seen.metric is None else seen.metric.value
                    progress = replace(progress, best_step=seen.step, best_loss=seen.loss, best_metric=score)
                    _keep(parameters, best)
            progress = replace(progress, seconds=time.perf_counter() - started)
            stop = interrupted.is_set()
            if validates or stop or point.step % STEPS_BETWEEN_CHECKPOINTS == 0:
                guard.check_weights(parameters)
                remembered = optimiser_state(optimiser, parameters)
                random = torch.get_rng_state()
                state = State(
                    list(parameters), remembered, best, random, watch.validation_losses, watch.training_losses
                )
                save_checkpoint(checkpoints, progress, state)
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
        tuple(map(tuple, watch.validation_losses.tolist())),
        tuple(map(tuple, watch.training_losses.tolist())),
        tuple(watch.training_rows),
        progress.best_step,
        progress.step < schedule.steps,
        progress.step,
        progress.trained_tokens,
        progress.supervised_tokens,
        progress.seconds,
        progress.trained_tokens / progress.step_seconds,
        _fast_paths(loaded, loss_of, sharing),
        message,
    )


@torch.no_grad()
def _keep(parameters: Sequence[Tensor], best: list[Tensor]) -> None:
    """Copy ``parameters`` over those in ``best``, in place: a second copy beside the first takes memory."""
    if not best:
        best += [parameter.detach().clone() for parameter in parameters]
        return
    for kept, parameter in zip(best, parameters, strict=True):
        kept.copy_(parameter)


def _step(
    loaded: LoadedModel,
    loss_of: LossFunction,
    micro_batches: Sequence[Batch],
    optimiser: torch.optim.Optimizer,
    penalties: Penalties,
    parameters: Sequence[Tensor],
    schedule: Schedule,
    guard: Guard,
    mean_weight: float,
) -> TrainPoint:
    started = time.perf_counter()
    settings = guard.settings
    step = guard.step - 1
    learning_rate = schedule.learning_rate(step)
    for group in optimiser.param_groups:
        group["lr"] = learning_rate
    optimiser.zero_grad(set_to_none=True)
    # One divisor for the whole step, so that its parts add up to what the whole would give.
    if settings.loss_per == "example":
        micro_batches = [replace(batch, weights=per_example(batch)) for batch in micro_batches]
        divisor = mean_weight * sum(len(batch.suffixes) for batch in micro_batches)
    else:
        divisor = mean_weight * sum(len(batch.targets) for batch in micro_batches)
    value = 0.0
    with adapter_dropout(loaded.model, settings.seed, step):
        for number, batch in enumerate(micro_batches):
            loss = loss_of(loaded.model, batch, settings.label_smoothing) / divisor
            part = float(loss.detach())
            guard.check(f"loss is {part}", part, part=number)
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            value += part
    penalties.add_gradients()
    norm = float(torch.nn.utils.clip_grad_norm_(parameters, settings.max_gradient_norm))
    guard.check(f"loss is {value} and the gradient norm {norm}", value, norm)
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


def micro_batches_of(
    train: Sequence[Tokens], chosen: Sequence[int], sharing: Sharing, batch_size: int, tokens: int
) -> list[list[int]]:
    """The rows of one step in parts small enough to be held for the backward pass."""
    return [
        part[start : start + batch_size]
        for part in sharing.parts(train, chosen, tokens)
        for start in range(0, len(part), batch_size)
    ]


def _is_better(seen: ValidationPoint, progress: Progress, settings: TrainSettings) -> bool:
    if progress.best_loss is None:
        return True
    if settings.best_by == "metric" and seen.metric is not None and seen.metric.value != progress.best_metric:
        assert progress.best_metric is not None
        return seen.metric.value > progress.best_metric
    return seen.loss < progress.best_loss


def _config(
    loaded: LoadedModel, train: Sequence[Tokens], validation: Sequence[Tokens], settings: TrainSettings
) -> dict[str, str]:
    """All that decides the weights a run ends with, in words a person can compare."""
    named = {f"train.{name}": str(value) for name, value in settings.model_dump().items()}
    for name, rows in (("training rows", train), ("validation rows", validation)):
        named[name] = content_hash([[row.ids, row.learn] for row in rows])[:12]
    if any(row.weight != 1 for row in train):
        named["weights of rows"] = content_hash([row.weight for row in train])[:12]
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


def _fast_paths(loaded: LoadedModel, loss_of: LossFunction, sharing: Sharing) -> tuple[str, ...]:
    if loss_of is not summed_loss:
        return ()
    prefix: tuple[str, ...] = ()
    if sharing.prefix:
        prefix = (f"{sharing.prefix} prefix tokens computed once a batch",)
    if sharing.documents is not None:
        documents = len(set(sharing.documents))
        prefix += (f"what rows of one document share computed once ({documents:,} documents)",)
    attention = f"{loaded.model.config._attn_implementation} attention"
    return (*prefix, "output head at supervised positions only", attention)
