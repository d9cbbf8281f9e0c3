"""Checkpoints from which training goes on as if it had never stopped: safetensors and JSON, no pickles."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from tunesmith.errors import UserError
from tunesmith.files import atomic_path, read_record, write_json
from tunesmith.run_records import TrainPoint, ValidationPoint

CHECKPOINTS_KEPT = 2

_PARTIAL = ".partial-"
_WHOLE = ("generator", "validation_losses", "training_losses")


@dataclass(frozen=True)
class Progress:
    """Where training stands, next to its tensors. ``config`` names all that decides the weights.

    ``seconds`` are those of the whole run so far, ``step_seconds`` of its training steps alone.
    """

    config: dict[str, str]
    step: int = 0
    train: tuple[TrainPoint, ...] = ()
    validation: tuple[ValidationPoint, ...] = ()
    best_step: int = 0
    best_loss: float | None = None
    best_metric: float | None = None
    trained_tokens: int = 0
    supervised_tokens: int = 0
    seconds: float = 0.0
    step_seconds: float = 0.0


@dataclass(frozen=True)
class State:
    """The tensors of a run.

    ``optimiser`` holds what it remembers of every parameter; ``best`` are the best parameters so far (empty
    before the first validation); ``generator`` is the state of PyTorch's random numbers;
    ``validation_losses`` [validations, rows] and ``training_losses`` [validations, watched rows] are in nats.
    """

    parameters: list[Tensor]
    optimiser: list[dict[str, Tensor]]
    best: list[Tensor]
    generator: Tensor
    validation_losses: Tensor
    training_losses: Tensor


def save_checkpoint(folder: Path, progress: Progress, state: State) -> None:
    """Write ``folder/step-N`` as a whole or not at all, and drop all but the newest few."""
    folder.mkdir(parents=True, exist_ok=True)
    for left_behind in folder.glob(f"{_PARTIAL}*"):  # by a process that was killed
        shutil.rmtree(left_behind, ignore_errors=True)
    target = folder / f"step-{progress.step:06d}"
    scratch = Path(tempfile.mkdtemp(dir=folder, prefix=_PARTIAL))
    try:
        with atomic_path(scratch / "state.safetensors") as temporary:
            save_file(_by_name(state), temporary)
        write_json(scratch / "progress.json", progress)
        if target.exists():
            shutil.rmtree(target)
        scratch.rename(target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    for old in sorted(folder.glob("step-*"))[:-CHECKPOINTS_KEPT]:
        shutil.rmtree(old)


def load_checkpoint(
    folder: Path, config: dict[str, str], shapes: Sequence[Sequence[int]]
) -> tuple[Progress, State] | None:
    """The newest complete checkpoint of a run with parameters of these shapes; None where there is none.

    A torn one is passed over. Raises UserError where it belongs to another configuration, and says
    what is different.
    """
    for path in sorted(folder.glob("step-*"), reverse=True):
        try:
            progress = read_record(path / "progress.json", Progress)
            if progress.config != config:
                raise _other_configuration(path, progress.config, config)
            tensors = load_file(path / "state.safetensors")
        except (OSError, ValueError, SafetensorError):
            continue
        state = _state(tensors, [tuple(shape) for shape in shapes])
        if state is not None:
            return progress, state
    return None


def newest_checkpoint(folder: Path) -> Path | None:
    """Where the newest checkpoint lies; None where there is none."""
    return max(folder.glob("step-*"), default=None)


def _by_name(state: State) -> dict[str, Tensor]:
    tensors = {name: getattr(state, name) for name in _WHOLE}
    for name, group in (("parameters", state.parameters), ("best", state.best)):
        tensors |= {f"{name}.{index}": tensor for index, tensor in enumerate(group)}
    for index, remembered in enumerate(state.optimiser):
        tensors |= {f"optimiser.{index}.{name}": tensor for name, tensor in remembered.items()}
    # bitsandbytes gives all parameters one table of quantiles; a file holds every tensor by itself.
    alone, seen = dict[str, Tensor](), set[int]()
    for name, tensor in tensors.items():
        shared = tensor.data_ptr() in seen
        alone[name] = tensor.clone() if shared else tensor.detach().contiguous()
        seen.add(tensor.data_ptr())
    return alone


def _state(tensors: dict[str, Tensor], shapes: list[tuple[int, ...]]) -> State | None:
    """The tensors in their groups, or None where some are missing."""
    # Tensors of a loaded file may lie in a mapping of it: what trains on gets memory of its own.
    own = {name: tensor.clone() for name, tensor in tensors.items()}
    groups: dict[str, list[Tensor]] = {}
    for name in ("parameters", "best"):
        found = [own.get(f"{name}.{index}") for index in range(len(shapes))]
        groups[name] = [tensor for tensor in found if tensor is not None]
        none_yet = name == "best" and not groups[name]
        if not none_yet and [tuple(tensor.shape) for tensor in groups[name]] != shapes:
            return None
    remembered: list[dict[str, Tensor]] = [{} for _ in shapes]
    for name, tensor in own.items():
        kind, _, rest = name.partition(".")
        if kind == "optimiser":
            index, _, what = rest.partition(".")
            remembered[int(index)][what] = tensor
    if not all(name in own for name in _WHOLE) or len({bool(memory) for memory in remembered}) > 1:
        return None
    return State(groups["parameters"], remembered, groups["best"], *(own[name] for name in _WHOLE))


def _other_configuration(path: Path, then: dict[str, str], now: dict[str, str]) -> UserError:
    differing = [
        f"{name} ({then.get(name, 'none')}, now {now.get(name, 'none')})"
        for name in sorted(then.keys() | now.keys())
        if then.get(name) != now.get(name)
    ]
    return UserError(
        f"{path}: this checkpoint was made with other {', '.join(differing)}; going on would not give the "
        "weights of an uninterrupted run",
        fix=f"go on as before, or remove {path.parent} to train from the start",
    )
