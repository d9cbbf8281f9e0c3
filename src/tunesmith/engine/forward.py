"""One batch through the model: the shared prefix once, padding on the right, the head only where needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import DynamicCache, PreTrainedModel

from tunesmith.engine.head import summed_cross_entropy


@dataclass(frozen=True)
class Batch:
    """Rows with a common token prefix taken out.

    ``prefix`` is [prefix tokens] (may be empty); ``suffixes`` is [rows, longest], padded on the right.
    ``rows`` and ``positions`` [supervised] say which hidden state of the whole row predicts ``targets``
    [supervised]: position p predicts token p + 1. ``useful_tokens`` counts tokens as rendered, without
    padding and with the prefix in every row; ``computed_tokens`` counts what is put through the model.
    """

    prefix: Tensor
    suffixes: Tensor
    rows: Tensor
    positions: Tensor
    targets: Tensor
    useful_tokens: int
    computed_tokens: int


def make_batch(
    ids: Sequence[Sequence[int]], learn: Sequence[Sequence[bool]], pad_token: int, prefix_tokens: int
) -> Batch:
    """Rows of token ids and learn masks as tensors, with their first ``prefix_tokens`` shared.

    The caller guarantees that the rows agree on the prefix, and that no row learns inside it.
    """
    longest = max(len(row) for row in ids) - prefix_tokens
    suffixes = torch.full((len(ids), longest), pad_token, dtype=torch.long)
    rows, positions, targets = [], [], []
    for index, (row, learned) in enumerate(zip(ids, learn, strict=True)):
        suffixes[index, : len(row) - prefix_tokens] = torch.tensor(row[prefix_tokens:], dtype=torch.long)
        for position in range(1, len(row)):
            if learned[position]:
                rows.append(index)
                positions.append(position - 1)
                targets.append(row[position])
    useful = sum(len(row) for row in ids)
    return Batch(
        prefix=torch.tensor(ids[0][:prefix_tokens], dtype=torch.long),
        suffixes=suffixes,
        rows=torch.tensor(rows, dtype=torch.long),
        positions=torch.tensor(positions, dtype=torch.long),
        targets=torch.tensor(targets, dtype=torch.long),
        useful_tokens=useful,
        computed_tokens=useful - prefix_tokens * (len(ids) - 1),
    )


def common_prefix(rows: Sequence[Sequence[int]], first_learned: Sequence[int] | None = None) -> int:
    """How many leading tokens all ``rows`` share, leaving each at least one token of its own.

    With ``first_learned`` (index of each row's first learned token) the prefix also ends before the
    hidden state that predicts it, so that every supervised position lies in the suffixes.
    """
    shortest, longest = min(rows), max(rows)
    shared = 0
    for left, right in zip(shortest, longest, strict=False):
        if left != right:
            break
        shared += 1
    shared = min(shared, min(len(row) for row in rows) - 1)
    if first_learned is not None:
        shared = min(shared, min(first_learned) - 1)
    return max(shared, 0)


def head_of(model: PreTrainedModel) -> tuple[Tensor, Tensor | None]:
    """The output head's weight [vocabulary, width] and bias."""
    head = model.get_output_embeddings()
    return head.weight, getattr(head, "bias", None)


def encode_prefix(model: PreTrainedModel, prefix: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Keys and values [1, kv_heads, tokens, head_dim] of ``prefix`` per layer, differentiable."""
    cache = DynamicCache()
    model.base_model(input_ids=prefix[None], past_key_values=cache, use_cache=True)
    return [(layer.keys, layer.values) for layer in cache.layers]


def expanded_cache(prefix: list[tuple[Tensor, Tensor]], rows: int) -> DynamicCache:
    """A cache whose every row starts with the same encoded prefix; gradients sum back into it."""
    cache = DynamicCache()
    for index, (keys, values) in enumerate(prefix):
        cache.update(keys.expand(rows, -1, -1, -1), values.expand(rows, -1, -1, -1), index)
    return cache


def hidden_states(model: PreTrainedModel, batch: Batch) -> Tensor:
    """The hidden states [supervised, width] that predict the batch's targets."""
    options: dict[str, Any] = {"use_cache": False}
    prefix_tokens = len(batch.prefix)
    if prefix_tokens:
        prefix = encode_prefix(model, batch.prefix)
        cache = expanded_cache(prefix, len(batch.suffixes))
        options = {"past_key_values": cache, "use_cache": True}
    output = model.base_model(input_ids=batch.suffixes, **options).last_hidden_state
    picked: Tensor = output[batch.rows, batch.positions - prefix_tokens]
    return picked


def summed_loss(model: PreTrainedModel, batch: Batch) -> Tensor:
    """Sum of −log p over the supervised tokens, in nats, by the fast path."""
    weight, bias = head_of(model)
    return summed_cross_entropy(hidden_states(model, batch), weight, bias, batch.targets)


def plain_summed_loss(model: PreTrainedModel, batch: Batch) -> Tensor:
    """The same by the model's own forward, whole rows, an explicit mask and full logits."""
    rows = len(batch.suffixes)
    prefix_tokens = len(batch.prefix)
    ids = torch.cat([batch.prefix.expand(rows, -1), batch.suffixes], dim=1)
    lengths = torch.zeros(rows, dtype=torch.long)
    lengths.scatter_reduce_(0, batch.rows, batch.positions + 2, reduce="amax")
    mask = (torch.arange(ids.shape[1]) < lengths[:, None]).long()
    mask[:, : prefix_tokens + 1] = 1
    logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
    picked = logits[batch.rows, batch.positions].float()
    return F.cross_entropy(picked, batch.targets, reduction="sum")
