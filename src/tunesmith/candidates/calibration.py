"""Temperature scaling: probabilities that mean what they say, without another answer to any row."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from tunesmith.records import Row

# Where calibrated probabilities are wanted, what labels left out of scoring may hold in all, relative to
# the best one.
CALIBRATION_MASS = 0.01

# Outside, it is a few rows that decide, not the data.
TEMPERATURES = (0.2, 10.0)


def fit_temperature(
    log_probabilities: NDArray[np.float64], labels: tuple[str, ...], rows: Sequence[Row]
) -> float:
    """The temperature with the lowest log-loss on ``rows`` (validation); 1 where no row has a known label.

    Temperature scaling: Guo et al. 2017, arXiv 1706.04599. ``log_probabilities`` is [rows, labels]; those
    left out of scoring (−inf) count as sharing ``CALIBRATION_MASS`` evenly.
    """
    known = {label: index for index, label in enumerate(labels)}
    chosen = [(index, known[row.target]) for index, row in enumerate(rows) if row.target in known]
    if not chosen:
        return 1.0
    at, wanted = (np.array(values) for values in zip(*chosen, strict=True))
    scores = log_probabilities[at]
    least = scores.max(axis=1, keepdims=True) + np.log(CALIBRATION_MASS / len(labels))
    scores = np.where(np.isneginf(scores), least, scores)

    def log_loss(log_temperature: float) -> float:
        scaled = scores / np.exp(log_temperature)
        highest = scaled.max(axis=1)
        normaliser = highest + np.log(np.exp(scaled - highest[:, None]).sum(axis=1))
        return float((normaliser - scaled[np.arange(len(at)), wanted]).mean())

    bounds = (np.log(TEMPERATURES[0]), np.log(TEMPERATURES[1]))
    return float(np.exp(minimize_scalar(log_loss, bounds=bounds, method="bounded").x))
