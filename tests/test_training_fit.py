"""The training loop computes what a textbook loop computes, and keeps the best step."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM

from tiny import load_tiny, make_tiny_base, toy_rows
from tunesmith.engine.forward import plain_summed_loss
from tunesmith.engine.lora import attach_lora, lora_layers, trainable_parameters
from tunesmith.errors import UserError
from tunesmith.models.loading import LoadedModel
from tunesmith.models.rendering import Tokens, instructed, render_row
from tunesmith.records import Estimate
from tunesmith.task.train_settings import TrainSettings
from tunesmith.training import fit as fit_module
from tunesmith.training.batches import epoch_batches
from tunesmith.training.fit import fit
from tunesmith.training.guard import Guard
from tunesmith.training.measure import measure_steps
from tunesmith.training.schedule import Schedule
from tunesmith.training.validation import WATCHED_TRAINING_ROWS

LABELS = ("billing", "delivery", "refund", "greeting")
SETTINGS = TrainSettings(rank=4, alpha=8.0, learning_rate=3e-3, epochs=2, batch_size=8, weight_decay=0.01)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_base(tmp_path_factory.mktemp("fit") / "base")


def adapted(base: Path, settings: TrainSettings = SETTINGS) -> LoadedModel:
    loaded = load_tiny(base)
    attach_lora(loaded.model, settings.rank, settings.alpha, settings.seed)
    return loaded


def rows_of(loaded: LoadedModel, count: int, seed: int = 0) -> list[Tokens]:
    rows = toy_rows(count, LABELS, seed)
    return [render_row(loaded, instructed("Name the team.", row), row.target) for row in rows]


def weights(loaded: LoadedModel) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in trainable_parameters(loaded.model)]


class Textbook:
    """PEFT's LoRA on Transformers' own forward, whole padded rows, full logits, plain optimisers."""

    def __init__(self, base: Path, start: LoadedModel, settings: TrainSettings) -> None:
        model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, attn_implementation="eager")
        layers = lora_layers(start.model)
        config = LoraConfig(r=settings.rank, lora_alpha=int(settings.alpha), target_modules=sorted(layers))
        self.model = get_peft_model(model, config).eval()
        self.settings = settings
        adapters = {name: module for name, module in self.model.named_modules() if hasattr(module, "lora_A")}
        self.parameters: list[Tensor] = []
        with torch.no_grad():
            for name, layer in layers.items():
                theirs = adapters[f"base_model.model.{name}"]
                theirs.lora_A["default"].weight.copy_(layer.lora_a)
                theirs.lora_B["default"].weight.copy_(layer.lora_b)
                self.parameters += [theirs.lora_A["default"].weight, theirs.lora_B["default"].weight]
        rate, decay = settings.learning_rate, settings.weight_decay
        self.optimiser: torch.optim.Optimizer = (
            torch.optim.SGD(self.parameters, lr=rate, weight_decay=decay, momentum=settings.momentum)
            if settings.optimiser == "sgd"
            else torch.optim.AdamW(self.parameters, lr=rate, weight_decay=decay, fused=False)
        )

    def loss(self, rows: Sequence[Tokens]) -> Tensor:
        """Mean −log p over the learned tokens."""
        return self._loss(rows, 0.0, "token")

    def objective(self, rows: Sequence[Tokens]) -> Tensor:
        """The data's part of what the settings minimise."""
        return self._loss(rows, self.settings.label_smoothing, self.settings.loss_per)

    def penalty(self) -> Tensor:
        squares = sum((parameter**2).sum() for parameter in self.parameters)
        sizes = sum(parameter.abs().sum() for parameter in self.parameters)
        return torch.as_tensor(self.settings.l1_penalty * sizes + self.settings.l2_penalty / 2 * squares)

    def _loss(self, rows: Sequence[Tokens], smoothing: float, per: str) -> Tensor:
        longest = max(len(row.ids) for row in rows)
        ids = torch.zeros(len(rows), longest, dtype=torch.long)
        mask, labels = torch.zeros_like(ids), torch.full_like(ids, -100)
        for index, row in enumerate(rows):
            ids[index, : len(row.ids)] = torch.tensor(row.ids)
            mask[index, : len(row.ids)] = 1
            for at, learn in enumerate(row.learn):
                if learn:
                    labels[index, at] = row.ids[at]
        logits = self.model(input_ids=ids, attention_mask=mask).logits[:, :-1]
        if per == "token":
            return cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), label_smoothing=smoothing)
        by_row = [
            cross_entropy(own, wanted, label_smoothing=smoothing)
            for own, wanted in zip(logits, labels[:, 1:], strict=True)
        ]
        return torch.stack(by_row).mean()

    def step(self, rows: Sequence[Tokens], learning_rate: float) -> tuple[float, float]:
        self.optimiser.param_groups[0]["lr"] = learning_rate
        self.optimiser.zero_grad()
        loss = self.objective(rows)
        (loss + self.penalty()).backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.settings.max_gradient_norm)
        self.optimiser.step()
        return float(loss.detach()), float(norm)


