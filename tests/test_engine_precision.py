"""The precision probe measures, and the process is set up without changing results."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest
import torch

from tunesmith.engine.precision import BF16_MUST_BE_FASTER_BY, DTYPES, probe_precision, tune_process


def test_the_probe_reports_measured_rates_and_follows_them() -> None:
    probe = probe_precision()
    assert probe.precision in DTYPES
    assert probe.device == "cpu"
    assert probe.threads == torch.get_num_threads()
    assert 0.1 < probe.fp32_gflops < 1e6
    assert 0.01 < probe.bf16_gflops < 1e6
    faster = probe.bf16_gflops > BF16_MUST_BE_FASTER_BY * probe.fp32_gflops
    assert (probe.precision == "bf16") == faster


def test_keeping_freed_memory_changes_no_result() -> None:
    left, right = torch.randn(300, 200), torch.randn(200, 500)
    before = left @ right
    tune_process()
    assert torch.equal(left @ right, before)


GROWTH = """
import ctypes, torch
from tunesmith.engine.precision import tune_process

class Info(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in "abcdefghij"]

libc = ctypes.CDLL(None)
libc.mallinfo2.restype = Info
tune_process()
before = libc.mallinfo2().h  # uordblks: bytes in use
for tokens in range(400, 800):
    torch.ones(16, tokens, dtype=torch.bfloat16) @ torch.ones(tokens, 64, dtype=torch.bfloat16)
print((libc.mallinfo2().h - before) / 2**20)
"""


def test_products_of_ever_new_shapes_do_not_fill_the_memory_with_kernels() -> None:
    if not hasattr(ctypes.CDLL(None), "mallinfo2"):
        pytest.skip("the C library does not tell how much memory is in use")
    done = subprocess.run([sys.executable, "-c", GROWTH], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 120  # 400 kernels of 0.6 MB would be 240
