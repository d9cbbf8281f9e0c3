"""Levels, answers and power: what a test can tell before anything is trained."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from tunesmith.records import Estimate, PairedGain
from tunesmith.stats.answers import Rule, non_inferior, worth_it
from tunesmith.stats.levels import alpha_for_opening
from tunesmith.stats.paired import paired_gain
from tunesmith.stats.power import (
    chance_bound_above_zero,
    chance_of_train,
    discordance_range,
    power_points,
    rows_needed,
    smallest_gain,
)


def gain(value: float, low: float | None, high: float | None) -> PairedGain:
    return PairedGain("rival", value, low, high, 0.9, 1000, 1000, 0, 0, 0.1, 1.0, 0.01, None)


def change(low: float, high: float) -> Estimate:
    return Estimate((low + high) / 2, low, high, 100, 100, 0.90, "t")


def test_all_openings_together_spend_alpha_and_each_is_stricter() -> None:
    levels = [alpha_for_opening(opening) for opening in range(1, 20_001)]
    assert levels[0] == pytest.approx(0.05 * 6 / math.pi**2)
    assert levels[1] == levels[0] / 4
    assert 0.05 - 1e-5 < sum(levels) < 0.05
    with pytest.raises(ValueError, match="counted from 1"):
        alpha_for_opening(0)


@pytest.mark.parametrize(
    ("value", "low", "high", "rule", "expected"),
    [
        (0.03, 0.01, 0.05, "estimate", "passed"),
        (0.02, 0.001, 0.04, "estimate", "passed"),
        (0.03, 0.0, 0.06, "estimate", "unmeasured"),
        (0.019, 0.01, 0.03, "estimate", "unmeasured"),
        (0.01, 0.005, 0.019, "estimate", "failed"),
        (-0.03, -0.05, -0.01, "estimate", "failed"),
        (0.01, -0.01, 0.02, "estimate", "unmeasured"),
        (0.03, 0.02, 0.05, "margin", "passed"),
        (0.03, 0.019, 0.05, "margin", "unmeasured"),
        (0.01, 0.005, 0.019, "margin", "failed"),
        (0.9, None, None, "estimate", "unmeasured"),
        (0.9, None, None, "margin", "unmeasured"),
    ],
)
def test_worth_it_follows_the_rule_that_was_set_beforehand(
    value: float, low: float | None, high: float | None, rule: Rule, expected: str
) -> None:
    assert worth_it(gain(value, low, high), 0.02, rule) == expected


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.0, 0.03, "passed"),
        (-0.2, -0.1, "passed"),
        (0.031, 0.05, "failed"),
        (0.03, 0.05, "unmeasured"),
        (-0.1, 0.031, "unmeasured"),
        (math.nan, math.nan, "unmeasured"),
        (-math.inf, math.inf, "unmeasured"),
    ],
)
def test_not_worse_needs_the_whole_interval_inside_the_margin(low: float, high: float, expected: str) -> None:
    assert non_inferior(change(low, high), 0.03) == expected


@pytest.mark.parametrize("rule", ["estimate", "margin"])
@pytest.mark.parametrize(("true_gain", "group_size"), [(0.04, 1), (0.05, 2)])
def test_the_chance_of_train_is_what_a_simulation_of_the_real_rule_gives(
    rule: Rule, true_gain: float, group_size: int
) -> None:
    random = np.random.default_rng(30)
    rows, discordant, goal, alpha = 600, 0.15, 0.03, 0.03
    win = (discordant + true_gain) / 2
    repetitions, trained = 600, 0
    groups = [str(row // group_size) for row in range(rows)]
    for _ in range(repetitions):
        luck = np.repeat(random.random(rows // group_size), group_size)
        result = paired_gain(luck > discordant - win, luck < 1 - win, groups, "rival", alpha)
        trained += worth_it(result, goal, rule) == "passed"
    expected = chance_of_train(true_gain, rows, discordant, group_size, goal, alpha, rule)
    assert 0.1 < expected < 0.95
    # Two points for the pseudo-rows, which normal theory leaves out, and three simulation errors.
    assert trained / repetitions == pytest.approx(
        expected, abs=0.02 + 3 * math.sqrt(expected * (1 - expected) / repetitions)
    )


def test_a_candidate_that_only_wins_has_the_chance_of_a_plain_binomial_share() -> None:
    chance = chance_of_train(0.3, 1000, 0.3, 1.0, 0.28, 0.03, "estimate")
    assert chance == pytest.approx(scipy_stats.binom.sf(279, 1000, 0.3), abs=0.01)


def test_a_worthless_model_is_trained_no_more_often_than_alpha() -> None:
    assert chance_of_train(0.0, 1200, 0.15, 1.0, 0.0, 0.03, "margin") == pytest.approx(0.03)
    assert chance_of_train(0.0, 1200, 0.15, 1.0, 0.02, 0.03, "estimate") <= 0.03 + 1e-12
    assert chance_of_train(0.0, 1200, 0.0, 1.0, 0.0, 0.03, "estimate") == 0


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(60, 20_000),
    discordant=st.floats(0.02, 0.4),
    design_effect=st.floats(0.8, 4),
    goal=st.floats(0.0, 0.1),
    alpha=st.floats(0.001, 0.1),
    rule=st.sampled_from(["estimate", "margin"]),
)
def test_the_smallest_gain_has_exactly_the_chance_asked_for_and_shrinks_with_rows(
    rows: int, discordant: float, design_effect: float, goal: float, alpha: float, rule: Rule
) -> None:
    smallest = smallest_gain(rows, discordant, design_effect, goal, alpha, rule)
    assert goal < smallest < 1
    reached = chance_of_train(smallest, rows, discordant, design_effect, goal, alpha, rule)
    assert reached == pytest.approx(0.8, abs=1e-3)
    assert smallest_gain(4 * rows, discordant, design_effect, goal, alpha, rule) < smallest


def test_power_points_leave_out_disagreement_that_is_smaller_than_the_goal() -> None:
    points = power_points(1200, 1.1, 0.12, 0.03, "estimate")
    assert [point.discordant for point in points] == [0.15, 0.20, 0.25]
    assert [point.discordant for point in power_points(1200, 1.1, 0.30, 0.03, "estimate")] == [0.30]
    assert all(point.chance_of_train_at_goal == pytest.approx(0.5, abs=0.01) for point in points)
    assert all(point.chance_bound_above_zero_at_goal > 0.99 for point in points)


def test_the_rows_needed_do_tell_a_worthless_model_from_a_worthy_one() -> None:
    goal, alpha, discordant = 0.03, 0.03, 0.15
    low, high = rows_needed(0.10, discordant, 1.0, goal, alpha)
    assert low == pytest.approx(high * 10 / 15, abs=1)
    assert 0.80 <= chance_bound_above_zero(goal, high, discordant, 1.0, alpha) < 0.82

    random = np.random.default_rng(31)
    groups = [str(row) for row in range(high)]
    refused = 0
    for _ in range(400):
        luck = random.random(high)
        worthless = paired_gain(luck > discordant / 2, luck < 1 - discordant / 2, groups, "rival", alpha)
        refused += worth_it(worthless, goal, "estimate") == "failed"
    assert refused / 400 == pytest.approx(0.80, abs=0.08)


def test_rows_needed_grow_with_the_design_effect_and_need_a_goal() -> None:
    assert rows_needed(0.1, 0.2, 2.0, 0.02, 0.03)[1] == pytest.approx(
        2 * rows_needed(0.1, 0.2, 1.0, 0.02, 0.03)[1], abs=2
    )
    with pytest.raises(ValueError, match="goal"):
        rows_needed(0.1, 0.2, 1.0, 0.0, 0.03)


def test_the_range_of_disagreement_holds_the_measured_share() -> None:
    low, high = discordance_range(gain(0.0, -0.1, 0.1))
    assert low < 0.1 < high
