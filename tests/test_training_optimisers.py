"""Optimisers, schedules, penalties and losses are those of PyTorch, Transformers and bitsandbytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import get_scheduler, get_wsd_schedule

from engine_tiny import PAD, random_rows, randomise_adapters, relative_difference, tiny_model
from tiny import load_tiny, make_tiny_base, toy_rows
from tunesmith.engine import head
from tunesmith.engine.forward import (
    Batch,
    common_prefix,
    make_batch,
    plain_summed_loss,
    plain_token_losses,
    summed_loss,
    token_losses,
)
from tunesmith.engine.head import cross_entropies, summed_cross_entropy
from tunesmith.engine.lora import attach_lora, lora_layers, trainable_parameters
from tunesmith.errors import UserError
from tunesmith.models.loading import LoadedModel
from tunesmith.models.rendering import Tokens, instructed, render_row
from tunesmith.task.train_settings import TrainSettings
from tunesmith.training import optimisers as optimisers_module
from tunesmith.training.fit import Fit, fit
from tunesmith.training.optimisers import Penalties, check_optimiser, make_optimiser, optimiser_state
from tunesmith.training.schedule import Schedule
from tunesmith.training.validation import per_example

SETTINGS = TrainSettings(rank=4, alpha=8.0, learning_rate=3e-3, epochs=1, batch_size=8, patience=100)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_base(tmp_path_factory.mktemp("optimisers") / "base")


def rendered(loaded: LoadedModel, count: int, seed: int = 0) -> list[Tokens]:
    rows = toy_rows(count, ("billing", "delivery", "refund", "greeting the whole team"), seed)
    return [render_row(loaded, instructed("Name the team.", row), row.target) for row in rows]


def train(base: Path, folder: Path, changes: dict[str, Any]) -> tuple[Fit, LoadedModel]:
    chosen = SETTINGS.model_copy(update=changes)
    loaded = load_tiny(base)
    attach_lora(loaded.model, chosen.rank, chosen.alpha, chosen.seed)
    return fit(loaded, rendered(loaded, 48), rendered(loaded, 8, 1), chosen, folder), loaded


@settings(max_examples=30, deadline=None)
@given(
    positions=st.integers(1, 20),
    smoothing=st.sampled_from([0.0, 0.1, 0.5, 0.9]),
    weighted=st.booleans(),
    biased=st.booleans(),
    seed=st.integers(0, 2**16),
)
def test_the_fused_head_is_pytorchs_cross_entropy_smoothed_and_weighted(
    positions: int, smoothing: float, weighted: bool, biased: bool, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(positions, 16, generator=generator).requires_grad_()
    weight = torch.randn(37, 16, generator=generator)
    bias = torch.randn(37, generator=generator) if biased else None
    targets = torch.randint(37, (positions,), generator=generator)
    counts = torch.rand(positions, generator=generator) if weighted else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(head, "POSITIONS_PER_CHUNK", 7)
        ours = summed_cross_entropy(hidden, weight, bias, targets, smoothing, counts)
        by_position = cross_entropies(hidden.detach(), weight, bias, targets)
    logits = F.linear(hidden, weight, bias)
    losses = F.cross_entropy(logits, targets, reduction="none", label_smoothing=smoothing)
    theirs = (losses * (counts if counts is not None else 1)).sum()
    assert float(ours.detach()) == pytest.approx(float(theirs.detach()), rel=1e-5)
    (our_gradient,) = torch.autograd.grad(3 * ours, hidden)
    (their_gradient,) = torch.autograd.grad(3 * theirs, hidden)
    assert relative_difference([our_gradient], [their_gradient]) < 1e-5
    plain = F.cross_entropy(logits.detach(), targets, reduction="none")
    torch.testing.assert_close(by_position, plain, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_smoothed_and_weighted_losses_equal_the_plain_ones(family: str) -> None:
    model = tiny_model(family)
    attach_lora(model, rank=3, alpha=6.0, seed=0)
    randomise_adapters(model)
    rows = random_rows([9, 3, 12, 7], prefix=5)
    learn = [[place >= len(row) - 2 - index for place in range(len(row))] for index, row in enumerate(rows)]
    batch = make_batch(rows, learn, PAD, common_prefix(rows, [mask.index(True) for mask in learn]))
    weighted = Batch(**{**vars(batch), "weights": per_example(batch)})
    assert weighted.weights is not None
    sums = torch.zeros(4).index_add_(0, batch.rows, weighted.weights)
    torch.testing.assert_close(sums, torch.ones(4))
    fast, plain = summed_loss(model, weighted, 0.1), plain_summed_loss(model, weighted, 0.1)
    assert float(fast.detach()) == pytest.approx(float(plain.detach()), rel=1e-5)
    parameters = trainable_parameters(model)
    fast_gradients = list(torch.autograd.grad(fast, parameters))
    assert relative_difference(fast_gradients, list(torch.autograd.grad(plain, parameters))) < 1e-5
    by_token = token_losses(model, batch)
    torch.testing.assert_close(by_token, plain_token_losses(model, batch), rtol=1e-4, atol=1e-5)
    assert float(by_token.sum()) == pytest.approx(float(summed_loss(model, batch).detach()), rel=1e-6)


@pytest.mark.parametrize("kind", ["linear", "constant", "cosine", "wsd"])
@pytest.mark.parametrize(("rows", "warmup"), [(400, 0.1), (70, 0.0), (33, 0.5)])
def test_learning_rates_are_those_of_transformers(kind: str, rows: int, warmup: float) -> None:
    chosen = SETTINGS.model_copy(
        update={"schedule": kind, "warmup_share": warmup, "decay_share": 0.3, "epochs": 2.0}
    )
    schedule = Schedule(rows, chosen)
    optimiser = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=chosen.learning_rate)
    if kind == "wsd":
        decay = min(round(0.3 * schedule.steps), schedule.steps - schedule.warmup)
        theirs: Any = get_wsd_schedule(optimiser, schedule.warmup, decay, schedule.steps, decay_type="linear")
    else:
        name = {"constant": "constant_with_warmup"}.get(kind, kind)
        theirs = get_scheduler(name, optimiser, schedule.warmup, schedule.steps)
    rates = []
    for _ in range(schedule.steps):
        rates.append(theirs.get_last_lr()[0])
        optimiser.step()
        theirs.step()
    ours = [schedule.learning_rate(step) for step in range(schedule.steps)]
    after = schedule.warmup
    assert ours[after:] == pytest.approx(rates[after:], rel=1e-9)
    # Theirs begins with a step of rate 0; ours is one step ahead while it climbs.
    assert ours[: after - 1] == pytest.approx(rates[1:after], rel=1e-9)
    assert max(ours) == pytest.approx(chosen.learning_rate)


def test_the_learning_rate_warms_up_and_decays_linearly() -> None:
    settings = TrainSettings(learning_rate=1.0 - 1e-9, epochs=2, batch_size=10, warmup_share=0.2)
    schedule = Schedule(100, settings)
    rates = [schedule.learning_rate(step) for step in range(schedule.steps)]
    expected = [0.25, 0.5, 0.75, 1.0] + [count / 16 for count in range(16, 0, -1)]
    assert rates == pytest.approx(expected)


@pytest.mark.parametrize(
    ("rows", "changes", "steps", "validations"),
    [
        (100, {"epochs": 1.0, "validations_per_epoch": 2}, 10, {5, 10}),
        (95, {"epochs": 1.5, "validations_per_epoch": 1}, 15, {10, 15}),
        (100, {"epochs": 0.5, "validations_per_epoch": 4}, 5, {2, 5}),
        (3, {"epochs": 2.0, "validations_per_epoch": 4}, 2, {1, 2}),
        (3, {"epochs": 0.1, "validations_per_epoch": 1}, 1, {1}),
    ],
)
def test_validation_falls_where_it_is_asked_for_and_always_on_the_last_step(
    rows: int, changes: dict[str, float], steps: int, validations: set[int]
) -> None:
    schedule = Schedule(rows, TrainSettings(batch_size=10).model_copy(update=changes))
    assert (schedule.steps, schedule.validation_steps) == (steps, validations)


@pytest.mark.parametrize("optimiser", ["sgd", "adamw"])
def test_accumulated_batches_take_the_step_of_the_big_batch(
    base: Path, tmp_path: Path, optimiser: str
) -> None:
    rate = 0.3 if optimiser == "sgd" else 1e-4
    shared = {"optimiser": optimiser, "learning_rate": rate, "loss_per": "token"}
    big, big_model = train(base, tmp_path / "big", {**shared, "batch_size": 16})
    small, small_model = train(base, tmp_path / "small", {**shared, "batch_size": 4, "accumulate": 4})
    assert big.steps == small.steps == 3
    assert [p.loss for p in small.train] == pytest.approx([p.loss for p in big.train], rel=1e-6)
    for ours, theirs in zip(
        trainable_parameters(small_model.model), trainable_parameters(big_model.model), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)
    # Not the mean of the small batches' means, which would differ: answers are of unlike length.
    assert len({sum(row.learn) for row in rendered(small_model, 48)}) > 1


def test_eight_bit_adamw_keeps_its_moments_in_bytes_and_learns_as_adamw_does(
    base: Path, tmp_path: Path
) -> None:
    pytest.importorskip("bitsandbytes")
    changes = {"rank": 64, "alpha": 128.0, "epochs": 2}
    eight, model = train(base, tmp_path / "eight", {**changes, "optimiser": "adamw8bit"})
    whole, _ = train(base, tmp_path / "whole", changes)
    assert eight.validation[-1].loss == pytest.approx(whole.validation[-1].loss, rel=0.05)
    assert eight.validation[-1].loss < 0.9 * eight.validation[0].loss
    parameters = trainable_parameters(model.model)
    optimiser = make_optimiser(parameters, SETTINGS.model_copy(update={"optimiser": "adamw8bit"}))
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    optimiser.step()
    large = [state for state, p in zip(optimiser_state(optimiser, parameters), parameters, strict=True)
             if p.numel() >= 4096]  # fmt: skip
    assert large
    assert all(state["state1"].dtype == torch.uint8 for state in large)


def test_eight_bit_adamw_without_bitsandbytes_gets_the_install_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optimisers_module, "find_spec", lambda name: None)
    chosen = SETTINGS.model_copy(update={"optimiser": "adamw8bit"})
    with pytest.raises(UserError, match="bitsandbytes, which is not installed") as caught:
        check_optimiser(chosen)
    assert "pip install 'tunesmith[qlora]'" in caught.value.fix
    with pytest.raises(UserError, match="not installed"):
        make_optimiser([torch.zeros(2, 2)], chosen)
    check_optimiser(SETTINGS)


@pytest.mark.parametrize("optimiser", ["adamw", "sgd", "adamw8bit"])
def test_weight_decay_spares_weights_of_one_dimension(optimiser: str) -> None:
    matrix, bias = nn.Parameter(torch.ones(4, 4)), nn.Parameter(torch.ones(4))
    chosen = SETTINGS.model_copy(update={"optimiser": optimiser, "weight_decay": 0.5, "learning_rate": 0.1})
    stepping = make_optimiser([bias, matrix], chosen)
    matrix.grad, bias.grad = torch.zeros(4, 4), torch.zeros(4)
    stepping.step()
    assert torch.equal(bias.detach(), torch.ones(4))
    torch.testing.assert_close(matrix.detach(), torch.full((4, 4), 0.95))


def test_penalties_draw_adapters_to_zero_and_whole_weights_to_where_they_began() -> None:
    model = tiny_model("llama")
    attach_lora(model, rank=3, alpha=6.0, seed=0)
    randomise_adapters(model)
    layer = next(iter(lora_layers(model).values()))
    norm = model.model.norm.weight
    parameters: list[Tensor] = [layer.lora_a, layer.lora_b, norm]
    chosen = SETTINGS.model_copy(update={"l1_penalty": 0.03, "l2_penalty": 0.2})
    penalties = Penalties(model, parameters, chosen)
    began = norm.detach().clone()
    with torch.no_grad():
        norm.add_(torch.linspace(-1, 1, len(norm)))
    changes = [layer.lora_a, layer.lora_b, norm.requires_grad_() - began]
    expected = torch.autograd.grad(
        torch.stack([0.03 * change.abs().sum() + 0.1 * (change**2).sum() for change in changes]).sum(),
        parameters,
    )
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    penalties.add_gradients()
    for parameter, gradient in zip(parameters, expected, strict=True):
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad, gradient + 1, rtol=1e-5, atol=1e-6)
