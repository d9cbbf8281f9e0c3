"""The paired gain: the interval behind every verdict."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from tunesmith.records import PairedGain
from tunesmith.stats.answers import worth_it
from tunesmith.stats.levels import alpha_for_opening
from tunesmith.stats.paired import clearly_behind, paired_gain

Rows = list[tuple[bool, bool, int]]
paired_rows = st.lists(
    st.tuples(st.booleans(), st.booleans(), st.integers(0, 70)), min_size=60, max_size=200
).filter(lambda rows: len({group for *_, group in rows}) >= 50)
any_paired_rows = st.lists(
    st.tuples(st.booleans(), st.booleans(), st.integers(0, 9)), min_size=1, max_size=50
)
one_sided_levels = st.floats(1e-6, 0.1)


def gain_of(rows: Rows, alpha: float = 0.05) -> PairedGain:
    candidate, opponent, groups = zip(*rows, strict=True)
    return paired_gain(candidate, opponent, [str(group) for group in groups], "rival", alpha)


def bounds(gain: PairedGain) -> tuple[float, float]:
    assert gain.low is not None
    assert gain.high is not None
    return gain.low, gain.high


@settings(max_examples=50, deadline=None)
@given(rows=paired_rows, alpha=one_sided_levels)
def test_swapping_candidate_and_opponent_mirrors_the_gain(rows: Rows, alpha: float) -> None:
    gain = gain_of(rows, alpha)
    mirrored = gain_of([(opponent, candidate, group) for candidate, opponent, group in rows], alpha)
    assert mirrored.value == -gain.value
    assert (mirrored.wins, mirrored.losses) == (gain.losses, gain.wins)
    low, high = bounds(gain)
    assert bounds(mirrored) == pytest.approx((-high, -low), abs=1e-12)


@settings(max_examples=50, deadline=None)
@given(rows=paired_rows, alpha=one_sided_levels, seed=st.integers(0, 99))
def test_the_interval_holds_the_estimate_ignores_row_order_and_widens_with_a_stricter_level(
    rows: Rows, alpha: float, seed: int
) -> None:
    gain = gain_of(rows, alpha)
    low, high = bounds(gain)
    assert -1 <= low <= gain.value <= high <= 1
    order = np.random.default_rng(seed).permutation(len(rows))
    assert bounds(gain_of([rows[row] for row in order], alpha)) == pytest.approx((low, high), abs=1e-12)
    stricter_low, stricter_high = bounds(gain_of(rows, alpha / 4))
    assert (stricter_low <= low and stricter_high > high) or (stricter_low < low and stricter_high >= high)


@settings(max_examples=50, deadline=None)
@given(rows=any_paired_rows)
def test_counts_are_plain_counts_and_fewer_than_50_groups_are_unmeasured(rows: Rows) -> None:
    gain = gain_of(rows)
    assert gain.wins == sum(candidate and not opponent for candidate, opponent, _ in rows)
    assert gain.losses == sum(opponent and not candidate for candidate, opponent, _ in rows)
    assert gain.value == (gain.wins - gain.losses) / len(rows)
    assert gain.discordant == (gain.wins + gain.losses) / len(rows)
    assert (gain.low, gain.high, gain.standard_error) == (None, None, None)


def test_50_groups_are_measured_and_49_are_not() -> None:
    assert gain_of([(True, False, group) for group in range(49)]).low is None
    assert gain_of([(True, False, group) for group in range(50)]).low is not None


def test_single_rows_give_the_adjusted_wald_interval_of_bonett_and_price() -> None:
    rows = [(True, False, row) for row in range(12)]
    rows += [(False, True, row) for row in range(12, 16)]
    rows += [(True, True, row) for row in range(16, 100)]
    win, lose = 13 / 102, 5 / 102
    error = np.sqrt((win + lose - (win - lose) ** 2) / 101)
    half = scipy_stats.t.ppf(0.95, 101) * error
    assert bounds(gain_of(rows)) == pytest.approx((win - lose - half, win - lose + half))
    assert gain_of(rows).design_effect == pytest.approx(1)


def test_the_interval_does_not_collapse_at_zero_discordance() -> None:
    low, high = bounds(gain_of([(True, True, row) for row in range(500)]))
    assert low < 0 < high
    assert low == -high


def test_mcnemar_is_exact_and_shown_only_when_every_group_is_one_row() -> None:
    rows = [(True, False, row) for row in range(9)] + [(False, True, row) for row in range(9, 11)]
    rows += [(True, True, row) for row in range(11, 80)]
    assert gain_of(rows).mcnemar_p == pytest.approx(scipy_stats.binomtest(9, 11).pvalue)
    assert gain_of([*rows, (True, True, 0)]).mcnemar_p is None
    assert gain_of([(True, True, row) for row in range(80)]).mcnemar_p == 1


def test_repeating_every_row_in_its_group_tells_nothing_new() -> None:
    random = np.random.default_rng(3)
    rows = [(bool(a), bool(b), row) for row, (a, b) in enumerate(random.random((400, 2)) < 0.8)]
    once, thrice = gain_of(rows), gain_of(rows * 3)
    assert thrice.standard_error == pytest.approx(once.standard_error, rel=0.02)
    assert thrice.design_effect == pytest.approx(3, rel=0.05)


@pytest.mark.parametrize("clustered", [False, True])
@pytest.mark.parametrize(("win", "lose"), [(0.06, 0.06), (0.10, 0.05)])
def test_the_interval_holds_the_truth_as_often_as_it_says(clustered: bool, win: float, lose: float) -> None:
    random = np.random.default_rng(20)
    repetitions, rows = 500, 400
    too_high = too_low = 0
    for _ in range(repetitions):
        sizes = np.minimum(random.geometric(0.5, rows), 8) if clustered else np.ones(rows, dtype=int)
        group = np.repeat(np.arange(rows), sizes)[:rows]
        # In three of four rows the group, not the row, decides who is right.
        luck = np.where(random.random(rows) < 0.75, random.random(rows)[group], random.random(rows))
        wins, losses = luck < win, luck > 1 - lose
        gain = paired_gain(~losses, ~wins, group.astype(str).tolist(), "rival", 0.05)
        low, high = bounds(gain)
        too_high += low > win - lose
        too_low += high < win - lose
    # Each side may miss 5 %; three standard errors of the simulation are allowed on top.
    allowed = 0.05 + 3 * (0.05 * 0.95 / repetitions) ** 0.5
    assert too_high / repetitions <= allowed
    assert too_low / repetitions <= allowed


def test_a_model_without_a_gain_rarely_passes_and_one_that_equals_the_opponent_never() -> None:
    random = np.random.default_rng(21)
    level = alpha_for_opening(1)
    groups = [str(row) for row in range(300)]
    passed = 0
    for _ in range(400):
        luck = random.random(300)
        gain = paired_gain(luck > 0.07, luck < 0.93, groups, "rival", level)
        passed += worth_it(gain, 0.0, "estimate") == "passed"
        correct = luck < 0.85
        same = paired_gain(correct, correct, groups, "rival", level)
        assert worth_it(same, 0.0, "estimate") != "passed"
        assert worth_it(same, 0.0, "margin") != "passed"
    assert passed / 400 <= level + 3 * (level * (1 - level) / 400) ** 0.5


def test_rows_that_do_not_match_are_refused() -> None:
    with pytest.raises(ValueError, match="equally many"):
        paired_gain([True, False], [True], ["a", "b"], "rival", 0.05)


def test_a_candidate_is_clearly_behind_only_when_its_whole_interval_is() -> None:
    groups = [f"g{index}" for index in range(100)]
    leader = [True] * 70 + [False] * 30
    far_behind = [True] * 15 + [False] * 85
    a_little_behind = [True] * 66 + [False] * 34

    def behind(correct: list[bool], count: int = len(groups)) -> bool:
        gain = paired_gain(correct[:count], leader[:count], groups[:count], "leader", 0.005)
        return clearly_behind(gain)

    assert behind(far_behind)
    assert not behind(a_little_behind)
    assert not behind(leader)
    assert not behind(far_behind, 40)  # too few groups to say