OBJECTIVES: list[dict[str, Any]] = [
    {},
    {"optimiser": "sgd", "learning_rate": 0.3, "momentum": 0.8, "schedule": "cosine"},
    {"label_smoothing": 0.1, "schedule": "wsd", "decay_share": 0.5},
    {"loss_per": "example", "accumulate": 2, "batch_size": 4},
    {"loss_per": "example", "label_smoothing": 0.2, "optimiser": "sgd", "learning_rate": 0.1},
    {"l1_penalty": 1e-3, "l2_penalty": 1e-2, "optimiser": "sgd", "learning_rate": 0.1, "weight_decay": 0.0},
]


@pytest.mark.parametrize("changes", OBJECTIVES, ids=str)
def test_losses_gradient_norms_and_weights_are_those_of_a_textbook_loop(
    base: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    settings = SETTINGS.model_copy(update={"patience": 1000, **changes})
    loaded = adapted(base, settings)
    train, validation = rows_of(loaded, 40), rows_of(loaded, 12, seed=1)
    textbook = Textbook(base, loaded, settings)
    schedule = Schedule(len(train), settings)
    expected, norms, validations = [], [], []
    best: tuple[float, list[Tensor]] = (math.inf, [])
    lengths = [len(row.ids) for row in train]
    rows_per_step = settings.batch_size * settings.accumulate
    for step in range(schedule.steps):
        epoch, index = divmod(step, schedule.steps_per_epoch)
        chosen = epoch_batches(lengths, rows_per_step, settings.seed, epoch)[index]
        loss, norm = textbook.step([train[row] for row in chosen], schedule.learning_rate(step))
        expected.append(loss)
        norms.append(norm)
        if step + 1 in schedule.validation_steps:
            with torch.no_grad():
                validations.append(float(textbook.loss(validation)))
            if validations[-1] < best[0]:
                best = (validations[-1], [parameter.detach().clone() for parameter in textbook.parameters])
    fitted = fit(loaded, train, validation, settings, tmp_path)
    assert fitted.message is None
    assert fitted.fast_paths
    assert [point.loss for point in fitted.train] == pytest.approx(expected, rel=1e-5)
    assert [point.gradient_norm for point in fitted.train] == pytest.approx(norms, rel=1e-4)
    assert [point.loss for point in fitted.validation] == pytest.approx(validations, rel=1e-5)
    for ours, theirs in zip(weights(loaded), best[1], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


def test_a_run_on_the_plain_path_takes_the_same_steps(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = SETTINGS.model_copy(
        update={"optimiser": "sgd", "learning_rate": 0.1, "label_smoothing": 0.1, "loss_per": "example"}
    )
    runs = []
    for path in ("fast", "plain"):
        if path == "plain":
            monkeypatch.setattr(fit_module, "choose_loss", lambda model, batch: (plain_summed_loss, "plain"))
        loaded = adapted(base, settings)
        runs.append(fit(loaded, rows_of(loaded, 30), rows_of(loaded, 9, 1), settings, tmp_path / path))
    fast, plain = runs
    assert [point.loss for point in plain.train] == pytest.approx([p.loss for p in fast.train], rel=1e-5)
    assert [point.loss for point in plain.validation] == pytest.approx(
        [p.loss for p in fast.validation], rel=1e-5
    )
    for ours, theirs in zip(fast.validation_losses, plain.validation_losses, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4)


def test_the_label_is_learned(base: Path, tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(update={"learning_rate": 1e-2, "epochs": 4.0})
    loaded = adapted(base, settings)
    fitted = fit(loaded, rows_of(loaded, 160), rows_of(loaded, 40, seed=1), settings, tmp_path)
    assert fitted.validation[-1].loss < 0.5 * fitted.validation[0].loss
    assert fitted.train[-1].loss < 0.5 * fitted.train[0].loss
    assert all(point.tokens_per_second > 0 for point in fitted.train)
    assert fitted.tokens_per_second > 0


def test_a_batch_in_parts_takes_the_same_step_as_the_whole(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = []
    for tokens in (100_000, 200):
        monkeypatch.setattr(fit_module, "TOKENS_PER_MICRO_BATCH", tokens)
        loaded = adapted(base)
        fitted = fit(
            loaded, rows_of(loaded, 40), rows_of(loaded, 10, seed=1), SETTINGS, tmp_path / str(tokens)
        )
        results.append((fitted, weights(loaded)))
    (whole, whole_weights), (parts, part_weights) = results
    assert [point.loss for point in parts.train] == pytest.approx([p.loss for p in whole.train], rel=1e-5)
    for ours, theirs in zip(part_weights, whole_weights, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
    assert (parts.trained_tokens, parts.supervised_tokens) == (whole.trained_tokens, whole.supervised_tokens)


def test_tokens_are_counted_as_rendered_without_padding(base: Path, tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(update={"epochs": 1.0})
    loaded = adapted(base, settings)
    train = rows_of(loaded, 30)
    fitted = fit(loaded, train, rows_of(loaded, 10, seed=1), settings, tmp_path)
    assert fitted.trained_tokens == sum(len(row.ids) for row in train)
    assert fitted.supervised_tokens == sum(sum(row.learn) for row in train)


def test_training_stops_early_and_the_model_holds_the_best_step(base: Path, tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(
        update={"learning_rate": 0.05, "epochs": 60.0, "patience": 2, "warmup_share": 0.0, "batch_size": 4}
    )
    loaded = adapted(base, settings)
    # Other labels in validation than in training: learning to say the training labels soon hurts there.
    train = rows_of(loaded, 16)
    validation = [
        render_row(loaded, instructed("Name the team.", row), row.target)
        for row in toy_rows(16, ("parcel", "water", "other"), seed=1)
    ]
    fitted = fit(loaded, train, validation, settings, tmp_path)
    assert fitted.stopped_early
    assert fitted.steps < Schedule(len(train), settings).steps
    losses = {point.step: point.loss for point in fitted.validation}
    assert losses[fitted.best_step] == min(losses.values())
    assert [step > fitted.best_step for step in losses].count(True) == 2
    held = weights(loaded)
    textbook = Textbook(base, loaded, settings)
    with torch.no_grad():
        assert float(textbook.loss(validation)) == pytest.approx(losses[fitted.best_step], rel=1e-5)
    # Asked again it has nothing left to do, and leaves the same weights.
    again = adapted(base, settings)
    assert fit(again, train, validation, settings, tmp_path) == fitted
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(weights(again), held, strict=True))


def scripted(values: Sequence[float]) -> Callable[[], Estimate]:
    """A metric that takes these values at the validations, one after the other."""
    left = iter(values)

    def measure() -> Estimate:
        value = next(left)
        return Estimate(value, value - 0.1, value + 0.1, 20, 20, 0.95, "scripted")

    return measure


def test_the_best_step_may_be_that_of_the_metric_and_the_loss_decides_between_equals(
    base: Path, tmp_path: Path
) -> None:
    settings = SETTINGS.model_copy(update={"best_by": "metric", "patience": 3})
    loaded = adapted(base, settings)
    train, validation = rows_of(loaded, 60), rows_of(loaded, 20, seed=1)
    metric = scripted([0.2, 0.7, 0.7, 0.5, 0.6, 0.7, 0.1, 0.1])
    fitted = fit(loaded, train, validation, settings, tmp_path / "metric", metric=metric)
    assert [point.metric.value for point in fitted.validation if point.metric][:3] == [0.2, 0.7, 0.7]
    tied = [point for point in fitted.validation if point.metric and point.metric.value == 0.7]
    assert len(tied) > 1
    assert fitted.best_step == min(tied, key=lambda point: point.loss).step
    # Three validations without a better one end it, though the loss still falls.
    falling = scripted([0.9, *[0.1] * 7])
    stopped = fit(adapted(base, settings), train, validation, settings, tmp_path / "stopped", metric=falling)
    assert stopped.stopped_early
    assert stopped.best_step == stopped.validation[0].step
    assert len(stopped.validation) == 4
    # The weights kept are those of that step.
    textbook = Textbook(base, loaded, settings)
    with torch.no_grad():
        kept = min(tied, key=lambda point: point.loss)
        assert float(textbook.loss(validation)) == pytest.approx(kept.loss, rel=1e-5)


def test_losses_are_watched_row_by_row_on_validation_and_on_the_same_training_rows(
    base: Path, tmp_path: Path
) -> None:
    loaded = adapted(base)
    train, validation = rows_of(loaded, 150), rows_of(loaded, 20, seed=1)
    settings = SETTINGS.model_copy(update={"epochs": 1.0, "patience": 100})
    fitted = fit(loaded, train, validation, settings, tmp_path)
    assert len(fitted.watched_rows) == len(set(fitted.watched_rows)) == WATCHED_TRAINING_ROWS
    assert max(fitted.watched_rows) >= 140
    textbook = Textbook(base, loaded, settings)
    at = [point.step for point in fitted.validation].index(fitted.best_step)
    for rows, losses in (
        (validation, fitted.validation_losses[at]),
        ([train[row] for row in fitted.watched_rows], fitted.training_losses[at]),
    ):
        with torch.no_grad():
            own = [float(textbook.loss([row])) * sum(row.learn) for row in rows]
        assert losses == pytest.approx(own, rel=1e-4)
    tokens = sum(sum(train[row].learn) for row in fitted.watched_rows)
    assert fitted.validation[at].train_loss == pytest.approx(sum(fitted.training_losses[at]) / tokens)


@pytest.mark.parametrize("learning_rate", [1e9, 1e30])
def test_a_loss_that_is_not_finite_stops_training_and_names_the_step(
    base: Path, tmp_path: Path, learning_rate: float
) -> None:
    settings = SETTINGS.model_copy(update={"learning_rate": learning_rate, "epochs": 4.0})
    loaded = adapted(base, settings)
    with pytest.raises(UserError, match=r"training stopped at step \d+: the .*(nan|inf)") as caught:
        fit(loaded, rows_of(loaded, 40), rows_of(loaded, 10, seed=1), settings, tmp_path)
    assert "lower train.learning_rate (now 1e+" in caught.value.fix


def test_what_was_trained_before_a_loss_became_infinite_is_kept_and_named(base: Path, tmp_path: Path) -> None:
    loaded = adapted(base)
    seen: list[int] = []

    def plant_infinity(done: int, total: int, note: str = "") -> None:
        seen.append(done)
        if done == 7:
            with torch.no_grad():
                trainable_parameters(loaded.model)[0].fill_(math.inf)

    train = rows_of(loaded, 60)
    sources = [f"notices.jsonl:{index + 1}" for index in range(60)]
    with pytest.raises(UserError, match="training stopped at step 8") as caught:
        fit(loaded, train, rows_of(loaded, 10, seed=1), SETTINGS, tmp_path, plant_infinity, sources)
    kept = sorted(path.name for path in tmp_path.glob("step-*"))
    assert seen[-1] == 7
    assert kept == ["step-000004", "step-000006"]
    assert f"the last good checkpoint is {tmp_path / 'step-000006'}" in caught.value.what
    batch = epoch_batches([len(row.ids) for row in train], SETTINGS.batch_size, SETTINGS.seed, 0)[7]
    named = set(re.findall(r"notices\.jsonl:\d+", caught.value.what))
    assert named == {sources[row] for row in batch}


def test_the_rows_named_are_those_of_the_part_in_which_it_was_seen(tmp_path: Path) -> None:
    guard = Guard(3, SETTINGS, tmp_path, [["a:1", "a:2"], [f"b:{row}" for row in range(25)]])
    guard.check("loss is 1.0", 1.0)
    with pytest.raises(
        UserError, match=r"step 3: the loss is nan\. Rows of its batch: a:1, a:2; no checkpoint"
    ):
        guard.check("loss is nan", math.nan, part=0)
    with pytest.raises(UserError, match=r"batch: b:0, .*b:19 and 5 more;"):
        guard.check("loss is inf", math.inf, part=1)
    with pytest.raises(UserError, match="the weights are not finite"):
        guard.check_weights([torch.ones(3), torch.tensor([[1.0, -math.inf]])])
    guard.check_weights([torch.full((2, 2), 3e38)])  # large, but numbers


def test_measuring_steps_leaves_the_adapter_as_it_was(base: Path) -> None:
    loaded = adapted(base)
    before = weights(loaded)
    rates = measure_steps(loaded, rows_of(loaded, 40), TrainSettings(batch_size=8), largest=range(8))
    assert rates.train_tokens_per_second > 0
    assert rates.validation_tokens_per_second > 0
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(weights(loaded), before, strict=True))
    assert all(parameter.grad is None for parameter in trainable_parameters(loaded.model))


def test_measured_steps_hold_no_more_tokens_at_once_than_training(base: Path) -> None:
    loaded = adapted(base)
    rows = rows_of(loaded, 100)
    read: list[int] = []
    embedding = loaded.model.get_input_embeddings()
    hook = embedding.register_forward_hook(lambda module, inputs, output: read.append(inputs[0].numel()))
    measure_steps(loaded, rows, TrainSettings(batch_size=100), largest=range(8), micro_batch_tokens=512)
    hook.remove()
    assert sum(len(row.ids) for row in rows) > 2 * 512
    assert 0 < max(read) <= 512
