"""Full fine-tuning: every weight is trained, on fp32 masters where the model computes in less.

In bf16 a step smaller than 1/256 of a weight would be lost, so the optimiser moves an fp32 copy (Micikevicius
et al. 2018, arXiv 1710.03740). Gradients go to the masters as soon as a weight's own is complete.
"""

from __future__ import annotations

from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

_masters: WeakKeyDictionary[nn.Module, dict[str, nn.Parameter]] = WeakKeyDictionary()


def train_all_weights(model: nn.Module) -> None:
    """Let every weight be trained; those that are not fp32 get an fp32 master."""
    model.requires_grad_(True)
    _masters[model] = {name: _master_of(weight) for name, weight in model.named_parameters()}


def trains_all_weights(model: nn.Module) -> bool:
    """Whether :func:`train_all_weights` was called for this model."""
    return model in _masters


def master_weights(model: nn.Module) -> dict[str, nn.Parameter]:
    """What the optimiser moves, fp32, by the weights' names; empty unless all weights are trained."""
    return _masters.get(model, {})


@torch.no_grad()
def masters_to_weights(model: nn.Module) -> None:
    """Round the masters to the model's own weights; to be called whenever masters have changed."""
    masters = master_weights(model)
    for name, weight in model.named_parameters():
        if name in masters and masters[name] is not weight:
            weight.copy_(masters[name])


def _master_of(weight: nn.Parameter) -> nn.Parameter:
    if weight.dtype == torch.float32:
        return weight
    master = nn.Parameter(weight.detach().float())
    on_gradient: Any = weight.register_post_accumulate_grad_hook  # torch leaves it untyped
    on_gradient(partial(_hand_over, master))
    return master


def _hand_over(master: nn.Parameter, weight: Tensor) -> None:
    assert weight.grad is not None
    if master.grad is None:
        master.grad = weight.grad.float()
    else:
        master.grad += weight.grad
    weight.grad = None
