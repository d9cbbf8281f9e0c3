"""Adapter files in PEFT's format: fp32 safetensors and ``adapter_config.json``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from tunesmith.errors import UserError
from tunesmith.files import atomic_path, file_sha256, write_json

WEIGHTS_FILE = "adapter_model.safetensors"
_PREFIX, _A, _B = "base_model.model.", ".lora_A.weight", ".lora_B.weight"
AdapterWeights = dict[str, tuple[torch.Tensor, torch.Tensor]]


def save_adapter(
    folder: Path,
    weights: Mapping[str, tuple[torch.Tensor, torch.Tensor]],
    rank: int,
    alpha: float,
    base_name: str,
    base_sha256: str,
) -> str:
    """Write {layer: (A [rank, in], B [out, rank])} so that PEFT loads it; returns the weights' SHA-256."""
    tensors: dict[str, torch.Tensor] = {}
    for name, (a, b) in weights.items():
        tensors[f"{_PREFIX}{name}{_A}"] = a.detach().float().contiguous()
        tensors[f"{_PREFIX}{name}{_B}"] = b.detach().float().contiguous()
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_path(folder / WEIGHTS_FILE) as temporary:
        save_file(tensors, temporary, metadata={"format": "pt"})
    write_json(
        folder / "adapter_config.json",
        {
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": base_name,
            "r": rank,
            "lora_alpha": alpha,
            "lora_dropout": 0.0,
            "bias": "none",
            "fan_in_fan_out": False,
            "inference_mode": True,
            "target_modules": sorted(weights),
        },
    )
    write_json(folder / "base.json", {"name": base_name, "sha256": base_sha256})
    return file_sha256(folder / WEIGHTS_FILE)


def load_adapter(folder: Path, base_sha256: str) -> AdapterWeights:
    """Read an adapter saved by :func:`save_adapter`; it must have been trained on this base.

    Raises UserError where the file is missing, unreadable, or belongs to other base weights.
    """
    path = folder / WEIGHTS_FILE
    try:
        trained_on = json.loads((folder / "base.json").read_text(encoding="utf-8"))["sha256"]
        tensors = load_file(path)
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise UserError(
            f"{folder}: the adapter cannot be read ({error})", fix="train again with `tunesmith run`"
        ) from error
    if trained_on != base_sha256:
        raise UserError(
            f"{folder}: this adapter was trained on base weights {trained_on[:12]}, not {base_sha256[:12]}",
            fix="use the base it was trained on, or train again",
        )
    weights: AdapterWeights = {}
    for key, a in tensors.items():
        if key.endswith(_A):
            b = tensors.get(key.removesuffix(_A) + _B)
            if b is None or a.ndim != 2 or b.ndim != 2 or a.shape[0] != b.shape[1]:
                raise UserError(
                    f"{path}: {key} has no matching B matrix, so the file is damaged", fix="train again"
                )
            weights[key.removeprefix(_PREFIX).removesuffix(_A)] = (a, b)
    return weights
