"""The three families of bases: decoder-only, encoder–decoder (T5), and encoder-only (BERT) with a head.

What differs between them is here, in ``engine/encoder_decoder`` and in ``engine/classifier_head``; the rest
of the code asks for the family only where it must.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    PreTrainedModel,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

from tunesmith.errors import UserError

Family = Literal["decoder", "encoder-decoder", "encoder"]

LOADERS: dict[Family, Any] = {
    "decoder": AutoModelForCausalLM,
    "encoder-decoder": AutoModelForSeq2SeqLM,
    "encoder": AutoModelForSequenceClassification,
}

# Why the guards of general ability have no answer for a family.
NO_LIKELIHOOD_OF_TEXT: dict[Family, str] = {
    "encoder": "an encoder-only classifier gives no likelihood of text",
    "encoder-decoder": "an encoder–decoder gives likelihoods of answers to its input, none of running text",
}


def family_of(config: Any) -> Family:
    """The family of a model by its configuration."""
    if getattr(config, "is_encoder_decoder", False):
        return "encoder-decoder"
    if config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not getattr(config, "is_decoder", False):
        return "encoder"
    return "decoder"


def classes(config: Any) -> tuple[str, ...]:
    """The classes of a classification head, in order, by its model's configuration."""
    return tuple(str(config.id2label[index]) for index in sorted(config.id2label))


def head_modules(model: PreTrainedModel, absent: Sequence[str]) -> tuple[str, ...]:
    """The modules of an encoder's classification head: all beside the encoder itself.

    Its pooler counts among them where the weight files lack it (``absent`` names tensors not in the files).
    """
    encoder = model.base_model_prefix
    beside = [name for name, child in model.named_children() if name != encoder and [*child.parameters()]]
    pooler = f"{encoder}.pooler"
    return (*([pooler] if any(name.startswith(f"{pooler}.") for name in absent) else []), *beside)


def encoder_context(model: PreTrainedModel, positions: int, longest: int) -> int:
    """The tokens an encoder reads at most: of its ``positions`` RoBERTa and its kin leave the first unused.

    ``longest`` is what the tokenizer allows. The class, which counts as a token of a rendered row, is one of
    them, so that one or two positions stay free.
    """
    for name, module in model.named_modules():
        padding = getattr(module, "padding_idx", None)
        if name.endswith("position_embeddings") and padding is not None:
            positions -= int(padding) + 1
    return min(positions, longest)


def give_fresh_head(model: PreTrainedModel, head: Sequence[str], labels: Sequence[str], seed: int) -> None:
    """Replace an encoder's ``head`` by one drawn from ``seed``, as Transformers draws it, for ``labels``."""
    if len(labels) < 2:
        raise UserError(
            f"a classification head needs at least two labels, not {len(labels)}", fix="check the data"
        )
    config: Any = copy.deepcopy(model.config)
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: index for index, label in enumerate(labels)}
    config.problem_type = "single_label_classification"
    build: Any = type(model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh: PreTrainedModel = build(config)
    weight = next(model.parameters())
    for name in head:
        module = nn.Module.to(fresh.get_submodule(name), device=weight.device, dtype=weight.dtype)
        model.set_submodule(name, module.requires_grad_(False).train(False))
    untyped: Any = model
    untyped.config, untyped.num_labels = config, len(labels)
