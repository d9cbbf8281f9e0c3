"""Cross-entropy fused with the output head: only supervised positions reach the vocabulary.

The gradient of the hidden states is formed in the forward pass, chunk by chunk, so no [positions,
vocabulary] tensor outlives a chunk (the idea of Liger's and Apple's fused cross-entropies, arXiv
2411.09009, for a frozen head). A head that is trained too gets its gradient in the same pass.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPastAndCrossAttentions

POSITIONS_PER_CHUNK = 256


class _FusedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        smoothing: float,
        position_weights: Tensor | None,
    ) -> Tensor:
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        gradient = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        of_weight: Tensor | None = None
        of_bias = None
        if bias is not None and ctx.needs_input_grad[2]:
            of_bias = torch.zeros_like(bias, dtype=torch.float32)
        for start in range(0, len(hidden), POSITIONS_PER_CHUNK):
            rows = slice(start, start + POSITIONS_PER_CHUNK)
            log_probabilities = torch.log_softmax(
                torch.nn.functional.linear(hidden[rows], weight, bias).float(), dim=-1
            )
            picked = targets[rows, None]
            losses = -log_probabilities.gather(1, picked)
            if smoothing:
                losses = (1 - smoothing) * losses - smoothing * log_probabilities.mean(dim=1, keepdim=True)
            counts = None if position_weights is None else position_weights[rows, None]
            total += (losses if counts is None else losses * counts).sum()
            if not any(ctx.needs_input_grad[:3]):
                continue
            # p − the target distribution: 1 − smoothing on the target, smoothing/V everywhere.
            of_logits = log_probabilities.exp_()
            on_target = torch.full_like(picked, smoothing - 1, dtype=torch.float32)
            of_logits.scatter_add_(1, picked, on_target)
            if smoothing:
                of_logits -= smoothing / len(weight)
            if counts is not None:
                of_logits *= counts
            if of_bias is not None:
                of_bias += of_logits.sum(0)
            of_logits = of_logits.to(weight.dtype)
            if gradient is not None:
                gradient[rows] = of_logits @ weight
            if ctx.needs_input_grad[1]:
                of_chunk = of_logits.T @ hidden[rows]
                if of_weight is not None:
                    of_weight += of_chunk
                elif len(hidden) <= POSITIONS_PER_CHUNK:  # nothing will be added to it
                    of_weight = of_chunk
                else:
                    of_weight = of_chunk.float()
        ctx.save_for_backward(gradient, of_weight, of_bias)
        ctx.dtype = weight.dtype
        return total

    @staticmethod
    def backward(ctx: Any, *output_gradients: Tensor) -> tuple[Tensor | None, ...]:
        gradient, of_weight, of_bias = ctx.saved_tensors
        scale = output_gradients[0]
        return (
            None if gradient is None else gradient * scale.to(gradient.dtype),
            None if of_weight is None else of_weight.mul_(scale).to(ctx.dtype),
            None if of_bias is None else (of_bias * scale).to(ctx.dtype),
            None,
            None,
            None,
        )


def summed_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    smoothing: float = 0.0,
    position_weights: Tensor | None = None,
) -> Tensor:
    """Sum over positions of −log p(target), in nats, as an fp32 scalar.

    ``hidden`` is [positions, width], ``weight`` the head [vocabulary, width], ``targets`` [positions].
    With ``smoothing`` ε a position's loss is (1−ε)·(−log p(target)) + ε·mean over the vocabulary of
    −log p (Szegedy et al. 2015, arXiv 1512.00567, as in PyTorch); ``position_weights`` [positions] multiply
    the positions' losses. Differentiable in ``hidden`` and, where they are trained, in ``weight`` and
    ``bias``.
    """
    apply: Any = _FusedCrossEntropy.apply
    total: Tensor = apply(hidden, weight, bias, targets, smoothing, position_weights)
    return total


@torch.no_grad()
def cross_entropies(hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor) -> Tensor:
    """−log p(target) of every position, in nats, fp32 [positions]; shapes as above."""
    losses = torch.empty(len(hidden), dtype=torch.float32, device=hidden.device)
    for start in range(0, len(hidden), POSITIONS_PER_CHUNK):
        rows = slice(start, start + POSITIONS_PER_CHUNK)
        logits = torch.nn.functional.linear(hidden[rows], weight, bias).float()
        losses[rows] = -torch.log_softmax(logits, dim=-1).gather(1, targets[rows, None])[:, 0]
    return losses


def own_logits(model: PreTrainedModel, hidden: Tensor) -> Tensor:
    """Logits [positions, vocabulary] of ``hidden`` [positions, width] by the model's own code.

    Some families scale or cap what the head gives (Granite, Cohere, Gemma 2); here that happens too.
    """
    head_only = copy.copy(model)
    head_only._modules = {**model._modules, model.base_model_prefix: _Given(hidden)}
    logits: Tensor = head_only(
        input_ids=torch.zeros(1, len(hidden), dtype=torch.long, device=hidden.device), use_cache=False
    ).logits[0]
    return logits


@torch.no_grad()
def own_log_probabilities(model: PreTrainedModel, hidden: Tensor, tokens: Tensor) -> Tensor:
    """log p of each of ``tokens`` [positions, choices] after ``hidden`` [positions, width], fp32, in nats."""
    output = torch.empty(tokens.shape, dtype=torch.float32)
    for start in range(0, len(hidden), POSITIONS_PER_CHUNK):
        rows = slice(start, start + POSITIONS_PER_CHUNK)
        log_probabilities = torch.log_softmax(own_logits(model, hidden[rows]).float(), dim=-1)
        output[rows] = log_probabilities.gather(1, tokens[rows].to(hidden.device)).cpu()
    return output


@dataclass
class _States(BaseModelOutputWithPastAndCrossAttentions):
    """What a decoder gives; heads of mixtures of experts ask for the routing, too."""

    router_logits: None = None


class _Given(nn.Module):
    """Stands in for a decoder whose final hidden states are known."""

    def __init__(self, hidden: Tensor) -> None:
        super().__init__()
        self.hidden = hidden

    def forward(self, *_: Any, **__: Any) -> _States:
        return _States(last_hidden_state=self.hidden[None])
