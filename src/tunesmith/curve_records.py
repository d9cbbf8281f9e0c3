"""The records of the model's learning curve: what more training rows brought, and what twice would bring."""

from __future__ import annotations

from dataclasses import dataclass

from tunesmith.records import Estimate, PairedGain


@dataclass(frozen=True)
class DataPoint:
    """The model that learned from ``share`` of the training groups, on validation."""

    share: float
    rows: int
    score: Estimate
    adapter_sha256: str


@dataclass(frozen=True)
class DataCurve:
    """The same training on growing shares of the training groups, each within the next.

    ``doubling``: the gain of all rows over half of them. ``doubled``: the gain that twice the rows would
    bring; None in a metric that has no best value to fall short of.
    """

    metric: str
    points: tuple[DataPoint, ...]
    doubling: PairedGain
    doubled: Estimate | None
