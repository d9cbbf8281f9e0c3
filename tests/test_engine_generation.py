"""Generation equals the model's own, whatever rows are read together, and sampling follows the model."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedModel

from engine_tiny import END, PAD, VOCABULARY, log_probability, random_rows, randomise_adapters, tiny_model
from tunesmith.engine import decoding as decoding_rows
from tunesmith.engine.generation import Decoding, generate, sample
from tunesmith.engine.lora import attach_lora, lora_disabled
from tunesmith.errors import UserError

FAMILIES = (
    "llama",
    "llama with biases",
    "mistral with a window",
    "qwen2",
    "qwen3",
    "gemma3",
    "granite",
    "gpt2",
)


def own_greedy(model: PreTrainedModel, prompt: list[int], new_tokens: int) -> list[int]:
    """Transformers' generate on the one row, without the end token."""
    untyped: Any = model
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")
    ids = torch.tensor([prompt])
    output = untyped.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=new_tokens,
        do_sample=False,
        pad_token_id=PAD,
        eos_token_id=END,
    )
    model.set_attn_implementation(before)
    answer: list[int] = output[0, len(prompt) :].tolist()
    return answer[: answer.index(END)] if END in answer else answer


@pytest.mark.parametrize(("prefix", "copied"), [(0, 64), (7, 64), (7, 0)])
@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_answers_equal_transformers_generate_token_for_token(
    family: str, prefix: int, copied: int
) -> None:
    model = tiny_model(family)
    prompts = random_rows([3, 9, 6, 12, 5, 20, 4], prefix=prefix)
    with patch.multiple(decoding_rows, BLOCK_ROWS=2, COPIED_PREFIX_TOKENS=copied):
        answers = generate(model, prompts, Decoding(12, END), rows_at_once=3)
    assert [list(answer.tokens) for answer in answers] == [own_greedy(model, row, 12) for row in prompts]


@settings(max_examples=15, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 30), min_size=1, max_size=9),
    prefix=st.integers(0, 12),
    rows=st.integers(1, 5),
    block=st.integers(1, 3),
    copied=st.sampled_from([0, 64]),
    family=st.sampled_from(["llama", "qwen3"]),
    seed=st.integers(0, 5),
)
def test_answers_do_not_depend_on_how_many_rows_are_read_at_once_or_how_they_lie(
    lengths: list[int], prefix: int, rows: int, block: int, copied: int, family: str, seed: int
) -> None:
    model = tiny_model(family)
    prompts = random_rows(lengths, prefix=prefix, seed=seed)
    decoding = Decoding(9, END, temperature=1.2, top_k=20, top_p=0.9, seed=seed)
    together = generate(model, prompts, decoding)
    with patch.multiple(decoding_rows, BLOCK_ROWS=block, COPIED_PREFIX_TOKENS=copied):
        few = generate(model, prompts, decoding, rows_at_once=rows)
    assert [answer.tokens for answer in few] == [answer.tokens for answer in together]


def test_prompts_that_are_all_the_same_get_the_same_greedy_answer_and_draws_of_their_own() -> None:
    model = tiny_model("llama")
    prompts = random_rows([8]) * 6
    assert len({answer.tokens for answer in generate(model, prompts, Decoding(10, END))}) == 1
    sampled = generate(model, prompts, Decoding(10, END, temperature=1.0))
    assert len({answer.tokens for answer in sampled}) == 6


@pytest.mark.parametrize("family", ["llama", "granite"])
def test_log_probabilities_are_the_models_own_whatever_the_sampling(family: str) -> None:
    model = tiny_model(family)
    prompts = random_rows([4, 9, 6, 7, 5, 8] * 4, prefix=3)
    answers = generate(model, prompts, Decoding(14, END, temperature=2.0, top_k=30, seed=3), rows_at_once=4)
    assert {answer.ended for answer in answers} == {"end", "length"}
    for prompt, answer in zip(prompts, answers, strict=True):
        whole = [*answer.tokens, END] if answer.ended == "end" else [*answer.tokens]
        assert len(answer.log_probabilities) == len(whole)
        assert sum(answer.log_probabilities) == pytest.approx(log_probability(model, prompt, whole), abs=1e-4)


def test_adapters_are_part_of_the_model_until_they_are_disabled() -> None:
    model = tiny_model("llama")
    prompts = random_rows([3, 9, 6])
    without = [own_greedy(model, prompt, 10) for prompt in prompts]
    attach_lora(model, 3, 6.0, seed=0)
    randomise_adapters(model)
    adapted = [list(answer.tokens) for answer in generate(model, prompts, Decoding(10, END))]
    assert adapted == [own_greedy(model, prompt, 10) for prompt in prompts]
    assert adapted != without
    with lora_disabled(model):
        assert [list(answer.tokens) for answer in generate(model, prompts, Decoding(10, END))] == without


