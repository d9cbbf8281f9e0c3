"""What the planned test and its guards can tell, before anything is trained."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PowerPoint:
    """What the test can tell when candidate and opponent disagree in correctness on a share of rows."""

    discordant: float
    chance_of_train_at_goal: float
    chance_bound_above_zero_at_goal: float
    smallest_gain_with_80_percent: float


@dataclass(frozen=True)
class GuardPower:
    """What a guard can tell. ``spread`` is one group's standard deviation; a last value below 0 is none."""

    guard: str
    items: int
    groups: int
    margin: float
    spread: float
    chance_if_unchanged: float
    chance_at_half_margin: float
    largest_loss_with_80_percent: float


@dataclass(frozen=True)
class JointPower:
    """The chance that all blocking guards pass for an unchanged model, for any and for no dependence."""

    guards: tuple[GuardPower, ...]
    alpha_one_sided: float
    at_least: float
    if_independent: float
