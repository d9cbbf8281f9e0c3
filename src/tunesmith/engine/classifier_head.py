"""Encoder-only bases (BERT family) with a classification head: losses and class log-probabilities.

A rendered row is the encoder's input and, as its only learned "token", the number of its class.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedModel

from tunesmith.engine.devices import device_of
from tunesmith.engine.forward import Batch, make_batch
from tunesmith.models.families import give_fresh_head
from tunesmith.models.loading import LoadedModel

TOKENS_PER_BATCH = 4096

Advance = Callable[[int, int], None]


def with_head(loaded: LoadedModel, labels: Sequence[str], seed: int) -> LoadedModel:
    """``loaded`` with a fresh head for ``labels``, drawn from ``seed``; a base that needs none as it is.

    The model is changed in place. Raises UserError for fewer than two labels.
    """
    if loaded.family != "encoder":
        return loaded
    give_fresh_head(loaded.model, loaded.head, labels, seed)
    return replace(loaded, labels=tuple(labels))


def class_loss(model: PreTrainedModel, batch: Batch, smoothing: float = 0.0) -> Tensor:
    """Weighted sum over the rows of −log p(class), or of its smoothed form, in nats."""
    logits = _logits(model, batch)
    targets = batch.targets.to(logits.device)
    losses = F.cross_entropy(logits, targets, reduction="none", label_smoothing=smoothing)
    return losses.sum() if batch.weights is None else (losses * batch.weights.to(losses.device)).sum()


@torch.no_grad()
def class_losses(model: PreTrainedModel, batch: Batch) -> Tensor:
    """−log p(class) of every row, in nats, fp32 [rows] on the CPU."""
    logits = _logits(model, batch)
    return F.cross_entropy(logits, batch.targets.to(logits.device), reduction="none").cpu()


@torch.no_grad()
def class_log_probabilities(
    model: PreTrainedModel, prompts: Sequence[Sequence[int]], pad_token: int, advance: Advance | None = None
) -> tuple[NDArray[np.float64], int]:
    """The head's log-softmax [rows, classes], in nats, and the tokens put through the model."""
    order = sorted(range(len(prompts)), key=lambda row: (len(prompts[row]), row))
    found: list[tuple[int, list[float]]] = []
    start = 0
    while start < len(order):
        stop = start + 1
        while stop < len(order) and (stop + 1 - start) * len(prompts[order[stop]]) <= TOKENS_PER_BATCH:
            stop += 1
        rows = order[start:stop]
        # The class is not asked for: any number stands in its place.
        ids = [[*prompts[row], 0] for row in rows]
        batch = make_batch(ids, [[False] * len(prompts[row]) + [True] for row in rows], pad_token, 0)
        log_p = torch.log_softmax(_logits(model, batch).double(), dim=-1)
        found += zip(rows, log_p.tolist(), strict=True)
        start = stop
        if advance is not None:
            advance(start, len(order))
    return np.array([values for _, values in sorted(found)]), sum(map(len, prompts))


def _logits(model: PreTrainedModel, batch: Batch) -> Tensor:
    """The head's logits [rows, classes], fp32."""
    rows = len(batch.suffixes)
    whole = torch.cat([batch.prefix.expand(rows, -1), batch.suffixes], dim=1)
    lengths = len(batch.prefix) + batch.lengths - 1  # without the class
    inputs = whole[:, : int(lengths.max())].clone()
    mask = torch.arange(inputs.shape[1]) < lengths[:, None]
    inputs[~mask] = model.config.pad_token_id or 0
    device = device_of(model)
    logits: Tensor = model(input_ids=inputs.to(device), attention_mask=mask.long().to(device)).logits
    return logits.float()
