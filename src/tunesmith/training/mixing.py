"""Several tasks in one training: how many rows of each make up an epoch, and which."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from tunesmith.models.rendering import Tokens
from tunesmith.task.train_settings import Mixing
from tunesmith.training.batches import epoch_batches


@dataclass(frozen=True)
class Mixture:
    """The tasks whose training rows follow each other, the run's own first.

    ``sizes`` are their numbers of rows, ``shares`` the share of an epoch that each gets (adding up to 1).
    ``validation`` holds the validation rows of every task but the first, whose loss is watched anyway.
    """

    names: tuple[str, ...]
    sizes: tuple[int, ...]
    shares: tuple[float, ...]
    validation: tuple[Sequence[Tokens], ...]


def mixing_shares(sizes: Sequence[int], mixing: Mixing, temperature: float) -> tuple[float, ...]:
    """The share of each task: by its rows, by rows^(1/temperature) (Raffel et al. 2020, T5), or the same."""
    power = {"proportional": 1.0, "temperature": 1 / temperature, "equal": 0.0}[mixing]
    weights = [float(size) ** power for size in sizes]
    return tuple(weight / sum(weights) for weight in weights)


def mixed_batches(
    mixture: Mixture,
    lengths: Sequence[int],
    batch_size: int,
    seed: int,
    epoch: int,
    documents: Sequence[int] | None = None,
) -> list[list[int]]:
    """Row indices of every batch of one epoch, which is as long as all tasks' rows together.

    A task that gets more than its rows repeats them, each once before any twice; one that gets fewer goes on
    in the next epoch where it stopped. The same seed and epoch give the same batches.
    """
    rows: list[int] = []
    first = 0
    for task, (size, count) in enumerate(zip(mixture.sizes, _counts(mixture), strict=True)):
        rows += [first + row for row in _drawn(size, count, seed, task, epoch)]
        first += size
    opened = None if documents is None else [documents[row] for row in rows]
    batches = epoch_batches([lengths[row] for row in rows], batch_size, seed, epoch, opened)
    return [[rows[place] for place in batch] for batch in batches]


def _counts(mixture: Mixture) -> list[int]:
    """Rows of each task in an epoch: the shares rounded so that they add up (largest remainders)."""
    total = sum(mixture.sizes)
    exact = [share * total for share in mixture.shares]
    counts = [int(value + 1e-9) for value in exact]
    order = sorted(range(len(exact)), key=lambda task: counts[task] - exact[task])
    for task in order[: total - sum(counts)]:
        counts[task] += 1
    return counts


def _drawn(size: int, count: int, seed: int, task: int, epoch: int) -> list[int]:
    """The rows from number epoch·count on of an endless row of permutations."""
    start, stop = epoch * count, (epoch + 1) * count
    drawn: list[int] = []
    for number in range(start // size, -(-stop // size)):
        mixed = (seed * 1_000_003 + task) * 1_000_003 + number
        generator = torch.Generator().manual_seed(mixed % 2**64)  # PyTorch takes no more
        order = torch.randperm(size, generator=generator).tolist()
        drawn += order[max(0, start - number * size) : stop - number * size]
    return drawn
