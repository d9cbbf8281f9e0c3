"""The fast loss is the plain loss, and so are its gradients."""

from __future__ import annotations

import copy
import random
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import PreTrainedModel

from engine_tiny import PAD, random_rows, randomise_adapters, relative_difference, tiny_model
from tunesmith.engine import attention, packing
from tunesmith.engine.forward import Batch, common_prefix, make_batch, plain_summed_loss, summed_loss
from tunesmith.engine.lora import attach_lora, lora_disabled, lora_layers, trainable_parameters
from tunesmith.engine.scoring import score_labels
from tunesmith.engine.segments import FEWEST_SHARED_TOKENS
from tunesmith.engine.selfcheck import LossFunction
from tunesmith.engine.trees import label_tree

DECODED = ("llama", "llama with biases", "llama, one head per key", "mistral", "qwen2")
OTHERS = ("mistral with a window", "qwen3", "gemma3")


def adapted(family: str, seed: int = 0) -> PreTrainedModel:
    model = tiny_model(family, seed)
    attach_lora(model, rank=3, alpha=6.0, seed=seed)
    randomise_adapters(model)
    return model


def batch_of(lengths: list[int], prefix: int, learned: int, seed: int = 0) -> Batch:
    """Rows that learn their last ``learned`` tokens; at most all but the first of their own."""
    rows = random_rows(lengths, prefix, seed)
    learn = [
        [place >= len(row) - min(learned, length - 1 if prefix == 0 else length) for place in range(len(row))]
        for row, length in zip(rows, lengths, strict=True)
    ]
    shared = common_prefix(rows, [mask.index(True) for mask in learn])
    return make_batch(rows, learn, PAD, shared)


def loss_and_gradients(
    loss: LossFunction, model: PreTrainedModel, batch: Batch
) -> tuple[float, list[torch.Tensor]]:
    value = loss(model, batch)
    return float(value.detach()), list(torch.autograd.grad(value, trainable_parameters(model)))


def assert_fast_is_plain(model: PreTrainedModel, batch: Batch) -> None:
    loss, gradients = loss_and_gradients(summed_loss, model, batch)
    plain_loss, plain_gradients = loss_and_gradients(plain_summed_loss, model, batch)
    assert loss == pytest.approx(plain_loss, rel=1e-5)
    assert relative_difference(gradients, plain_gradients) < 1e-5


@pytest.fixture(scope="module")
def llama() -> PreTrainedModel:
    return adapted("llama")


@settings(max_examples=40, deadline=None)
@given(
    lengths=st.lists(st.integers(2, 12), min_size=1, max_size=5),
    prefix=st.integers(0, 9),
    learned=st.integers(1, 6),
    seed=st.integers(0, 2**16),
)
def test_loss_and_gradients_equal_the_plain_ones_for_any_batch(
    llama: PreTrainedModel, lengths: list[int], prefix: int, learned: int, seed: int
) -> None:
    assert_fast_is_plain(llama, batch_of(lengths, prefix, learned, seed))


@settings(max_examples=25, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 9), min_size=1, max_size=5),
    prefix=st.integers(2, 9),
    seed=st.integers(0, 2**16),
)
def test_any_mask_and_rows_that_are_all_prefix_change_nothing(
    llama: PreTrainedModel, lengths: list[int], prefix: int, seed: int
) -> None:
    draw = random.Random(seed)
    rows = random_rows(lengths, prefix, seed)
    learn = [[False, *(draw.random() < 0.5 for _ in row[2:]), True] for row in rows]
    shared = common_prefix(rows, [mask.index(True) for mask in learn])
    assert_fast_is_plain(llama, make_batch(rows, learn, PAD, shared))
    # A row with nothing after the prefix, which learns nothing, beside one that does.
    rows = [*random_rows([0, 4], prefix, seed)]
    assert_fast_is_plain(
        llama, make_batch(rows, [[False] * prefix, [False] * (prefix + 3) + [True]], PAD, prefix)
    )


@pytest.mark.parametrize("family", [*DECODED, *OTHERS])
def test_loss_and_gradients_equal_the_plain_ones_in_every_family(family: str) -> None:
    model = adapted(family, seed=3)
    assert_fast_is_plain(model, batch_of([9, 3, 12, 7], prefix=6, learned=4))
    assert_fast_is_plain(model, batch_of([5], prefix=0, learned=2))


