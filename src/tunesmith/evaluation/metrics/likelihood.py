"""How well a model predicts the targets, from log-probabilities."""

from __future__ import annotations

import math

import numpy as np

from tunesmith.evaluation.metrics.answered import Answered, needed
from tunesmith.stats.clusters import Floats
from tunesmith.stats.jackknife import Statistic, statistic_of_sums


def perplexity(answered: Answered) -> Statistic:
    """exp(Σ nats / Σ tokens) of the targets. Comparable only between models with the same tokenizer."""
    nats = needed(answered.target_nats, "perplexity", "log-probability of the targets")
    tokens = needed(answered.target_tokens, "perplexity", "number of target tokens")

    def value(sums: Floats) -> Floats:
        return np.asarray(np.exp(sums[:, 0] / sums[:, 1]))

    return statistic_of_sums(_columns(nats, tokens), value, low=1.0, high=None)


def bits_per_byte(answered: Answered) -> Statistic:
    """Σ bits / Σ bytes (UTF-8) of the targets; comparable between tokenizers."""
    nats = needed(answered.target_nats, "bits_per_byte", "log-probability of the targets")
    sizes = np.array([len(target.encode()) for target in answered.targets], dtype=np.float64)

    def value(sums: Floats) -> Floats:
        return np.asarray(sums[:, 0] / sums[:, 1] / math.log(2))

    return statistic_of_sums(_columns(nats, sizes), value, low=0.0, high=None)


def _columns(first: Floats, second: Floats) -> Floats:
    return np.column_stack([first, second]).astype(np.float64)
