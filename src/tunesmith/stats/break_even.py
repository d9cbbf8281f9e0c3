"""After how many requests has a one-off cost been saved?"""

from __future__ import annotations

from dataclasses import replace

from tunesmith.records import Estimate


def break_even(fixed: float, saved: Estimate) -> tuple[float | None, float | None, float | None]:
    """Requests until ``fixed`` is saved, at ``saved`` a request: the estimate, and its lowest and highest.

    fixed/saved falls as more is saved, so the bounds of ``saved`` are those of the number, at the same level.
    None is never: nothing is saved. A highest of None: the interval does not exclude that it is never.
    Raises ValueError when ``fixed`` is negative.
    """
    if fixed < 0:
        raise ValueError(f"a one-off cost is 0 or more, got {fixed}")
    value, low, high = (fixed / each if each > 0 else None for each in (saved.value, saved.high, saved.low))
    return value, low, high


def scaled(estimate: Estimate, factor: float) -> Estimate:
    """The estimate in another unit; ``factor`` is a known number, 0 or more."""
    return replace(
        estimate, value=estimate.value * factor, low=estimate.low * factor, high=estimate.high * factor
    )
