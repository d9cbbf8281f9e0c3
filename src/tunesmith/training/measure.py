"""How fast this machine trains and validates these rows: a few steps, timed and thrown away."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from tunesmith.engine.devices import device_of
from tunesmith.engine.forward import plain_summed_loss, sharing_saves_little, summed_loss
from tunesmith.engine.lora import adapter_dropout, trained_weights
from tunesmith.engine.recompute import recomputing
from tunesmith.engine.selfcheck import LossFunction, choose_loss, family_loss
from tunesmith.models.loading import LoadedModel
from tunesmith.models.rendering import Tokens
from tunesmith.task.train_settings import TrainSettings
from tunesmith.training.batches import WHOLE_ROWS, Sharing, epoch_batches, sharing_of, two_short_rows
from tunesmith.training.fit import TOKENS_PER_MICRO_BATCH, micro_batches_of
from tunesmith.training.memory import MicroBatch, micro_batch

TIMED_STEPS = 2


@dataclass(frozen=True)
class SizedRows:
    """The indices of the rows of one micro-batch, and its size."""

    rows: tuple[int, ...]
    size: MicroBatch


@dataclass(frozen=True)
class StepRates:
    """Tokens a second as rendered (the shared prefix counted in every row), without padding.

    ``read_tokens_per_second`` counts what is put through the model, forward only, the prefix once.
    """

    train_tokens_per_second: float
    validation_tokens_per_second: float
    read_tokens_per_second: float


def largest_micro_batches(
    rows: Sequence[Tokens],
    settings: TrainSettings,
    sharing: Sharing,
    micro_batch_tokens: int,
    kernel: bool = False,
    plain: bool = False,
) -> list[SizedRows]:
    """The micro-batches of the first epoch with the most tokens, and with the largest attention.

    With a GPU's ``kernel`` rows are read whole where sharing saves little, on the ``plain`` path always.
    """
    lengths = [len(row.ids) for row in rows]
    rows_per_step = settings.batch_size * settings.accumulate
    read = WHOLE_ROWS if plain else sharing
    found = [
        SizedRows(tuple(part), _size(rows, part, read, plain, kernel))
        for batch in epoch_batches(lengths, rows_per_step, settings.seed, 0, sharing.documents)
        for part in micro_batches_of(rows, batch, read, settings.batch_size, micro_batch_tokens)
    ]
    return [max(found, key=lambda part: part.size.tokens), max(found, key=lambda part: part.size.scores)]


def _size(
    rows: Sequence[Tokens], chosen: Sequence[int], sharing: Sharing, padded: bool, kernel: bool
) -> MicroBatch:
    if sharing.documents is None:
        lengths = [len(rows[row].ids) for row in chosen]
        learned = [sum(rows[row].learn) for row in chosen]
        if padded:
            lengths = [max(lengths)] * len(lengths)
        elif kernel and sharing_saves_little(sharing.prefix, [length - sharing.prefix for length in lengths]):
            return MicroBatch(sum(lengths), 0, sum(learned))  # the kernel keeps no scores
        return micro_batch(lengths, learned, sharing.prefix)
    batch = sharing.batch(rows, chosen, pad_token=0)
    # Rows of one document are shown each other's keys, too.
    return MicroBatch(batch.computed_tokens, batch.computed_tokens**2, len(batch.targets))


def checked_rows(rows: Sequence[Tokens]) -> MicroBatch:
    """The two shortest rows, padded and unshared, which are compared with the model's own forward."""
    shortest = sorted(len(row.ids) for row in rows)[:2]
    return MicroBatch(max(shortest) * len(shortest), 0, max(shortest) * len(shortest))


def probe_step(
    loaded: LoadedModel,
    rows: Sequence[Tokens],
    chosen: Sequence[int],
    sharing: Sharing,
    recompute: bool,
    loss_of: LossFunction | None = None,
) -> None:
    """Forward and backward on one micro-batch of ``rows``, by ``loss_of`` or else by the loss of the
    model's family; no weight changes."""
    batch = sharing.batch(rows, chosen, loaded.pad_token)
    with recomputing(loaded.model, recompute):
        loss = (loss_of or family_loss(loaded.model))(loaded.model, batch)
        torch.autograd.grad(loss, trained_weights(loaded.model), materialize_grads=True)


def measure_steps(
    loaded: LoadedModel,
    rows: Sequence[Tokens],
    settings: TrainSettings,
    largest: Sequence[int] | None = None,
    micro_batch_tokens: int = TOKENS_PER_MICRO_BATCH,
    recompute: bool = False,
) -> StepRates:
    """Time forward and backward on typical batches, after one on the ``largest`` (the peak of memory),
    which are found where None.

    As in training, the loss is the fast one where it agrees with the plain one, and at most
    ``micro_batch_tokens`` (or one row) are held for the backward pass at once. The adapter must be attached
    to ``loaded``; its weights are not changed.
    """
    sharing = sharing_of(rows, family=loaded.family)
    lengths = [len(row.ids) for row in rows]
    checked = sharing.batch(rows, two_short_rows(lengths, sharing), loaded.pad_token)
    with recomputing(loaded.model, recompute):
        loss_of, _ = choose_loss(loaded.model, checked)
    read = sharing if loss_of is summed_loss else WHOLE_ROWS
    if largest is None:
        found = largest_micro_batches(
            rows, settings, read, micro_batch_tokens, plain=loss_of is plain_summed_loss
        )
        largest = max(found, key=lambda part: part.size.tokens).rows
    with adapter_dropout(loaded.model, settings.seed, step=0):
        probe_step(loaded, rows, largest, read, recompute, loss_of)
    typical = epoch_batches(lengths, settings.batch_size, settings.seed, 0, sharing.documents)[:TIMED_STEPS]
    rates: dict[str, list[float]] = {"train": [], "validation": [], "read": []}
    for chosen in typical:
        parts = micro_batches_of(rows, chosen, read, settings.batch_size, micro_batch_tokens)
        batches = [read.batch(rows, part, loaded.pad_token) for part in parts]
        useful = sum(batch.useful_tokens for batch in batches)
        started = _now(loaded)
        with recomputing(loaded.model, recompute), adapter_dropout(loaded.model, settings.seed, step=0):
            for batch in batches:
                loss = loss_of(loaded.model, batch)
                torch.autograd.grad(loss, trained_weights(loaded.model), materialize_grads=True)
        trained = _now(loaded)
        with torch.no_grad():
            for batch in batches:
                loss_of(loaded.model, batch)
        seconds = _now(loaded) - trained
        rates["train"].append(useful / (trained - started))
        rates["validation"].append(useful / seconds)
        rates["read"].append(sum(batch.computed_tokens for batch in batches) / seconds)
    return StepRates(*(statistics.median(measured) for measured in rates.values()))


def _now(loaded: LoadedModel) -> float:
    """The time once all that was asked of the model's device is done: a GPU works on after it is asked."""
    device = device_of(loaded.model)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
