"""What a test of a given size can tell, before anything is trained.

Normal theory for the mean of paired differences in {−1, 0, 1}: with a true gain g and disagreement in
correctness on a share d of rows, one difference has variance d − g², and the estimate over n rows has
standard error s(g) = √((d − g²)·design effect / n). A gain cannot exceed the disagreement, so where d is
smaller than |g| it is taken as |g| (every disagreement is a win). z_α is the upper α quantile.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

from scipy.optimize import brentq

from tunesmith.power_records import PowerPoint
from tunesmith.records import PairedGain
from tunesmith.stats.answers import Rule
from tunesmith.stats.intervals import wilson

_NORMAL = NormalDist()
_USUAL_CHANCE = 0.80


def chance_of_train(
    true_gain: float,
    rows: int,
    discordant: float,
    design_effect: float,
    goal_gain: float,
    alpha_one_sided: float,
    rule: Rule,
) -> float:
    """Probability that the verdict against one opponent is TRAIN.

    ``estimate``: the estimate must reach max(goal, z_α·s), so Φ((g − max(goal, z_α·s))/s).
    ``margin``: it must reach goal + z_α·s, so Φ((g − goal)/s − z_α).
    Raises ValueError for shares outside [0, 1], no rows, or a design effect that is not positive.
    """
    error = _standard_error(true_gain, rows, discordant, design_effect)
    z_alpha = _NORMAL.inv_cdf(1 - alpha_one_sided)
    bar = goal_gain + z_alpha * error if rule == "margin" else max(goal_gain, z_alpha * error)
    return _chance_above(bar, true_gain, error)


def chance_bound_above_zero(
    true_gain: float, rows: int, discordant: float, design_effect: float, alpha_one_sided: float
) -> float:
    """Probability that the lower bound is above 0: Φ(g/s − z_α)."""
    return chance_of_train(true_gain, rows, discordant, design_effect, 0.0, alpha_one_sided, "margin")


def smallest_gain(
    rows: int,
    discordant: float,
    design_effect: float,
    goal_gain: float,
    alpha_one_sided: float,
    rule: Rule,
    chance: float = _USUAL_CHANCE,
) -> float:
    """The smallest true gain that gets TRAIN with ``chance`` (0.5 to 1), found by Brent's method.

    1.0 when even a candidate that wins on every row would not get it. Errors as in ``chance_of_train``.
    """

    def shortfall(gain: float) -> float:
        reached = chance_of_train(gain, rows, discordant, design_effect, goal_gain, alpha_one_sided, rule)
        return reached - chance

    most = 1 - 1e-9
    if shortfall(most) < 0:
        return 1.0
    return float(brentq(shortfall, 0.0, most, xtol=1e-7)) if shortfall(0.0) < 0 else 0.0


def power_points(
    rows: int,
    design_effect: float,
    goal_gain: float,
    alpha_one_sided: float,
    rule: Rule,
    discordants: Sequence[float] = (0.10, 0.15, 0.20, 0.25),
) -> tuple[PowerPoint, ...]:
    """The power of this test for a range of disagreement, which is not known before training.

    Shares smaller than ``goal_gain`` are impossible at the goal and left out; if that leaves none, the
    one point shown is a candidate whose every disagreement is a win. Errors as in ``chance_of_train``.
    """
    possible = [share for share in discordants if share >= goal_gain] or [goal_gain]
    return tuple(
        PowerPoint(
            discordant=share,
            chance_of_train_at_goal=chance_of_train(
                goal_gain, rows, share, design_effect, goal_gain, alpha_one_sided, rule
            ),
            chance_bound_above_zero_at_goal=chance_bound_above_zero(
                goal_gain, rows, share, design_effect, alpha_one_sided
            ),
            smallest_gain_with_80_percent=smallest_gain(
                rows, share, design_effect, goal_gain, alpha_one_sided, rule
            ),
        )
        for share in possible
    )


def rows_needed(
    discordant_low: float,
    discordant_high: float,
    design_effect: float,
    goal_gain: float,
    alpha_one_sided: float,
) -> tuple[int, int]:
    """Test rows that would tell a worthless model from one worth ``goal_gain``, as a range.

    n = ((z_α + z_0.8)/goal)²·d·design effect, for both ends of the range of disagreement. With n rows a true
    gain of 0 gets an upper bound below the goal with 80 % chance (variance d), and a true gain of the
    goal gets a lower bound above 0 with at least 80 % (variance d − goal²). It promises nothing for a
    true gain in between. Raises ValueError when ``goal_gain`` is not above 0.
    """
    if not goal_gain > 0:
        raise ValueError(f"no number of rows tells a gain of 0 from a goal of {goal_gain}")
    z_sum = _NORMAL.inv_cdf(1 - alpha_one_sided) + _NORMAL.inv_cdf(_USUAL_CHANCE)
    rows_per_share = (z_sum / goal_gain) ** 2 * design_effect
    return math.ceil(rows_per_share * discordant_low), math.ceil(rows_per_share * discordant_high)


def discordance_range(gain: PairedGain, level: float = 0.95) -> tuple[float, float]:
    """Where the true disagreement lies: Wilson on the effective sample size of ``gain``.

    That is right for a share, and wide for the mean square of scores between 0 and 1. Above 1, where only
    scores with a wider range come, it is the normal interval of a variance, ± z·√(2/n) of itself.
    """
    critical = _NORMAL.inv_cdf((1 + level) / 2)
    effective = gain.rows / max(1.0, gain.design_effect)
    if gain.discordant > 1:
        half = gain.discordant * critical * math.sqrt(2 / effective)
        return max(0.0, gain.discordant - half), gain.discordant + half
    return wilson(gain.discordant, effective, critical)


def _standard_error(gain: float, rows: int, discordant: float, design_effect: float) -> float:
    if not (0 <= discordant <= 1 and -1 <= gain <= 1 and rows > 0 and design_effect > 0):
        raise ValueError(
            f"no such plan: gain {gain}, {rows} rows, discordant {discordant}, design effect {design_effect}"
        )
    share = max(discordant, abs(gain))
    return math.sqrt((share - gain**2) * design_effect / rows)


def _chance_above(bar: float, gain: float, error: float) -> float:
    if error > 0:
        return _NORMAL.cdf((gain - bar) / error)
    # No spread: nothing ever differs (gain 0: the real rule, with its pseudo-rows, never trains) or all wins.
    return 1.0 if gain > 0 and gain >= bar else 0.0
