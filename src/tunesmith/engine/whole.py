"""Modules that are trained whole beside adapters: PEFT's ``modules_to_save``."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn


class TrainedModule(nn.Module):
    """A frozen module and a copy of it that is trained: fp32 masters, products in the module's own dtype.

    The copy stands apart also where the module shared its weights (a head tied to the embeddings).
    """

    def __init__(self, base: nn.Module) -> None:
        super().__init__()
        self.base = base
        self.trained = copy.deepcopy(base).float().requires_grad_(True)
        self.enabled = True

    @property
    def weight(self) -> Tensor:
        base: Any = self.base
        trained: Any = self.trained
        weight: Tensor = trained.weight.to(base.weight.dtype) if self.enabled else base.weight
        return weight

    @property
    def bias(self) -> Tensor | None:
        base: Any = self.base
        trained: Any = self.trained
        if getattr(base, "bias", None) is None:
            return None
        bias: Tensor = trained.bias.to(base.bias.dtype) if self.enabled else base.bias
        return bias

    def forward(self, *inputs: Any, **named: Any) -> Any:
        if not self.enabled:
            return self.base(*inputs, **named)
        kinds = {name: parameter.dtype for name, parameter in self.base.named_parameters()}
        cast = {name: master.to(kinds[name]) for name, master in self.trained.named_parameters()}
        return torch.func.functional_call(self.trained, cast, inputs, named)


def trained_modules(model: nn.Module) -> dict[str, TrainedModule]:
    """The modules trained whole, by the name the base model gives them."""
    return {name: module for name, module in model.named_modules() if isinstance(module, TrainedModule)}
