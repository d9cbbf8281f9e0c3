"""Attaching what is trained to a model, and moving adapters between models and their files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from tunesmith.engine.added_tokens import grown_modules, train_added_rows
from tunesmith.engine.full import train_all_weights
from tunesmith.engine.lora import attach_lora, lora_layers
from tunesmith.engine.whole import trained_modules
from tunesmith.errors import UserError
from tunesmith.models.adapters import Adapter, load_adapter
from tunesmith.models.families import classes, family_of
from tunesmith.models.merging import check_layers
from tunesmith.models.quantised import quantise
from tunesmith.task.train_settings import TrainSettings


def read_adapter(model: nn.Module) -> Adapter:
    """The adapter attached to ``model``, its tensors shared with it, not copied."""
    config: Any = model.config
    layers = lora_layers(model)
    first = next(iter(layers.values()))
    return Adapter(
        method=first.method,
        rank=first.rank,
        alpha=first.alpha,
        dropout=first.dropout,
        low_rank={name: (layer.lora_a.detach(), layer.lora_b.detach()) for name, layer in layers.items()},
        magnitudes={
            name: layer.magnitude.detach() for name, layer in layers.items() if layer.magnitude is not None
        },
        modules={
            f"{name}.{inner}": parameter.detach()
            for name, module in trained_modules(model).items()
            for inner, parameter in module.trained.named_parameters()
        }
        | {f"{name}.weight": module.weight.detach() for name, module in grown_modules(model).items()},
        fan_in_fan_out=any(isinstance(layer.base, Conv1D) for layer in layers.values()),
        first_added=next((module.first for module in grown_modules(model).values()), 0),
        family=family_of(config),
        labels=classes(config) if family_of(config) == "encoder" else (),
    )


def make_trainable(
    model: PreTrainedModel, settings: TrainSettings, head: Sequence[str] = (), tokens: int = 0
) -> None:
    """Make ``model`` what ``settings`` train: a new adapter on a frozen base, or all of its weights.

    ``head`` names the modules of a classification head, which is trained whole in any case. ``tokens`` is how
    many its tokenizer has, where :func:`tunesmith.engine.added_tokens.grow` has added some. Raises UserError
    where a name in the settings is not in the model, or bitsandbytes is missing.
    """
    if head and settings.method == "qlora":
        raise UserError(
            f"train.method: qlora is not for {type(model).__name__}, an encoder-only classifier",
            fix="set train.method: lora (such bases are small)",
        )
    if settings.method == "full":
        train_all_weights(model)
        return
    if settings.method == "qlora":
        quantise(model)
    attach_lora(
        model,
        settings.rank,
        settings.alpha,
        settings.seed,
        settings.method,
        settings.targets,
        settings.adapter_dropout,
        [*(settings.modules_to_save or ()), *_with_weights(model, head)] or None,
    )
    if settings.add_tokens:
        train_added_rows(model, tokens - len(settings.add_tokens), len(settings.add_tokens))


def continue_from(model: PreTrainedModel, folder: Path, base_sha256: str, settings: TrainSettings) -> None:
    """Give the adapter attached to ``model`` the weights that ``folder`` holds.

    Raises UserError where they were trained on another base or with other settings.
    """
    adapter = load_adapter(folder, base_sha256)
    for name in ("method", "rank", "alpha"):
        theirs, ours = getattr(adapter, name), getattr(settings, name)
        if theirs != ours:
            raise UserError(
                f"train.start_from: {folder} was trained with {name} {theirs}, not {ours}",
                fix=f"set train.{name}: {theirs}",
            )
    if adapter.added_tokens != tuple(settings.add_tokens or ()):
        raise UserError(
            f"train.start_from: {folder} was trained with add_tokens {list(adapter.added_tokens)}",
            fix=f"set train.add_tokens: {list(adapter.added_tokens)}, in this order",
        )
    set_adapter(model, adapter, str(folder))


def attach_adapter(model: PreTrainedModel, adapter: Adapter, named: str) -> None:
    """Make ``model`` answer with ``adapter``, read from ``named``; layers are adapted if they are not yet.

    Raises UserError where the adapter does not fit the model or the adapter it has.
    """
    if not lora_layers(model):
        check_layers(model, [*adapter.low_rank, *adapter.modules_to_save], Path(named))
        untyped: Any = model  # so is Transformers' own
        grown = (
            (untyped.get_input_embeddings(), untyped.get_output_embeddings()) if adapter.added_tokens else ()
        )
        attach_lora(
            model,
            adapter.rank,
            adapter.alpha,
            0,
            adapter.method,
            list(adapter.low_rank),
            adapter.dropout,
            [name for name in adapter.modules_to_save if model.get_submodule(name) not in grown],
        )
        if adapter.added_tokens:
            train_added_rows(model, adapter.first_added, len(adapter.added_tokens))
    set_adapter(model, adapter, named)


@torch.no_grad()
def set_adapter(model: nn.Module, adapter: Adapter, named: str) -> None:
    """Give the adapter attached to ``model`` the values of ``adapter``, which lies in ``named``.

    Raises UserError where the two differ in method, layers, modules trained whole, or shapes.
    """
    layers, live = lora_layers(model), read_adapter(model)
    if live.method != adapter.method:
        raise UserError(
            f"{named}: the adapter's method is {adapter.method}, not {live.method}",
            fix=f"set train.method: {adapter.method}, or train again",
        )
    if live.labels != adapter.labels:
        raise UserError(
            f"{named}: the adapter's classes ({', '.join(adapter.labels) or 'none'}) are not those of this "
            f"task ({', '.join(live.labels) or 'none'})",
            fix="use the data it was trained on, or train again",
        )
    for ours, theirs in (
        (live.low_rank, adapter.low_rank),
        (live.magnitudes, adapter.magnitudes),
        (live.modules, adapter.modules),
    ):
        if ours.keys() != theirs.keys():
            odd = sorted(ours.keys() ^ theirs.keys())[0]
            raise UserError(
                f"{named}: the adapter and {type(model).__name__} do not have the same layers (such as "
                f"{odd})",
                fix="use the base, train.targets and train.modules_to_save of its training, or train again",
            )
    for name, (a, b) in adapter.low_rank.items():
        ours_a, ours_b = live.low_rank[name]
        if a.shape != ours_a.shape or b.shape != ours_b.shape:
            raise UserError(
                f"{named}: the adapter's matrices of {name} are {list(a.shape)} and {list(b.shape)}, not "
                f"{list(ours_a.shape)} and {list(ours_b.shape)}",
                fix="use the rank and the base it was trained with, or train again",
            )
    for kind in ("magnitudes", "modules"):
        for name, values in getattr(adapter, kind).items():
            if values.shape != getattr(live, kind)[name].shape:
                raise UserError(
                    f"{named}: the adapter's {name} is {list(values.shape)}, not "
                    f"{list(getattr(live, kind)[name].shape)}",
                    fix="use the base it was trained with, or train again",
                )
    for name, layer in layers.items():
        layer.rank, layer.alpha, layer.scaling = adapter.rank, adapter.alpha, adapter.scaling
        for target, values in zip(live.low_rank[name], adapter.low_rank[name], strict=True):
            target.copy_(values)
    for name, values in adapter.magnitudes.items():
        live.magnitudes[name].copy_(values)
    grown = grown_modules(model)
    for name, values in adapter.modules.items():
        module = grown.get(name.removesuffix(".weight"))
        if module is None:
            live.modules[name].copy_(values)
        else:
            module.rows.copy_(values[module.first : module.first + len(module.rows)])


def _with_weights(model: nn.Module, names: Sequence[str]) -> list[str]:
    """The modules with weights of their own among and inside ``names``."""
    return [
        inner
        for inner, module in model.named_modules()
        if [*module.parameters(recurse=False)]
        and any(inner == name or inner.startswith(f"{name}.") for name in names)
    ]
