"""How closely three ways to compute a tuned model's log-probabilities agree: ours, PEFT's, merged weights.

PEFT's arithmetic is written out here from the saved files, in the model's own forward, so that the figure is
about what others will load; that it is PEFT's is tested against PEFT itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from tunesmith.engine.added_tokens import GrownEmbedding, GrownHead, grown_modules
from tunesmith.engine.devices import device_of
from tunesmith.engine.forward import make_batch
from tunesmith.engine.lora import LoraLinear, lora_disabled, lora_layers
from tunesmith.engine.scoring import score_continuations
from tunesmith.engine.selfcheck import family_loss, token_losses_by
from tunesmith.engine.whole import TrainedModule, trained_modules
from tunesmith.models.adapters import Adapter, load_adapter
from tunesmith.models.families import family_of
from tunesmith.models.loading import LoadedModel
from tunesmith.models.merging import merged_weight
from tunesmith.models.rendering import Tokens
from tunesmith.run_records import Agreement

Hook = Callable[[nn.Module, tuple[Any, ...], Any], Any]


def adapter_agreement(loaded: LoadedModel, folder: Path, rows: Sequence[Tokens]) -> Agreement:
    """Compare the adapter attached to ``loaded`` with what ``folder`` holds, on the answers of ``rows``."""
    adapter = _moved(load_adapter(folder, loaded.base.sha256), device_of(loaded.model))
    ours = _our_log_probabilities(loaded, rows)
    with lora_disabled(loaded.model), _computed(loaded.model, adapter, _as_peft):
        peft = plain_log_probabilities(loaded.model, rows)
    with lora_disabled(loaded.model), _computed(loaded.model, adapter, _as_merged):
        merged = plain_log_probabilities(loaded.model, rows)
    return Agreement(len(rows), _furthest(ours, peft), _furthest(ours, merged))


def model_agreement(loaded: LoadedModel, saved: PreTrainedModel, rows: Sequence[Tokens]) -> Agreement:
    """Compare a fully tuned model in memory with the one Transformers loads from its files."""
    ours = _our_log_probabilities(loaded, rows)
    return Agreement(len(rows), None, _furthest(ours, plain_log_probabilities(saved, rows)))


@torch.no_grad()
def plain_log_probabilities(model: PreTrainedModel, rows: Sequence[Tokens]) -> list[float]:
    """Sum of log p over the learned tokens of each row, in nats, by the model's own forward, row by row."""
    if family_of(model.config) != "decoder":
        losses = token_losses_by(family_loss(model))
        return [-float(losses(model, make_batch([row.ids], [row.learn], 0, 0)).sum()) for row in rows]
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        totals = []
        for row in rows:
            ids = torch.tensor([row.ids], device=device_of(model))
            log_p = torch.log_softmax(model(input_ids=ids, use_cache=False).logits[0].float(), dim=-1)
            start = row.learn.index(True)
            totals.append(float(log_p[start - 1 : -1].gather(1, ids[0, start:, None]).sum()))
    finally:
        model.set_attn_implementation(before)
    return totals


def _moved(adapter: Adapter, device: torch.device) -> Adapter:
    return replace(
        adapter,
        low_rank={name: (a.to(device), b.to(device)) for name, (a, b) in adapter.low_rank.items()},
        magnitudes={name: values.to(device) for name, values in adapter.magnitudes.items()},
        modules={name: values.to(device) for name, values in adapter.modules.items()},
    )


def _our_log_probabilities(loaded: LoadedModel, rows: Sequence[Tokens]) -> list[float]:
    starts = [row.learn.index(True) for row in rows]
    prompts = [row.ids[:start] for row, start in zip(rows, starts, strict=True)]
    answers = [row.ids[start:] for row, start in zip(rows, starts, strict=True)]
    totals: list[float] = score_continuations(loaded.model, prompts, answers, loaded.pad_token)[0].tolist()
    return totals


def _furthest(ours: Sequence[float], theirs: Sequence[float]) -> float:
    return max(abs(left - right) for left, right in zip(ours, theirs, strict=True))


@contextmanager
def _computed(
    model: PreTrainedModel, adapter: Adapter, compute: Callable[[Adapter, str, LoraLinear], Hook]
) -> Iterator[None]:
    """Within the block adapted layers answer what ``compute`` makes of the saved ``adapter``."""
    hooks = [
        layer.register_forward_hook(compute(adapter, name, layer))
        for name, layer in lora_layers(model).items()
    ]
    hooks += [
        module.register_forward_hook(_as_saved(adapter, name, module))
        for name, module in {**trained_modules(model), **grown_modules(model)}.items()
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _as_peft(adapter: Adapter, name: str, layer: LoraLinear) -> Hook:
    a, b = adapter.low_rank[name]

    def hook(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        given = inputs[0]
        low = F.linear(F.linear(given, a.to(given.dtype)), b.to(given.dtype)) * adapter.scaling
        if name not in adapter.magnitudes:
            return output + low
        norms = torch.linalg.norm(layer.weight + (adapter.scaling * (b @ a)).to(given.dtype), dim=1)
        scale = adapter.magnitudes[name].to(given.dtype) / norms
        own = output if layer.bias is None else output - layer.bias
        adapted: Tensor = output + (scale - 1) * own + scale * low
        return adapted

    return hook


def _as_merged(adapter: Adapter, name: str, layer: LoraLinear) -> Hook:
    def hook(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        weight = merged_weight(adapter, name, layer.weight).to(output.dtype)
        return F.linear(inputs[0], weight, layer.bias)

    return hook


def _as_saved(adapter: Adapter, name: str, module: TrainedModule | GrownEmbedding | GrownHead) -> Hook:
    def hook(_: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Any:
        saved = {
            inner: adapter.modules[f"{name}.{inner}"].to(parameter.dtype)
            for inner, parameter in module.base.named_parameters()
            if f"{name}.{inner}" in adapter.modules
        }
        return torch.func.functional_call(module.base, saved, inputs)

    return hook
