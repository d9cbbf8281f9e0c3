"""Low-rank adapters on frozen linear layers, with a hand-written backward.

LoRA: Hu et al. 2021, arXiv 2106.09685; rsLoRA's scaling: arXiv 2312.03732; DoRA: ``dora``. The adapter's
weights are fp32 masters; products run in the model's own precision. Names and initialisation follow PEFT, so
adapters load there unchanged.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.pytorch_utils import Conv1D

from tunesmith.engine.added_tokens import GrownEmbedding, GrownHead, grown_modules
from tunesmith.engine.dora import dora_output, row_norms
from tunesmith.engine.full import master_weights
from tunesmith.engine.whole import TrainedModule, trained_modules
from tunesmith.errors import UserError
from tunesmith.models.adapters import AdapterMethod, scaling_of
from tunesmith.models.quantised import QuantisedLinear

# What can be named in a setting.
_NAMED_BY = {
    "targets": "linear layers but the output head, which train.modules_to_save trains whole",
    "modules_to_save": "modules with weights of their own",
}


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
    """A frozen linear layer (nn.Linear, GPT-2's Conv1D, or one in 4 bits) with a low-rank adapter beside it.

    ``magnitude`` [out] is DoRA's; None in the other methods. Dropout acts in :func:`adapter_dropout`.
    """

    def __init__(
        self,
        base: nn.Linear | Conv1D | QuantisedLinear,
        rank: int,
        alpha: float,
        method: AdapterMethod = "lora",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.base = base
        self.rank, self.alpha, self.method, self.dropout = rank, alpha, method, dropout
        self.scaling = scaling_of(method, rank, alpha)
        weight = self.weight.detach()
        outputs, inputs = weight.shape
        self.lora_a = nn.Parameter(torch.zeros(rank, inputs, dtype=torch.float32, device=weight.device))
        self.lora_b = nn.Parameter(torch.zeros(outputs, rank, dtype=torch.float32, device=weight.device))
        norms = row_norms(weight, self.lora_a, self.lora_b, self.scaling) if method == "dora" else None
        self.magnitude = None if norms is None else nn.Parameter(norms)
        self.enabled = True
        self.dropping = False

    @property
    def weight(self) -> Tensor:
        """[out, in]."""
        weight: Tensor = self.base.weight
        return weight.T if isinstance(self.base, Conv1D) else weight

    @property
    def bias(self) -> Tensor | None:
        bias: Tensor | None = self.base.bias
        return bias

    def forward(self, inputs: Tensor) -> Tensor:
        output: Tensor
        if not self.enabled:
            output = self.base(inputs)
            return output
        if self.magnitude is None and not self.dropping and not isinstance(self.base, QuantisedLinear):
            output = _LoraProduct.apply(  # type: ignore[no-untyped-call]  # torch leaves it untyped
                inputs, self.weight, self.bias, self.lora_a, self.lora_b, self.scaling
            )
            return output
        dropped = F.dropout(inputs, self.dropout) if self.dropping else inputs
        low = (dropped @ self.lora_a.T.to(inputs.dtype)) @ self.lora_b.T.to(inputs.dtype) * self.scaling
        output = self.base(inputs)
        if self.magnitude is None:
            return output + low
        scale = self.magnitude / row_norms(self.weight, self.lora_a, self.lora_b, self.scaling)
        return dora_output(inputs, dropped, output, self.weight, self.bias, low, scale)


def attach_lora(
    model: nn.Module,
    rank: int,
    alpha: float,
    seed: int,
    method: AdapterMethod = "lora",
    targets: Sequence[str] | None = None,
    dropout: float = 0.0,
    modules_to_save: Sequence[str] | None = None,
) -> list[str]:
    """Put an adapter on the linear layers whose names end in ``targets``; everything else is frozen.

    Without targets on every linear layer but the output head. Modules whose names end in ``modules_to_save``
    are trained whole. A is drawn as PEFT draws it (Kaiming uniform, a = √5), B is zero, so the model answers
    as before. Returns the adapted layers' names. Raises UserError where a model has no linear layers, or a
    name is not in it.
    """
    model.requires_grad_(False)
    whole = _named(model, modules_to_save or (), _whole_modules(model), "modules_to_save")
    linear = linear_layers(model)
    if not linear:
        kinds = sorted({type(module).__name__ for module in model.modules()})
        raise UserError(
            f"no linear layer to adapt in {type(model).__name__} (its layers: {', '.join(kinds)})",
            fix="choose a base with linear layers, such as smollm2-135m-instruct",
        )
    if targets is None:
        names = [name for name in linear if name not in whole]
    else:
        names = _named(model, targets, linear, "targets")
        if both := sorted(set(names) & set(whole)):
            raise UserError(
                f"train.modules_to_save: {both[0]} is in train.targets too",
                fix="a layer is adapted or trained whole: leave it out of one of the two",
            )
    generator = torch.Generator().manual_seed(seed)
    for name in names:
        layer: Any = model.get_submodule(name)
        adapted = LoraLinear(layer, rank, alpha, method, dropout)
        bound = math.sqrt(1 / adapted.lora_a.shape[1])
        drawn = torch.empty(adapted.lora_a.shape).uniform_(-bound, bound, generator=generator)
        with torch.no_grad():
            adapted.lora_a.copy_(drawn)
        model.set_submodule(name, adapted)
    for name in whole:
        model.set_submodule(name, TrainedModule(model.get_submodule(name)))
    return names


def linear_layers(model: nn.Module) -> list[str]:
    """The names of the layers an adapter can be put on: all linear ones but the output head."""
    head = model.get_output_embeddings()  # type: ignore[operator]  # nn.Module's __getattr__ hides it
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, (nn.Linear, Conv1D, QuantisedLinear)) and module is not head
    ]


def lora_layers(model: nn.Module) -> dict[str, LoraLinear]:
    """The adapted layers by the name the base model gives them."""
    return {name: module for name, module in model.named_modules() if isinstance(module, LoraLinear)}


def trained_weights(model: nn.Module) -> list[nn.Parameter]:
    """The weights that gradients are formed for, in a fixed order."""
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def trainable_parameters(model: nn.Module) -> list[nn.Parameter]:
    """The fp32 masters an optimiser moves, in the order of :func:`trained_weights`.

    After they have changed, :func:`tunesmith.engine.full.masters_to_weights` is to be called.
    """
    return list(master_weights(model).values()) or trained_weights(model)


@contextmanager
def lora_disabled(model: nn.Module) -> Iterator[None]:
    """Within the block the model answers as the base does."""
    switched: list[LoraLinear | TrainedModule | GrownEmbedding | GrownHead] = [
        *lora_layers(model).values(),
        *trained_modules(model).values(),
        *grown_modules(model).values(),
    ]
    before = [module.enabled for module in switched]
    for module in switched:
        module.enabled = False
    try:
        yield
    finally:
        for module, enabled in zip(switched, before, strict=True):
            module.enabled = enabled


@contextmanager
def adapter_dropout(model: nn.Module, seed: int, step: int) -> Iterator[None]:
    """Within the block adapters drop their share of inputs, drawn anew from ``seed`` and ``step``.

    So a resumed run drops what an uninterrupted one does. Nothing is drawn where no adapter has dropout.
    """
    layers = [layer for layer in lora_layers(model).values() if layer.dropout]
    if not layers:
        yield
        return
    devices = sorted({layer.lora_a.device.index or 0 for layer in layers if layer.lora_a.is_cuda})
    for layer in layers:
        layer.dropping = True
    try:
        with torch.random.fork_rng(devices):
            torch.manual_seed((seed * 1_000_003 + step) % 2**64)
            yield
    finally:
        for layer in layers:
            layer.dropping = False


def _whole_modules(model: nn.Module) -> list[str]:
    """Modules that hold weights of their own and no other modules."""
    return [
        name
        for name, module in model.named_modules()
        if name and not list(module.children()) and list(module.parameters(recurse=False))
    ]


def _named(model: nn.Module, endings: Sequence[str], names: Sequence[str], setting: str) -> list[str]:
    """Those of ``names`` that are, or end in a dot and, one of ``endings``; each ending must match."""
    for ending in endings:
        if not any(name == ending or name.endswith(f".{ending}") for name in names):
            known = sorted({name.rpartition(".")[2] for name in names})
            wrong = f"{ending!r} matches nothing in {type(model).__name__}"
            if any(name == ending or name.endswith(f".{ending}") for name, _ in model.named_modules()):
                wrong = f"{ending!r} cannot be named here: only {_NAMED_BY[setting]}"
            raise UserError(
                f"train.{setting}: {wrong}",
                fix=f"choose among {', '.join(known)} (or longer endings, such as {names[-1]})",
            )
    return [
        name for name in names if any(name == ending or name.endswith(f".{ending}") for ending in endings)
    ]
