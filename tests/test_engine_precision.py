"""The precision probe measures, and the process is set up without changing results."""

from __future__ import annotations

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
