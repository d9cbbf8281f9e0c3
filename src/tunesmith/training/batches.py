"""Which rows make up each step: shuffled, but of like length, so that little is padding."""

from __future__ import annotations

from collections.abc import Sequence

import torch

BATCHES_SORTED_TOGETHER = 12


def epoch_batches(lengths: Sequence[int], batch_size: int, seed: int, epoch: int) -> list[list[int]]:
    """Row indices of every batch of one epoch; each row once, the last batch may be smaller.

    Rows are shuffled, sorted by length within runs of a few batches, cut, and the batches shuffled
    again. The same seed and epoch give the same batches, so a resumed run needs no RNG state.
    """
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    order = torch.randperm(len(lengths), generator=generator).tolist()
    together = batch_size * BATCHES_SORTED_TOGETHER
    batches: list[list[int]] = []
    for start in range(0, len(order), together):
        run = sorted(order[start : start + together], key=lambda index: lengths[index])
        batches.extend(run[at : at + batch_size] for at in range(0, len(run), batch_size))
    shuffled = torch.randperm(len(batches), generator=generator).tolist()
    return [batches[index] for index in shuffled]
