"""Linear layers that read the same input, as one matrix product with their adapters inside it.

With h = x·Aᵀ, the product [x | h]·[W | s·B]ᵀ is x·Wᵀ + s·h·Bᵀ in one pass over the output, and stacking
Q, K and V (or gate and up) makes one product of several. The frozen weights become views of the stacked
one, so nothing is stored twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tunesmith.engine.lora import LoraLinear


class Product:
    """``layers`` (nn.Linear or LoraLinear) that are always applied to the same input."""

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        self.layers = [cast("nn.Linear | LoraLinear", layer) for layer in layers]
        first = self.layers[0].weight.detach()
        self.inputs = first.shape[1]
        self.outputs = [layer.weight.shape[0] for layer in self.layers]
        ranks = sum(layer.lora_a.shape[0] for layer in self.layers if isinstance(layer, LoraLinear))
        self.weight = first.new_zeros(sum(self.outputs), self.inputs + ranks)
        self.a = first.new_zeros(ranks, self.inputs)
        self.bias = _stacked_bias(self.layers)
        # Of every adapter: its layer, the rows of its outputs, the columns of its rank.
        self.adapters: list[tuple[LoraLinear, slice, slice]] = []
        row = column = 0
        for layer in self.layers:
            rows = slice(row, row + layer.weight.shape[0])
            row = rows.stop
            view = self.weight[rows, : self.inputs]
            view.copy_(layer.weight.detach())
            layer.weight.data = view
            if isinstance(layer, LoraLinear):
                columns = slice(column, column + layer.lora_a.shape[0])
                column = columns.stop
                self.adapters.append((layer, rows, columns))
        self._addresses = [layer.weight.data_ptr() for layer in self.layers]

    def stands_for(self, layers: Sequence[nn.Module]) -> bool:
        """Whether these are still the layers, and the weights, that were stacked."""
        return all(
            layer is known and known.weight.data_ptr() == address
            for layer, known, address in zip(layers, self.layers, self._addresses, strict=True)
        )

    @property
    def masters(self) -> list[nn.Parameter]:
        """A [rank, in] and B [out, rank] of every adapter, in order."""
        return [master for layer, _, _ in self.adapters for master in (layer.lora_a, layer.lora_b)]

    def refresh(self) -> None:
        """Bring the adapters' present values into the stacked weights."""
        # Always: fused AdamW writes the masters without changing their version, so nothing tells a change.
        with torch.no_grad():
            # Copied, not viewed, unlike the weights: full fine-tuning moves them.
            self.bias = _stacked_bias(self.layers)
            for layer, rows, columns in self.adapters:
                scaling = layer.scaling if layer.enabled else 0.0
                self.a[columns] = layer.lora_a
                self.weight[rows, self.inputs :][:, columns] = layer.lora_b * scaling

    def room(self, like: Tensor) -> Tensor:
        """An unfilled [tokens, inputs + ranks] to write inputs into the first columns of."""
        ranks = self.a.shape[0] if self._adapted() else 0
        return like.new_empty(len(like), self.inputs + ranks)

    def forward(self, extended: Tensor) -> Tensor:
        """[tokens, outputs] of inputs in a :meth:`room`; its last columns are filled for :meth:`backward`."""
        inputs = extended[:, : self.inputs]
        if not self._adapted():
            return F.linear(inputs, self.weight[:, : self.inputs], self.bias)
        extended[:, self.inputs :] = inputs @ self.a.T
        return F.linear(extended, self.weight, self.bias)

    def backward(self, gradient: Tensor, extended: Tensor) -> tuple[Tensor, list[Tensor | None]]:
        """Gradients of the inputs [tokens, inputs] and, in fp32, of the masters."""
        if not self._adapted():
            return gradient @ self.weight[:, : self.inputs], [None] * len(self.masters)
        wide = gradient @ self.weight
        low = wide[:, self.inputs :].contiguous()
        input_gradient = wide[:, : self.inputs].addmm_(low, self.a)
        a_gradients = low.T @ extended[:, : self.inputs]
        # [rank, out] is the fast way round for so thin a product.
        b_gradients = extended[:, self.inputs :].T @ gradient
        gradients: list[Tensor | None] = []
        for layer, rows, columns in self.adapters:
            scaling = layer.scaling if layer.enabled else 0.0
            gradients.append(a_gradients[columns].float())
            gradients.append((b_gradients[columns, rows].float() * scaling).T.contiguous())
        return input_gradient, gradients

    def _adapted(self) -> bool:
        return any(layer.enabled for layer, _, _ in self.adapters)


class FrozenProduct:
    """A product as it is now, in the layout that oneDNN multiplies fastest where there is one; not for
    training."""

    def __init__(self, product: Product) -> None:
        self.inputs = product.inputs
        adapted = any(layer.enabled for layer, _, _ in product.adapters)
        self.ranks = product.a.shape[0] if adapted else 0
        self.a = product.a.T
        self.multiply = multiplication(product.weight[:, : self.inputs + self.ranks], product.bias)

    def room(self, like: Tensor) -> Tensor:
        """As :meth:`Product.room`."""
        return like.new_empty(len(like), self.inputs + self.ranks)

    def extended(self, inputs: Tensor) -> Tensor:
        """``inputs`` [tokens, inputs] in a room, or as they are where it would be no wider."""
        if not self.ranks:
            return inputs
        room = self.room(inputs)
        room[:, : self.inputs] = inputs
        return room

    def forward(self, extended: Tensor) -> Tensor:
        """As :meth:`Product.forward`."""
        if self.ranks:
            extended[:, self.inputs :] = extended[:, : self.inputs] @ self.a
        product: Tensor = self.multiply(extended)
        return product


def multiplication(weight: Tensor, bias: Tensor | None) -> Callable[[Tensor], Tensor]:
    """inputs [rows, in] → [rows, out], with a copy of ``weight`` where another layout is faster."""
    mkldnn: Any = torch.ops.mkldnn
    if (
        weight.device.type != "cpu"
        or not torch._C._has_mkldnn
        or (weight.dtype == torch.bfloat16 and not mkldnn._is_mkldnn_bf16_supported())
    ):
        return lambda inputs: F.linear(inputs, weight, bias)
    packed = mkldnn._reorder_linear_weight(weight.contiguous())
    return lambda inputs: mkldnn._linear_pointwise(inputs, packed, bias, "none", [], "")


def _stacked_bias(layers: Sequence[nn.Linear | LoraLinear]) -> Tensor | None:
    if all(layer.bias is None for layer in layers):
        return None
    return torch.cat(
        [
            layer.weight.new_zeros(layer.weight.shape[0]) if layer.bias is None else layer.bias.detach()
            for layer in layers
        ]
    )
