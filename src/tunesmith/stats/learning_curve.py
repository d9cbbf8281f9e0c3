"""How an error falls with more data: a power law, fitted and extrapolated with an interval."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tunesmith.errors import UserError
from tunesmith.records import Estimate

Floats = npt.NDArray[np.float64]

RESAMPLES = 1000
EXPONENTS = np.arange(0.05, 2.01, 0.05)


@dataclass(frozen=True)
class PowerLaw:
    """error(rows) = floor + scale · rows ** −exponent."""

    floor: float
    scale: float
    exponent: float

    def at(self, rows: float) -> float:
        """The error with so many rows."""
        return float(self.floor + self.scale * rows**-self.exponent)


def fit_power_law(sizes: npt.ArrayLike, errors: npt.ArrayLike) -> PowerLaw:
    """Least squares of a power law with a floor (Hestness et al. 2017); shapes (points,).

    ``floor`` lies between 0 and the smallest error, ``exponent`` is the best of 0.05, 0.10, … 2.00. Raises
    ValueError with fewer than three points.
    """
    rows, wrong = np.asarray(sizes, np.float64), np.asarray(errors, np.float64)
    if len(rows) != len(wrong) or len(rows) < 3:
        raise ValueError(f"need at least 3 points, got {len(rows)} sizes and {len(wrong)} errors")
    floor, scale, exponent = _fits(rows, wrong[None])[0].tolist()
    return PowerLaw(floor, scale, exponent)


def _fits(rows: Floats, wrong: Floats) -> Floats:
    """Floor, scale and exponent for each curve: (points,), (curves, points) -> (curves, 3)."""
    unit = rows.max()
    lowest = wrong.min(axis=1)
    best = np.full(len(wrong), np.inf)
    found = np.zeros((len(wrong), 3))
    for exponent in EXPONENTS:
        shape = (rows / unit) ** -exponent
        centred = shape - shape.mean()
        # For a given exponent the law is a line in this shape; both coefficients stay within their bounds.
        slope = np.maximum((wrong * centred).sum(axis=1) / (centred**2).sum(), 0.0)
        floor = np.clip(wrong.mean(axis=1) - slope * shape.mean(), 0.0, lowest)
        scale = np.maximum(((wrong - floor[:, None]) * shape).sum(axis=1) / (shape**2).sum(), 0.0)
        squares = ((floor[:, None] + scale[:, None] * shape - wrong) ** 2).sum(axis=1)
        better = squares < best - 1e-15
        best[better] = squares[better]
        found[better] = np.stack([floor, scale * unit**exponent, np.full(len(wrong), exponent)], axis=1)[
            better
        ]
    return found


def extrapolated_gain(
    sizes: npt.ArrayLike, errors: npt.ArrayLike, factor: float, level: float = 0.95, seed: int = 0
) -> Estimate:
    """By how much the error would fall with ``factor`` times the largest size.

    ``sizes``: (points,); ``errors``: (repeats, points), each repeat with training rows and test rows of its
    own. Whole repeats and then their points' residuals around the fit are drawn with replacement, 1,000 times
    and the law is fitted to each. ``rows`` counts the repeats × points. The interval covers what the
    repeats show, not that a power law may be the wrong law. Raises UserError (exit code 3) with fewer than
    3 repeats or points.
    """
    rows, wrong = np.asarray(sizes, np.float64), np.asarray(errors, np.float64)
    repeats, points = wrong.shape
    if repeats < 3 or points < 3:
        raise UserError(
            f"a learning curve needs 3 repeats of 3 sizes, found {repeats} of {points}",
            "give more rows",
            exit_code=3,
        )
    largest = float(rows.max())
    law = fit_power_law(rows, wrong.mean(axis=0))
    value = law.at(largest) - law.at(factor * largest)
    random = np.random.default_rng(seed)
    drawn = wrong[random.integers(0, repeats, (RESAMPLES, repeats))].mean(axis=1)
    # Repeats share their test rows' difficulty; the points of one curve still scatter on their own.
    scatter = wrong.std(axis=0, ddof=1) / np.sqrt(repeats) * random.standard_normal((RESAMPLES, points))
    gains = extrapolated_gains(rows, np.maximum(drawn + scatter, 0.0), factor)
    low, high = np.quantile(gains, [(1 - level) / 2, (1 + level) / 2])
    method = f"power law, bootstrap over {repeats} repeats, {RESAMPLES} resamples"
    return Estimate(
        value, min(value, float(low)), max(value, float(high)), repeats * points, repeats, level, method
    )


def extrapolated_gains(rows: Floats, errors: Floats, factor: float) -> Floats:
    """By how much each curve's error would fall with ``factor`` times the largest size.

    ``rows``: (points,); ``errors``: (curves, points), not below 0. Shape (curves,).
    """
    _, scale, exponent = _fits(rows, errors).T
    gains: Floats = scale * (rows.max() ** -exponent - (factor * rows.max()) ** -exponent)
    return gains
