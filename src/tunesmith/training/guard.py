"""A run whose numbers stop being numbers is stopped at once, and told with what it was looking at."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from tunesmith.errors import UserError
from tunesmith.models.rendering import ROWS_LISTED
from tunesmith.task.train_settings import TrainSettings
from tunesmith.training.checkpoints import newest_checkpoint


@dataclass(frozen=True)
class Guard:
    """Watches one step (numbered from 1); ``sources`` name the rows of each of its parts."""

    step: int
    settings: TrainSettings
    checkpoints: Path
    sources: Sequence[Sequence[str]]

    def check(self, found: str, *values: float, part: int | None = None) -> None:
        """Raise UserError unless all ``values`` are finite: step, rows, and the last good checkpoint.

        ``part`` says in which part of the batch it was seen; None where it may be any.
        """
        if all(math.isfinite(value) for value in values):
            return
        parts = self.sources if part is None else [self.sources[part]]
        rows = [source for sources in parts for source in sources]
        more = f" and {len(rows) - ROWS_LISTED} more" if len(rows) > ROWS_LISTED else ""
        kept = newest_checkpoint(self.checkpoints)
        last = "no checkpoint had been written yet" if kept is None else f"the last good checkpoint is {kept}"
        raise UserError(
            f"training stopped at step {self.step}: the {found}. Rows of its batch: "
            f"{', '.join(rows[:ROWS_LISTED])}{more}; {last}",
            fix=f"lower train.learning_rate (now {self.settings.learning_rate:g}) and run again",
        )

    def check_weights(self, parameters: Sequence[Tensor]) -> None:
        """Raise UserError where a weight is not finite, so that no checkpoint ever holds such weights."""
        sums = [float(parameter.detach().abs().sum(dtype=torch.float64)) for parameter in parameters]
        self.check("weights are not finite", *sums)
