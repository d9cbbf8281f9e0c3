"""Cross-entropy fused with the output head: only supervised positions reach the vocabulary.

The gradient of the hidden states is formed in the forward pass, chunk by chunk, so no [positions,
vocabulary] tensor outlives a chunk (the idea of Liger's and Apple's fused cross-entropies, arXiv
2411.09009, for a frozen head).
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPastAndCrossAttentions

POSITIONS_PER_CHUNK = 256


class _FrozenHeadCrossEntropy(torch.autograd.Function):
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
            if gradient is not None:
                # p − the target distribution: 1 − smoothing on the target, smoothing/V everywhere.
                logits_gradient = log_probabilities.exp_()
                on_target = torch.full_like(picked, smoothing - 1, dtype=torch.float32)
                logits_gradient.scatter_add_(1, picked, on_target)
                if smoothing:
                    logits_gradient -= smoothing / len(weight)
                if counts is not None:
                    logits_gradient *= counts
                gradient[rows] = logits_gradient.to(weight.dtype) @ weight
        ctx.save_for_backward(gradient)
        return total

    @staticmethod
    def backward(ctx: Any, *output_gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return gradient * output_gradients[0].to(gradient.dtype), None, None, None, None, None


def summed_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    smoothing: float = 0.0,
    position_weights: Tensor | None = None,
) -> Tensor:
    """Sum over positions of −log p(target), in nats, as an fp32 scalar.

    ``hidden`` is [positions, width], ``weight`` the frozen head [vocabulary, width], ``targets``
    [positions]. With ``smoothing`` ε a position's loss is (1−ε)·(−log p(target)) + ε·mean over the
    vocabulary of −log p (Szegedy et al. 2015, arXiv 1512.00567, as in PyTorch); ``position_weights``
    [positions] multiply the positions' losses. Differentiable in ``hidden``.
    """
    apply: Any = _FrozenHeadCrossEntropy.apply
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
        input_ids=torch.zeros(1, len(hidden), dtype=torch.long), use_cache=False
    ).logits[0]
    return logits


@torch.no_grad()
def own_log_probabilities(model: PreTrainedModel, hidden: Tensor, tokens: Tensor) -> Tensor:
    """log p of each of ``tokens`` [positions, choices] after ``hidden`` [positions, width], fp32, in nats."""
    output = torch.empty(tokens.shape, dtype=torch.float32)
    for start in range(0, len(hidden), POSITIONS_PER_CHUNK):
        rows = slice(start, start + POSITIONS_PER_CHUNK)
        log_probabilities = torch.log_softmax(own_logits(model, hidden[rows]).float(), dim=-1)
        output[rows] = log_probabilities.gather(1, tokens[rows])
    return output


class _Given(nn.Module):
    """Stands in for a decoder whose final hidden states are known."""

    def __init__(self, hidden: Tensor) -> None:
        super().__init__()
        self.hidden = hidden

    def forward(self, *_: Any, **__: Any) -> BaseModelOutputWithPastAndCrossAttentions:
        return BaseModelOutputWithPastAndCrossAttentions(last_hidden_state=self.hidden[None])
