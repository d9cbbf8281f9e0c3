"""The Llama family's decoder over packed rows, with a hand-written backward for LoRA.

The same arithmetic as Transformers' decoder layers in fewer passes over memory: no padding, stacked
products with the adapters inside, fused norms, and only what the adapters' gradients need is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from tunesmith.engine.attention import Attended, Packed, attend, attend_backward, extend_cache
from tunesmith.engine.devices import fused
from tunesmith.engine.full import trains_all_weights
from tunesmith.engine.lora import LoraLinear
from tunesmith.engine.packing import Packing
from tunesmith.engine.products import FrozenProduct, Product
from tunesmith.engine.recompute import recomputes
from tunesmith.engine.segment_attention import SegmentsAttended
from tunesmith.engine.whole import TrainedModule
from tunesmith.models.quantised import QuantisedLinear

# Model types whose layers are RMSNorm, rotary attention, RMSNorm, SwiGLU and nothing else.
FAMILIES = ("llama", "mistral", "qwen2")


# Of Q, K and V; of the attention's output; of gate and up; of down.
Products = (
    tuple[Product, Product, Product, Product]
    | tuple[FrozenProduct, FrozenProduct, FrozenProduct, FrozenProduct]
)


@dataclass(frozen=True)
class _Layer:
    """One decoder layer: its products and norms, and the shape of its attention."""

    qkv: Product
    output: Product
    gate_up: Product
    down: Product
    first_norm: Any
    second_norm: Any
    head_dim: int
    scaling: float

    @property
    def products(self) -> tuple[Product, Product, Product, Product]:
        return self.qkv, self.output, self.gate_up, self.down


@dataclass(frozen=True)
class _Kept:
    """What the backward pass of a layer needs: inputs of norms and products, and the attention's blocks."""

    hidden: Tensor
    qkv_input: Tensor
    output_input: Tensor
    middle: Tensor
    gate_up_input: Tensor
    gate_up: Tensor
    down_low: Tensor
    attended: list[Attended] | SegmentsAttended


_layers: WeakKeyDictionary[nn.Module, _Layer] = WeakKeyDictionary()


def decodes(model: PreTrainedModel) -> bool:
    """Whether :func:`decode` is meant for this model as it is adapted."""
    return of_family(model) and why_not_decoded(model) is None


def of_family(model: PreTrainedModel) -> bool:
    """Whether the model's layers are those that :func:`decode` computes."""
    return family_of(model.config) and not (model.training and model.config.attention_dropout)


def family_of(config: Any) -> bool:
    """Whether the layers of models with this config are those that :func:`decode` computes."""
    return (
        config.model_type in FAMILIES
        and config.hidden_act in ("silu", "swish")
        and "sliding_attention" not in (getattr(config, "layer_types", None) or ())
        and not getattr(config, "sliding_window", None)
    )


def why_not_decoded(model: PreTrainedModel) -> str | None:
    """What about its adapters keeps a model of the family from :func:`decode`; None where nothing does."""
    if torch.is_grad_enabled() and trains_all_weights(model):
        return "all weights are trained"
    base: Any = model.base_model
    for layer in base.layers:
        for norm in (layer.input_layernorm, layer.post_attention_layernorm):
            if isinstance(norm, TrainedModule):
                return "norms are trained"
        for linear in (module for stack in _stacks(layer) for module in stack):
            if isinstance(linear, LoraLinear) and linear.magnitude is not None:
                return "DoRA scales each output"
            base_layer = linear.base if isinstance(linear, LoraLinear) else linear
            if isinstance(base_layer, QuantisedLinear):
                return "the base is held in 4 bits"
            if not isinstance(base_layer, nn.Linear):
                return "linear layers are trained whole"
    return None


def decode(
    model: PreTrainedModel,
    ids: Tensor,
    packed: Packed,
    wanted: Tensor,
    frozen: Sequence[Products] | None = None,
) -> Tensor:
    """Final hidden states [wanted, width] of packed token ``ids`` [tokens].

    Differentiable in the adapters' weights unless keys are cached. ``frozen`` are the layers' products as
    they are to be multiplied, for many calls in which no weight changes.
    """
    base: Any = model.base_model
    hidden = base.embed_tokens(ids)
    cos, sin = base.rotary_emb(hidden[None], packed.packing.query_positions[None])
    half = cos.shape[-1] // 2
    # With the first half of the sine negated, a roll of the heads does what rotate_half does.
    rotation = cos[0, :, None], torch.cat([-sin[0, :, None, :half], sin[0, :, None, half:]], dim=-1)
    apply: Any = _DecoderLayer.apply
    for index, module in enumerate(base.layers):
        layer = _layer(module)
        if frozen is None:
            for product in layer.products:
                product.refresh()
        masters = [master for product in layer.products for master in product.masters]
        if torch.is_grad_enabled() and packed.cache is None:
            hidden = apply(hidden, layer, packed.packing, recomputes(module), *rotation, *masters)
        else:
            products = layer.products if frozen is None else frozen[index]
            # Of the last layer only these are wanted; keys are formed of all.
            some = wanted if index == len(base.layers) - 1 else None
            hidden, _ = _forward(layer, index, hidden, packed, *rotation, products=products, wanted=some)
            if some is not None:
                return cast("Tensor", base.norm(hidden))
    final: Tensor = base.norm(hidden[wanted])
    return final