def test_bf16_answers_follow_the_models_own_probabilities() -> None:
    model = tiny_model("llama", dtype=torch.bfloat16)
    prompts = random_rows([3, 9, 6], prefix=5)
    for prompt, answer in zip(prompts, generate(model, prompts, Decoding(10, END)), strict=True):
        whole = [*answer.tokens, END] if answer.ended == "end" else [*answer.tokens]
        expected = log_probability(model, prompt, whole)
        assert sum(answer.log_probabilities) == pytest.approx(expected, rel=0.1, abs=0.3)


def test_the_seed_decides_the_samples() -> None:
    model = tiny_model("llama")
    prompts = random_rows([3, 9, 6])
    first = sample(model, prompts, 12, END, temperature=1.0, seed=5)
    assert first == sample(model, prompts, 12, END, temperature=1.0, seed=5)
    assert first != sample(model, prompts, 12, END, temperature=1.0, seed=6)


@pytest.mark.parametrize(("top_k", "top_p"), [(None, 1.0), (4, 1.0), (None, 0.6), (9, 0.8)])
def test_samples_follow_the_probabilities_of_the_model_with_its_scaled_logits(
    top_k: int | None, top_p: float
) -> None:
    model = tiny_model("granite")
    prompt = random_rows([5])[0]
    decoding = Decoding(1, END, temperature=0.5, top_k=top_k, top_p=top_p)
    counts = torch.zeros(VOCABULARY)
    for answer in generate(model, [prompt] * 4000, decoding):
        counts[answer.tokens[0] if answer.tokens else END] += 1
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([prompt]), use_cache=False).logits[0, -1]
    expected = torch.softmax(logits / 0.5, dim=-1)
    ordered = expected.sort(descending=True)
    kept = [int(ordered.indices[0])]
    reached = float(ordered.values[0])
    if top_k is not None:
        ordered.values[:] = ordered.values / ordered.values[:top_k].sum()
        reached = float(ordered.values[0])
    for value, token in zip(ordered.values[1:top_k], ordered.indices[1:top_k], strict=True):
        if reached >= top_p:
            break
        kept.append(int(token))
        reached += float(value)
    left = torch.zeros(VOCABULARY)
    left[kept] = expected[kept] / expected[kept].sum()
    spread = (left * (1 - left) / 4000).sqrt()
    assert bool(((counts / 4000 - left).abs() <= 5 * spread + 1e-6).all())


def test_a_sample_ends_before_the_end_token() -> None:
    model = tiny_model("llama")
    sampled = sample(model, random_rows([4] * 40), 30, END, temperature=1.5, seed=0)
    assert all(END not in row for row in sampled)
    assert any(len(row) < 30 for row in sampled)
    assert all(len(row) <= 30 for row in sampled)


def test_a_stop_string_ends_the_answer_and_the_text_ends_before_it() -> None:
    model = tiny_model("llama")
    prompts = random_rows([4, 7])

    def spelt(tokens: Any) -> str:
        return "".join(f"{token:02d}" for token in tokens)

    free = generate(model, prompts, Decoding(12, END), text_of=spelt)
    first = free[0]
    assert first.text == spelt(first.tokens)
    # Half of one token and half of the next.
    stop = spelt(first.tokens)[5:7]
    stopped = generate(model, prompts, Decoding(12, END, stop=("zz", stop)), text_of=spelt)[0]
    assert stopped.ended == "stop"
    assert stopped.text == spelt(first.tokens)[: spelt(first.tokens).index(stop)]
    assert stopped.tokens == first.tokens[: len(stopped.tokens)]


def test_no_prompts_no_answers() -> None:
    assert generate(tiny_model("llama"), [], Decoding(5, END)) == []


@pytest.mark.parametrize(
    ("decoding", "named"),
    [
        (Decoding(0, END), "max_new_tokens"),
        (Decoding(5, END, temperature=-1.0), "temperature"),
        (Decoding(5, END, top_p=0.0), "top_p"),
        (Decoding(5, END, top_k=0), "top_k"),
        (Decoding(253, END), "context"),
    ],
)
def test_settings_out_of_range_are_refused_by_name(decoding: Decoding, named: str) -> None:
    with pytest.raises(UserError, match=named):
        generate(tiny_model("llama"), random_rows([4]), decoding)


def test_models_that_read_no_packed_rows_are_refused() -> None:
    with pytest.raises(UserError, match="MambaForCausalLM"):
        generate(tiny_model("mamba"), random_rows([4]), Decoding(3, END))
