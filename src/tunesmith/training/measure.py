"""How fast this machine trains and validates these rows: a few steps, timed and thrown away."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from tunesmith.engine.forward import summed_loss
from tunesmith.engine.lora import trained_weights
from tunesmith.models.loading import LoadedModel
from tunesmith.models.rendering import Tokens
from tunesmith.training.batches import epoch_batches, sharing_of
from tunesmith.training.fit import TOKENS_PER_MICRO_BATCH

TIMED_STEPS = 2


@dataclass(frozen=True)
class StepRates:
    """Tokens a second as rendered (the shared prefix counted in every row), without padding.

    ``read_tokens_per_second`` counts what is put through the model, forward only, the prefix once.
    """

    train_tokens_per_second: float
    validation_tokens_per_second: float
    read_tokens_per_second: float


def measure_steps(loaded: LoadedModel, rows: Sequence[Tokens], batch_size: int, seed: int) -> StepRates:
    """Time forward and backward on typical batches, after one on the longest rows (the peak of memory).

    The adapter must be attached to ``loaded``; its weights are not changed.
    """
    sharing = sharing_of(rows)
    lengths = [len(row.ids) for row in rows]
    longest = sorted(range(len(rows)), key=lambda index: -lengths[index])[:batch_size]
    longest = sharing.parts(rows, longest, TOKENS_PER_MICRO_BATCH)[-1]
    typical = epoch_batches(lengths, batch_size, seed, 0, sharing.documents)[:TIMED_STEPS]
    rates: dict[str, list[float]] = {"train": [], "validation": [], "read": []}
    for number, chosen in enumerate([longest, *typical]):
        batch = sharing.batch(rows, chosen, loaded.pad_token)
        started = time.perf_counter()
        loss = summed_loss(loaded.model, batch)
        torch.autograd.grad(loss, trained_weights(loaded.model), materialize_grads=True)
        trained = time.perf_counter()
        with torch.no_grad():
            summed_loss(loaded.model, batch)
        if number:  # the first also warms up
            rates["train"].append(batch.useful_tokens / (trained - started))
            seconds = time.perf_counter() - trained
            rates["validation"].append(batch.useful_tokens / seconds)
            rates["read"].append(batch.computed_tokens / seconds)
    return StepRates(*(statistics.median(measured) for measured in rates.values()))