def test_rows_longer_than_one_block_of_attention_scores_are_exact(
    llama: PreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tunesmith.engine.packing.SCORES_PER_BLOCK", 100)
    monkeypatch.setattr("tunesmith.engine.attention.LARGEST_SCORE_MATRIX", 60)
    assert_fast_is_plain(llama, batch_of([9, 3, 12, 7, 7], prefix=6, learned=4))


def test_the_shared_prefix_is_computed_once() -> None:
    batch = batch_of([5, 7], prefix=30, learned=2)
    assert len(batch.prefix) == 30
    assert batch.computed_tokens == 30 + 5 + 7
    assert batch.useful_tokens == 2 * 30 + 5 + 7


def test_the_prefix_ends_before_the_state_that_predicts_the_first_learned_token() -> None:
    assert common_prefix([[5, 6, 7, 8], [5, 6, 7, 9]]) == 3
    assert common_prefix([[5, 6, 7, 8], [5, 6, 7, 9]], first_learned=[2, 3]) == 1
    assert common_prefix([[5, 6], [5, 6]]) == 1  # a row keeps a token of its own
    assert common_prefix([[5, 6], [7, 6]]) == 0


def test_a_changed_adapter_changes_the_fast_loss_as_it_does_the_plain_one() -> None:
    model = adapted("llama")
    batch = batch_of([6, 8], prefix=4, learned=3)
    before = float(summed_loss(model, batch).detach())
    optimiser = torch.optim.AdamW(trainable_parameters(model), lr=0.05, fused=True)
    summed_loss(model, batch).backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    optimiser.step()
    assert float(summed_loss(model, batch).detach()) < before
    assert_fast_is_plain(model, batch)
    for layer in lora_layers(model).values():
        layer.scaling = 0.5
    assert_fast_is_plain(model, batch)


def test_adapters_attached_after_the_base_was_used_are_heeded() -> None:
    model = tiny_model("llama")
    batch = batch_of([6, 8], prefix=4, learned=3)
    score_labels(model, random_rows([4, 5]), label_tree([[5], [6, 7]], 1), PAD, None)
    base = float(summed_loss(model, batch))
    attach_lora(model, rank=3, alpha=6.0, seed=0)
    assert float(summed_loss(model, batch)) == pytest.approx(base, rel=1e-6)
    randomise_adapters(model)
    assert float(summed_loss(model, batch)) != pytest.approx(base, rel=1e-3)
    assert_fast_is_plain(model, batch)


def test_replaced_base_weights_are_heeded() -> None:
    model = adapted("llama")
    batch = batch_of([6, 8], prefix=4, learned=3)
    summed_loss(model, batch)
    other = tiny_model("llama", seed=9).state_dict()
    layer = lora_layers(model)["model.layers.0.self_attn.k_proj"]
    layer.weight.data = other["model.layers.0.self_attn.k_proj.weight"].clone()
    assert_fast_is_plain(model, batch)
    with torch.no_grad():
        layer.weight.copy_(other["model.layers.1.self_attn.k_proj.weight"])
    assert_fast_is_plain(model, batch)


@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_with_adapters_disabled_the_fast_path_answers_as_the_base(family: str) -> None:
    batch = batch_of([6, 8], prefix=4, learned=3)
    base = float(summed_loss(tiny_model(family), batch))
    model = adapted(family)
    with lora_disabled(model):
        assert float(summed_loss(model, batch)) == pytest.approx(base, rel=1e-6)
        assert all(not layer.enabled for layer in lora_layers(model).values())
    assert float(summed_loss(model, batch)) != pytest.approx(base, rel=1e-3)


def test_one_disabled_adapter_among_stacked_ones_is_left_out() -> None:
    model = adapted("llama")
    lora_layers(model)["model.layers.0.self_attn.k_proj"].enabled = False
    batch = batch_of([6, 8], prefix=4, learned=3)
    assert float(summed_loss(model, batch)) == pytest.approx(float(plain_summed_loss(model, batch)), rel=1e-5)


def test_a_step_between_forward_and_backward_is_an_error_not_a_wrong_gradient() -> None:
    model = adapted("llama")
    batch = batch_of([6, 8], prefix=4, learned=3)
    loss = summed_loss(model, batch)
    with torch.no_grad():
        for parameter in trainable_parameters(model):
            parameter.add_(0.1)
    summed_loss(model, batch)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped


@settings(max_examples=25, deadline=None)
@given(
    documents=st.lists(
        st.tuples(st.integers(FEWEST_SHARED_TOKENS, 40), st.lists(st.integers(2, 9), min_size=1, max_size=4)),
        min_size=1,
        max_size=3,
    ),
    prefix=st.integers(0, 5),
    seed=st.integers(0, 9),
)
def test_documents_that_rows_share_change_nothing(
    llama: PreTrainedModel, documents: list[tuple[int, list[int]]], prefix: int, seed: int
) -> None:
    opening = random_rows([1], prefix, seed)[0][:prefix]
    rows, learn = [], []
    for number, (length, questions) in enumerate(documents):
        document = random_rows([length], 0, seed + number)[0]
        for place, question in enumerate(questions):
            rows.append([*opening, *document, *random_rows([question], 0, 100 * number + place)[0]])
            learn.append([at >= len(rows[-1]) - question + 1 for at in range(len(rows[-1]))])
    batch = make_batch(rows, learn, PAD, prefix, share_openings=True)
    assert batch.segments is not None
    assert_fast_is_plain(llama, batch)


@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_long_documents_are_attended_to_in_pieces_without_a_difference(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, size in (
        ("LONG_ROW", 20),
        ("TRAINED_QUERIES_PER_CHUNK", 16),
        ("QUERIES_PER_CHUNK", 4),
        ("SCORES_PER_FAMILY_BLOCK", 300),
    ):
        monkeypatch.setattr(packing, name, size)
    monkeypatch.setattr(attention, "MOST_WEIGHTS_KEPT", 0)
    document = random_rows([45], 0)[0]
    rows = [[*document, *question] for question in random_rows([6, 9, 3], 0, seed=5)]
    learn = [[at >= len(row) - 2 for at in range(len(row))] for row in rows]
    model = adapted(family)
    assert_fast_is_plain(model, make_batch(rows, learn, PAD, 2, share_openings=True))
    assert_fast_is_plain(model, make_batch(rows, learn, PAD, 2))


def test_gradients_of_parts_of_a_batch_add_up() -> None:
    model = adapted("llama")
    rows = random_rows([6, 8, 9, 5], prefix=4)
    learn = [[place >= len(row) - 3 for place in range(len(row))] for row in rows]
    _, whole = loss_and_gradients(summed_loss, model, make_batch(rows, learn, PAD, 4))
    _, first = loss_and_gradients(summed_loss, model, make_batch(rows[:1], learn[:1], PAD, 4))
    _, rest = loss_and_gradients(summed_loss, model, make_batch(rows[1:], learn[1:], PAD, 4))
    assert relative_difference([a + b for a, b in zip(first, rest, strict=True)], whole) < 1e-5


def test_bfloat16_differs_by_no_more_than_its_rounding() -> None:
    batch = batch_of([9, 3, 12, 7], prefix=6, learned=4)
    model = tiny_model("llama", dtype=torch.bfloat16)
    attach_lora(model, rank=3, alpha=6.0, seed=0)
    randomise_adapters(model)
    loss, gradients = loss_and_gradients(summed_loss, model, batch)
    exact = tiny_model("llama", dtype=torch.bfloat16)
    nn.Module.to(exact, dtype=torch.float32)
    attach_lora(exact, rank=3, alpha=6.0, seed=0)
    randomise_adapters(exact)
    exact_loss, exact_gradients = loss_and_gradients(plain_summed_loss, exact, batch)
    assert all(gradient.dtype == torch.float32 for gradient in gradients)
    assert loss == pytest.approx(exact_loss, rel=0.05)
    assert relative_difference(gradients, exact_gradients) < 0.15


@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_loss_and_gradients_equal_those_of_peft_on_the_same_weights(family: str) -> None:
    model = tiny_model(family)
    reference = copy.deepcopy(model)
    reference.set_attn_implementation("eager")
    attach_lora(model, rank=3, alpha=6.0, seed=0)
    randomise_adapters(model)
    names = [name.rpartition(".")[2] for name in lora_layers(model)]
    config = LoraConfig(r=3, lora_alpha=6, target_modules=sorted(set(names)), lora_dropout=0.0, bias="none")
    peft: Any = get_peft_model(reference, config)
    theirs = []
    for name, layer in lora_layers(model).items():
        module = peft.base_model.model.get_submodule(name)
        with torch.no_grad():
            module.lora_A["default"].weight.copy_(layer.lora_a)
            module.lora_B["default"].weight.copy_(layer.lora_b)
        theirs += [module.lora_A["default"].weight, module.lora_B["default"].weight]

    rows = random_rows([6, 9, 4], prefix=5)
    learn = [[place >= len(row) - 3 for place in range(len(row))] for row in rows]
    loss, gradients = loss_and_gradients(summed_loss, model, make_batch(rows, learn, PAD, 5))
    longest = max(map(len, rows))
    ids = torch.tensor([[*row, *[PAD] * (longest - len(row))] for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
    labels = torch.tensor(
        [
            [token if wanted else -100 for token, wanted in zip(row, learned, strict=True)]
            + [-100] * (longest - len(row))
            for row, learned in zip(rows, learn, strict=True)
        ]
    )
    their_loss = peft(input_ids=ids, attention_mask=mask, labels=labels).loss * (labels != -100).sum()
    their_gradients = torch.autograd.grad(their_loss, theirs)
    assert loss == pytest.approx(float(their_loss), rel=1e-5)
    assert relative_difference(gradients, list(their_gradients)) < 1e-5


def test_a_new_adapter_is_drawn_as_peft_draws_it_and_answers_as_the_base() -> None:
    model = tiny_model("llama")
    names = attach_lora(model, rank=4, alpha=8.0, seed=0)
    assert len(names) == 2 * 7
    assert "lm_head" not in names
    for layer in lora_layers(model).values():
        assert float(layer.lora_b.abs().max()) == 0.0
        bound = layer.lora_a.shape[1] ** -0.5
        assert bound * 0.8 < float(layer.lora_a.detach().abs().max()) <= bound
    again = tiny_model("llama")
    attach_lora(again, rank=4, alpha=8.0, seed=0)
    for left, right in zip(trainable_parameters(model), trainable_parameters(again), strict=True):
        assert torch.equal(left, right)
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == sum(
        p.numel() for p in trainable_parameters(model)
    )
