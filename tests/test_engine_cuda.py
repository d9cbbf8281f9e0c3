"""What a GPU does differently gives what a CPU gives; without a GPU, its layout and its choice are tested."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from engine_tiny import PAD, random_rows, randomise_adapters, relative_difference, tiny_model
from tunesmith.engine.attention import Packed, attend
from tunesmith.engine.decoder import _swiglu, _swiglu_backward
from tunesmith.engine.devices import device_of, find_device, fused
from tunesmith.engine.forward import (
    Batch,
    hidden_states,
    make_batch,
    packed_hidden,
    plain_summed_loss,
    reads_whole_rows,
    summed_loss,
    token_losses,
    whole_row_states,
)
from tunesmith.engine.lora import attach_lora, trained_weights
from tunesmith.engine.packing import Packing, pack_rows, pack_whole_rows
from tunesmith.engine.recompute import recomputing
from tunesmith.engine.segment_attention import (
    attend_segments,
    attend_segments_backward,
    attend_segments_kept,
    has_kernel,
)
from tunesmith.engine.selfcheck import choose_loss
from tunesmith.errors import UserError

DEVICES = [
    "cpu",
    pytest.param(
        "cuda",
        marks=pytest.mark.skipif(
            not torch.cuda.is_available(), reason="PyTorch finds no GPU on this machine"
        ),
    ),
]


def batch_of(lengths: list[int], prefix: int) -> Batch:
    rows = random_rows(lengths, prefix=prefix)
    return make_batch(rows, [[place > prefix for place in range(len(row))] for row in rows], PAD, prefix)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("family", ["llama", "llama, wide", "qwen3", "gemma3", "mistral with a window"])
@pytest.mark.parametrize("prefix", [0, 5])
def test_rows_read_whole_have_the_states_and_gradients_of_shared_prefixes(
    family: str, prefix: int, device: str
) -> None:
    model = tiny_model(family)
    attach_lora(model, 4, 8.0, seed=0)
    randomise_adapters(model)
    torch.nn.Module.to(model, device)
    batch = batch_of([9, 1, 4], prefix)

    def gradients(states: Tensor) -> list[Tensor]:
        weights = torch.linspace(-1, 1, states.numel(), device=states.device).view_as(states)
        return list(torch.autograd.grad((states * weights).sum(), trained_weights(model)))

    theirs = hidden_states(model, batch)
    their_gradients = gradients(theirs)
    ours = whole_row_states(model, batch)
    assert relative_difference([ours], [theirs]) < 1e-5
    assert relative_difference(gradients(ours), their_gradients) < 1e-5
    with recomputing(model, True):
        again = gradients(whole_row_states(model, batch))
    assert relative_difference(again, their_gradients) < 1e-5


@pytest.mark.parametrize("device", DEVICES)
def test_loss_and_gradients_are_those_of_the_models_own_forward(device: str) -> None:
    model = tiny_model("llama, wide", dtype=torch.float32 if device == "cpu" else torch.bfloat16)
    attach_lora(model, 4, 8.0, seed=0)
    randomise_adapters(model)
    torch.nn.Module.to(model, device)
    batch = batch_of([12, 7, 3], 4)
    weights = trained_weights(model)
    theirs = plain_summed_loss(model, batch)
    their_gradients = torch.autograd.grad(theirs, weights)
    ours = summed_loss(model, batch)
    our_gradients = torch.autograd.grad(ours, weights)
    tolerance = 1e-5 if device == "cpu" else 3e-2
    assert float(ours) == pytest.approx(float(theirs), rel=tolerance)
    assert float(token_losses(model, batch).sum()) == pytest.approx(float(ours), rel=tolerance)
    apart = relative_difference(our_gradients, their_gradients)
    assert apart < (1e-5 if device == "cpu" else 1.5e-1)


@pytest.mark.parametrize("device", DEVICES)
def test_the_kernels_gradients_are_those_of_blocks(device: str) -> None:
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    generator = torch.Generator().manual_seed(0)
    lengths = [6, 1, 9]
    query = torch.randn(16, 4, 16, generator=generator).to(device, dtype)
    key, value = (torch.randn(16, 2, 16, generator=generator).to(device, dtype) for _ in range(2))
    gradient = torch.randn(16, 64, generator=generator).to(device, dtype)
    whole = pack_whole_rows(lengths).to(torch.device(device))
    assert whole.segments is not None
    kept = attend_segments_kept(query, key, value, whole.segments, 0.25)
    blocks = pack_rows(0, lengths, dtype, prefix_is_cached=False).to(torch.device(device))
    inputs = [tensor.clone().requires_grad_() for tensor in (query, key, value)]
    expected, _ = attend(inputs[0], inputs[1], inputs[2], blocks, 0.25)
    tolerance = 1e-5 if device == "cpu" else 3e-2
    assert relative_difference([kept.output], [expected]) < tolerance
    theirs = [tensor.flatten(1) for tensor in torch.autograd.grad(expected, inputs, gradient)]
    assert relative_difference(list(attend_segments_backward(gradient, kept)), theirs) < tolerance
    direct = attend_segments(query, key, value, whole.segments, 0.25)
    assert relative_difference([direct], [expected]) < tolerance


@pytest.mark.parametrize("device", DEVICES)
def test_fused_elementwise_work_is_the_plain_work(device: str) -> None:
    gate_up = torch.randn(5, 12, generator=torch.Generator().manual_seed(0)).to(device).requires_grad_()
    gradient = torch.ones(5, 6, device=device)
    activated = _swiglu(gate_up)
    (expected,) = torch.autograd.grad(activated, gate_up, gradient)
    torch.testing.assert_close(fused(_swiglu_backward, gradient)(gradient, gate_up.detach()), expected)
    torch.testing.assert_close(fused(_swiglu, gate_up)(gate_up), activated)
    assert (fused(_swiglu, gate_up) is _swiglu) == (device == "cpu")


def test_whole_rows_are_chosen_where_the_kernel_is_and_sharing_saves_little(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cuda, cpu = torch.device("cuda"), torch.device("cpu")
    assert has_kernel(cuda, torch.bfloat16, 128)
    assert not has_kernel(cuda, torch.float32, 128)
    assert not has_kernel(cuda, torch.bfloat16, 512)
    assert not has_kernel(cpu, torch.bfloat16, 128)
    model = tiny_model("llama", dtype=torch.bfloat16)
    assert not reads_whole_rows(model, 0, [10, 10])
    monkeypatch.setattr("tunesmith.engine.forward.device_of", lambda _: cuda)
    assert reads_whole_rows(model, 0, [10, 10])
    assert reads_whole_rows(model, 10, [10, 10])
    assert not reads_whole_rows(model, 100, [10, 10, 10])
    assert not reads_whole_rows(tiny_model("llama"), 0, [10, 10])


def test_a_packing_that_is_there_already_is_not_copied() -> None:
    packing = pack_rows(2, [3, 4], torch.float32, prefix_is_cached=False)
    assert packing.to(torch.device("cpu")) is packing
    elsewhere = packing.to(torch.device("meta"))
    tensors = [elsewhere.query_positions, *(block.mask for block in elsewhere.blocks)]
    assert all(tensor.device.type == "meta" for tensor in tensors)
    whole = pack_whole_rows([3, 4]).to(torch.device("meta"))
    assert whole.segments is not None
    assert whole.segments.offsets.device.type == "meta"


def test_layers_in_transformers_own_code_are_given_whole_rows_too() -> None:
    model = tiny_model("gpt2")
    rows = random_rows([5, 3])
    ids = torch.tensor([token for row in rows for token in row])
    whole = packed_hidden(model, ids, Packed(pack_whole_rows([5, 3]), None), torch.arange(8))
    blocks = pack_rows(0, [5, 3], torch.float32, prefix_is_cached=False)
    assert (
        relative_difference([whole], [packed_hidden(model, ids, Packed(blocks, None), torch.arange(8))])
        < 1e-5
    )
    assert device_of(model).type == "cpu"


def test_a_device_that_does_not_exist_is_refused_with_those_that_do() -> None:
    with pytest.raises(UserError, match="cuda:7 does not exist on this machine") as refused:
        find_device("cuda:7")
    assert "cpu" in refused.value.fix
    assert find_device("cpu") == torch.device("cpu")


def test_the_self_check_of_rows_read_whole_also_looks_at_shared_prefixes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tunesmith.engine.forward.has_kernel", lambda *_: True)
    model = tiny_model("llama")
    attach_lora(model, 4, 8.0, seed=0)
    batch = batch_of([6, 4], 5)
    assert reads_whole_rows(model, 5, [6, 4])
    assert choose_loss(model, batch) == (summed_loss, None)

    def only_the_first_row_sees_it(
        prefix: int, lengths: list[int], dtype: torch.dtype, prefix_is_cached: bool
    ) -> Packing:
        return pack_rows(0, [prefix + lengths[0], *lengths[1:]], dtype, prefix_is_cached)

    monkeypatch.setattr("tunesmith.engine.forward.pack_rows", only_the_first_row_sees_it)
    loss, message = choose_loss(model, batch)
    assert loss is plain_summed_loss
    assert message is not None
