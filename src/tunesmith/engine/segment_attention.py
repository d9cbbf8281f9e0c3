"""Attention of rows laid end to end by one kernel, with no padding and no scores in memory: the GPU's way.

On CUDA PyTorch's own variable-length attention (FlashAttention 2, Dao 2023, arXiv 2307.08691); elsewhere the
same by PyTorch's attention of one row after the other, which is what tests on a CPU compare.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional as F

from tunesmith.engine.packing import WholeRows

# Widths of a head that the CUDA kernel takes; it takes 16-bit numbers only.
KERNEL_HEAD_DIMS = range(8, 257, 8)


@dataclass(frozen=True)
class SegmentsAttended:
    """What the backward pass needs: the inputs, and the output with its graph."""

    query: Tensor
    key: Tensor
    value: Tensor
    output: Tensor


def has_kernel(device: torch.device, dtype: torch.dtype, head_dim: int) -> bool:
    """Whether whole rows are attended to by the CUDA kernel there."""
    return device.type == "cuda" and dtype != torch.float32 and head_dim in KERNEL_HEAD_DIMS


def attend_segments(
    query: Tensor, key: Tensor, value: Tensor, segments: WholeRows, scaling: float, window: int | None = None
) -> Tensor:
    """Causal attention within each segment, differentiable: [tokens, heads × head_dim].

    ``query`` is [tokens, heads, head_dim]; ``key`` and ``value`` are [tokens, kv_heads, head_dim]. With
    ``window`` a token sees only the last ``window`` positions.
    """
    if not query.is_cuda:
        return _row_after_row(query, key, value, segments, scaling, window)
    from torch.nn.attention.varlen import varlen_attn

    output = varlen_attn(
        query,
        key,
        value,
        segments.offsets,
        segments.offsets,
        segments.longest,
        segments.longest,
        scale=scaling,
        window_size=(-1 if window is None else window - 1, 0),
        enable_gqa=query.shape[1] != key.shape[1],
    )
    assert isinstance(output, Tensor)
    return output.flatten(1)


def attend_segments_kept(
    query: Tensor, key: Tensor, value: Tensor, segments: WholeRows, scaling: float
) -> SegmentsAttended:
    """The same, keeping what :func:`attend_segments_backward` needs."""
    inputs = [tensor.detach().requires_grad_() for tensor in (query, key, value)]
    with torch.enable_grad():
        output = attend_segments(inputs[0], inputs[1], inputs[2], segments, scaling)
    return SegmentsAttended(inputs[0], inputs[1], inputs[2], output)


def attend_segments_backward(gradient: Tensor, kept: SegmentsAttended) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients [tokens, width] of query, key and value, flattened."""
    query, key, value = torch.autograd.grad(kept.output, (kept.query, kept.key, kept.value), gradient)
    return query.flatten(1), key.flatten(1), value.flatten(1)


def _row_after_row(
    query: Tensor, key: Tensor, value: Tensor, segments: WholeRows, scaling: float, window: int | None
) -> Tensor:
    outputs = []
    for start, stop in pairwise(segments.offsets.tolist()):
        own = [tensor[start:stop].transpose(0, 1)[None] for tensor in (query, key, value)]
        places = torch.arange(stop - start, device=query.device)
        distance = places[:, None] - places
        seen = (distance >= 0) & (distance < (window or stop - start))
        output = F.scaled_dot_product_attention(
            own[0], own[1], own[2], attn_mask=seen, scale=scaling, enable_gqa=query.shape[1] != key.shape[1]
        )
        outputs.append(output[0].transpose(0, 1).flatten(1))
    return torch.cat(outputs)
