"""Power for any metric of a whole test, from the scores of two candidates on pilot rows.

Macro-F1, BLEU, chrF, calibration: none is a mean over rows, and none has a formula. But each is a function of
sums (counts, matches, lengths), so a test of another size can be drawn from the pilot's groups with
replacement, and the error of the gain be seen. Two opponents on validation rows make a pilot before
anything is trained.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from tunesmith.stats.answers import Rule

Floats = npt.NDArray[np.float64]
# Sums over groups, shape (tests, columns), to the metric of each test, shape (tests,).
Metric = Callable[[Floats], Floats]

FEWEST_PILOT_GROUPS = 30
_TESTS = 2000
_CELLS_AT_ONCE = 4_000_000
_NORMAL = NormalDist()
_USUAL_CHANCE = 0.80


@dataclass(frozen=True)
class MetricPower:
    """What a test of ``groups`` groups can tell about one metric, at this goal and level.

    ``groups_needed`` would show a true gain of the goal to be above 0 in 8 of 10 tests.
    """

    groups: int
    pilot_groups: int
    standard_error: float
    chance_of_train_at_goal: float
    chance_bound_above_zero_at_goal: float
    smallest_gain_with_80_percent: float
    groups_needed: int


def metric_power(
    candidate: Floats,
    opponent: Floats,
    metric: Metric,
    groups: int,
    goal_gain: float,
    alpha_one_sided: float,
    rule: Rule,
    seed: int = 0,
) -> MetricPower:
    """Draw 2,000 tests of ``groups`` groups from the pilot and see what the verdict's rule would say.

    ``candidate`` and ``opponent``: the metric's sums by group on the same pilot rows, shape (pilot groups,
    columns). The gain's error is its deviation from the mean of all drawn tests; it is taken to be the same
    at another true gain. Raises ValueError when shapes differ, the pilot has fewer than 30 groups, the goal
    is not above 0, the metric of a drawn test is not finite, or the two never differ in it.
    """
    if candidate.shape != opponent.shape or candidate.ndim != 2:
        raise ValueError(f"need the same groups and columns: {candidate.shape}, {opponent.shape}")
    if len(candidate) < FEWEST_PILOT_GROUPS or groups < 2 or not goal_gain > 0:
        raise ValueError(
            f"need {FEWEST_PILOT_GROUPS} pilot groups, 2 groups and a goal above 0; got {len(candidate)}, "
            f"{groups} and {goal_gain}"
        )
    gains = _drawn_gains(candidate, opponent, metric, groups, seed)
    if not np.isfinite(gains).all():
        raise ValueError("the metric is not finite on every drawn test")
    errors = gains - gains.mean()
    standard_error = float(errors.std(ddof=1))
    if standard_error < 1e-12:
        raise ValueError("the two score alike on every pilot row, which foretells no error")
    z_alpha = _NORMAL.inv_cdf(1 - alpha_one_sided)
    bound = z_alpha * standard_error
    bar = goal_gain + bound if rule == "margin" else max(goal_gain, bound)
    needed = groups * ((z_alpha + _NORMAL.inv_cdf(_USUAL_CHANCE)) * standard_error / goal_gain) ** 2
    return MetricPower(
        groups=groups,
        pilot_groups=len(candidate),
        standard_error=standard_error,
        chance_of_train_at_goal=float((goal_gain + errors >= bar).mean()),
        chance_bound_above_zero_at_goal=float((goal_gain + errors > bound).mean()),
        smallest_gain_with_80_percent=bar - float(np.quantile(errors, 1 - _USUAL_CHANCE)),
        groups_needed=int(np.ceil(needed)),
    )


def _drawn_gains(candidate: Floats, opponent: Floats, metric: Metric, groups: int, seed: int) -> Floats:
    random = np.random.default_rng(seed)
    pilot = len(candidate)
    shares = np.full(pilot, 1 / pilot)
    at_once = max(1, _CELLS_AT_ONCE // (pilot + 2 * candidate.shape[1]))
    gains = []
    for start in range(0, _TESTS, at_once):
        times = random.multinomial(groups, shares, size=min(at_once, _TESTS - start)).astype(np.float64)
        gains.append(metric(times @ candidate) - metric(times @ opponent))
    return np.concatenate(gains)
