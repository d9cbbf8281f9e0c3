"""Every way to adapt a model has the loss and the gradients that PEFT, or plain training, has."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from engine_tiny import PAD, random_rows, relative_difference, tiny_model
from tunesmith.engine.dora import row_norms
from tunesmith.engine.forward import Batch, make_batch, plain_summed_loss, summed_loss
from tunesmith.engine.full import master_weights, masters_to_weights, train_all_weights
from tunesmith.engine.lora import (
    adapter_dropout,
    attach_lora,
    linear_layers,
    lora_disabled,
    lora_layers,
    trainable_parameters,
    trained_weights,
)
from tunesmith.engine.selfcheck import LossFunction, choose_loss
from tunesmith.engine.whole import trained_modules
from tunesmith.errors import UserError
from tunesmith.models.adapters import AdapterMethod
from tunesmith.models.quantised import QuantisedLinear, quantise

FAMILIES = ("llama", "gpt2")
WHOLE = {"llama": ["lm_head", "embed_tokens"], "gpt2": ["wte", "ln_f"]}


def two_rows(seed: int = 0) -> Batch:
    rows = random_rows([5, 8], prefix=4, seed=seed)
    return make_batch(rows, [[place >= len(row) - 3 for place in range(len(row))] for row in rows], PAD, 4)


def shaken(model: PreTrainedModel, seed: int = 1) -> PreTrainedModel:
    """Every trained weight moved, so that B is not zero and magnitudes are not norms."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in trained_weights(model):
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return model


def adapted(
    family: str,
    method: AdapterMethod,
    targets: list[str] | None = None,
    modules_to_save: list[str] | None = None,
    rank: int = 3,
    dropout: float = 0.0,
) -> tuple[PreTrainedModel, Any]:
    """The model with our adapter, and one with PEFT's that holds the same weights."""
    model = tiny_model("llama, wide" if (family, method) == ("llama", "qlora") else family)
    reference = copy.deepcopy(model)
    reference.set_attn_implementation("eager")
    if method == "qlora":
        quantise(model)
        _quantise_as_bitsandbytes_does(reference)
    attach_lora(model, rank, 6.0, 0, method, targets, dropout, modules_to_save)
    shaken(model)
    config = LoraConfig(
        r=rank,
        lora_alpha=6,
        use_rslora=method == "rslora",
        use_dora=method == "dora",
        lora_dropout=dropout,
        target_modules=list(lora_layers(model)),
        modules_to_save=list(trained_modules(model)) or None,
        fan_in_fan_out=family == "gpt2",
    )
    peft: Any = get_peft_model(reference, config)
    # PEFT puts every module's dropout on in training; ours has no other.
    for module in peft.modules():
        module.training = True
        if isinstance(module, nn.Dropout) and module.p != dropout:
            module.p = 0.0
    theirs = peft_parameters(peft)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                theirs[name].copy_(parameter)
    return model, peft


def peft_parameters(peft: Any) -> dict[str, Tensor]:
    """PEFT's trained parameters by the names ours have."""
    ours = {}
    for name, parameter in peft.named_parameters():
        if parameter.requires_grad:
            short = name.removeprefix("base_model.model.")
            short = short.replace("lora_A.default.weight", "lora_a").replace(
                "lora_B.default.weight", "lora_b"
            )
            short = short.replace("lora_magnitude_vector.default.weight", "magnitude")
            ours[short.replace("modules_to_save.default", "trained")] = parameter
    return ours


def assert_as_peft(model: PreTrainedModel, peft: Any, loss: LossFunction, batch: Batch) -> None:
    """Loss and gradients within 1e-5."""
    named = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    theirs = peft_parameters(peft)
    assert named.keys() == theirs.keys()
    value, their_value = loss(model, batch), plain_summed_loss(peft, batch)
    assert float(value.detach()) == pytest.approx(float(their_value.detach()), rel=1e-5)
    gradients = torch.autograd.grad(value, list(named.values()))
    their_gradients = torch.autograd.grad(their_value, [theirs[name] for name in named])
    assert relative_difference(gradients, their_gradients) < 1e-5
    assert all(float(gradient.norm()) > 0 for gradient in gradients)


@pytest.mark.parametrize("loss", [summed_loss, plain_summed_loss])
@pytest.mark.parametrize("method", ["lora", "rslora", "dora", "qlora"])
@pytest.mark.parametrize("family", FAMILIES)
def test_loss_and_gradients_are_those_of_peft(family: str, method: AdapterMethod, loss: LossFunction) -> None:
    model, peft = adapted(family, method)
    assert_as_peft(model, peft, loss, two_rows())


@pytest.mark.parametrize("method", ["lora", "dora"])
@pytest.mark.parametrize("family", FAMILIES)
def test_modules_trained_whole_are_those_of_peft(family: str, method: AdapterMethod) -> None:
    model, peft = adapted(family, method, modules_to_save=WHOLE[family])
    assert_as_peft(model, peft, summed_loss, two_rows())
    assert_as_peft(model, peft, plain_summed_loss, two_rows())


