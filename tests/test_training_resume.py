"""Training that was stopped, however rudely, ends with the weights of training that never was."""

from __future__ import annotations

import shutil
import signal
import tempfile
from dataclasses import fields, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel

from tiny import load_tiny, make_tiny_base, toy_rows
from tunesmith.engine.forward import Batch, summed_loss
from tunesmith.engine.lora import attach_lora, trainable_parameters
from tunesmith.errors import UserError
from tunesmith.models.loading import LoadedModel
from tunesmith.models.rendering import Tokens, instructed, render_row
from tunesmith.progress import Report, silent
from tunesmith.run_records import TrainPoint
from tunesmith.task.train_settings import TrainSettings
from tunesmith.training import fit as fit_module
from tunesmith.training.checkpoints import Progress, State, load_checkpoint, save_checkpoint
from tunesmith.training.fit import Fit, fit

SETTINGS = TrainSettings(
    rank=4, alpha=8.0, learning_rate=1e-2, epochs=2, batch_size=8, weight_decay=0.01, patience=100
)
STEPS, VALIDATIONS = 14, {2, 4, 5, 7, 9, 10, 12, 14}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_base(tmp_path_factory.mktemp("resume") / "base")


@pytest.fixture(scope="module")
def uninterrupted(base: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Fit, list[Tensor]]:
    return train(base, tmp_path_factory.mktemp("resume") / "checkpoints")


def rendered(loaded: LoadedModel, count: int, seed: int) -> list[Tokens]:
    rows = toy_rows(count, ("billing", "delivery", "refund"), seed)
    return [render_row(loaded, instructed("Name the team.", row), row.target) for row in rows]


def train(
    base: Path, checkpoints: Path, report: Report = silent, settings: TrainSettings = SETTINGS
) -> tuple[Fit, list[Tensor]]:
    """One call of the loop, from a freshly loaded base as a new process would have it."""
    loaded = load_tiny(base)
    attach_lora(loaded.model, settings.rank, settings.alpha, settings.seed)
    fitted = fit(loaded, rendered(loaded, 56, 0), rendered(loaded, 12, 1), settings, checkpoints, report)
    return fitted, [parameter.detach().clone() for parameter in trainable_parameters(loaded.model)]


def assert_same(stopped: tuple[Fit, list[Tensor]], uninterrupted: tuple[Fit, list[Tensor]]) -> None:
    """Equal to the bit, in all but the clock."""
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(stopped[1], uninterrupted[1], strict=True))

    def timeless(points: tuple[TrainPoint, ...]) -> list[TrainPoint]:
        return [replace(point, tokens_per_second=0.0) for point in points]

    assert timeless(stopped[0].train) == timeless(uninterrupted[0].train)
    for name in {field.name for field in fields(Fit)} - {"train", "seconds", "tokens_per_second"}:
        assert getattr(stopped[0], name) == getattr(uninterrupted[0], name), name


@pytest.mark.parametrize("pressed", [(2, 5, 9), (14,)])
def test_ctrl_c_finishes_the_step_and_the_next_call_goes_on_from_it(
    base: Path, tmp_path: Path, uninterrupted: tuple[Fit, list[Tensor]], pressed: tuple[int, ...]
) -> None:
    expected_start = 1
    for step in pressed:
        seen: list[int] = []

        def press(done: int, total: int, note: str = "", step: int = step, seen: list[int] = seen) -> None:
            seen.append(done)
            if done == step:  # from here on the next step is under way
                signal.raise_signal(signal.SIGINT)

        with pytest.raises(KeyboardInterrupt):
            train(base, tmp_path, press)
        stopped = min(step + 1, STEPS)
        assert (seen[0], seen[-1]) == (expected_start, stopped)
        assert (tmp_path / f"step-{stopped:06d}").is_dir()
        expected_start = stopped + 1
    assert_same(train(base, tmp_path), uninterrupted)


@pytest.mark.parametrize("steps", [(1,), (7, 14)])
def test_an_exception_between_checkpoints_loses_no_more_than_the_steps_since(
    base: Path, tmp_path: Path, uninterrupted: tuple[Fit, list[Tensor]], steps: tuple[int, ...]
) -> None:
    for step in steps:

        def stop(done: int, total: int, note: str = "", step: int = step) -> None:
            if done == step:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            train(base, tmp_path, stop)
    assert_same(train(base, tmp_path), uninterrupted)


def test_a_second_ctrl_c_stops_at_once_and_loses_nothing_written(
    base: Path, tmp_path: Path, uninterrupted: tuple[Fit, list[Tensor]]
) -> None:
    def press_twice(done: int, total: int, note: str = "") -> None:
        if done == 8:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train(base, tmp_path, press_twice)
    assert signal.getsignal(signal.SIGINT) is before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000005", "step-000007"]
    assert_same(train(base, tmp_path), uninterrupted)


