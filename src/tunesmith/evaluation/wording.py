"""Numbers of a verdict in words, never rounded onto the number they are compared with."""

from __future__ import annotations

import math
from dataclasses import dataclass

from tunesmith.records import Estimate, PairedGain
from tunesmith.task.kinds import ROW_MEANS, is_share, metric_title


@dataclass(frozen=True)
class _Unit:
    """How gains are written: times ``scale``, with ``fewest`` to ``most`` decimals, then ``words``."""

    scale: float
    fewest: int
    most: int
    words: str


def value_words(estimate: Estimate, metric: str = "accuracy") -> str:
    """A share as ``88.8 % [86.9, 90.5]``, else ``1.204 CIDEr [1.130, 1.281]``; any but accuracy is named."""
    named = "" if metric == "accuracy" else f" {metric_title(metric)}"
    if not is_share(metric):
        return f"{estimate.value:.3f}{named} [{estimate.low:.3f}, {estimate.high:.3f}]".replace("-", "−")
    shares = f"[{100 * estimate.low:.1f}, {100 * estimate.high:.1f}]"
    return f"{100 * estimate.value:.1f} %{named} {shares}"


def gain_words(gain: PairedGain, goal_gain: float, metric: str = "accuracy") -> str:
    """A gain as ``+4.4 points [2.3, 6.5]``, with as many decimals as keep it apart from 0 and the goal."""
    unit = _unit(metric)
    bounds = [bound for bound in (gain.low, gain.high) if bound is not None]
    decimals = next(
        (
            decimals
            for decimals in range(unit.fewest, unit.most)
            if not any(_rounds_onto(number, goal_gain, decimals, unit) for number in (gain.value, *bounds))
            and not any(_rounds_onto(number, 0.0, decimals, unit) for number in bounds)
        ),
        unit.most,
    )
    shown = ", ".join(_scaled(bound, decimals, unit) for bound in bounds)
    interval = f"[{shown}]" if bounds else "[unmeasured]"
    sign = "+" if gain.value > 0 else ""
    return f"{sign}{_scaled(gain.value, decimals, unit)}{unit.words} {interval}"


def goal_words(goal_gain: float, metric: str = "accuracy") -> str:
    """A goal as ``2.0 points``; as many decimals as it was given with."""
    unit = _unit(metric)
    scaled = unit.scale * goal_gain
    decimals = next(
        (d for d in range(unit.fewest, unit.most) if math.isclose(round(scaled, d), scaled)), unit.most
    )
    return f"{_scaled(goal_gain, decimals, unit)}{unit.words}"


def gain_method(metric: str) -> str:
    """How the interval of a gain in ``metric`` came about."""
    if ":" in metric:
        return "paired cluster-t"
    if metric in ROW_MEANS:
        return "paired cluster-t with one pseudo-win and one pseudo-loss"
    return "paired delete-a-group jackknife"


def plain(number: float, decimals: int = 1) -> str:
    """``number`` with a real minus sign; a rounded zero carries no sign."""
    return f"{round(number, decimals) + 0.0:.{decimals}f}".replace("-", "−")


def signed(number: float, decimals: int = 1) -> str:
    """The same with ``+`` before what is above zero as shown: ``+0.4``, ``−0.2``, ``0.0``."""
    return f"+{plain(number, decimals)}" if round(number, decimals) > 0 else plain(number, decimals)


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


def _unit(metric: str) -> _Unit:
    named = "" if metric == "accuracy" else f" of {metric_title(metric)}"
    if is_share(metric):
        return _Unit(100.0, 1, 4, f" points{named}")
    return _Unit(1.0, 3, 6, named)


def _rounds_onto(number: float, reference: float, decimals: int, unit: _Unit) -> bool:
    scale = unit.scale
    return number != reference and round(scale * number, decimals) == round(scale * reference, decimals)


def _scaled(number: float, decimals: int, unit: _Unit) -> str:
    """A number in its unit with a real minus sign and no negative zero."""
    return plain(unit.scale * number, decimals)
