"""Adapter files in PEFT's format: fp32 safetensors and ``adapter_config.json``."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from tunesmith.errors import UserError
from tunesmith.files import atomic_path, file_sha256, write_json

WEIGHTS_FILE = "adapter_model.safetensors"
AdapterWeights = dict[str, tuple[torch.Tensor, torch.Tensor]]


def save_adapter(
    folder: Path, weights: AdapterWeights, rank: int, alpha: float, base_name: str, base_sha256: str
) -> str:
    """Write {layer: (A [rank, in], B [out, rank])} so that PEFT loads it; returns the weights' SHA-256."""
    tensors: dict[str, torch.Tensor] = {}
    for name, (a, b) in weights.items():
        tensors[f"base_model.model.{name}.lora_A.weight"] = a.detach().float().contiguous()
        tensors[f"base_model.model.{name}.lora_B.weight"] = b.detach().float().contiguous()
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
    import json

    path = folder / WEIGHTS_FILE
    try:
        trained_on = json.loads((folder / "base.json").read_text(encoding="utf-8"))["sha256"]
        tensors = load_file(path)
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise UserError(
            f"{folder}: the adapter cannot be read ({error})", fix="train again with `tunesmith run`"
        ) from error
    if trained_on != base_sha256:
        raise UserError(
            f"{folder}: this adapter was trained on base weights {trained_on[:12]}, not {base_sha256[:12]}",
            fix="use the base it was trained on, or train again",
        )
    weights: AdapterWeights = {}
    for key, tensor in tensors.items():
        if key.endswith(".lora_A.weight"):
            name = key.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
            weights[name] = (tensor, tensors[key.replace("lora_A", "lora_B")])
    return weights
