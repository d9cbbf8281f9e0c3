"""Before a run trusts the fast path, it is compared with the model's own forward and backward."""

from __future__ import annotations

import contextlib
from typing import Protocol
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from tunesmith.engine.attention import Packed
from tunesmith.engine.forward import Batch, packed_hidden, plain_summed_loss, summed_loss
from tunesmith.engine.lora import lora_layers, lora_parameters
from tunesmith.engine.packing import pack_rows

# Relative differences allowed between two exact ways of computing the same thing in one precision.
LOSS_TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 3e-2}
GRADIENT_TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 1.5e-1}
HIDDEN_TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 5e-2}


class LossFunction(Protocol):
    """``summed_loss`` or ``plain_summed_loss``."""

    def __call__(self, model: PreTrainedModel, batch: Batch, smoothing: float = 0.0) -> Tensor: ...


def choose_loss(
    model: PreTrainedModel, batch: Batch, plain_attention: str = "sdpa"
) -> tuple[LossFunction, str | None]:
    """The fast loss where it agrees with the plain one on ``batch``, else the plain one and why.

    Families whose head scales or caps its logits (Granite, Cohere, Gemma 2) are caught here. The
    adapter is given a temporary, non-zero B so that every gradient is compared.
    """
    if not packs(model):
        _attend_by(model, plain_attention)
        return plain_summed_loss, (
            f"the fast path does not fit {type(model).__name__}, whose layers do not read several rows as "
            "one packed sequence: using the plain path"
        )
    layers = list(lora_layers(model).values())
    with torch.no_grad():
        generator = torch.Generator().manual_seed(0)
        before = [layer.lora_b.clone() for layer in layers]
        for layer in layers:
            layer.lora_b.normal_(0, 0.01, generator=generator)
    fast_attention = model.config._attn_implementation
    try:
        fast_loss, fast_gradients = _loss_and_gradients(summed_loss, model, batch)
        _attend_by(model, plain_attention)
        plain_loss, plain_gradients = _loss_and_gradients(plain_summed_loss, model, batch)
    finally:
        model.set_attn_implementation(fast_attention)
        with torch.no_grad():
            for layer, saved in zip(layers, before, strict=True):
                layer.lora_b.copy_(saved)
    dtype = next(model.parameters()).dtype
    loss_difference = abs(fast_loss - plain_loss) / max(abs(plain_loss), 1e-12)
    gradient_difference = float(
        (fast_gradients - plain_gradients).norm() / plain_gradients.norm().clamp_min(1e-12)
    )
    agree = loss_difference <= LOSS_TOLERANCE[dtype] and gradient_difference <= GRADIENT_TOLERANCE[dtype]
    if agree:
        return summed_loss, None
    _attend_by(model, plain_attention)
    return plain_summed_loss, (
        f"the fast path differs from {type(model).__name__}'s own (loss by {loss_difference:.1e}, gradient "
        f"by {gradient_difference:.1e}): using the plain path"
    )


_packs: WeakKeyDictionary[PreTrainedModel, bool] = WeakKeyDictionary()


def packs(model: PreTrainedModel) -> bool:
    """Whether packed rows give the hidden states of the model's own forward, tried once on random tokens."""
    if model not in _packs:
        _packs[model] = _packed_states_agree(model)
    return _packs[model]


@torch.no_grad()
def _packed_states_agree(model: PreTrainedModel) -> bool:
    dtype = next(model.parameters()).dtype
    tokens = torch.randint(model.config.vocab_size, (12,), generator=torch.Generator().manual_seed(0))
    prefix, rows = tokens[:3], (tokens[3:8], tokens[8:])
    packing = pack_rows(len(prefix), [len(row) for row in rows], dtype, prefix_is_cached=False)
    try:
        packed = packed_hidden(model, tokens, Packed(packing, None), torch.arange(len(prefix), len(tokens)))
    except (TypeError, ValueError, RuntimeError):  # other architectures' layers know nothing of packing
        return False
    attention = model.config._attn_implementation
    _attend_by(model, "eager")
    try:
        own = [
            model.base_model(input_ids=torch.cat([prefix, row])[None], use_cache=False).last_hidden_state[0]
            for row in rows
        ]
    finally:
        model.set_attn_implementation(attention)
    expected = torch.cat([states[len(prefix) :] for states in own]).float()
    difference = (packed.float() - expected).norm() / expected.norm()
    return bool(difference <= HIDDEN_TOLERANCE[dtype])


def _attend_by(model: PreTrainedModel, attention: str) -> None:
    # Transformers refuses SDPA to architectures that have only an attention of their own: that is plain too.
    with contextlib.suppress(ValueError):
        model.set_attn_implementation(attention)


def _loss_and_gradients(loss: LossFunction, model: PreTrainedModel, batch: Batch) -> tuple[float, Tensor]:
    parameters: list[nn.Parameter] = lora_parameters(model)
    value = loss(model, batch)
    gradients = torch.autograd.grad(value, parameters)
    return float(value.detach()), torch.cat([gradient.flatten().float() for gradient in gradients])
