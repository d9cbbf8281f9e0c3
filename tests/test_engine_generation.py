"""Sampling is reproducible, follows the model's probabilities and stops at the end token."""

from __future__ import annotations

import pytest
import torch
from transformers import PreTrainedModel

from engine_tiny import END, PAD, VOCABULARY, random_rows, tiny_model
from tunesmith.engine.generation import sample


@torch.no_grad()
def greedy(model: PreTrainedModel, prompt: list[int], new_tokens: int) -> list[int]:
    """The likeliest tokens one by one, the whole row anew each time."""
    row = list(prompt)
    for _ in range(new_tokens):
        token = int(model(input_ids=torch.tensor([row]), use_cache=False).logits[0, -1].argmax())
        if token == END:
            break
        row.append(token)
    return row[len(prompt) :]


@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma3", "gpt2", "granite"])
def test_at_a_temperature_near_zero_sampling_is_greedy_whatever_the_prompts_lengths(family: str) -> None:
    model = tiny_model(family)
    prompts = random_rows([3, 9, 6])
    sampled = sample(model, prompts, 8, END, PAD, temperature=1e-4, seed=0)
    model.set_attn_implementation("eager")
    assert sampled == [greedy(model, prompt, 8) for prompt in prompts]


def test_the_seed_decides_the_samples() -> None:
    model = tiny_model("llama")
    prompts = random_rows([3, 9, 6])
    first = sample(model, prompts, 12, END, PAD, temperature=1.0, seed=5)
    assert first == sample(model, prompts, 12, END, PAD, temperature=1.0, seed=5)
    assert first != sample(model, prompts, 12, END, PAD, temperature=1.0, seed=6)


def test_samples_follow_the_probabilities_of_the_model_with_its_scaled_logits() -> None:
    model = tiny_model("granite")
    prompt = random_rows([5])[0]
    sampled = sample(model, [prompt] * 4000, 1, END, PAD, temperature=0.5, seed=0)
    counts = torch.zeros(VOCABULARY)
    for row in sampled:
        counts[row[0] if row else END] += 1
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([prompt]), use_cache=False).logits[0, -1]
    expected = torch.softmax(logits / 0.5, dim=-1)
    spread = (expected * (1 - expected) / 4000).sqrt()
    assert bool(((counts / 4000 - expected).abs() <= 5 * spread + 1e-3).all())


def test_a_sample_ends_before_the_end_token() -> None:
    model = tiny_model("llama")
    sampled = sample(model, random_rows([4] * 40), 30, END, PAD, temperature=1.5, seed=0)
    assert all(END not in row for row in sampled)
    assert any(len(row) < 30 for row in sampled)
    assert all(len(row) <= 30 for row in sampled)
