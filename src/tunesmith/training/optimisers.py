"""Optimisers, their state in checkpoints, and the penalties on how far weights move."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from tunesmith.engine.lora import lora_layers
from tunesmith.errors import UserError
from tunesmith.task.train_settings import TrainSettings

ADAM_BETAS = (0.9, 0.999)
ADAM_EPSILON = 1e-8

OptimiserState = list[dict[str, Tensor]]


def make_optimiser(parameters: Sequence[Tensor], settings: TrainSettings) -> torch.optim.Optimizer:
    """The optimiser of the task over ``parameters``; weights of one dimension get no weight decay.

    AdamW (Loshchilov and Hutter 2017, arXiv 1711.05101) and SGD with momentum by PyTorch, 8-bit AdamW
    (Dettmers et al. 2021, arXiv 2110.02861) by bitsandbytes. Raises UserError where that is not installed.
    """
    matrices = [parameter for parameter in parameters if parameter.ndim > 1]
    others = [parameter for parameter in parameters if parameter.ndim <= 1]
    groups = [
        {"params": group, "weight_decay": decay}
        for group, decay in ((matrices, settings.weight_decay), (others, 0.0))
        if group
    ]
    rate = settings.learning_rate
    if settings.optimiser == "sgd":
        return torch.optim.SGD(groups, lr=rate, momentum=settings.momentum)
    if settings.optimiser == "adamw8bit":
        check_optimiser(settings)
        return _adamw_8bit(groups, rate)
    return torch.optim.AdamW(groups, lr=rate, betas=ADAM_BETAS, eps=ADAM_EPSILON, fused=True)


def check_optimiser(settings: TrainSettings) -> None:
    """Raise UserError, before any long work, where the optimiser's library is not installed."""
    if settings.optimiser == "adamw8bit" and find_spec("bitsandbytes") is None:
        raise UserError(
            "train.optimiser: adamw8bit needs bitsandbytes, which is not installed",
            fix="pip install 'tunesmith[qlora]', or use optimiser: adamw",
        )


def _adamw_8bit(groups: list[dict[str, object]], rate: float) -> torch.optim.Optimizer:
    from bitsandbytes import optim

    library: Any = optim  # untyped
    optimiser: torch.optim.Optimizer = library.AdamW8bit(groups, lr=rate, betas=ADAM_BETAS, eps=ADAM_EPSILON)
    return optimiser


def optimiser_state(optimiser: torch.optim.Optimizer, parameters: Sequence[Tensor]) -> OptimiserState:
    """What the optimiser remembers of every parameter, as tensors; counts become int64 tensors."""
    return [
        {
            name: value if isinstance(value, Tensor) else torch.tensor(value, dtype=torch.int64)
            for name, value in optimiser.state[parameter].items()
            if value is not None
        }
        for parameter in parameters
    ]


def restore_optimiser(
    optimiser: torch.optim.Optimizer, parameters: Sequence[Tensor], state: OptimiserState
) -> None:
    """Give the optimiser the memory that :func:`optimiser_state` read."""
    for parameter, remembered in zip(parameters, state, strict=True):
        optimiser.state[parameter] = {
            name: int(value) if value.dtype == torch.int64 else value.to(parameter.device)
            for name, value in remembered.items()
        }


class Penalties:
    """L1 and L2 penalties on the change of the weights from the base.

    A low-rank adapter is the change, so its matrices are drawn towards zero; every other parameter is drawn
    towards what it is when this is made. The penalty is l1·Σ|change| + ½·l2·Σ change².
    """

    def __init__(self, model: nn.Module, parameters: Sequence[Tensor], settings: TrainSettings) -> None:
        self.l1, self.l2 = settings.l1_penalty, settings.l2_penalty
        self.parameters = list(parameters) if self.l1 or self.l2 else []
        adapters = {
            id(matrix) for layer in lora_layers(model).values() for matrix in (layer.lora_a, layer.lora_b)
        }
        self.starts = [
            None if id(parameter) in adapters else parameter.detach().clone() for parameter in self.parameters
        ]

    @torch.no_grad()
    def add_gradients(self) -> None:
        """Add the penalties' gradients to those of the parameters, which a backward pass has made."""
        for parameter, start in zip(self.parameters, self.starts, strict=True):
            change = parameter if start is None else parameter - start
            assert parameter.grad is not None
            if self.l1:
                parameter.grad.add_(change.sign(), alpha=self.l1)
            if self.l2:
                parameter.grad.add_(change, alpha=self.l2)
