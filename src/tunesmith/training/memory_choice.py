"""How to train in the memory there is: micro-batches, recomputation, or a refusal with what would fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from tunesmith.engine.scoring import TOKENS_PER_BATCH
from tunesmith.engine.segment_attention import has_kernel
from tunesmith.errors import UserError
from tunesmith.models.rendering import Tokens
from tunesmith.task.train_settings import TrainSettings
from tunesmith.training.batches import Sharing
from tunesmith.training.fit import TOKENS_PER_MICRO_BATCH
from tunesmith.training.measure import SizedRows, checked_rows, largest_micro_batches
from tunesmith.training.memory import MIB, BaseShape, MemoryPlan, Work, plan_memory, takes_plain_path

# Tokens held for the backward pass at once, tried in this order; longer rows come one at a time.
MICRO_BATCHES = (TOKENS_PER_MICRO_BATCH, 1024, 512, 256)
# What the plan may be off by, and what else happens on the machine.
USABLE_SHARE = 0.85


@dataclass(frozen=True)
class MemoryChoice:
    """The largest micro-batches that fit, and whether layers are recomputed. ``largest`` is what to probe."""

    micro_batch_tokens: int
    recompute: bool
    plan: MemoryPlan
    largest: SizedRows


def choose_memory(
    shape: BaseShape,
    settings: TrainSettings,
    bytes_per_value: int,
    rows: Sequence[Tokens],
    sharing: Sharing,
    available_mb: float,
    device: str = "cpu",
) -> MemoryChoice:
    """The fastest way to train ``rows`` within ``available_mb``; 0 where the system does not tell.

    Smaller micro-batches cost least, so they are tried first, then recomputation. Raises UserError where
    nothing fits, saying what is needed and which settings would fit.
    """
    tried = _ways(shape, settings, bytes_per_value, rows, sharing, device)
    budget = USABLE_SHARE * available_mb * MIB
    for choice in tried:
        if not available_mb or choice.plan.peak <= budget:
            return choice
    least = min(choice.plan.peak for choice in tried)
    fitting = []
    for words, smaller in _smaller(settings):
        peaks = [choice.plan.peak for choice in _ways(shape, smaller, bytes_per_value, rows, sharing, device)]
        if min(peaks) <= budget:
            fitting.append(f"{words} (about {_gib(min(peaks))} GiB)")
    longest = max(len(row.ids) for row in rows)
    raise UserError(
        f"train: {settings.method} of this base needs at least {_gib(least)} GiB of memory for rows of up to "
        f"{longest:,} tokens; {_gib(available_mb * MIB)} GiB are available, of which "
        f"{100 * USABLE_SHARE:.0f} % are counted on",
        fix="what would fit: " + ", or ".join(fitting)
        if fitting
        else "end other programs, choose a smaller base, or leave the longest rows out (train.max_tokens, "
        "train.long_rows)",
    )


def _ways(
    shape: BaseShape,
    settings: TrainSettings,
    bytes_per_value: int,
    rows: Sequence[Tokens],
    sharing: Sharing,
    device: str,
) -> list[MemoryChoice]:
    """All ways to train, the fastest first."""
    dtype = torch.bfloat16 if bytes_per_value == 2 else torch.float32
    kernel = has_kernel(torch.device(device), dtype, shape.head_dim)
    plain = takes_plain_path(shape, settings)
    ways = []
    for recompute in (False, True):
        for tokens in MICRO_BATCHES:
            found = largest_micro_batches(rows, settings, sharing, tokens, kernel, plain)
            work = Work(tuple(part.size for part in found), checked_rows(rows), TOKENS_PER_BATCH)
            plan = plan_memory(shape, settings, bytes_per_value, work, device, recompute)
            largest = max(found, key=lambda part: part.size.tokens)
            ways.append(MemoryChoice(tokens, recompute, plan, largest))
    return ways


def _smaller(settings: TrainSettings) -> list[tuple[str, TrainSettings]]:
    """Settings that take less memory, in words, those that change least first."""
    changes: list[dict[str, object]] = []
    if settings.method == "full":
        changes += [{"optimiser": "adamw8bit"}, {"method": "lora"}]
    elif settings.rank > 8:
        changes.append({"rank": 8})
    if settings.modules_to_save:
        changes.append({"modules_to_save": None})
    if settings.method != "qlora":
        changes.append({"method": "qlora"})
    return [
        (
            ", ".join(
                f"train.{name}: {'(left out)' if value is None else value}" for name, value in change.items()
            ),
            settings.model_copy(update=change),
        )
        for change in changes
    ]


def _gib(size: float) -> str:
    return f"{size / 2**30:.1f}"
