"""What is planned for trainings beside the task's own."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PlannedMethod:
    """One method that is trained for comparison: how it is made to fit the memory, and what it will take."""

    method: str
    learning_rate: float
    micro_batch_tokens: int
    recompute: bool
    estimated_seconds: float
    estimated_peak_memory_mb: float
