"""The memory plan counts what is really held, and training is fitted to the memory there is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from engine_tiny import PAD, random_rows, randomise_adapters, tiny_model
from tiny import load_tiny, make_tiny_base, toy_rows
from tunesmith.engine.adapters import make_trainable
from tunesmith.engine.forward import make_batch, plain_summed_loss, summed_loss
from tunesmith.engine.lora import attach_lora, trainable_parameters, trained_weights
from tunesmith.engine.recompute import recomputes, recomputing
from tunesmith.engine.selfcheck import choose_loss
from tunesmith.errors import UserError
from tunesmith.models.rendering import Tokens, instructed, render_row
from tunesmith.models.tokenizing import load_tokenizer
from tunesmith.task.train_settings import TrainSettings
from tunesmith.training.batches import WHOLE_ROWS, Sharing, sharing_of
from tunesmith.training.fit import fit
from tunesmith.training.measure import largest_micro_batches, measure_steps
from tunesmith.training.memory import (
    BaseShape,
    MicroBatch,
    Work,
    micro_batch,
    plan_memory,
    read_shape,
    takes_plain_path,
    trained_weights_of,
)
from tunesmith.training.memory_choice import MICRO_BATCHES, choose_memory
from tunesmith.training.optimisers import Penalties

UNSHARED = Sharing(0, None)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_base(tmp_path_factory.mktemp("memory") / "base")


@pytest.mark.parametrize("method", ["lora", "dora", "qlora", "full"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"targets": ("q_proj", "down_proj")},
        {"modules_to_save": ("norm",)},
    ],
)
def test_trained_weights_are_counted_without_loading(
    base: Path, method: str, options: dict[str, tuple[str, ...]]
) -> None:
    settings = TrainSettings.model_validate({"method": method, "rank": 4, **options})
    shape = read_shape(base)
    model = load_tiny(base).model
    assert shape.weights == sum(parameter.numel() for parameter in model.parameters())
    make_trainable(model, settings)
    expected = sum(parameter.numel() for parameter in trainable_parameters(model))
    assert trained_weights_of(shape, settings) == expected


@pytest.mark.parametrize("method", ["lora", "dora", "full"])
def test_what_penalties_remember_is_planned(base: Path, method: str) -> None:
    plain = TrainSettings.model_validate({"method": method, "rank": 4, "modules_to_save": ("norm",)})
    penalised = plain.model_copy(update={"l2_penalty": 0.1})
    model = load_tiny(base).model
    make_trainable(model, plain)
    starts = Penalties(model, trainable_parameters(model), penalised).starts
    held = sum(start.nbytes for start in starts if start is not None)
    work = Work((micro_batch([40], [3], 0),), MicroBatch(80, 0, 80), 640)
    shape = read_shape(base)
    with_them, without = (plan_memory(shape, one, 4, work).trained for one in (penalised, plain))
    assert with_them - without == held > 0


@pytest.mark.parametrize("family", ["llama", "qwen3", "granite", "cohere", "gemma2"])
def test_the_path_that_training_takes_is_known_before_loading(family: str, tmp_path: Path) -> None:
    model = tiny_model(family)
    model.save_pretrained(tmp_path)
    attach_lora(model, 4, 8.0, seed=0)
    rows = random_rows([9, 5])
    batch = make_batch(rows, [[position > 2 for position in range(len(row))] for row in rows], PAD, 0)
    chosen, _ = choose_loss(model, batch)
    assert takes_plain_path(read_shape(tmp_path), TrainSettings()) == (chosen is plain_summed_loss)


def test_adapter_dropout_is_planned_with_the_logits_of_every_position() -> None:
    work = Work((MicroBatch(640, 0, 16),), MicroBatch(80, 0, 80), 640)
    dropping = plan_memory(SMOL, TrainSettings(adapter_dropout=0.1), 2, work).step
    without = plan_memory(replace(SMOL, hand_written=False), TrainSettings(), 2, work).step
    assert dropping == without + 2 * 2 * 640 * SMOL.vocabulary


def test_a_tokenizer_renders_as_the_loaded_base_does(base: Path) -> None:
    loaded = load_tiny(base)
    tokenizer = load_tokenizer(loaded.base)
    assert tokenizer.context_tokens == loaded.context_tokens
    assert tokenizer.pad_token == loaded.pad_token
    for row in toy_rows(4, ("billing", "a, b"), seed=1):
        messages = instructed("Name the team.", row)
        assert render_row(tokenizer, messages, row.target) == render_row(loaded, messages, row.target)


@pytest.mark.parametrize(
    ("family", "method", "plain"),
    [("llama", "lora", False), ("llama", "dora", False), ("gpt2", "lora", False), ("gemma3", "lora", True)],
)
def test_recomputing_layers_changes_no_bit_of_any_gradient(family: str, method: str, plain: bool) -> None:
    model = tiny_model(family)
    attach_lora(model, 4, 8.0, seed=0, method="dora" if method == "dora" else "lora", dropout=0.0)
    randomise_adapters(model)
    rows = random_rows([9, 5, 3], prefix=4)
    batch = make_batch(rows, [[position > 5 for position in range(len(row))] for row in rows], PAD, 4)
    loss_of = plain_summed_loss if plain else summed_loss

    def gradients() -> list[Tensor]:
        return list(
            torch.autograd.grad(loss_of(model, batch), trained_weights(model), materialize_grads=True)
        )

    kept = gradients()
    layers = [module for module in model.modules() if hasattr(module, "gradient_checkpointing")]
    with recomputing(model, True):
        assert any(recomputes(layer) for layer in layers)
        again = gradients()
    assert not any(recomputes(layer) or layer.training for layer in layers if recomputes(layer))
    assert sum(float(gradient.norm()) for gradient in kept) > 0
    for ours, theirs in zip(again, kept, strict=True):
        assert torch.equal(ours, theirs)


def test_recomputing_holds_fewer_tensors_for_the_backward_pass() -> None:
    model = tiny_model("gpt2")
    attach_lora(model, 4, 8.0, seed=0)
    rows = random_rows([60, 60])
    batch = make_batch(rows, [[True] * 60] * 2, PAD, 0)

    def held(wanted: bool) -> int:
        sizes: dict[int, int] = {}

        def note(tensor: Tensor) -> Tensor:
            sizes[tensor.data_ptr()] = tensor.nbytes
            return tensor

        with (
            recomputing(model, wanted),
            torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor),
        ):
            summed_loss(model, batch)
        return sum(sizes.values())

    assert held(True) < held(False)


def rendered(base: Path, count: int) -> list[Tokens]:
    loaded = load_tokenizer(load_tiny(base).base)
    return [
        render_row(loaded, instructed("Name the team.", row), row.target)
        for row in toy_rows(count, ("billing", "delivery"), seed=0)
    ]


# SmolLM2-135M, by its config.
LAYER = {"q": (576, 576), "k": (192, 576), "v": (192, 576), "o": (576, 576)}
MLP = {"gate": (1536, 576), "up": (1536, 576), "down": (576, 1536)}
SMOL = BaseShape(
    layers=30, hidden=576, intermediate=1536, heads=9, kv_heads=3, head_dim=64, vocabulary=49152,
    matrices={f"{layer}.{name}": shape for layer in range(30) for name, shape in (LAYER | MLP).items()},
    modules={"embed": 49152 * 576}, stored_bytes=2, hand_written=True,
)  # fmt: skip


def test_on_a_gpu_short_prefixes_are_planned_in_every_row(base: Path) -> None:
    rows = rendered(base, 32)
    shared = sharing_of(rows)
    own = min(len(row.ids) for row in rows) - shared.prefix
    assert 0 < shared.prefix < own
    sizes = {
        device: choose_memory(SMOL, TrainSettings(), 2, rows, shared, 0, device).largest.size.tokens
        for device in ("cpu", "cuda")
    }
    largest = choose_memory(SMOL, TrainSettings(), 2, rows, shared, 0, "cuda").largest
    assert sizes["cuda"] == sum(len(rows[row].ids) for row in largest.rows)
    assert sizes["cuda"] == sizes["cpu"] + shared.prefix * (len(largest.rows) - 1)


def test_a_base_without_attention_is_refused(tmp_path: Path) -> None:
    tiny_model("mamba").config.save_pretrained(tmp_path)
    with pytest.raises(UserError, match="a mamba model has no attention") as refused:
        read_shape(tmp_path)
    assert "causal attention" in refused.value.fix


def test_training_shrinks_its_micro_batches_then_recomputes_then_refuses(base: Path) -> None:
    rows = rendered(base, 64)
    settings = TrainSettings(batch_size=64)

    def chosen(available_mb: float) -> tuple[int, bool]:
        choice = choose_memory(SMOL, settings, 2, rows, UNSHARED, available_mb)
        return choice.micro_batch_tokens, choice.recompute

    assert chosen(0) == (MICRO_BATCHES[0], False)  # a system that does not tell
    seen: list[tuple[int, bool]] = []
    with pytest.raises(UserError, match="GiB of memory") as refused:  # noqa: PT012  # after how many is the claim
        for available in range(4000, 200, -50):
            seen += [chosen(available)]
    ways = list(dict.fromkeys(seen))
    assert ways[0] == (MICRO_BATCHES[0], False)
    assert len(ways) > 2
    assert ways == sorted(ways, key=lambda way: (way[1], -way[0]))
    assert "qlora" in refused.value.fix


def test_full_fine_tuning_that_does_not_fit_is_refused_with_what_does(base: Path) -> None:
    with pytest.raises(
        UserError, match=r"full .* needs at least [\d.]+ GiB .* 2.1 GiB are available, of which 85 % are"
    ) as refused:
        choose_memory(SMOL, TrainSettings(method="full"), 2, rendered(base, 8), UNSHARED, 2150)
    assert "train.method: lora" in refused.value.fix


def test_longer_rows_more_weights_and_kept_layers_take_more_memory() -> None:
    lora, full = TrainSettings(), TrainSettings(method="full")
    short, long = micro_batch([40] * 16, [3] * 16, 0), micro_batch([128] * 16, [3] * 16, 0)
    assert short.tokens == 640
    assert micro_batch([40] * 16, [3] * 16, 30) == MicroBatch(30 + 160, 16 * 10 * 40 + 900, 48)

    def peak(settings: TrainSettings, batch: MicroBatch, recompute: bool = False) -> int:
        work = Work((batch,), MicroBatch(80, 0, 80), 640, scores_labels=False)
        return plan_memory(SMOL, settings, 2, work, recompute=recompute).peak

    assert peak(lora, short) < peak(lora, long) < peak(full, long)
    assert peak(full, long, recompute=True) < peak(full, long)


def test_the_plain_path_holds_no_more_tokens_than_planned_with_prefixes_in_every_row(
    base: Path, tmp_path: Path
) -> None:
    settings = TrainSettings(rank=4, alpha=8.0, epochs=1, batch_size=32, adapter_dropout=0.1)
    loaded = load_tiny(base)
    make_trainable(loaded.model, settings)
    rows = [
        render_row(loaded, instructed("Name the team. " * 20, row), row.target)
        for row in toy_rows(64, ("billing", "delivery"), 0)
    ]
    assert sharing_of(rows).prefix > 100
    assert sharing_of(rows, family="encoder") == WHOLE_ROWS
    held: list[int] = []
    embedding = loaded.model.get_input_embeddings()
    hook = embedding.register_forward_hook(lambda module, inputs, output: held.append(inputs[0].numel()))
    measure_steps(loaded, rows, settings, micro_batch_tokens=512)
    fitted = fit(loaded, rows, rows[:40], settings, tmp_path, micro_batch_tokens=512)
    hook.remove()
    assert fitted.message is not None
    assert "dropout" in fitted.message
    assert max(held) <= 512
    parts = largest_micro_batches(rows, settings, sharing_of(rows), 512, plain=True)
    assert max(part.size.tokens for part in parts) == max(held)