class _DecoderLayer(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        layer: _Layer,
        packing: Packing,
        again: bool,
        cos: Tensor,
        sin: Tensor,
        *masters: Tensor,
    ) -> Tensor:
        # Where the layer is computed again, what it would keep now is not kept.
        output, kept = _forward(layer, 0, hidden, Packed(packing, None), cos, sin, keep=not again)
        ctx.layer, ctx.packing, ctx.rotation = layer, packing, (cos, sin)
        ctx.kept = hidden if again else kept
        # Saved only so that autograd notices when a step was taken between forward and backward.
        ctx.save_for_backward(*[product.weight for product in layer.products])
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        assert ctx.saved_tensors
        cos, sin = ctx.rotation
        kept, ctx.kept = ctx.kept, None
        if isinstance(kept, Tensor):
            _, kept = _forward(ctx.layer, 0, kept, Packed(ctx.packing, None), cos, sin, keep=True)
        hidden_gradient, master_gradients = _backward(
            ctx.layer, gradients[0], ctx.packing, kept, cos, sin, ctx.needs_input_grad[0]
        )
        return hidden_gradient, None, None, None, None, None, *master_gradients


def _forward(
    layer: _Layer,
    index: int,
    hidden: Tensor,
    packed: Packed,
    cos: Tensor,
    sin: Tensor,
    keep: bool = False,
    products: Products | None = None,
    wanted: Tensor | None = None,
) -> tuple[Tensor, _Kept]:
    """The layer's output, of the ``wanted`` tokens alone where these are given, and what backward needs."""
    qkv, output, gate_up, down = products or layer.products
    qkv_input = normed(hidden, layer.first_norm, qkv)
    heads = qkv.forward(qkv_input).view(len(hidden), -1, layer.head_dim)
    queries, keys, _ = (outputs // layer.head_dim for outputs in layer.qkv.outputs)
    rotated = fused(_rotated, heads)(heads[:, : queries + keys], cos, sin)
    key, value = rotated[:, queries:], heads[:, queries + keys :]
    if packed.cache is not None:
        key, value = extend_cache(packed.cache, index, key, value)
    attended, blocks = attend(rotated[:, :queries], key, value, packed.packing, layer.scaling, keep=keep)
    if wanted is not None:
        attended, hidden = attended[wanted], hidden[wanted]
    output_input = output.room(attended)
    output_input[:, : output.inputs] = attended
    middle = output.forward(output_input).add_(hidden)
    gate_up_input = normed(middle, layer.second_norm, gate_up)
    both = gate_up.forward(gate_up_input)
    down_input = activated(both, down)
    result = down.forward(down_input).add_(middle)
    down_low = down_input[:, down.inputs :].contiguous()
    kept = _Kept(hidden, qkv_input, output_input, middle, gate_up_input, both, down_low, blocks)
    return result, kept


def _backward(
    layer: _Layer,
    gradient: Tensor,
    packing: Packing,
    kept: _Kept,
    cos: Tensor,
    sin: Tensor,
    hidden_needed: bool,
) -> tuple[Tensor | None, list[Tensor | None]]:
    """The gradient of the layer's input, where needed, and those of its products' masters in order."""
    gate, up = kept.gate_up.chunk(2, dim=1)
    activated = F.silu(gate)
    down_input = layer.down.room(gate)
    torch.mul(activated, up, out=down_input[:, : layer.down.inputs])
    down_input[:, layer.down.inputs :] = kept.down_low
    d_activation, of_down = layer.down.backward(gradient, down_input)
    if gradient.is_cuda:
        d_gate_up = fused(_swiglu_backward, gradient)(d_activation, kept.gate_up)
    else:  # written into place: one pass less over memory
        d_gate_up = torch.empty_like(kept.gate_up)
        d_gate, d_up = d_gate_up.chunk(2, dim=1)
        torch.mul(d_activation, activated, out=d_up)
        torch.ops.aten.silu_backward.grad_input(d_activation * up, gate, grad_input=d_gate)
    d_normed, of_gate_up = layer.gate_up.backward(d_gate_up, kept.gate_up_input)
    d_middle = _norm_gradient(d_normed, kept.middle, layer.second_norm).add_(gradient)

    d_attended, of_output = layer.output.backward(d_middle, kept.output_input)
    d_query, d_key, d_value = attend_backward(d_attended, packing, kept.attended, layer.scaling)
    d_rotated = torch.cat([d_query, d_key], dim=1).view(len(d_query), -1, layer.head_dim)
    d_rotated = fused(_rotated, d_rotated)(d_rotated, cos, -sin).flatten(1)
    d_normed, of_qkv = layer.qkv.backward(torch.cat([d_rotated, d_value], dim=1), kept.qkv_input)
    masters = [*of_qkv, *of_output, *of_gate_up, *of_down]
    if not hidden_needed:
        return None, masters
    return _norm_gradient(d_normed, kept.hidden, layer.first_norm).add_(d_middle), masters


def _stacks(module: Any) -> tuple[tuple[nn.Module, ...], ...]:
    """The linear layers of a decoder layer, those that read the same input together."""
    attention, mlp = module.self_attn, module.mlp
    return (
        (attention.q_proj, attention.k_proj, attention.v_proj),
        (attention.o_proj,),
        (mlp.gate_proj, mlp.up_proj),
        (mlp.down_proj,),
    )


def _layer(module: Any) -> _Layer:
    attention, stacks = module.self_attn, _stacks(module)
    known = _layers.get(module)
    if known is not None and all(
        product.stands_for(stack) for product, stack in zip(known.products, stacks, strict=True)
    ):
        return known
    qkv, output, gate_up, down = (Product(stack) for stack in stacks)
    layer = _Layer(
        qkv,
        output,
        gate_up,
        down,
        module.input_layernorm,
        module.post_attention_layernorm,
        attention.head_dim,
        attention.scaling,
    )
    _layers[module] = layer
    return layer


def _rotated(heads: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary position embedding (Su et al. 2021) of [tokens, heads, head_dim]."""
    return (heads * cos).addcmul_(heads.roll(heads.shape[-1] // 2, -1), sin)


def _swiglu(gate_up: Tensor) -> Tensor:
    """SiLU of the gate times the other half: [tokens, width] of [tokens, 2 × width]."""
    gate, up = gate_up.chunk(2, dim=1)
    return F.silu(gate) * up


def _swiglu_backward(gradient: Tensor, gate_up: Tensor) -> Tensor:
    gate, up = gate_up.chunk(2, dim=1)
    of_gate = torch.ops.aten.silu_backward(gradient * up, gate)
    return torch.cat([of_gate, gradient * F.silu(gate)], dim=1)


def activated(gate_up: Tensor, product: Product | FrozenProduct) -> Tensor:
    """The activations, in ``product``'s room."""
    room = product.room(gate_up)
    wanted = room[:, : product.inputs]
    if gate_up.is_cuda:
        wanted.copy_(fused(_swiglu, gate_up)(gate_up))
    else:
        gate, up = gate_up.chunk(2, dim=1)
        torch.ops.aten.silu.out(gate, out=wanted).mul_(up)
    return room


def normed(hidden: Tensor, norm: Any, product: Product | FrozenProduct) -> Tensor:
    """RMSNorm (Zhang and Sennrich 2019, arXiv 1910.07467) of ``hidden``, in ``product``'s room."""
    room = product.room(hidden)
    wanted = room[:, : product.inputs]
    if hidden.is_cuda:
        wanted.copy_(F.rms_norm(hidden, norm.weight.shape, norm.weight, norm.variance_epsilon))
    else:  # as Transformers forms it, in fewer passes over memory
        normed, inverse = fp32_and_inverse(hidden, norm.variance_epsilon)
        wanted.copy_(normed.mul_(inverse)).mul_(norm.weight)
    return room


def fp32_and_inverse(hidden: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    """``hidden`` in fp32, a copy, and one over its root mean square [tokens, 1]."""
    whole = hidden.to(torch.float32, copy=True)
    return whole, torch.linalg.vecdot(whole, whole).div_(whole.shape[1]).add_(epsilon).rsqrt_()[:, None]


def _norm_gradient(gradient: Tensor, hidden: Tensor, norm: Any) -> Tensor:
    whole: Tensor = fused(_rms_norm_backward, gradient)(gradient, hidden, norm.weight, norm.variance_epsilon)
    return whole


def _rms_norm_backward(gradient: Tensor, hidden: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """The gradient of the norm's input, formed in fp32."""
    normed, inverse = fp32_and_inverse(hidden, epsilon)
    width = normed.shape[1]
    normed = normed.mul_(inverse)
    scaled = gradient * weight.float()
    along = torch.linalg.vecdot(scaled, normed).div_(width)[:, None]
    whole: Tensor = scaled.addcmul_(normed, along, value=-1).mul_(inverse).to(hidden.dtype)
    return whole


def stacked_layers(model: PreTrainedModel) -> list[_Layer]:
    """Every layer of a model that :func:`decodes`, with its products as they are stacked now."""
    base: Any = model.base_model
    return [_layer(module) for module in base.layers]
