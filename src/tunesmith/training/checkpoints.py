"""Checkpoints from which training goes on as if it had never stopped: safetensors and JSON, no pickles."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from tunesmith.errors import UserError
from tunesmith.files import read_record, write_json
from tunesmith.records import TrainPoint, ValidationPoint

CHECKPOINTS_KEPT = 2


@dataclass(frozen=True)
class Progress:
    """Where training stands, next to its tensors. ``config`` is the hash of all that decides the run."""

    config: str
    step: int
    train: tuple[TrainPoint, ...]
    validation: tuple[ValidationPoint, ...]
    best_step: int
    best_loss: float | None
    trained_tokens: int
    supervised_tokens: int
    seconds: float


@dataclass
class State:
    """The tensors of a run: parameters, Adam's two moments, and the best parameters so far."""

    parameters: list[Tensor]
    first_moments: list[Tensor]
    second_moments: list[Tensor]
    best: list[Tensor]


def save_checkpoint(folder: Path, progress: Progress, state: State) -> None:
    """Write ``folder/step-N`` as a whole or not at all, and drop all but the newest few."""
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"step-{progress.step:06d}"
    scratch = Path(tempfile.mkdtemp(dir=folder, prefix=".partial-"))
    try:
        tensors = {
            f"{name}.{index}": tensor.detach().contiguous()
            for name, group in vars(state).items()
            for index, tensor in enumerate(group)
        }
        save_file(tensors, scratch / "state.safetensors")
        write_json(scratch / "progress.json", progress)
        if target.exists():
            shutil.rmtree(target)
        scratch.rename(target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    for old in sorted(folder.glob("step-*"))[:-CHECKPOINTS_KEPT]:
        shutil.rmtree(old)


def load_checkpoint(folder: Path, config: str) -> tuple[Progress, State] | None:
    """The newest complete checkpoint, or None where there is none.

    Raises UserError where it belongs to another configuration. A torn one is passed over.
    """
    for path in sorted(folder.glob("step-*"), reverse=True):
        try:
            progress = read_record(path / "progress.json", Progress)
            tensors = load_file(path / "state.safetensors")
        except (OSError, ValueError, SafetensorError):
            continue
        if progress.config != config:
            raise UserError(
                f"{path}: this checkpoint belongs to another configuration ({progress.config[:12]}, not {config[:12]})",
                fix=f"remove {folder} to train from the start",
            )
        return progress, State(
            *([tensors[f"{name}.{index}"] for index in range(_count(tensors, name))] for name in _GROUPS)
        )
    return None


_GROUPS = ("parameters", "first_moments", "second_moments", "best")


def _count(tensors: dict[str, torch.Tensor], group: str) -> int:
    return sum(1 for name in tensors if name.rpartition(".")[0] == group)
