"""Tiny models of real architectures with random weights, and plain references to compare the engine with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PreTrainedModel

from tunesmith.engine import attention
from tunesmith.engine.lora import lora_layers

VOCABULARY = 53
PAD = 0
END = 1

_SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 256,
    "pad_token_id": PAD,
    "eos_token_id": END,
    "bos_token_id": 2,
}
_GPT2: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 4,
    "n_positions": 256,
    "pad_token_id": PAD,
    "eos_token_id": END,
    "bos_token_id": 2,
}
_FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", _SIZES),
    "llama, wide": ("llama", {**_SIZES, "hidden_size": 64, "intermediate_size": 128, "head_dim": 16}),
    "llama with biases": ("llama", {**_SIZES, "attention_bias": True, "mlp_bias": True}),
    "llama, one head per key": ("llama", {**_SIZES, "num_key_value_heads": 4}),
    "mistral": ("mistral", {**_SIZES, "sliding_window": None}),
    "mistral with a window": ("mistral", {**_SIZES, "sliding_window": 5}),
    "qwen2": ("qwen2", _SIZES),
    "qwen3": ("qwen3", _SIZES),
    "gemma3": (
        "gemma3_text",
        {**_SIZES, "sliding_window": 5, "layer_types": ["sliding_attention", "full_attention"]},
    ),
    "granite": ("granite", {**_SIZES, "logits_scaling": 8.0, "residual_multiplier": 0.5}),
    "cohere": ("cohere", {**_SIZES, "logit_scale": 0.25}),
    "gemma2": (
        "gemma2",
        {
            **_SIZES,
            "query_pre_attn_scalar": 8,
            "attn_logit_softcapping": 1.0,
            "final_logit_softcapping": 2.0,
            "sliding_window": 5,
            "layer_types": ["sliding_attention", "full_attention"],
        },
    ),
    "qwen3, experts": (
        "qwen3_moe",
        {**_SIZES, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16},
    ),
    "gpt2": ("gpt2", _GPT2),
    "mamba": (
        "mamba",
        {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 4},
    ),
}


def tiny_model(family: str, seed: int = 0, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """A frozen model whose every weight is random, attending our way where it can."""
    attention.register()
    kind, options = _FAMILIES[family]
    config = CONFIG_MAPPING[kind](**options)
    build: Any = AutoModelForCausalLM.from_config
    model: PreTrainedModel = build(config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            # Large enough that predictions differ from position to position.
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
            if "norm" in name or "ln_" in name:
                parameter.add_(1.0)
    nn.Module.to(model, dtype=dtype).requires_grad_(False).train(False)
    if kind != "mamba":
        model.set_attn_implementation(attention.ATTENTION_NAME)
    return model


def randomise_adapters(model: PreTrainedModel, seed: int = 1) -> None:
    """Give every adapter a B that is not zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in lora_layers(model).values():
            layer.lora_b.copy_(torch.randn(layer.lora_b.shape, generator=generator) * 0.1)


def random_rows(lengths: Sequence[int], prefix: int = 0, seed: int = 0) -> list[list[int]]:
    """Rows of random tokens with ``prefix`` leading ones in common, none of them special."""
    generator = torch.Generator().manual_seed(seed)
    shared = torch.randint(3, VOCABULARY, (prefix,), generator=generator).tolist()
    return [[*shared, *torch.randint(3, VOCABULARY, (n,), generator=generator).tolist()] for n in lengths]


@torch.no_grad()
def log_probability(model: PreTrainedModel, prompt: Sequence[int], answer: Sequence[int]) -> float:
    """log p(answer | prompt) by the model's own forward on that one row."""
    ids = torch.tensor([[*prompt, *answer]])
    before = model.config._attn_implementation
    if model.config.model_type != "mamba":
        model.set_attn_implementation("eager")
    try:
        log_p = torch.log_softmax(model(input_ids=ids, use_cache=False).logits[0].double(), dim=-1)
    finally:
        if model.config.model_type != "mamba":
            model.set_attn_implementation(before)
    places = range(len(prompt), len(prompt) + len(answer))
    return float(sum(log_p[place - 1, ids[0, place]] for place in places))


def relative_difference(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> float:
    """‖ours − theirs‖ / ‖theirs‖ over all tensors together."""
    left, right = (
        torch.cat([tensor.detach().flatten().double() for tensor in tensors]) for tensors in (ours, theirs)
    )
    return float((left - right).norm() / right.norm())
