"""What a shortlist of bases holds."""

from __future__ import annotations

from dataclasses import dataclass

from tunesmith.records import Estimate, PairedGain


@dataclass(frozen=True)
class ComparedBase:
    """One base on a few validation rows, under the best of the task's prompts on the first half of them.

    ``dropped`` says why it is off the shortlist. ``gain`` is over the best base, on the rows that both
    answered. What is None was not measured, as the base was dropped before.
    """

    name: str
    licence: str
    parameters: int
    dropped: str | None
    context_tokens: int | None = None
    longest_row_tokens: int | None = None
    prompt: str | None = None
    quality: Estimate | None = None
    gain: PairedGain | None = None
    seconds_per_row: float | None = None
    peak_memory_mb: float | None = None


@dataclass(frozen=True)
class Comparison:
    """Bases shortlisted on the same ``rows`` of validation, in ``metric``; the best first."""

    metric: str
    rows: int
    groups: int
    precision: str
    bases: tuple[ComparedBase, ...]
