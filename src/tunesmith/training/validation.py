"""What is measured at the validations of a run: validation losses, some training losses, the task metric."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from tunesmith.engine.forward import Batch
from tunesmith.engine.head import POSITIONS_PER_CHUNK
from tunesmith.engine.scoring import TOKENS_PER_BATCH
from tunesmith.engine.selfcheck import LossFunction, token_losses_by
from tunesmith.models.rendering import Tokens
from tunesmith.records import Estimate
from tunesmith.run_records import TaskLoss, TrainPoint, ValidationPoint
from tunesmith.training.batches import Sharing

# Enough to see whether training rows are learned by heart, few enough to cost next to nothing.
WATCHED_TRAINING_ROWS = 64


# The task metric of the model as it is now, higher when better.
Metric = Callable[[], Estimate]


class Watch:
    """Measures a run at its validations, and keeps the losses of every row for the rule in ``stats/watch``.

    ``validation_losses`` [validations, rows] and ``training_losses`` [validations, watched rows] are the
    sums of −log p over each row's learned tokens, in nats: never smoothed, every token counting the same.
    """

    def __init__(
        self,
        train: Sequence[Tokens],
        validation: Sequence[Tokens],
        pad_token: int,
        sharing: Sharing,
        metric: Metric | None,
        general_text: Metric | None = None,
        others: Sequence[tuple[str, Sequence[Tokens]]] = (),
    ) -> None:
        self.training_rows = watched_training_rows(len(train))
        self._validation = _batches(validation, pad_token, sharing)
        self._training = _batches([train[row] for row in self.training_rows], pad_token, sharing)
        self._others = [(name, _batches(rows, pad_token, sharing)) for name, rows in others]
        self._metric, self._general_text = metric, general_text
        self.validation_losses = torch.empty(0, len(validation), dtype=torch.float64)
        self.training_losses = torch.empty(0, len(self.training_rows), dtype=torch.float64)

    def measure(self, model: PreTrainedModel, loss_of: LossFunction, point: TrainPoint) -> ValidationPoint:
        """Measure the model as it is after ``point``, by the path that training takes."""
        loss, by_row = _losses(model, loss_of, self._validation)
        training_loss, training_by_row = _losses(model, loss_of, self._training)
        self.validation_losses = torch.cat([self.validation_losses, by_row[None]])
        self.training_losses = torch.cat([self.training_losses, training_by_row[None]])
        metric = self._metric() if self._metric is not None and math.isfinite(loss) else None
        general = self._general_text() if self._general_text is not None and math.isfinite(loss) else None
        others = [TaskLoss(name, _losses(model, loss_of, batches)[0]) for name, batches in self._others]
        return ValidationPoint(point.step, point.epoch, loss, training_loss, metric, general, tuple(others))


def watched_training_rows(rows: int) -> list[int]:
    """The training rows whose loss is watched: all, or ``WATCHED_TRAINING_ROWS`` evenly spaced."""
    count = min(rows, WATCHED_TRAINING_ROWS)
    return [position * rows // count for position in range(count)]


def per_example(batch: Batch) -> Tensor:
    """Weights [supervised] under which the learned tokens of every row add up to one, or to its weight."""
    counts = torch.bincount(batch.rows, minlength=len(batch.suffixes))
    shares = 1.0 / counts[batch.rows].float()
    return shares if batch.weights is None else shares * batch.weights


def _batches(rows: Sequence[Tokens], pad_token: int, sharing: Sharing) -> list[tuple[list[int], Batch]]:
    """Row indices and what is put through the model for them, made once and measured again and again."""
    return [
        (part, sharing.batch(rows, part, pad_token))
        for part in sharing.parts(rows, range(len(rows)), TOKENS_PER_BATCH)
    ]


def _losses(
    model: PreTrainedModel, loss_of: LossFunction, batches: Sequence[tuple[list[int], Batch]]
) -> tuple[float, Tensor]:
    """Mean −log p per learned token, and its sum in every row [rows], in nats."""
    by_token = token_losses_by(loss_of)
    total, tokens = 0.0, 0
    rows = torch.zeros(sum(len(part) for part, _ in batches), dtype=torch.float64)
    for part, batch in batches:
        values = by_token(model, batch)
        total += _chunked_sum(values)
        tokens += len(values)
        sums = torch.zeros(len(part), dtype=torch.float64)
        rows[part] = sums.index_add_(0, batch.rows, values.double())
    return total / tokens, rows


def _chunked_sum(values: Tensor) -> float:
    """The sum in the order in which the fused head adds it up, so that both agree to the bit."""
    total = torch.zeros((), dtype=torch.float32)
    for start in range(0, len(values), POSITIONS_PER_CHUNK):
        total += values[start : start + POSITIONS_PER_CHUNK].sum()
    return float(total)