@settings(max_examples=8, deadline=None)
@given(
    rank=st.integers(1, 40),
    method=st.sampled_from(["lora", "rslora", "dora"]),
    targets=st.lists(st.sampled_from(["q_proj", "o_proj", "up_proj", "down_proj"]), min_size=1, unique=True),
    seed=st.integers(0, 99),
)
def test_any_rank_and_any_targets_are_those_of_peft(
    rank: int, method: AdapterMethod, targets: list[str], seed: int
) -> None:
    model, peft = adapted("llama", method, targets, rank=rank)
    assert {name.rpartition(".")[2] for name in lora_layers(model)} == set(targets)
    assert_as_peft(model, peft, summed_loss, two_rows(seed))


@pytest.mark.parametrize("method", ["lora", "dora"])
def test_adapter_dropout_is_that_of_peft(method: AdapterMethod) -> None:
    model, peft = adapted("llama", method, dropout=0.4)
    batch = two_rows()
    loss, message = choose_loss(model, batch, plain_attention="eager")
    assert loss is plain_summed_loss
    assert message is not None
    assert "dropout" in message
    without = float(loss(model, batch).detach())
    with adapter_dropout(model, seed=3, step=5):
        first = float(loss(model, batch).detach())
    torch.manual_seed(3 * 1_000_003 + 5)
    assert first == pytest.approx(float(plain_summed_loss(peft, batch).detach()), rel=1e-5)
    with adapter_dropout(model, seed=3, step=5):
        again = float(loss(model, batch).detach())
    with adapter_dropout(model, seed=3, step=6):
        other = float(loss(model, batch).detach())
    assert first == again
    assert len({without, first, other}) == 3


