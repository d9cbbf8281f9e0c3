"""What a metric is given, and what it gives back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tunesmith.errors import UserError
from tunesmith.records import Row
from tunesmith.stats.clusters import Floats
from tunesmith.stats.jackknife import Statistic

Bools = npt.NDArray[np.bool_]

# Does the first text (a source) entail the second (one sentence)? A probability.
Entails = Callable[[str, str], float]


@dataclass(frozen=True)
class Answered:
    """Rows and one candidate's answers to them, with whatever else is known; row i has answer i.

    Only ``rows`` and ``predictions`` are always needed; a metric that needs more refuses without it.

    ``references``: all right answers of a row where there are several (default: its target alone).
    ``sources``: the text an answer must rest on (default: all the turns before it).
    ``labels``: the label set; ``none_label`` is the one that means "none of these".
    ``confidences``: shape (rows,), the probability of the answer given.
    ``label_probabilities``: shape (rows, labels), in the order of ``labels``.
    ``scope_scores``: shape (rows,), larger the more surely a row belongs to some label (default:
    ``confidences``).
    ``target_nats`` and ``target_tokens``: shape (rows,), minus the natural-log probability of the target, and
    how many tokens that is, end token included.
    ``schema``: the JSON schema an answer must obey. ``entails``: the user's own entailment model.
    """

    rows: Sequence[Row]
    predictions: Sequence[str]
    references: Sequence[Sequence[str]] | None = None
    sources: Sequence[str] | None = None
    labels: Sequence[str] = ()
    none_label: str | None = None
    confidences: Floats | None = None
    label_probabilities: Floats | None = None
    scope_scores: Floats | None = None
    target_nats: Floats | None = None
    target_tokens: Floats | None = None
    schema: Mapping[str, Any] | None = None
    entails: Entails | None = None

    def __post_init__(self) -> None:
        """Raises ValueError when there is no row, or something has not one entry for each row."""
        per_row = (
            *("predictions", "references", "sources", "confidences", "label_probabilities"),
            *("scope_scores", "target_nats", "target_tokens"),
        )
        for name in per_row:
            entries = getattr(self, name)
            if entries is not None and len(entries) != len(self.rows):
                raise ValueError(f"{len(self.rows)} rows, but {len(entries)} {name}")
        if not self.rows:
            raise ValueError("there is no row to measure")
        if self.references is not None and not all(self.references):
            raise ValueError("every row needs at least one reference")

    @property
    def targets(self) -> list[str]:
        return [row.target for row in self.rows]

    @property
    def groups(self) -> list[str]:
        return [row.group or row.id for row in self.rows]

    @property
    def right_answers(self) -> Sequence[Sequence[str]]:
        """One or more for each row."""
        return [(row.target,) for row in self.rows] if self.references is None else self.references

    @property
    def source_texts(self) -> Sequence[str]:
        return [row.text for row in self.rows] if self.sources is None else self.sources


@dataclass(frozen=True)
class RowScores:
    """A metric that is the mean of one score per row, shape (rows,).

    ``low`` and ``high`` are the range of a score, None where it has no end. ``about`` marks the rows that the
    metric is about (false accepts: the rows out of scope); None for all.
    """

    scores: Floats
    low: float | None = 0.0
    high: float | None = 1.0
    about: Bools | None = None


Measured = RowScores | Statistic


def needed(value: Floats | None, metric: str, what: str) -> Floats:
    """``value``, or UserError (exit code 3) where a candidate has none."""
    if value is None:
        raise unmeasured(metric, f"this candidate has no {what}")
    return value


def unmeasured(metric: str, why: str, fix: str = "leave the metric out of the task") -> UserError:
    """The error of a metric that cannot be had here."""
    return UserError(f"{metric} could not be measured: {why}", fix, exit_code=3)
