"""Exact attention as grouped batched matrix products, over padded batches or packed rows.

Registered with Transformers under the name ``tunesmith``, so any decoder that supports its attention
interface runs through it unchanged. Padded batches must be padded on the right: a causal row never sees
padding that follows it. Packed rows (see ``packing``) travel as the option ``packed``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import causal_mask_function, eager_mask

from tunesmith.engine.packing import Block, Packing, causal_mask
from tunesmith.engine.segment_attention import (
    SegmentsAttended,
    attend_segments,
    attend_segments_backward,
    attend_segments_kept,
)

ATTENTION_NAME = "tunesmith"

# Above this many scores per head, saving them for the backward pass costs more memory than the plain
# products save in time; they are formed again, or SDPA takes over.
LARGEST_SCORE_MATRIX = 1024 * 1024
# Softmax weights of a layer that are kept for its backward pass, per head; where there are more, all are
# formed again.
MOST_WEIGHTS_KEPT = 2 * 1024 * 1024

# Keys and values [keys, kv_heads, head_dim] of every layer.
KeyValues = dict[int, tuple[Tensor, Tensor]]

_causal_masks: dict[tuple[int, int, torch.dtype, torch.device], Tensor] = {}


@dataclass(frozen=True)
class Packed:
    """What a model's attention layers are told about packed rows: the layout and the keys so far, if kept."""

    packing: Packing
    cache: KeyValues | None


@dataclass(frozen=True)
class Attended:
    """What the backward pass of one block needs: [kv_heads × rows, …] and the softmax weights, if kept."""

    query: Tensor
    key: Tensor
    value: Tensor
    weights: Tensor | None


def grouped_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **options: Any,
) -> tuple[Tensor, None]:
    """Exact softmax attention.

    ``query`` is [batch, heads, queries, head_dim]; ``key`` and ``value`` are [batch, kv_heads, keys,
    head_dim] with kv_heads dividing heads. ``attention_mask`` is None (causal, the queries being the last
    of the keys) or additive and broadcastable to [batch, heads, queries, keys]. Returns
    [batch, queries, heads, head_dim].
    """
    batch, heads, queries, head_dim = query.shape
    kv_heads, keys = key.shape[1], key.shape[2]
    softcap = options.get("softcap")
    if scaling is None:
        scaling = head_dim**-0.5
    if options.get("packed") is not None:
        output = _packed_layer(module, query[0], key[0], value[0], scaling, dropout, options)
        return output.view(1, queries, heads, head_dim), None
    if softcap is None and not dropout and queries * keys > LARGEST_SCORE_MATRIX:
        causal = attention_mask is None and queries == keys
        mask = attention_mask
        if mask is None and not causal:
            mask = _causal_mask(queries, keys, query)
        output = F.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, is_causal=causal, scale=scaling, enable_gqa=kv_heads != heads
        )
        return output.transpose(1, 2), None

    repeats = heads // kv_heads
    stacked = (query * scaling).reshape(batch * kv_heads, repeats * queries, head_dim)
    keys_flat = key.reshape(batch * kv_heads, keys, head_dim)
    values_flat = value.reshape(batch * kv_heads, keys, head_dim)
    scores = torch.bmm(stacked, keys_flat.transpose(1, 2)).view(batch, kv_heads, repeats, queries, keys)
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    if attention_mask is None:
        if queries > 1:
            scores = scores + _causal_mask(queries, keys, query)
    elif attention_mask.shape[1] == 1:
        scores = scores + attention_mask.unsqueeze(2)
    else:
        scores = scores + attention_mask.view(-1, kv_heads, repeats, *attention_mask.shape[2:])
    weights = torch.softmax(scores, dim=-1)
    if dropout:
        weights = F.dropout(weights, p=dropout, training=module.training)
    output = torch.bmm(weights.view(batch * kv_heads, repeats * queries, keys), values_flat)
    return output.view(batch, heads, queries, head_dim).transpose(1, 2), None


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    packing: Packing,
    scaling: float,
    window: int | None = None,
    softcap: float | None = None,
    keep: bool = False,
) -> tuple[Tensor, list[Attended] | SegmentsAttended]:
    """Attention of packed rows, differentiable, with what :func:`attend_backward` needs.

    Whole rows keep that only where ``keep`` asks for it.

    ``query`` is [queries, heads, head_dim]; ``key`` and ``value`` are [keys, kv_heads, head_dim]. Returns
    [queries, heads × head_dim].
    """
    kv_heads, head_dim = key.shape[1:]
    if packing.segments is not None and softcap is None:
        if keep:
            whole = attend_segments_kept(query, key, value, packing.segments, scaling)
            return whole.output.detach(), whole
        return attend_segments(query, key, value, packing.segments, scaling, window), []
    repeats = query.shape[1] // kv_heads
    flat_query = query.flatten(1)
    outputs, saved = [], []
    kept = sum(len(block.queries) * block.mask[0].numel() for block in packing.blocks)
    for block in packing.blocks:
        rows, longest = block.queries.shape
        padded = flat_query.index_select(0, block.queries.flatten())
        q = (
            padded.view(rows, longest, kv_heads, repeats, head_dim)
            .permute(2, 0, 3, 1, 4)
            .reshape(kv_heads * rows, repeats * longest, head_dim)
        )
        k, v = _gathered(key, block), _gathered(value, block)
        mask = block.mask if window is None else packing.mask_within(block, window)
        weights = None
        if softcap is None and longest * k.shape[1] > LARGEST_SCORE_MATRIX:
            output = F.scaled_dot_product_attention(
                q.view(kv_heads * rows, repeats, longest, head_dim),
                k[:, None].expand(-1, repeats, -1, -1),
                v[:, None].expand(-1, repeats, -1, -1),
                attn_mask=mask.expand(rows, -1, -1).repeat(kv_heads, 1, 1)[:, None],
                scale=scaling,
            ).reshape(kv_heads, rows, repeats, longest, head_dim)
        else:
            weights = _softmax_weights(q, k, mask, scaling, softcap)
            output = torch.bmm(weights, v).view(kv_heads, rows, repeats, longest, head_dim)
        output = output.permute(1, 3, 0, 2, 4).reshape(rows * longest, -1)
        outputs.append(output.index_select(0, block.slots))
        saved.append(Attended(q, k, v, weights if kept <= MOST_WEIGHTS_KEPT else None))
    output = torch.cat(outputs)
    return output if packing.order is None else output[packing.order], saved


