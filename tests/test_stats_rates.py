"""Rates: exact tests agree with references, errors are as rare as stated, and real differences are seen."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from tunesmith.stats.multiplicity import holm
from tunesmith.stats.rates import codes_of, fisher_exact, rate_difference, trend_p_value


def test_fishers_test_doubles_the_smaller_tail() -> None:
    for table in ([3, 10, 9, 12], [0, 5, 7, 9], [40, 100, 60, 100]):
        a, n, b, m = table
        tails = [
            float(scipy_stats.fisher_exact([[a, n - a], [b, m - b]], alternative=side)[1])
            for side in ("less", "greater")
        ]
        assert fisher_exact(a, n, b, m) == pytest.approx(min(1.0, 2 * min(tails)))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_agrees_with_its_definition(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    for alpha in (0.01, 0.05, 0.3):
        rejected = set()
        for rank, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
            if (len(p_values) - rank) * p_values[place] > alpha:
                break
            rejected.add(place)
        assert {place for place, value in enumerate(adjusted) if value <= alpha} == rejected


def test_holm_refuses_what_is_no_p_value() -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        holm([0.2, 1.3])


@pytest.mark.parametrize(("rate", "rows_per_group"), [(0.3, 1), (0.03, 1), (0.3, 4), (0.03, 4)])
def test_equal_rates_are_covered_and_seldom_rejected(rate: float, rows_per_group: int) -> None:
    random = np.random.default_rng(1)
    covered, rejected = [], []
    for _ in range(400):
        part = np.repeat(random.random(150) < 0.3, rows_per_group)
        usual = np.repeat(random.random(150) < rate, rows_per_group)
        events = np.where(random.random(len(part)) < 0.8, usual, random.random(len(part)) < rate)
        result = rate_difference(events, part, np.repeat(np.arange(150), rows_per_group))
        covered.append(result.difference.low <= 0 <= result.difference.high)
        rejected.append(result.p_value <= 0.05)
    assert np.mean(covered) >= 0.92  # 0.944 to 0.995 in 1,500 runs
    assert np.mean(rejected) <= 0.05  # 0.005 to 0.025: exact tests are conservative


def test_a_difference_is_seen_and_repeating_rows_adds_nothing() -> None:
    random = np.random.default_rng(2)
    part = np.arange(400) < 200
    events = random.random(400) < np.where(part, 0.5, 0.3)
    once = rate_difference(events, part, np.arange(400))
    assert once.p_value < 0.01
    assert 0 < once.difference.low < once.difference.value < once.difference.high
    assert once.difference.value == pytest.approx(once.rate - once.other_rate)
    thrice = rate_difference(np.repeat(events, 3), np.repeat(part, 3), np.repeat(np.arange(400), 3))
    assert thrice.p_value == once.p_value
    width = once.difference.high - once.difference.low
    assert thrice.difference.high - thrice.difference.low == pytest.approx(width, rel=0.05)
    assert (thrice.difference.rows, thrice.difference.groups) == (1200, 400)


def test_a_difference_needs_rows_on_both_sides() -> None:
    with pytest.raises(ValueError, match="both sides"):
        rate_difference([True, False], [True, True], np.arange(2))


def test_rows_without_a_group_are_groups_of_their_own() -> None:
    assert codes_of(["", "a", "", "a", "b"]).tolist() == [0, 1, 2, 1, 3]


@pytest.mark.parametrize(("rows", "rate"), [(500, 0.01), (2000, 0.3)])
def test_rates_without_a_trend_are_rejected_as_seldom_as_stated(rows: int, rate: float) -> None:
    random = np.random.default_rng(3)
    p_values = np.array([trend_p_value(random.random(rows) < rate, np.arange(rows)) for _ in range(800)])
    assert np.mean(p_values <= 0.05) <= 0.065  # 0.039 to 0.050 in 4,000 runs
    assert np.mean(p_values <= 0.001) <= 0.005


def test_days_that_depend_on_their_neighbours_hardly_alarm() -> None:
    random = np.random.default_rng(4)
    day = np.repeat(np.arange(365), 10)
    alarms = []
    for _ in range(400):
        level = np.zeros(365)
        for today in range(1, 365):
            level[today] = 0.5 * level[today - 1] + random.normal() * np.sqrt(0.75)
        rate = 1 / (1 + np.exp(1 - 0.7 * level))
        alarms.append(trend_p_value(random.random(len(day)) < rate[day], day) <= 0.05)
    assert np.mean(alarms) <= 0.08  # 0.050 in 2,000 runs; 0.076 with a daily correlation of 0.8


def test_a_step_and_a_trend_are_seen_whatever_the_order_of_rows() -> None:
    random = np.random.default_rng(5)
    times = random.permutation(2000)
    step = random.random(2000) < np.where(times < 1000, 0.2, 0.35)
    trend = random.random(2000) < 0.2 + 0.2 * times / 2000
    assert trend_p_value(step, times) < 0.01
    assert trend_p_value(trend, times) < 0.01
    order = random.permutation(2000)
    assert trend_p_value(step[order], times[order]) == trend_p_value(step, times)


def test_too_few_moments_say_nothing() -> None:
    assert trend_p_value([True, False] * 50, [0] * 100) == 1.0
    assert trend_p_value([True, False] * 50, [0, 1, 2, 3, 4] * 20) == 1.0
