"""Adapter files in PEFT's format: fp32 safetensors and ``adapter_config.json``.

Beside them lies ``base.json``: the base the adapter was trained on, by name and hash, and the method.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from tunesmith.errors import UserError
from tunesmith.files import atomic_path, file_sha256, write_json
from tunesmith.models.families import Family

WEIGHTS_FILE = "adapter_model.safetensors"
CONFIG_FILE = "adapter_config.json"
BASE_FILE = "base.json"
NEW_TOKENS_FILE = "new_tokens.json"
_PREFIX, _A, _B, _MAGNITUDE = (
    "base_model.model.",
    ".lora_A.weight",
    ".lora_B.weight",
    ".lora_magnitude_vector",
)
_TASK_TYPES: dict[Family, str] = {
    "decoder": "CAUSAL_LM",
    "encoder-decoder": "SEQ_2_SEQ_LM",
    "encoder": "SEQ_CLS",
}
AdapterMethod = Literal["lora", "rslora", "dora", "qlora"]
METHOD_TITLES = {
    "lora": "LoRA",
    "rslora": "rsLoRA",
    "dora": "DoRA",
    "qlora": "QLoRA",
    "full": "full fine-tuning",
}


@dataclass(frozen=True)
class Adapter:
    """An adapter: by layer A [rank, in] and B [out, rank], DoRA's magnitudes [out], modules trained whole.

    ``modules`` holds the latter's parameters by their names in the base (``lm_head.weight``).
    ``fan_in_fan_out`` tells PEFT that layers store their weight as [in, out] (GPT-2's Conv1D).
    ``added_tokens`` were added to the base's vocabulary, the first of them as token ``first_added``.
    ``labels`` are the classes, in order, of an encoder's classification head, which is among ``modules``.
    """

    method: AdapterMethod
    rank: int
    alpha: float
    low_rank: dict[str, tuple[Tensor, Tensor]]
    dropout: float = 0.0
    magnitudes: dict[str, Tensor] = field(default_factory=dict)
    modules: dict[str, Tensor] = field(default_factory=dict)
    fan_in_fan_out: bool = False
    added_tokens: tuple[str, ...] = ()
    first_added: int = 0
    family: Family = "decoder"
    labels: tuple[str, ...] = ()

    @property
    def scaling(self) -> float:
        """What B·A is multiplied with."""
        return scaling_of(self.method, self.rank, self.alpha)

    @property
    def modules_to_save(self) -> list[str]:
        """The names of the modules trained whole."""
        return sorted({name.rpartition(".")[0] for name in self.modules})


@dataclass(frozen=True)
class TrainedOn:
    """The base that a result of training belongs to, and how it was trained.

    ``labels`` are the classes of a classification head, in order.
    """

    name: str
    sha256: str
    method: str
    labels: tuple[str, ...] = ()


def scaling_of(method: AdapterMethod, rank: int, alpha: float) -> float:
    """alpha/rank; with rsLoRA alpha/√rank (arXiv 2312.03732)."""
    return alpha / (math.sqrt(rank) if method == "rslora" else rank)


def save_adapter(folder: Path, adapter: Adapter, base_name: str, base_sha256: str) -> str:
    """Write ``adapter`` so that PEFT loads it; returns the SHA-256 of its weights."""
    tensors: dict[str, Tensor] = {}
    for name, (a, b) in adapter.low_rank.items():
        tensors[f"{_PREFIX}{name}{_A}"] = a
        tensors[f"{_PREFIX}{name}{_B}"] = b
    for name, magnitude in adapter.magnitudes.items():
        tensors[f"{_PREFIX}{name}{_MAGNITUDE}"] = magnitude
    for name, values in adapter.modules.items():
        tensors[f"{_PREFIX}{name}"] = values
    # Tensors may share memory (tied weights), which safetensors does not store.
    tensors = {name: values.detach().float().cpu().clone().contiguous() for name, values in tensors.items()}
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_path(folder / WEIGHTS_FILE) as temporary:
        save_file(tensors, temporary, metadata={"format": "pt"})
    write_json(
        folder / CONFIG_FILE,
        {
            "peft_type": "LORA",
            "task_type": _TASK_TYPES[adapter.family],
            "base_model_name_or_path": base_name,
            "r": adapter.rank,
            "lora_alpha": adapter.alpha,
            "lora_dropout": adapter.dropout,
            "use_rslora": adapter.method == "rslora",
            "use_dora": adapter.method == "dora",
            "bias": "none",
            "fan_in_fan_out": adapter.fan_in_fan_out,
            "inference_mode": True,
            "target_modules": sorted(adapter.low_rank),
            "modules_to_save": adapter.modules_to_save or None,
        },
    )
    write_json(folder / BASE_FILE, TrainedOn(base_name, base_sha256, adapter.method, adapter.labels))
    if adapter.added_tokens:
        write_json(folder / NEW_TOKENS_FILE, {"tokens": adapter.added_tokens, "first": adapter.first_added})
    return file_sha256(folder / WEIGHTS_FILE)


def read_trained_on(folder: Path, base_sha256: str) -> TrainedOn:
    """What ``folder`` was trained on, which must be this base.

    Raises UserError where that cannot be read, or is another base; both hashes are named.
    """
    try:
        stored = json.loads((folder / BASE_FILE).read_text(encoding="utf-8"))
        labels = tuple(map(str, stored.get("labels", ())))
        trained_on = TrainedOn(str(stored["name"]), str(stored["sha256"]), str(stored["method"]), labels)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _unreadable(folder, error) from error
    if trained_on.sha256 != base_sha256:
        raise UserError(
            f"{folder}: this was trained on base weights {trained_on.sha256[:12]} ({trained_on.name}), "
            f"not {base_sha256[:12]}",
            fix="use the base it was trained on, or train again",
        )
    return trained_on


def load_adapter(folder: Path, base_sha256: str) -> Adapter:
    """Read an adapter saved by :func:`save_adapter`; it must have been trained on this base.

    Raises UserError where a file is missing, unreadable, or belongs to other base weights.
    """
    trained_on = read_trained_on(folder, base_sha256)
    added_tokens, first_added = read_new_tokens(folder)
    path = folder / WEIGHTS_FILE
    try:
        config: dict[str, Any] = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
        rank, alpha = int(config["r"]), float(config["lora_alpha"])
        family = {kind: name for name, kind in _TASK_TYPES.items()}[config["task_type"]]
        dropout, transposed = float(config["lora_dropout"]), bool(config["fan_in_fan_out"])
        tensors = load_file(path)
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise _unreadable(folder, error) from error
    method = next((one for one in get_args(AdapterMethod) if one == trained_on.method), None)
    if method is None:
        raise UserError(f"{folder}: holds no adapter (method {trained_on.method})", fix="train again")
    low_rank: dict[str, tuple[Tensor, Tensor]] = {}
    magnitudes: dict[str, Tensor] = {}
    modules: dict[str, Tensor] = {}
    for key, values in tensors.items():
        name = key.removeprefix(_PREFIX)
        if key.endswith(_A):
            layer = name.removesuffix(_A)
            b = tensors.get(key.removesuffix(_A) + _B)
            if b is None or values.shape[0] != rank or b.ndim != 2 or b.shape[1] != rank:
                raise UserError(
                    f"{path}: {key} has no matching B matrix of rank {rank}, so the file is damaged",
                    fix="train again",
                )
            low_rank[layer] = (values, b)
        elif key.endswith(_MAGNITUDE):
            magnitudes[name.removesuffix(_MAGNITUDE)] = values
        elif not key.endswith(_B):
            modules[name] = values
    if not low_rank or magnitudes.keys() != (low_rank.keys() if method == "dora" else set()):
        raise UserError(f"{path}: tensors of the adapter are missing, so the file is damaged", "train again")
    return Adapter(
        method,
        rank,
        alpha,
        low_rank,
        dropout,
        magnitudes,
        modules,
        transposed,
        added_tokens,
        first_added,
        family,
        trained_on.labels,
    )


def read_new_tokens(folder: Path) -> tuple[tuple[str, ...], int]:
    """The tokens that were added for what lies in ``folder``, if any, and the id of the first."""
    path = folder / NEW_TOKENS_FILE
    if not path.is_file():
        return (), 0
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        return tuple(map(str, stored["tokens"])), int(stored["first"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _unreadable(folder, error) from error


def _unreadable(folder: Path, error: Exception) -> UserError:
    return UserError(
        f"{folder}: the adapter cannot be read ({error})", fix="train again with `tunesmith run`"
    )
