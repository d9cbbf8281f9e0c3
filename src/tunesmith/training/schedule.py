"""The steps of a run: how many, their learning rates, and where validation falls. All known beforehand."""

from __future__ import annotations

import math

from tunesmith.task.train_settings import TrainSettings


class Schedule:
    """Linear warm-up from 0 to the peak, then as ``settings.schedule`` says.

    linear and cosine reach 0 after the last step; constant stays; wsd (warm-up, stable, decay: Hu et al.
    2024, arXiv 2404.06395) stays and then falls linearly to 0 over the last ``decay_share`` of the steps.
    After the warm-up they are those of Transformers' ``get_scheduler``; in it, our first step already moves.
    ``steps_per_epoch`` counts optimiser steps; ``validation_steps`` are the numbers (from 1) of the
    steps after which validation is scored, the last step always among them.
    """

    def __init__(self, rows: int, settings: TrainSettings) -> None:
        self.steps_per_epoch = math.ceil(rows / (settings.batch_size * settings.accumulate))
        self.steps = max(1, round(self.steps_per_epoch * settings.epochs))
        self.warmup = max(1, round(self.steps * settings.warmup_share))
        self.peak = settings.learning_rate
        self.kind = settings.schedule
        self.decay = min(max(1, round(self.steps * settings.decay_share)), max(1, self.steps - self.warmup))
        between = self.steps_per_epoch / settings.validations_per_epoch
        points = {round(between * count) for count in range(1, math.ceil(self.steps / between) + 1)}
        self.validation_steps = {min(max(point, 1), self.steps) for point in points} | {self.steps}

    def learning_rate(self, step: int) -> float:
        """The rate of the step with this index (from 0)."""
        if step < self.warmup:
            return self.peak * (step + 1) / self.warmup
        left = self.steps - step
        if self.kind == "constant":
            return self.peak
        if self.kind == "cosine":
            done = (step - self.warmup) / max(1, self.steps - self.warmup)
            return self.peak * 0.5 * (1 + math.cos(math.pi * done))
        if self.kind == "wsd":
            return self.peak * min(1.0, left / self.decay)
        return self.peak * left / max(1, self.steps - self.warmup)
