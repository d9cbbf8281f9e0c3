"""The records of a comparison of methods: the same training by others, beside the chosen one."""

from __future__ import annotations

from dataclasses import dataclass

from tunesmith.records import Estimate, PairedGain


@dataclass(frozen=True)
class MethodLine:
    """One method as it was trained here, on validation.

    ``latency`` is for one request, asked alone (seconds). ``gain`` is over the chosen method, paired by row;
    None for the chosen one itself. ``forgetting`` is the relative change of the bits for general texts since
    the base; None where the base's family gives no likelihood of text. ``loss_gap`` is the validation loss
    less that on training rows, at the checkpoint kept.
    """

    method: str
    name: str
    chosen: bool
    learning_rate: float
    trainable_parameters: int
    steps: int
    best_step: int
    train_seconds: float
    memory_mb: float
    latency: Estimate | None
    score: Estimate
    gain: PairedGain | None
    forgetting: Estimate | None
    loss_gap: Estimate | None
    adapter_sha256: str


@dataclass(frozen=True)
class MethodComparison:
    """The chosen method first, then the others, on the same rows, ``seed`` and ``epochs`` at most.

    ``metric`` is that of the scores and gains. ``seeds`` says of how many the chosen one is the best.
    """

    metric: str
    seed: int
    seeds: int
    epochs: float
    lines: tuple[MethodLine, ...]
