"""Will the guards let a good model pass? Power of non-inferiority, one by one and of all together.

Normal theory: a guard over n groups whose changes have standard deviation σ passes when the estimated loss
plus z_α·σ/√n is within the margin, so with a true loss c in Φ((margin − c)·√n/σ − z_α) of runs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

from tunesmith.power_records import GuardPower, JointPower
from tunesmith.stats.paired import FEWEST_GROUPS

_NORMAL = NormalDist()
_USUAL_CHANCE = 0.80


def guard_power(
    guard: str, items: int, groups: int, margin: float, spread: float, alpha_one_sided: float
) -> GuardPower:
    """Power of one guard. ``spread`` is σ, in the unit of ``margin`` (a share).

    Fewer than 50 groups are unmeasured, and never pass. Raises ValueError for a negative number of groups, or
    a margin or spread that is not above 0.
    """
    if groups < 0 or not (margin > 0 and spread > 0):
        raise ValueError(f"no such guard: {groups} groups, margin {margin}, spread {spread}")
    if groups < FEWEST_GROUPS:
        return GuardPower(guard, items, groups, margin, spread, 0.0, 0.0, -1.0)
    error = spread / math.sqrt(groups)
    z_alpha = _NORMAL.inv_cdf(1 - alpha_one_sided)

    def chance(loss: float) -> float:
        return _NORMAL.cdf((margin - loss) / error - z_alpha)

    return GuardPower(
        guard=guard,
        items=items,
        groups=groups,
        margin=margin,
        spread=spread,
        chance_if_unchanged=chance(0.0),
        chance_at_half_margin=chance(margin / 2),
        largest_loss_with_80_percent=margin - (z_alpha + _NORMAL.inv_cdf(_USUAL_CHANCE)) * error,
    )


def joint_power(guards: Sequence[GuardPower], alpha_one_sided: float) -> JointPower:
    """The chance that all of ``guards``, each made at ``alpha_one_sided``, pass for an unchanged model.

    At least 1 − Σ(1 − chance) whatever their dependence (Bonferroni); the product if they are independent.
    """
    chances = [guard.chance_if_unchanged for guard in guards]
    at_least = max(0.0, 1 - sum(1 - chance for chance in chances))
    return JointPower(tuple(guards), alpha_one_sided, at_least, math.prod(chances))
