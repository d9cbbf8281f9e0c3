"""Peak memory of a piece of work, read from the operating system."""

from __future__ import annotations

import ctypes
import gc
import resource
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # takes seconds to import
    import torch

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")


def reset_peak() -> None:
    """Start measuring anew where the system allows it (Linux); elsewhere the peak is the process's own."""
    try:
        _CLEAR.write_text("5")
    except OSError:
        return


def peak_mb() -> float:
    """The most memory (resident, MiB) held since :func:`reset_peak`, or since the process began."""
    try:
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / 2**20 if sys.platform == "darwin" else most / 1024


def give_back() -> None:
    """Give memory that nothing uses any more back to the system, so that later work is not charged with it.

    Models lie in cycles, which are looked for first; then glibc, where it is (Linux), returns what is free.
    """
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


def start_measuring(device: torch.device) -> None:
    """Let :func:`held_mb` begin anew for models on ``device``."""
    from tunesmith.engine import devices

    if device.type == "cuda":
        devices.start_measuring(device)
    else:
        reset_peak()


def held_mb(device: torch.device) -> float:
    """The most memory (MiB) held since :func:`start_measuring`: by tensors on a GPU, else by the process."""
    from tunesmith.engine import devices

    return devices.allocated_peak_mb(device) if device.type == "cuda" else peak_mb()


def resident_mb() -> float:
    """The memory (resident, MiB) this process holds now; 0 where the system does not tell."""
    try:
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmRSS"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    return 0.0


def available_mb() -> float:
    """Memory (MiB) that can be had without swapping; 0 where the system does not tell."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    return 0.0
