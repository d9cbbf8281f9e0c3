"""The fast path is used only where it agrees with the model's own forward and backward."""

from __future__ import annotations

import pytest
import torch
from transformers import PreTrainedModel

from engine_tiny import END, PAD, log_probability, random_rows, randomise_adapters, tiny_model
from tunesmith.engine.forward import Batch, make_batch, plain_summed_loss, summed_loss
from tunesmith.engine.lora import attach_lora, lora_layers
from tunesmith.engine.scoring import score_labels
from tunesmith.engine.selfcheck import choose_loss
from tunesmith.engine.trees import label_tree


def adapted(family: str) -> PreTrainedModel:
    model = tiny_model(family)
    attach_lora(model, rank=3, alpha=6.0, seed=0)
    return model


def two_rows() -> Batch:
    rows = random_rows([5, 8], prefix=4)
    return make_batch(rows, [[place >= len(row) - 3 for place in range(len(row))] for row in rows], PAD, 4)


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2", "qwen3", "gemma3"])
def test_families_that_agree_take_the_fast_path_and_nothing_is_said(family: str) -> None:
    model = adapted(family)
    loss, message = choose_loss(model, two_rows())
    assert loss is summed_loss
    assert message is None
    assert model.config._attn_implementation == "tunesmith"


def test_a_model_that_scales_its_logits_takes_the_plain_path_and_says_so() -> None:
    model = adapted("granite")
    randomise_adapters(model)
    batch = two_rows()
    fast = float(summed_loss(model, batch).detach())
    loss, message = choose_loss(model, batch)
    assert loss is plain_summed_loss
    assert message is not None
    assert "differs from GraniteForCausalLM's own" in message
    assert model.config._attn_implementation == "sdpa"
    own = tiny_model("granite")
    attach_lora(own, rank=3, alpha=6.0, seed=0)
    randomise_adapters(own)
    own.set_attn_implementation("eager")
    assert float(loss(model, batch).detach()) == pytest.approx(float(plain_summed_loss(own, batch)), rel=1e-5)
    assert fast != pytest.approx(float(loss(model, batch).detach()), rel=0.05)


@pytest.mark.parametrize(
    ("family", "attention"), [("granite", "sdpa"), ("cohere", "sdpa"), ("gemma2", "eager")]
)
def test_families_with_logits_of_their_own_train_by_their_own_forward_and_are_scored_exactly(
    family: str, attention: str
) -> None:
    model = adapted(family)
    randomise_adapters(model)
    prompts, labels = random_rows([4, 7], prefix=3), [[3, 4], [3, 5, 6], [9]]
    scores = score_labels(model, prompts, label_tree(labels, END), PAD, None).log_probabilities
    for row, prompt in enumerate(prompts):
        own = [log_probability(model, prompt, [*label, END]) for label in labels]
        assert scores[row] == pytest.approx(own, abs=2e-4)
    loss, message = choose_loss(model, two_rows())
    assert loss is plain_summed_loss
    assert message is not None
    assert "using the plain path" in message
    assert model.config._attn_implementation == attention


@pytest.mark.parametrize("family", ["granite", "cohere", "gemma2"])
def test_scaled_and_capped_logits_are_noticed_in_bf16_too(family: str) -> None:
    model = adapted(family)
    model.bfloat16()
    loss, message = choose_loss(model, two_rows())
    assert loss is plain_summed_loss
    assert message is not None
    assert "scales or caps" in message


def test_an_architecture_that_cannot_read_packed_rows_takes_the_plain_path_and_says_so() -> None:
    model = adapted("mamba")
    loss, message = choose_loss(model, two_rows())
    assert loss is plain_summed_loss
    assert message is not None
    assert "one packed sequence" in message


def test_the_check_leaves_adapters_and_gradients_as_they_were() -> None:
    model = adapted("llama")
    before = [layer.lora_b.clone() for layer in lora_layers(model).values()]
    choose_loss(model, two_rows())
    for layer, saved in zip(lora_layers(model).values(), before, strict=True):
        assert torch.equal(layer.lora_b, saved)
        assert layer.lora_b.grad is None
        assert layer.lora_a.grad is None


def test_a_wrong_gradient_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    # A decoder that forgets part of its backward: the check has to see it in the gradients alone.
    from tunesmith.engine import decoder

    right = decoder._rms_norm_backward
    monkeypatch.setattr(decoder, "_rms_norm_backward", lambda *given: 0.9 * right(*given))
    loss, message = choose_loss(adapted("llama"), two_rows())
    assert loss is plain_summed_loss
    assert message is not None
