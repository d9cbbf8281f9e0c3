"""Before a run trusts the fast path, it is compared with the model's own forward and backward."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from tunesmith.engine.attention import Packed
from tunesmith.engine.classifier_head import class_loss, class_losses
from tunesmith.engine.decoder import of_family, why_not_decoded
from tunesmith.engine.devices import device_of
from tunesmith.engine.encoder_decoder import encoder_decoder_loss, encoder_decoder_token_losses
from tunesmith.engine.forward import (
    Batch,
    packed_hidden,
    plain_summed_loss,
    plain_token_losses,
    reads_whole_rows,
    shared_summed_loss,
    summed_loss,
    token_losses,
)
from tunesmith.engine.lora import lora_layers, trained_weights
from tunesmith.engine.packing import pack_rows
from tunesmith.models.families import family_of

# Relative differences allowed between two exact ways of computing the same thing in one precision.
LOSS_TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 3e-2}
GRADIENT_TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 1.5e-1}
HIDDEN_TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 5e-2}


class LossFunction(Protocol):
    """``summed_loss``, ``plain_summed_loss``, or that of a family without a fast path."""

    def __call__(self, model: PreTrainedModel, batch: Batch, smoothing: float = 0.0) -> Tensor: ...


def family_loss(model: PreTrainedModel) -> LossFunction:
    """The loss of the model's family; of a decoder the fast one, unchecked."""
    family = family_of(model.config)
    if family == "decoder":
        return summed_loss
    return encoder_decoder_loss if family == "encoder-decoder" else class_loss


def token_losses_by(loss: LossFunction) -> Callable[[PreTrainedModel, Batch], Tensor]:
    """What gives −log p of every target by the same path as ``loss``."""
    if loss is summed_loss:
        return token_losses
    if loss is encoder_decoder_loss:
        return encoder_decoder_token_losses
    return class_losses if loss is class_loss else plain_token_losses


def choose_loss(
    model: PreTrainedModel, batch: Batch, plain_attention: str = "sdpa"
) -> tuple[LossFunction, str | None]:
    """The fast loss where it agrees with the plain one on ``batch``, else the plain one and why.

    Families that scale or cap their head's logits (Granite, Cohere, Gemma 2) are told in any precision. The
    adapter is given a temporary, non-zero B so that every gradient is compared. A message beside the fast
    loss says which part of it the adapter does without.
    """
    if family_of(model.config) != "decoder":
        return family_loss(model), (
            f"{type(model).__name__} is no decoder-only model: it is trained by Transformers' own layers, "
            "without the fast paths"
        )
    layers = list(lora_layers(model).values())
    if any(layer.dropout for layer in layers):
        _attend_by(model, plain_attention)
        return plain_summed_loss, (
            "with adapter dropout every row drops inputs of its own, so that no prefix can be shared: using "
            "the plain path"
        )
    if not packs(model):
        _attend_by(model, plain_attention)
        return plain_summed_loss, (
            f"the fast path does not fit {type(model).__name__}, whose layers do not read several rows as "
            "one packed sequence: using the plain path"
        )
    if not _logits_are_the_heads(model):
        # In bf16, or while logits are small, the comparison below may not see it.
        _attend_by(model, plain_attention)
        return plain_summed_loss, (
            f"the fast path differs from {type(model).__name__}'s own forward, which scales or caps what its "
            "output head gives: using the plain path"
        )
    with torch.no_grad():
        generator = torch.Generator().manual_seed(0)
        before = [layer.lora_b.clone() for layer in layers]
        for layer in layers:
            # Drawn on the CPU, so that every device is given the same.
            layer.lora_b.copy_(torch.empty(layer.lora_b.shape).normal_(0, 0.01, generator=generator))
    fast_attention = model.config._attn_implementation
    try:
        fast = [_loss_and_gradients(summed_loss, model, batch)]
        if batch.segments is None and reads_whole_rows(model, len(batch.prefix), batch.lengths.tolist()):
            # Two rows are read whole; more of them may share their prefix.
            fast.append(_loss_and_gradients(shared_summed_loss, model, batch))
        _attend_by(model, plain_attention)
        plain_loss, plain_gradients = _loss_and_gradients(plain_summed_loss, model, batch)
    finally:
        model.set_attn_implementation(fast_attention)
        with torch.no_grad():
            for layer, saved in zip(layers, before, strict=True):
                layer.lora_b.copy_(saved)
    dtype = next(model.parameters()).dtype
    loss_difference = max(abs(loss - plain_loss) for loss, _ in fast) / max(abs(plain_loss), 1e-12)
    gradient_difference = max(_relative_difference(gradients, plain_gradients) for _, gradients in fast)
    agree = loss_difference <= LOSS_TOLERANCE[dtype] and gradient_difference <= GRADIENT_TOLERANCE[dtype]
    if agree:
        reason = why_not_decoded(model) if of_family(model) else None
        return summed_loss, None if reason is None else (
            f"{reason}: layers run through {type(model).__name__}'s own code, not the hand-written decoder"
        )
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
            model.base_model(
                input_ids=torch.cat([prefix, row])[None].to(device_of(model)), use_cache=False
            ).last_hidden_state[0]
            for row in rows
        ]
    finally:
        model.set_attn_implementation(attention)
    expected = torch.cat([states[len(prefix) :] for states in own]).float()
    difference = (packed.float() - expected).norm() / expected.norm()
    return bool(difference <= HIDDEN_TOLERANCE[dtype])


@torch.no_grad()
def _logits_are_the_heads(model: PreTrainedModel) -> bool:
    """Whether nothing comes after the output head, tried with a head that gives large logits."""
    head: Any = model.get_output_embeddings()  # type: ignore[no-untyped-call]  # so is Transformers' own
    given: list[Tensor] = []

    def large(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        given.append(torch.full_like(output, 1024.0))
        return given[-1]

    hook = head.register_forward_hook(large)
    try:
        logits = model(input_ids=torch.tensor([[1, 2]], device=device_of(model)), use_cache=False).logits
    finally:
        hook.remove()
    return bool(given) and torch.equal(logits.float(), given[0].float())


def _attend_by(model: PreTrainedModel, attention: str) -> None:
    # Transformers refuses SDPA to architectures it does not fit (Gemma 2), and some have only an attention of
    # their own: that is plain too.
    for name in (attention, "eager"):
        with contextlib.suppress(ValueError):
            model.set_attn_implementation(name)
            return


def _loss_and_gradients(
    loss: LossFunction, model: PreTrainedModel, batch: Batch
) -> tuple[float, list[Tensor]]:
    value = loss(model, batch)
    # Weights that play no part (positions no row reaches) have a gradient of zero.
    gradients = torch.autograd.grad(value, trained_weights(model), materialize_grads=True)
    return float(value.detach()), list(gradients)


def _relative_difference(ours: list[Tensor], theirs: list[Tensor]) -> float:
    apart = sum(
        float((left.float() - right.float()).square().sum()) for left, right in zip(ours, theirs, strict=True)
    )
    whole = sum(float(right.float().square().sum()) for right in theirs)
    return math.sqrt(apart) / max(math.sqrt(whole), 1e-12)
