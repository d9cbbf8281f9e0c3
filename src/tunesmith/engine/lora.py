"""Low-rank adapters on frozen linear layers, with a hand-written backward.

LoRA: Hu et al. 2021, arXiv 2106.09685. The adapter's weights are fp32 masters; products run in the
model's own precision. Names and initialisation follow PEFT, so adapters load there unchanged.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tunesmith.errors import UserError


class _LoraProduct(torch.autograd.Function):
    """x·Wᵀ + s·(x·Aᵀ)·Bᵀ with gradients for x, A and B only; saves x and x·Aᵀ."""

    @staticmethod
    def forward(
        ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, scaling: float
    ) -> Tensor:
        flat = inputs.reshape(-1, inputs.shape[-1])
        a_cast, b_cast = a.to(flat.dtype), b.to(flat.dtype)
        low = flat @ a_cast.T
        output = F.linear(flat, weight, bias)
        output.addmm_(low, b_cast.T, alpha=scaling)
        ctx.save_for_backward(flat, low, weight, a_cast, b_cast)
        ctx.scaling, ctx.input_shape = scaling, inputs.shape
        return output.view(*inputs.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *output_gradients: Tensor) -> tuple[Tensor | None, ...]:
        flat, low, weight, a, b = ctx.saved_tensors
        gradient = output_gradients[0].reshape(-1, weight.shape[0])
        low_gradient = (gradient @ b).mul_(ctx.scaling)
        # [rank, out] is the fast way round for so thin a product.
        b_gradient = ((low.T @ gradient).float() * ctx.scaling).T.contiguous()
        a_gradient = (low_gradient.T @ flat).float()
        input_gradient = None
        if ctx.needs_input_grad[0]:
            input_gradient = torch.mm(gradient, weight)
            input_gradient.addmm_(low_gradient, a)
            input_gradient = input_gradient.view(ctx.input_shape)
        return input_gradient, None, None, a_gradient, b_gradient, None


class LoraLinear(nn.Module):
    """A frozen linear layer with a low-rank adapter beside it."""

    def __init__(self, base: nn.Linear, rank: int, alpha: float) -> None:
        super().__init__()
        self.base = base
        self.scaling = alpha / rank
        self.lora_a = nn.Parameter(torch.zeros(rank, base.in_features, dtype=torch.float32))
        self.lora_b = nn.Parameter(torch.zeros(base.out_features, rank, dtype=torch.float32))
        self.enabled = True

    @property
    def weight(self) -> Tensor:
        return self.base.weight

    @property
    def bias(self) -> Tensor | None:
        return self.base.bias

    def forward(self, inputs: Tensor) -> Tensor:
        if not self.enabled:
            return F.linear(inputs, self.base.weight, self.base.bias)
        output: Tensor = _LoraProduct.apply(  # type: ignore[no-untyped-call]  # torch leaves it untyped
            inputs, self.base.weight, self.base.bias, self.lora_a, self.lora_b, self.scaling
        )
        return output


def attach_lora(model: nn.Module, rank: int, alpha: float, seed: int) -> list[str]:
    """Put an adapter on every linear layer except the output head; everything else is frozen.

    A is drawn as PEFT draws it (Kaiming uniform, a = √5), B is zero, so the model answers as before.
    Returns the adapted layers' names. Raises UserError where a model has no linear layers.
    """
    model.requires_grad_(False)
    head = model.get_output_embeddings()  # type: ignore[operator]  # nn.Module's __getattr__ hides it
    names = [
        name for name, module in model.named_modules() if isinstance(module, nn.Linear) and module is not head
    ]
    if not names:
        kinds = sorted({type(module).__name__ for module in model.modules()})
        raise UserError(
            f"no linear layer to adapt in {type(model).__name__} (its layers: {', '.join(kinds)})",
            fix="choose a base whose layers are torch.nn.Linear, such as smollm2-135m-instruct",
        )
    generator = torch.Generator().manual_seed(seed)
    for name in names:
        parent = model.get_submodule(name.rpartition(".")[0])
        linear = model.get_submodule(name)
        assert isinstance(linear, nn.Linear)
        adapted = LoraLinear(linear, rank, alpha)
        bound = math.sqrt(1 / linear.in_features)
        with torch.no_grad():
            adapted.lora_a.uniform_(-bound, bound, generator=generator)
        setattr(parent, name.rpartition(".")[2], adapted)
    return names


def lora_layers(model: nn.Module) -> dict[str, LoraLinear]:
    """The adapted layers by the name the base model gives them."""
    return {name: module for name, module in model.named_modules() if isinstance(module, LoraLinear)}


def lora_parameters(model: nn.Module) -> list[nn.Parameter]:
    """The trainable fp32 masters, in a fixed order."""
    return [parameter for layer in lora_layers(model).values() for parameter in (layer.lora_a, layer.lora_b)]


@contextmanager
def lora_disabled(model: nn.Module) -> Iterator[None]:
    """Within the block the model answers as the base does."""
    layers = list(lora_layers(model).values())
    before = [layer.enabled for layer in layers]
    for layer in layers:
        layer.enabled = False
    try:
        yield
    finally:
        for layer, enabled in zip(layers, before, strict=True):
            layer.enabled = enabled
