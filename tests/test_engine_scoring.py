"""Scores of labels and continuations are the model's own, whatever is shared or packed on the way."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedModel

from engine_tiny import END, PAD, VOCABULARY, log_probability, random_rows, randomise_adapters, tiny_model
from tunesmith.engine.lora import attach_lora, lora_disabled
from tunesmith.engine.scoring import batches_by_length, score_continuations, score_labels
from tunesmith.engine.trees import answer_tree, label_tree
from tunesmith.errors import UserError

FAMILIES = (
    "llama",
    "llama with biases",
    "mistral",
    "mistral with a window",
    "qwen2",
    "qwen3",
    "gemma3",
    "granite",
    "gpt2",
)
# Labels that share beginnings, one being the beginning of another.
LABELS = [[5], [5, 6], [5, 6, 7, 8], [9, 6], [9, 7], [10, 11, 12]]


@pytest.fixture(scope="module")
def llama() -> PreTrainedModel:
    return tiny_model("llama")


def one_by_one(model: PreTrainedModel, prompts: list[list[int]], labels: list[list[int]]) -> np.ndarray:
    return np.array(
        [[log_probability(model, prompt, [*label, END]) for label in labels] for prompt in prompts]
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_label_scores_equal_scoring_every_label_by_itself(family: str) -> None:
    model = tiny_model(family)
    prompts = random_rows([4, 1, 9], prefix=6)
    scores = score_labels(model, prompts, label_tree(LABELS, END), PAD, None)
    np.testing.assert_allclose(scores.log_probabilities, one_by_one(model, prompts, LABELS), atol=2e-4)
    # The prefix once, the rest of every prompt, and every inner node after every prompt.
    assert scores.tokens == 6 + 4 + 1 + 9 + 3 * 10


def test_prompts_without_a_common_prefix_and_a_single_prompt_are_scored_alike(llama: PreTrainedModel) -> None:
    for prompts in (random_rows([3, 7]), random_rows([5]), random_rows([1])):
        scores = score_labels(llama, prompts, label_tree(LABELS, END), PAD, None)
        np.testing.assert_allclose(scores.log_probabilities, one_by_one(llama, prompts, LABELS), atol=2e-4)


def test_rows_in_several_batches_and_blocks_keep_their_scores(
    llama: PreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = random_rows([4, 11, 2, 8, 8, 3], prefix=3)
    whole = score_labels(llama, prompts, label_tree(LABELS, END), PAD, None)
    monkeypatch.setattr("tunesmith.engine.packing.SCORES_PER_BLOCK", 500)
    told: list[tuple[int, int]] = []
    parts = [
        score_labels(
            llama, prompts[start : start + 2], label_tree(LABELS, END), PAD, None, lambda *at: told.append(at)
        )
        for start in (0, 2, 4)
    ]
    np.testing.assert_allclose(
        np.concatenate([part.log_probabilities for part in parts]), whole.log_probabilities, atol=2e-4
    )
    assert told == [(2, 2)] * 3


def test_scores_follow_the_adapter_and_its_absence() -> None:
    model = tiny_model("llama")
    prompts = random_rows([4, 7], prefix=3)
    tree = label_tree(LABELS, END)
    base = score_labels(model, prompts, tree, PAD, None).log_probabilities
    attach_lora(model, rank=3, alpha=6.0, seed=0)
    randomise_adapters(model)
    tuned = score_labels(model, prompts, tree, PAD, None).log_probabilities
    np.testing.assert_allclose(tuned, one_by_one(model, prompts, LABELS), atol=2e-4)
    assert np.abs(tuned - base).max() > 0.1
    with lora_disabled(model):
        np.testing.assert_allclose(
            score_labels(model, prompts, tree, PAD, None).log_probabilities, base, atol=2e-4
        )


def test_attention_of_another_name_is_left_as_it_was() -> None:
    model = tiny_model("qwen3")
    model.set_attn_implementation("sdpa")
    prompts = random_rows([4, 7], prefix=3)
    scores = score_labels(model, prompts, label_tree(LABELS, END), PAD, None)
    assert model.config._attn_implementation == "sdpa"
    np.testing.assert_allclose(scores.log_probabilities, one_by_one(model, prompts, LABELS), atol=2e-4)


def test_a_base_that_cannot_read_packed_rows_is_refused_not_scored_wrongly() -> None:
    model = tiny_model("mamba")
    with pytest.raises(UserError, match="MambaForCausalLM cannot be scored"):
        score_labels(model, random_rows([4, 7]), label_tree(LABELS, END), PAD, None)


@settings(max_examples=25, deadline=None)
@given(
    rows=st.lists(
        st.tuples(st.integers(0, 2), st.lists(st.integers(3, VOCABULARY - 1), min_size=1, max_size=6)),
        min_size=1,
        max_size=6,
    ),
    seed=st.integers(0, 2**16),
)
def test_continuations_equal_scoring_every_row_by_itself(
    llama: PreTrainedModel, rows: list[tuple[int, list[int]]], seed: int
) -> None:
    texts = random_rows([2, 5, 5], prefix=2, seed=seed)
    prompts, continuations = [texts[which] for which, _ in rows], [tokens for _, tokens in rows]
    scores, tokens = score_continuations(llama, prompts, continuations, PAD)
    expected = [log_probability(llama, *row) for row in zip(prompts, continuations, strict=True)]
    np.testing.assert_allclose(scores, expected, atol=2e-4)
    assert tokens <= sum(map(len, prompts)) + sum(map(len, continuations))


@pytest.mark.parametrize("family", ["gemma3", "granite", "qwen3, experts", "gpt2"])
def test_continuations_are_exact_in_other_families(family: str) -> None:
    model = tiny_model(family)
    prompts = [*random_rows([4, 9], prefix=3), *random_rows([4], prefix=3)]
    continuations = [[5, 6, 7, 8, 9, 10], [8], [5, 6, END]]
    scores, _ = score_continuations(model, prompts, continuations, PAD)
    expected = [log_probability(model, *row) for row in zip(prompts, continuations, strict=True)]
    np.testing.assert_allclose(scores, expected, atol=2e-4)


@given(st.lists(st.integers(1, 300), min_size=1, max_size=60), st.integers(1, 900))
def test_batches_hold_every_row_once_and_stay_within_the_budget(lengths: list[int], budget: int) -> None:
    batches = batches_by_length(lengths, budget)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[index] for index in batch) <= budget


def test_a_tree_shares_beginnings_and_knows_what_must_be_read() -> None:
    tree = answer_tree([[5, 6], [5, 7], [5], [8]])
    assert tree.tokens == (-1, 5, 6, 7, 8)
    assert tree.ends == (2, 3, 1, 4)
    assert tree.inner.tolist() == [1]
    assert tree.ancestors[2].tolist() == [False, True, True, False, False]
    assert tree.paths.tolist() == [[1, 2], [1, 3], [1, 5], [4, 5]]
    closed = label_tree([[5, 6], [5]], END)
    assert closed.lengths == (3, 2)
    assert [closed.tokens[end] for end in closed.ends] == [END, END]
    assert torch.equal(torch.tensor(closed.inner), torch.tensor([1, 2]))
