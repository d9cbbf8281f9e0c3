"""Linear layers held in 4 bits: NF4 with doubly quantised block scales, as in QLoRA (arXiv 2305.14314).

bitsandbytes packs and unpacks the weights. The products are ours: its own layer repacks the weights for
inference on some CPUs, and could then not be trained through again.
"""

from __future__ import annotations

import importlib.util
import logging
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from tunesmith.errors import UserError

WEIGHTS_PER_BLOCK = 64


class QuantisedLinear(nn.Module):
    """A frozen linear layer whose weight [out, in] is unpacked for each product and then let go."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.out_features, self.in_features = weight.shape
        # One block a row: bitsandbytes 0.50 unpacks wrongly on CPUs where blocks run over the ends of rows.
        flat = weight.detach().flatten()
        blocks = F.pad(flat, (0, -len(flat) % WEIGHTS_PER_BLOCK)).view(-1, WEIGHTS_PER_BLOCK)
        packed, self.state = _bitsandbytes().quantize_4bit(
            blocks,
            blocksize=WEIGHTS_PER_BLOCK,
            compress_statistics=True,
            quant_type="nf4",
        )
        self.packed: Tensor
        self.register_buffer("packed", packed)
        self.bias = None if bias is None else nn.Parameter(bias.detach().clone(), requires_grad=False)

    @property
    def weight(self) -> Tensor:
        """[out, in], unpacked, in the dtype it was given in."""
        blocks: Tensor = _bitsandbytes().dequantize_4bit(self.packed, self.state)
        weights = self.out_features * self.in_features
        return blocks.flatten()[:weights].view(self.out_features, self.in_features)

    def forward(self, inputs: Tensor) -> Tensor:
        apply: Any = _QuantisedProduct.apply
        output: Tensor = apply(inputs, self)
        return output


class _QuantisedProduct(torch.autograd.Function):
    """x·Wᵀ + bias with a gradient for x only; the weight is unpacked again in the backward pass."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, layer: QuantisedLinear) -> Tensor:
        ctx.layer = layer
        return F.linear(inputs, layer.weight, layer.bias)

    @staticmethod
    def backward(ctx: Any, *output_gradients: Tensor) -> tuple[Tensor | None, None]:
        return output_gradients[0] @ ctx.layer.weight, None


def check_bitsandbytes() -> None:
    """Raises UserError with the install line where bitsandbytes is missing."""
    if importlib.util.find_spec("bitsandbytes") is None:
        raise UserError(
            "train.method: qlora needs bitsandbytes, which is not installed",
            fix='pip install "tunesmith[qlora]", or choose another train.method',
        )


def quantise(model: PreTrainedModel) -> None:
    """Replace every linear layer but the output head by one in NF4, in place.

    Raises UserError where bitsandbytes is missing.
    """
    check_bitsandbytes()
    for name in _quantised_names(model):
        layer: Any = model.get_submodule(name)
        weight = layer.weight.T if isinstance(layer, Conv1D) else layer.weight
        model.set_submodule(name, QuantisedLinear(weight, layer.bias))


@torch.no_grad()
def round_to_nf4(model: PreTrainedModel) -> None:
    """Give the layers that :func:`quantise` would pack, in place, the weights they would unpack to.

    Raises UserError where bitsandbytes is missing.
    """
    check_bitsandbytes()
    for name in _quantised_names(model):
        layer: Any = model.get_submodule(name)
        weight = layer.weight.T if isinstance(layer, Conv1D) else layer.weight
        weight.copy_(QuantisedLinear(weight, None).weight)


def _quantised_names(model: PreTrainedModel) -> list[str]:
    head = model.get_output_embeddings()  # type: ignore[no-untyped-call]  # so is Transformers' own
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, (nn.Linear, Conv1D)) and module is not head
    ]


def _bitsandbytes() -> Any:
    # On import it logs which optional GPU and CPU kernels it did not find.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    import bitsandbytes.functional

    return bitsandbytes.functional
