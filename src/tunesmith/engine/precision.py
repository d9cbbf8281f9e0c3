"""Which precision this machine multiplies matrices in fastest: measured, not assumed.

On CPUs with AVX-512-BF16 or AMX, bf16 is several times faster than fp32; on others it can be a hundred
times slower, so the choice must be measured.
"""

from __future__ import annotations

import ctypes
import functools
import itertools
import math
import os
import time
from dataclasses import dataclass
from typing import Literal

import torch

Precision = Literal["bf16", "fp32"]
DTYPES: dict[str, torch.dtype] = {"bf16": torch.bfloat16, "fp32": torch.float32}

# bf16 loses three decimal digits, so it must be clearly faster to be worth it.
BF16_MUST_BE_FASTER_BY = 1.5

PROBE_SECONDS = 0.3
FEWEST_TURNS = 3

# oneDNN, and PyTorch's layer over it, keep a compiled kernel of about 0.6 MB for each of the last 1,024 sizes
# multiplied: 1 GB once batches of every length have passed. A step needs some 50 of them.
KERNELS_KEPT = 128
_KERNEL_CACHES = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY")

# From glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4


@dataclass(frozen=True)
class PrecisionProbe:
    """Achieved matrix-product rates on this machine, and the precision to use."""

    precision: Precision
    bf16_gflops: float
    fp32_gflops: float
    threads: int
    device: str


@functools.cache
def probe_precision(device: str = "cpu") -> PrecisionProbe:
    """Multiply 1,536 × 576 by 576 × 1,536 in both precisions, in turn, for about 0.3 s, once a process.

    The fastest product of each counts: other work on the machine only ever slows one down, and must not
    change the choice from one run to the next.
    """
    set_threads()
    _bound_kernel_caches()
    fastest = dict.fromkeys(DTYPES, math.inf)
    factors = {
        name: (
            torch.ones(1536, 576, dtype=dtype, device=device),
            torch.ones(576, 1536, dtype=dtype, device=device),
        )
        for name, dtype in DTYPES.items()
    }
    until = time.perf_counter() + PROBE_SECONDS
    for turn in itertools.count():
        for name, (left, right) in factors.items():
            started = time.perf_counter()
            left @ right
            if device != "cpu":
                torch.cuda.synchronize(device)
            if turn:  # the first warms up
                fastest[name] = min(fastest[name], time.perf_counter() - started)
        if turn >= FEWEST_TURNS and time.perf_counter() > until:
            break
    rates = {name: 2 * 1536 * 576 * 1536 / seconds / 1e9 for name, seconds in fastest.items()}
    faster = rates["bf16"] > BF16_MUST_BE_FASTER_BY * rates["fp32"]
    return PrecisionProbe(
        precision="bf16" if faster else "fp32",
        bf16_gflops=rates["bf16"],
        fp32_gflops=rates["fp32"],
        threads=torch.get_num_threads(),
        device=device,
    )


def tune_process() -> None:
    """Set this process up for matrix products: all its cores, and memory that is kept once it was used."""
    set_threads()
    _bound_kernel_caches()
    _keep_freed_memory()


def set_threads() -> None:
    """Use the cores this process may run on; OMP_NUM_THREADS, when set, wins."""
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(len(os.sched_getaffinity(0)))


def _bound_kernel_caches() -> None:
    """Has an effect only before the first matrix product of the process; what the user has set wins."""
    for name in _KERNEL_CACHES:
        os.environ.setdefault(name, str(KERNELS_KEPT))


def _keep_freed_memory() -> None:
    """Tell glibc not to hand freed blocks back to the system; with other C libraries nothing happens.

    Every step allocates the same activations again, and page faults were a tenth of its time.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(_M_TOP_PAD, 64 * 2**20)
