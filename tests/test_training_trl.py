"""The loss and gradients of a batch are those of TRL's SFTTrainer on the same rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import SequentialSampler
from transformers import AutoModelForCausalLM

from tiny import load_tiny, make_tiny_base, toy_rows
from tunesmith.engine.lora import LoraLinear, attach_lora, lora_layers
from tunesmith.models.rendering import Tokens, instructed, render_row
from tunesmith.task.train_settings import TrainSettings
from tunesmith.training.fit import fit

trl = pytest.importorskip("trl")
datasets = pytest.importorskip("datasets")
peft = pytest.importorskip("peft")

SETTINGS = TrainSettings(
    rank=4, alpha=8.0, learning_rate=1e-4, epochs=1, batch_size=12, max_gradient_norm=1e9
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_base(tmp_path_factory.mktemp("trl") / "base")


def test_loss_and_gradients_of_a_batch_are_those_of_trls_sft_trainer(base: Path, tmp_path: Path) -> None:
    loaded = load_tiny(base)
    attach_lora(loaded.model, SETTINGS.rank, SETTINGS.alpha, seed=0)
    layers = lora_layers(loaded.model)
    for layer in layers.values():  # with B at its start of zero, no gradient would reach A
        torch.nn.init.normal_(layer.lora_b, std=0.02, generator=torch.Generator().manual_seed(7))
    rows = [
        render_row(loaded, instructed("Name the team.", row), row.target)
        for row in toy_rows(12, ("billing", "delivery", "a, b"), seed=0)
    ]
    loss, gradients = _by_trl(base, tmp_path / "trl", layers, rows, loaded.tokenizer)

    seen: dict[str, Tensor] = {}

    def note_gradients(done: int, total: int, note: str = "") -> None:
        for name, layer in layers.items():
            assert layer.lora_a.grad is not None
            assert layer.lora_b.grad is not None
            seen[f"{name}.A"], seen[f"{name}.B"] = layer.lora_a.grad.clone(), layer.lora_b.grad.clone()

    fitted = fit(loaded, rows, rows[:2], SETTINGS, tmp_path / "ours", note_gradients)
    assert fitted.fast_paths
    assert fitted.steps == 1
    assert fitted.train[0].loss == pytest.approx(loss, rel=1e-5)
    assert seen.keys() == gradients.keys()
    for name, ours in seen.items():
        assert float(gradients[name].norm()) > 0
        assert float((ours - gradients[name]).norm() / gradients[name].norm()) < 1e-4, name
    norm = torch.cat([gradient.flatten() for gradient in gradients.values()]).norm()
    assert fitted.train[0].gradient_norm == pytest.approx(float(norm), rel=1e-4)


def test_twenty_steps_follow_the_losses_of_trls_sft_trainer(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps, batch_size = 20, 4
    settings = SETTINGS.model_copy(
        update={"learning_rate": 1e-2, "schedule": "constant", "warmup_share": 0.0, "batch_size": batch_size}
    )
    settings = settings.model_copy(update={"max_gradient_norm": 1.0})
    loaded = load_tiny(base)
    attach_lora(loaded.model, settings.rank, settings.alpha, seed=0)
    layers = lora_layers(loaded.model)
    starts = {name: layer.lora_a.detach().clone() for name, layer in layers.items()}
    rows = [
        render_row(loaded, instructed("Name the team.", row), row.target)
        for row in toy_rows(steps * batch_size, ("billing", "delivery", "a, b"), seed=0)
    ]
    order = [list(range(at, at + batch_size)) for at in range(0, len(rows), batch_size)]
    monkeypatch.setattr("tunesmith.training.fit.epoch_batches", lambda *_: order)
    fitted = fit(loaded, rows, rows[:2], settings, tmp_path / "ours")

    trainer = _trainer(base, tmp_path / "trl", layers, rows, loaded.tokenizer, settings, steps)
    theirs = dict(trainer.model.named_modules())
    with torch.no_grad():
        for name, start in starts.items():
            theirs[f"base_model.model.{name}"].lora_A["default"].weight.copy_(start)
    trainer._get_train_sampler = lambda *_: SequentialSampler(trainer.train_dataset)
    trainer.train()
    logged = [entry for entry in trainer.state.log_history if "grad_norm" in entry]
    losses = [point.loss for point in fitted.train]
    assert losses[-1] < losses[0] - 0.5
    # TRL logs six digits.
    assert losses == pytest.approx([entry["loss"] for entry in logged], rel=2e-3)
    norms = [point.gradient_norm for point in fitted.train]
    assert norms == pytest.approx([float(entry["grad_norm"]) for entry in logged], rel=2e-2)


def _by_trl(
    base: Path, folder: Path, layers: dict[str, LoraLinear], rows: list[Tokens], tokenizer: object
) -> tuple[float, dict[str, Tensor]]:
    """The loss of one batch of all rows, and the gradients of every adapter, by TRL's own code."""
    trainer = _trainer(base, folder, layers, rows, tokenizer, SETTINGS, 1)
    theirs = dict(trainer.model.named_modules())
    with torch.no_grad():
        for name, layer in layers.items():
            theirs[f"base_model.model.{name}"].lora_A["default"].weight.copy_(layer.lora_a)
            theirs[f"base_model.model.{name}"].lora_B["default"].weight.copy_(layer.lora_b)
    (batch,) = trainer.get_train_dataloader()
    trainer.model.train()
    loss = trainer.compute_loss(trainer.model, batch)
    loss.backward()
    gradients = {
        f"{name}.{side}": getattr(theirs[f"base_model.model.{name}"], f"lora_{side}")["default"].weight.grad
        for name in layers
        for side in ("A", "B")
    }
    return float(loss.detach()), gradients


def _trainer(
    base: Path,
    folder: Path,
    layers: dict[str, LoraLinear],
    rows: list[Tokens],
    tokenizer: object,
    settings: TrainSettings,
    steps: int,
) -> Any:
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    return trl.SFTTrainer(
        model=model,
        args=trl.SFTConfig(
            output_dir=str(folder),
            use_cpu=True,
            bf16=False,
            per_device_train_batch_size=settings.batch_size,
            max_steps=steps,
            learning_rate=settings.learning_rate,
            lr_scheduler_type="constant",
            max_grad_norm=settings.max_gradient_norm,
            logging_steps=1,
            gradient_checkpointing=False,
            completion_only_loss=True,
            max_length=None,
            packing=False,
            report_to=[],
            save_strategy="no",
            disable_tqdm=True,
        ),
        train_dataset=datasets.Dataset.from_list(
            [
                {"input_ids": list(row.ids), "completion_mask": [int(learn) for learn in row.learn]}
                for row in rows
            ]
        ),
        processing_class=tokenizer,
        peft_config=peft.LoraConfig(
            r=settings.rank, lora_alpha=int(settings.alpha), lora_dropout=0.0, target_modules=sorted(layers)
        ),
    )