@settings(max_examples=20, deadline=None)
@given(outputs=st.integers(1, 9), inputs=st.integers(1, 9), rank=st.integers(1, 12), seed=st.integers(0, 99))
def test_row_norms_are_those_of_the_adapted_weight(outputs: int, inputs: int, rank: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    weight, a, b = (
        torch.randn(shape, generator=generator)
        for shape in ((outputs, inputs), (rank, inputs), (outputs, rank))
    )
    norms = torch.linalg.norm((weight + 0.7 * b @ a).double(), dim=1)
    torch.testing.assert_close(row_norms(weight, a, b, 0.7).double(), norms, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("method", ["lora", "rslora", "dora", "qlora"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_new_adapter_answers_as_the_base_and_a_disabled_one_too(family: str, method: AdapterMethod) -> None:
    model, batch = tiny_model(family), two_rows()
    if method == "qlora":
        quantise(model)
    base = float(plain_summed_loss(model, batch))
    attach_lora(model, 3, 6.0, 0, method, modules_to_save=WHOLE[family])
    assert float(summed_loss(model, batch).detach()) == pytest.approx(base, rel=1e-5)
    shaken(model)
    assert float(summed_loss(model, batch).detach()) != pytest.approx(base, rel=1e-3)
    with lora_disabled(model):
        assert float(summed_loss(model, batch)) == pytest.approx(base, rel=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_full_fine_tuning_has_the_gradients_of_plain_training(family: str) -> None:
    model, batch = tiny_model(family), two_rows()
    model.tie_weights()
    train_all_weights(model)
    loss, message = choose_loss(model, batch)
    assert loss is summed_loss
    assert (message is not None) == (family == "llama")  # the only one with a hand-written decoder
    fast = torch.autograd.grad(summed_loss(model, batch), trained_weights(model), materialize_grads=True)
    model.set_attn_implementation("eager")
    plain_value = plain_summed_loss(model, batch)
    plain = torch.autograd.grad(plain_value, trained_weights(model), materialize_grads=True)
    assert relative_difference(fast, plain) < 1e-5
    assert len(fast) == len(list(model.parameters()))


def test_qwen2_biases_that_were_trained_are_heeded_by_the_decoder() -> None:
    model, batch = tiny_model("qwen2"), two_rows()
    with torch.no_grad():
        summed_loss(model, batch)
    train_all_weights(model)
    shaken(model)
    with torch.no_grad():
        fast = float(summed_loss(model, batch))
    model.set_attn_implementation("eager")
    assert fast == pytest.approx(float(plain_summed_loss(model, batch).detach()), rel=1e-5)


def test_in_bf16_the_masters_move_by_less_than_a_weight_can() -> None:
    model, batch = tiny_model("llama", dtype=torch.bfloat16), two_rows()
    train_all_weights(model)
    weights = list(model.parameters())
    before = [weight.detach().clone() for weight in weights]
    masters = trainable_parameters(model)
    assert all(master.dtype == torch.float32 for master in masters)
    optimiser = torch.optim.AdamW(masters, lr=1e-5, weight_decay=0.0)
    for step in range(4):
        optimiser.zero_grad(set_to_none=True)
        for _ in range(2):  # parts of a batch add up in the masters
            summed_loss(model, batch).backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        assert all(weight.grad is None for weight in weights), step
        optimiser.step()
        masters_to_weights(model)
    moved = [float((m.detach() - b.float()).abs().max()) for m, b in zip(masters, before, strict=True)]
    assert max(moved) == pytest.approx(4e-5, rel=0.1)  # four steps of Adam's size, none lost
    assert all(
        torch.equal(weight, master.detach().to(torch.bfloat16))
        for weight, master in zip(weights, master_weights(model).values(), strict=True)
    )


def test_a_head_and_embeddings_trained_whole_stand_apart_though_they_were_tied() -> None:
    model: Any = tiny_model("gpt2")
    model.tie_weights()
    assert model.lm_head.weight is model.transformer.wte.weight
    attach_lora(model, 3, 6.0, 0, modules_to_save=["wte"])
    shaken(model)
    whole = trained_modules(model)["transformer.wte"]
    assert not torch.equal(whole.weight, model.lm_head.weight)


@pytest.mark.parametrize(("outputs", "inputs"), [(64, 64), (96, 32), (32, 96), (7, 5), (128, 192)])
def test_quantised_weights_are_the_nearest_nf4_values_at_any_shape(outputs: int, inputs: int) -> None:
    weight = torch.randn(outputs, inputs, generator=torch.Generator().manual_seed(0))
    layer = QuantisedLinear(weight, None)
    assert layer.weight.shape == weight.shape
    padded = nn.functional.pad(weight.flatten(), (0, -weight.numel() % 64)).view(-1, 64)
    largest = padded.abs().amax(dim=1, keepdim=True)
    code = layer.state.code
    nearest = code[(padded / largest)[..., None].sub(code).abs().argmin(dim=-1)] * largest
    expected = nearest.flatten()[: weight.numel()].view(outputs, inputs)
    # Block scales are held in 8 bits themselves.
    torch.testing.assert_close(layer.weight, expected, rtol=0.05, atol=0.02)
    assert layer.packed.numel() * 2 == padded.numel()


def test_qlora_without_bitsandbytes_names_the_install_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="needs bitsandbytes") as caught:
        quantise(tiny_model("llama"))
    assert 'pip install "tunesmith[qlora]"' in caught.value.fix


@pytest.mark.parametrize(
    ("given", "what"),
    [
        ({"targets": ["q_proj", "query"]}, "train.targets: 'query' matches nothing in LlamaForCausalLM"),
        ({"targets": ["proj"]}, "train.targets: 'proj' matches nothing"),  # an ending is a whole name
        (
            {"targets": ["lm_head"]},
            "train.targets: 'lm_head' cannot be named here: only linear layers but the output head",
        ),
        (
            {"modules_to_save": ["self_attn"]},
            "'self_attn' cannot be named here: only modules with weights of their own",
        ),
        ({"modules_to_save": ["head"]}, "train.modules_to_save: 'head' matches nothing"),
        (
            {"targets": ["q_proj"], "modules_to_save": ["0.self_attn.q_proj"]},
            "train.modules_to_save: model.layers.0.self_attn.q_proj is in train.targets too",
        ),
    ],
)
def test_names_that_do_not_fit_the_model_are_refused(given: dict[str, Any], what: str) -> None:
    model = tiny_model("llama")
    with pytest.raises(UserError, match=re.escape(what)) as caught:
        attach_lora(model, 3, 6.0, 0, **given)
    if "train.targets too" not in what:
        assert "q_proj" in caught.value.fix
    assert not lora_layers(model)


def test_conv1d_layers_are_adapted_in_gpt2() -> None:
    model = tiny_model("gpt2")
    names = attach_lora(model, 3, 6.0, 0, targets=["attn.c_attn"])
    assert names == ["transformer.h.0.attn.c_attn", "transformer.h.1.attn.c_attn"]
    assert all(isinstance(layer.base, Conv1D) for layer in lora_layers(model).values())


def _quantise_as_bitsandbytes_does(model: Any) -> None:
    """What Transformers makes of a model loaded with NF4 and double quantisation."""
    from bitsandbytes import nn as bitsandbytes

    untyped: Any = bitsandbytes
    for name in linear_layers(model):
        linear = model.get_submodule(name)
        if isinstance(linear, Conv1D):  # bitsandbytes has no such layer
            linear.weight.data = QuantisedLinear(linear.weight.T, None).weight.T.contiguous()
            continue
        layer = untyped.Linear4bit(
            linear.in_features,
            linear.out_features,
            bias=linear.bias is not None,
            compute_dtype=torch.float32,
            compress_statistics=True,
            quant_type="nf4",
        )
        layer.weight = untyped.Params4bit(
            linear.weight.data.clone(), requires_grad=False, compress_statistics=True, quant_type="nf4"
        )
        layer.bias = linear.bias
        model.set_submodule(name, layer.to("cpu"))
        model.is_loaded_in_4bit = True
