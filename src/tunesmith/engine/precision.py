"""Which precision this machine multiplies matrices in fastest: measured, not assumed.

On CPUs with AVX-512-BF16 or AMX, bf16 is several times faster than fp32; on others it can be a hundred
times slower, so the choice must be measured.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import Literal

import torch

Precision = Literal["bf16", "fp32"]
DTYPES: dict[str, torch.dtype] = {"bf16": torch.bfloat16, "fp32": torch.float32}

# bf16 loses three decimal digits, so it must be clearly faster to be worth it.
BF16_MUST_BE_FASTER_BY = 1.5


@dataclass(frozen=True)
class PrecisionProbe:
    """Achieved matrix-product rates on this machine, and the precision to use."""

    precision: Precision
    bf16_gflops: float
    fp32_gflops: float
    threads: int
    device: str


def probe_precision(device: str = "cpu") -> PrecisionProbe:
    """Multiply 1,536 × 576 by 576 × 1,536 in both precisions for about 0.1 s each."""
    set_threads()
    rates = {name: _gflops(dtype, device) for name, dtype in DTYPES.items()}
    faster = rates["bf16"] > BF16_MUST_BE_FASTER_BY * rates["fp32"]
    return PrecisionProbe(
        precision="bf16" if faster else "fp32",
        bf16_gflops=rates["bf16"],
        fp32_gflops=rates["fp32"],
        threads=torch.get_num_threads(),
        device=device,
    )


def set_threads() -> None:
    """Use the cores this process may run on; OMP_NUM_THREADS, when set, wins."""
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(len(os.sched_getaffinity(0)))


def _gflops(dtype: torch.dtype, device: str, seconds: float = 0.1) -> float:
    left = torch.ones(1536, 576, dtype=dtype, device=device)
    right = torch.ones(576, 1536, dtype=dtype, device=device)
    left @ right
    products, started = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - started) < seconds or products < 2:
        left @ right
        if device != "cpu":
            torch.cuda.synchronize()
        products += 1
        if elapsed > 4 * seconds:
            break
    elapsed = time.perf_counter() - started
    return 2 * 1536 * 576 * 1536 * products / elapsed / 1e9
