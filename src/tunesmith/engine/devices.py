"""Where a model computes, and what is done differently on a GPU."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from tunesmith.errors import UserError


def find_device(name: str) -> torch.device:
    """The device ``name``: cpu, cuda or cuda:N. Raises UserError where it is not there, naming what is."""
    there = ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
    wanted = "cuda:0" if name == "cuda" else name
    if wanted not in there:
        without = "" if torch.cuda.is_available() else " (PyTorch finds no GPU, or was built without CUDA)"
        raise UserError(
            f"train.device: {name} does not exist on this machine{without}",
            fix=f"choose one of: {', '.join(there)}",
        )
    return torch.device(wanted)


def device_of(model: nn.Module) -> torch.device:
    """Where ``model`` is."""
    return next(model.parameters()).device


def free_mb(device: torch.device) -> float:
    """Memory (MiB) that can be had on a GPU."""
    torch.cuda.empty_cache()  # what PyTorch keeps of tensors that are gone would count as taken
    free, _ = torch.cuda.mem_get_info(device)
    return free / 2**20


def start_measuring(device: torch.device) -> None:
    """Let :func:`allocated_peak_mb` begin anew."""
    torch.cuda.reset_peak_memory_stats(device)


def allocated_peak_mb(device: torch.device) -> float:
    """The most memory (MiB) that tensors held on a GPU since :func:`start_measuring`."""
    return torch.cuda.max_memory_allocated(device) / 2**20


def fused(function: Callable[..., Any], like: Tensor) -> Callable[..., Any]:
    """``function``, compiled into one kernel where ``like`` is on a GPU.

    For chains of element-wise operations only: on a CPU, compiling costs more than it saves here.
    """
    return _compiled(function) if like.is_cuda else function


@functools.cache
def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    compiled: Callable[..., Any] = torch.compile(function, dynamic=True)
    return compiled