def test_the_best_step_is_kept_when_training_was_stopped_after_it(base: Path, tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(update={"learning_rate": 0.1, "epochs": 20.0, "patience": 4})
    whole = train(base, tmp_path / "whole", settings=settings)
    best, last = whole[0].best_step, whole[0].steps
    assert whole[0].stopped_early
    assert best < last - 2
    with pytest.raises(KeyboardInterrupt):
        train(base, tmp_path / "stopped", stop_at(last - 1), settings)
    assert_same(train(base, tmp_path / "stopped", settings=settings), whole)


def test_validation_falls_where_these_tests_believe(uninterrupted: tuple[Fit, list[Tensor]]) -> None:
    assert uninterrupted[0].steps == STEPS
    assert {point.step for point in uninterrupted[0].validation} == VALIDATIONS


SHORTER: dict[str, dict[str, Any]] = {
    "adamw": {},
    "sgd": {"optimiser": "sgd", "learning_rate": 0.5},
    "adamw, accumulated": {"batch_size": 4, "accumulate": 2},
    "sgd, accumulated, all objectives": {
        "optimiser": "sgd", "batch_size": 4, "accumulate": 2, "label_smoothing": 0.1, "loss_per": "example",
        "l1_penalty": 1e-4, "l2_penalty": 1e-3, "schedule": "wsd",
    },
    "adamw8bit": {"optimiser": "adamw8bit", "rank": 64},
}  # fmt: skip


@cache
def shorter(base: Path, name: str) -> tuple[Fit, list[Tensor]]:
    """An uninterrupted run of 7 steps."""
    with tempfile.TemporaryDirectory() as folder:
        whole = train(base, Path(folder), settings=shorter_settings(name))
    assert whole[0].steps == 7
    return whole


def shorter_settings(name: str) -> TrainSettings:
    return SETTINGS.model_copy(update={"epochs": 1.0, **SHORTER[name]})


@settings(max_examples=5, deadline=None)
@given(name=st.sampled_from(list(SHORTER)), stop=st.integers(1, 7), kind=st.sampled_from(["signal", "raise"]))
def test_resuming_at_any_batch_gives_the_bits_of_never_stopping(
    base: Path, name: str, stop: int, kind: str
) -> None:
    def end(done: int, total: int, note: str = "") -> None:
        if done == stop and kind == "raise":
            raise KeyboardInterrupt
        if done == stop:
            signal.raise_signal(signal.SIGINT)

    with tempfile.TemporaryDirectory() as folder:
        with pytest.raises(KeyboardInterrupt):
            train(base, Path(folder), end, shorter_settings(name))
        resumed = train(base, Path(folder), settings=shorter_settings(name))
    assert_same(resumed, shorter(base, name))


@pytest.mark.parametrize("stop", [1, 6])
def test_random_numbers_go_on_where_they_stopped(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: int
) -> None:
    def noisy(model: PreTrainedModel, batch: Batch, smoothing: float = 0.0) -> Tensor:
        return summed_loss(model, batch, smoothing) * (1 + 0.1 * torch.rand(()))

    monkeypatch.setattr(fit_module, "choose_loss", lambda model, batch: (noisy, None))
    chosen = SETTINGS.model_copy(update={"epochs": 1.0})
    torch.manual_seed(stop)  # whatever was drawn before plays no part
    before = torch.get_rng_state()
    whole = train(base, tmp_path / "whole", settings=chosen)
    with pytest.raises(KeyboardInterrupt):
        train(base, tmp_path / "stopped", stop_at(stop), chosen)
    torch.rand(3)
    assert_same(train(base, tmp_path / "stopped", settings=chosen), whole)
    torch.set_rng_state(before)
    train(base, tmp_path / "other", settings=chosen.model_copy(update={"epochs": 0.2}))
    assert torch.equal(torch.get_rng_state(), before)  # and nothing after it is changed


def stop_at(step: int) -> Report:
    def stop(done: int, total: int, note: str = "") -> None:
        if done == step:
            raise KeyboardInterrupt

    return stop


def test_a_checkpoint_of_another_configuration_is_refused_and_says_what_differs(
    base: Path, tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(base, tmp_path, stop_at(5))
    other = SETTINGS.model_copy(update={"learning_rate": 0.005, "seed": 3})
    with pytest.raises(UserError) as caught:
        train(base, tmp_path, settings=other)
    assert "train.learning_rate (0.01, now 0.005), train.seed (0, now 3);" in caught.value.what
    assert f"remove {tmp_path} to train from the start" in caught.value.fix
    assert (tmp_path / "step-000005").is_dir()


def test_another_number_of_threads_is_another_configuration(base: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(base, tmp_path, stop_at(2))
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        with pytest.raises(UserError, match=rf"threads \({threads}, now {threads + 1}\)"):
            train(base, tmp_path)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("damage", ["weights cut", "progress cut", "tensors gone"])
def test_a_torn_checkpoint_is_passed_over(
    base: Path, tmp_path: Path, uninterrupted: tuple[Fit, list[Tensor]], damage: str
) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(base, tmp_path, stop_at(8))
    newest = sorted(tmp_path.glob("step-*"))[-1]
    weights, progress = newest / "state.safetensors", newest / "progress.json"
    if damage == "weights cut":
        weights.write_bytes(weights.read_bytes()[:-50])
    elif damage == "progress cut":
        progress.write_bytes(progress.read_bytes()[:200])
    else:
        kept = {name: tensor for name, tensor in load_file(weights).items() if not name.endswith(".3")}
        save_file(kept, weights)
    seen: list[int] = []
    again = train(base, tmp_path, lambda done, total, note="": seen.append(done))
    assert seen[0] == 6  # after step 5, the checkpoint before
    assert_same(again, uninterrupted)


def test_what_a_killed_process_left_half_written_is_cleared_away(tmp_path: Path) -> None:
    (tmp_path / ".partial-abc").mkdir()
    (tmp_path / ".partial-abc" / "state.safetensors").write_bytes(b"half")
    memory = [{"exp_avg": torch.zeros(2)}]
    random = torch.get_rng_state()
    state = State([torch.ones(2)], memory, [], random, torch.zeros(1, 3), torch.zeros(1, 2))
    for step in (2, 4, 6):
        save_checkpoint(tmp_path, Progress({"a": "1"}, step), state)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000004", "step-000006"]
    found = load_checkpoint(tmp_path, {"a": "1"}, [(2,)])
    assert found is not None
    assert (found[0].step, found[1].best) == (6, [])
    shutil.rmtree(tmp_path)
    assert load_checkpoint(tmp_path, {"a": "1"}, [(2,)]) is None
