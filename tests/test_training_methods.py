"""Training by every method lowers the loss, and goes on after a stop as if it had never stopped."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tiny import load_tiny, make_tiny_base, toy_rows
from tunesmith.engine.adapters import make_trainable
from tunesmith.engine.full import master_weights
from tunesmith.engine.lora import trainable_parameters
from tunesmith.errors import UserError
from tunesmith.models.loading import LoadedModel
from tunesmith.models.rendering import Tokens, instructed, render_row
from tunesmith.progress import Report, silent
from tunesmith.task.train_settings import FULL_LEARNING_RATE, TrainMethod, TrainSettings
from tunesmith.training.fit import Fit, fit

SETTINGS: dict[str, TrainSettings] = {
    "rslora": TrainSettings(method="rslora", rank=4, alpha=4.0, learning_rate=1e-2),
    "dora": TrainSettings(method="dora", rank=4, alpha=8.0, learning_rate=1e-2),
    "qlora": TrainSettings(method="qlora", rank=4, alpha=8.0, learning_rate=1e-2),
    "full": TrainSettings(method="full", learning_rate=2e-3),
    "dropout": TrainSettings(rank=4, alpha=8.0, learning_rate=1e-2, adapter_dropout=0.2),
    "whole": TrainSettings(rank=4, alpha=8.0, learning_rate=1e-2, modules_to_save=("lm_head",)),
}
CASES = [
    ("rslora", torch.float32),
    ("dora", torch.float32),
    ("dora", torch.bfloat16),
    ("qlora", torch.bfloat16),
    ("full", torch.float32),
    ("full", torch.bfloat16),
    ("dropout", torch.float32),
    ("whole", torch.bfloat16),
]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_base(tmp_path_factory.mktemp("methods") / "base")


def rendered(loaded: LoadedModel, count: int, seed: int) -> list[Tokens]:
    rows = toy_rows(count, ("billing", "delivery", "refund"), seed)
    return [render_row(loaded, instructed("Name the team.", row), row.target) for row in rows]


def train(
    base: Path, settings: TrainSettings, dtype: torch.dtype, checkpoints: Path, report: Report = silent
) -> tuple[Fit, list[Tensor]]:
    """One call of the loop, from a freshly loaded base; the fit, the masters and then all weights."""
    loaded = load_tiny(base, dtype)
    settings = settings.model_copy(update={"batch_size": 8, "epochs": 2.0, "patience": 100})
    make_trainable(loaded.model, settings)
    fitted = fit(loaded, rendered(loaded, 24, 0), rendered(loaded, 6, 1), settings, checkpoints, report)
    masters, weights = trainable_parameters(loaded.model), list(loaded.model.parameters())
    for name, master in master_weights(loaded.model).items():
        assert torch.equal(loaded.model.get_parameter(name), master.detach().to(dtype)), name
    return fitted, [tensor.detach().clone() for tensor in (*masters, *weights)]


@pytest.mark.parametrize(("case", "dtype"), CASES, ids=[f"{case}-{str(dtype)[6:]}" for case, dtype in CASES])
def test_training_lowers_the_loss_and_resumes_to_the_bit(
    base: Path, tmp_path: Path, case: str, dtype: torch.dtype
) -> None:
    whole, expected = train(base, SETTINGS[case], dtype, tmp_path / "whole")
    assert whole.steps == 6
    assert whole.train[-1].loss < 0.9 * whole.train[0].loss

    def stop(done: int, total: int, note: str = "") -> None:
        if done in (2, 4):
            raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            train(base, SETTINGS[case], dtype, tmp_path / "stopped", stop)
    again, found = train(base, SETTINGS[case], dtype, tmp_path / "stopped")
    assert all(torch.equal(left, right) for left, right in zip(found, expected, strict=True))
    assert [replace(point, tokens_per_second=0.0) for point in again.train] == [
        replace(point, tokens_per_second=0.0) for point in whole.train
    ]


def test_a_checkpoint_of_another_method_is_refused(base: Path, tmp_path: Path) -> None:
    train(base, SETTINGS["dora"], torch.float32, tmp_path)
    with pytest.raises(UserError, match=r"train.method \(dora, now rslora\)"):
        train(base, SETTINGS["rslora"], torch.float32, tmp_path)


@pytest.mark.parametrize("method", ["lora", "full"])
def test_full_fine_tuning_takes_smaller_steps_unless_told_otherwise(method: TrainMethod) -> None:
    expected = FULL_LEARNING_RATE if method == "full" else 1e-3
    assert TrainSettings(method=method).learning_rate == expected
    assert TrainSettings(method=method, learning_rate=1e-4).learning_rate == 1e-4