def attend_backward(
    gradient: Tensor, packing: Packing, saved: list[Attended] | SegmentsAttended, scaling: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients [tokens, width] of query, key and value flattened; queries and keys are the same tokens."""
    if isinstance(saved, SegmentsAttended):
        return attend_segments_backward(gradient, saved)
    parts = []
    start = 0
    if packing.order is not None:
        gradient = torch.empty_like(gradient).index_copy_(0, packing.order, gradient)
    for block, kept in zip(packing.blocks, saved, strict=True):
        rows, longest = block.queries.shape
        groups, _, head_dim = kept.key.shape
        kv_heads = groups // rows
        own = gradient[start : start + len(block.slots)]
        start += len(block.slots)
        padded = gradient.new_zeros(rows * longest, gradient.shape[1]).index_copy_(0, block.slots, own)
        d_output = (
            padded.view(rows, longest, kv_heads, -1, head_dim)
            .permute(2, 0, 3, 1, 4)
            .reshape(groups, -1, head_dim)
        )
        weights = kept.weights
        if weights is None:
            weights = _softmax_weights(kept.query, kept.key, block.mask, scaling, None)
        d_weights = torch.bmm(d_output, kept.value.transpose(1, 2))
        d_scores = torch.ops.aten._softmax_backward_data(d_weights, weights, -1, weights.dtype)
        d_query = torch.bmm(d_scores, kept.key).mul_(scaling)
        d_query = d_query.view(kv_heads, rows, -1, longest, head_dim).permute(1, 3, 0, 2, 4)
        d_key = torch.bmm(d_scores.transpose(1, 2), kept.query).mul_(scaling)
        d_value = torch.bmm(weights.transpose(1, 2), d_output)
        d_query = d_query.reshape(rows * longest, -1).index_select(0, block.slots)
        parts.append((d_query, _by_row(d_key, rows), _by_row(d_value, rows)))
    d_query = torch.cat([part[0] for part in parts])
    d_keys, d_values = [part[1] for part in parts], [part[2] for part in parts]
    if packing.order is None:
        return d_query, _ungathered(d_keys, packing), _ungathered(d_values, packing)
    return d_query[packing.order], _scattered(d_keys, packing), _scattered(d_values, packing)


def register() -> None:
    """Make the attention known to Transformers; calling it again changes nothing."""
    AttentionInterface.register(ATTENTION_NAME, grouped_attention)
    AttentionMaskInterface.register(ATTENTION_NAME, _mask_only_when_needed)


def _packed_layer(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    scaling: float,
    dropout: float,
    options: dict[str, Any],
) -> Tensor:
    """Attention of one of Transformers' layers over packed rows; ``query`` is [heads, queries, head_dim]."""
    packed: Packed = options["packed"]
    if dropout:
        raise ValueError("packed rows are attended to without dropout")
    key, value = key.transpose(0, 1), value.transpose(0, 1)
    if packed.cache is not None:
        layer: Any = module
        key, value = extend_cache(packed.cache, layer.layer_idx, key, value)
    window = options.get("sliding_window")
    if window is not None and window > int(packed.packing.key_positions.max()):
        window = None
    softcap = options.get("softcap")
    output, _ = attend(query.transpose(0, 1), key, value, packed.packing, scaling, window, softcap)
    return output


def extend_cache(cache: KeyValues, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """All keys and values of a layer so far, the new ones at the end, which also become the cached ones."""
    if layer in cache:
        key, value = torch.cat([cache[layer][0], key]), torch.cat([cache[layer][1], value])
    cache[layer] = key, value
    return key, value


def _softmax_weights(
    query: Tensor, key: Tensor, mask: Tensor, scaling: float, softcap: float | None
) -> Tensor:
    """[kv_heads × rows, repeats × longest, keys] from blocks of queries and keys and a block's mask."""
    rows, longest = mask.shape[:2]
    groups, queries, keys = len(query), query.shape[1], key.shape[1]
    repeats = queries // longest
    if softcap is None and rows == 1:
        scores = torch.baddbmm(mask[0].repeat(repeats, 1), query, key.transpose(1, 2), alpha=scaling)
        return torch.softmax(scores, dim=-1)
    # With beta = 0 this is a product that scales as it goes.
    scores = torch.baddbmm(query.new_zeros(1), query, key.transpose(1, 2), beta=0, alpha=scaling)
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    by_row = scores.view(-1, rows, repeats, longest, keys).add_(mask[:, None])
    return torch.softmax(by_row.view(groups, queries, keys), dim=-1)


def _gathered(packed: Tensor, block: Block) -> Tensor:
    """Packed keys or values as [kv_heads × rows, shared + most, head_dim]."""
    rows = len(block.keys)
    own = packed.flatten(1).index_select(0, block.keys.flatten()).view(rows, -1, *packed.shape[1:])
    if block.shared:
        own = torch.cat([packed[: block.shared].expand(rows, -1, -1, -1), own], dim=1)
    return own.permute(2, 0, 1, 3).reshape(packed.shape[1] * rows, -1, packed.shape[2])


def _by_row(gradient: Tensor, rows: int) -> Tensor:
    """[rows, keys, width] from [kv_heads × rows, keys, head_dim]."""
    by_head = gradient.view(-1, rows, *gradient.shape[1:])
    return by_head.permute(1, 2, 0, 3).flatten(2)


def _ungathered(gradients: Sequence[Tensor], packing: Packing) -> Tensor:
    """Gradients of all keys from those by row; a key other than the shared ones is in one row only."""
    own = [
        gradient[:, block.shared :].reshape(-1, gradient.shape[2]).index_select(0, block.slots)
        for gradient, block in zip(gradients, packing.blocks, strict=True)
    ]
    whole = torch.cat(own)
    for gradient, block in zip(gradients, packing.blocks, strict=True):
        if block.shared:
            whole[: block.shared] += gradient[:, : block.shared].sum(0)
    return whole


def _scattered(gradients: Sequence[Tensor], packing: Packing) -> Tensor:
    """Gradients of all keys from those by row; a key may be in many rows, so sums are formed in fp32."""
    width = gradients[0].shape[2]
    whole = gradients[0].new_zeros(len(packing.key_positions), width, dtype=torch.float32)
    for gradient, block in zip(gradients, packing.blocks, strict=True):
        if block.shared:
            whole[: block.shared] += gradient[:, : block.shared].sum(0)
        # Padding has no weight, so its gradient is 0.
        whole.index_add_(0, block.keys.flatten(), gradient[:, block.shared :].reshape(-1, width).float())
    return whole.to(gradients[0].dtype)


def _causal_mask(queries: int, keys: int, like: Tensor) -> Tensor:
    """[queries, keys], 0 where a query may look and −inf where it may not; the queries come last."""
    shape = (queries, keys, like.dtype, like.device)
    if shape not in _causal_masks:
        if len(_causal_masks) > 512:
            _causal_masks.clear()
        _causal_masks[shape] = causal_mask(queries, keys, like.dtype).to(like.device)
    return _causal_masks[shape]


def _mask_only_when_needed(**arguments: Any) -> Tensor | None:
    """None for a plain causal layer; Transformers' own additive mask for sliding windows and the like."""
    if arguments.get("mask_function") is causal_mask_function and arguments.get("attention_mask") is None:
        return None
    return eager_mask(**arguments)
