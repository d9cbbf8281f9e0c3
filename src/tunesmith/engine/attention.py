"""Attention for short causal rows on CPU: grouped batched matrix products, no padding mask.

Registered with Transformers under the name ``tunesmith``, so any decoder that supports its attention
interface runs through it unchanged. Rows must be padded on the right: a causal row never sees padding
that follows it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import causal_mask_function, eager_mask

ATTENTION_NAME = "tunesmith"

# Above this many scores per head, saving them for the backward pass costs more memory than the plain
# products save in time; SDPA takes over.
LARGEST_SCORE_MATRIX = 1024 * 1024

_causal_masks: dict[tuple[int, int, torch.dtype, torch.device], Tensor] = {}


def grouped_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
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
    else:
        scores = scores + attention_mask.unsqueeze(2)
    weights = torch.softmax(scores, dim=-1)
    if dropout:
        weights = F.dropout(weights, p=dropout, training=module.training)
    output = torch.bmm(weights.view(batch * kv_heads, repeats * queries, keys), values_flat)
    return output.view(batch, heads, queries, head_dim).transpose(1, 2), None


def _causal_mask(queries: int, keys: int, like: Tensor) -> Tensor:
    """[queries, keys], 0 where a query may look and −inf where it may not; the queries come last."""
    shape = (queries, keys, like.dtype, like.device)
    if shape not in _causal_masks:
        if len(_causal_masks) > 512:
            _causal_masks.clear()
        blocked = torch.full((queries, keys), float("-inf"), dtype=like.dtype, device=like.device)
        _causal_masks[shape] = blocked.triu(keys - queries + 1)
    return _causal_masks[shape]


def _mask_only_when_needed(**arguments: Any) -> Tensor | None:
    """None for a plain causal layer; Transformers' own additive mask for sliding windows and the like."""
    if arguments.get("mask_function") is causal_mask_function and arguments.get("attention_mask") is None:
        return None
    return eager_mask(**arguments)


def register() -> None:
    """Make the attention known to Transformers; calling it again changes nothing."""
    AttentionInterface.register(ATTENTION_NAME, grouped_attention)
    AttentionMaskInterface.register(ATTENTION_NAME, _mask_only_when_needed)
