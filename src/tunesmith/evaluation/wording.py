"""Numbers of a verdict in words, never rounded onto the number they are compared with."""

from __future__ import annotations

import math

from tunesmith.records import Estimate, PairedGain

_MOST_DECIMALS = 4


def accuracy_words(estimate: Estimate) -> str:
    """A share as ``88.8 % [86.9, 90.5]``."""
    return f"{estimate.value:.1%} [{100 * estimate.low:.1f}, {100 * estimate.high:.1f}]".replace("%", " %")


def gain_words(gain: PairedGain, goal_gain: float) -> str:
    """A gain as ``+4.4 points [2.3, 6.5]``, with as many decimals as keep it apart from 0 and the goal."""
    bounds = [bound for bound in (gain.low, gain.high) if bound is not None]
    decimals = next(
        (
            decimals
            for decimals in range(1, _MOST_DECIMALS)
            if not any(_rounds_onto(number, goal_gain, decimals) for number in (gain.value, *bounds))
            and not any(_rounds_onto(number, 0.0, decimals) for number in bounds)
        ),
        _MOST_DECIMALS,
    )
    interval = f"[{', '.join(_points(bound, decimals) for bound in bounds)}]" if bounds else "[unmeasured]"
    sign = "+" if gain.value > 0 else ""
    return f"{sign}{_points(gain.value, decimals)} points {interval}"


def goal_words(goal_gain: float) -> str:
    """A goal as ``2.0 points``; as many decimals as it was given with."""
    decimals = next(
        (d for d in range(1, _MOST_DECIMALS) if math.isclose(round(100 * goal_gain, d), 100 * goal_gain)),
        _MOST_DECIMALS,
    )
    return f"{_points(goal_gain, decimals)} points"


def level_words(alpha_one_sided: float, opening: int) -> str:
    """At which level the bounds stand, and why."""
    return f"(Bounds of the gain at one-sided {100 * alpha_one_sided:.2g} %: opening {opening} of this test.)"


def rows_words(rows: tuple[int, int]) -> str:
    """A range of rows as ``2,300 to 3,900``, both rounded up to two digits."""
    low, high = (_rounded_up(number) for number in rows)
    return f"{low:,} to {high:,}" if low < high else f"{high:,}"


def _rounded_up(number: int) -> int:
    unit: int = 10 ** max(0, len(str(number)) - 2)
    return -(-number // unit) * unit


def _rounds_onto(number: float, reference: float, decimals: int) -> bool:
    return number != reference and round(100 * number, decimals) == round(100 * reference, decimals)


def _points(share: float, decimals: int) -> str:
    """Percentage points with a real minus sign and no negative zero."""
    rounded = round(100 * share, decimals) + 0.0
    return f"{rounded:.{decimals}f}".replace("-", "−")
