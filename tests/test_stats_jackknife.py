"""Metrics of a whole set of rows: their intervals and their paired gains."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from tunesmith.errors import UserError
from tunesmith.records import PairedGain
from tunesmith.stats.answers import worth_it
from tunesmith.stats.clusters import clustered_ratio, group_codes, t_quantile
from tunesmith.stats.jackknife import Statistic, jackknife_gain, jackknife_interval, statistic_of_sums
from tunesmith.stats.paired import paired_gain, paired_score_gain
from tunesmith.stats.power import discordance_range

Floats = npt.NDArray[np.float64]


def mean_of(
    scores: npt.ArrayLike, low: float | None = 0.0, high: float | None = 1.0, upward_bias: float = 0.0
) -> Statistic:
    values = np.asarray(scores, dtype=np.float64)
    parts = np.column_stack([values, np.ones(len(values))])
    return statistic_of_sums(parts, lambda sums: sums[:, 0] / sums[:, 1], low, high, upward_bias)


def singles(rows: int) -> list[str]:
    return [str(row) for row in range(rows)]


def clusters(random: np.random.Generator, rows: int, largest: int = 6) -> npt.NDArray[np.intp]:
    sizes = random.integers(1, largest + 1, rows)
    return np.repeat(np.arange(rows), sizes)[:rows]


def bounds(gain: PairedGain) -> tuple[float, float]:
    assert gain.low is not None
    assert gain.high is not None
    return gain.low, gain.high


def test_leaving_a_group_out_equals_computing_the_metric_without_it() -> None:
    random = np.random.default_rng(0)
    scores, codes = random.random(50), random.permutation(np.repeat(np.arange(10), 5))
    left_out = mean_of(scores).without(codes)
    assert left_out == pytest.approx([scores[codes != code].mean() for code in range(10)])
    each = random.permutation(50)
    assert mean_of(scores).without(each)[each] == pytest.approx((scores.sum() - scores) / 49)


def test_the_jackknife_of_a_mean_without_ends_is_the_cluster_t() -> None:
    random = np.random.default_rng(1)
    groups = np.repeat(np.arange(40), 5).astype(str).tolist()
    scores = random.normal(3, 1, 40)[np.repeat(np.arange(40), 5)] + random.normal(0, 1, 200)
    ours = jackknife_interval(mean_of(scores, None, None), groups)
    reference = clustered_ratio(scores, np.ones(200), group_codes(groups))
    assert reference.standard_error is not None
    half = t_quantile(0.95, 39) * reference.standard_error
    assert (ours.value, ours.low, ours.high) == pytest.approx(
        (reference.value, reference.value - half, reference.value + half)
    )
    assert (ours.rows, ours.groups) == (200, 40)


def test_the_jackknife_gain_of_a_mean_is_the_paired_gain() -> None:
    random = np.random.default_rng(2)
    groups = np.repeat(np.arange(60), 4).astype(str).tolist()
    candidate, rival = random.random(240) < 0.8, random.random(240) < 0.7
    ours = jackknife_gain(mean_of(candidate), mean_of(rival), groups, "rival", 0.03)
    reference = paired_gain(candidate, rival, groups, "rival", 0.03)
    assert ours.value == pytest.approx(reference.value)
    assert bounds(ours) == pytest.approx(bounds(reference), abs=2e-3)
    assert ours.design_effect == pytest.approx(reference.design_effect, rel=0.05)
    assert ours.discordant == pytest.approx(reference.discordant)
    assert ours.standard_error == pytest.approx(reference.standard_error, rel=0.02)


def test_where_smaller_is_better_the_gain_is_turned_round() -> None:
    errors, more_errors = np.zeros(80), np.r_[np.ones(30), np.zeros(50)]
    gain = jackknife_gain(mean_of(errors), mean_of(more_errors), singles(80), "r", 0.05, False)
    assert gain.value == pytest.approx(30 / 80)
    assert (gain.wins, gain.losses) == (30, 0)


@settings(max_examples=30, deadline=None)
@given(
    rows=st.lists(
        st.tuples(st.floats(0, 1), st.floats(0, 1), st.integers(0, 9)), min_size=2, max_size=40
    ).filter(lambda rows: len({group for *_, group in rows}) > 1)
)
def test_an_interval_holds_its_value_and_stays_in_range(rows: list[tuple[float, float, int]]) -> None:
    scores, weights, groups = zip(*rows, strict=True)
    parts = np.column_stack([np.multiply(scores, np.add(weights, 0.1)), np.add(weights, 0.1)])
    statistic = statistic_of_sums(parts, lambda sums: sums[:, 0] / sums[:, 1])
    estimate = jackknife_interval(statistic, [str(group) for group in groups])
    assert -1e-12 <= estimate.low <= estimate.value + 1e-12
    assert estimate.value - 1e-12 <= estimate.high <= 1 + 1e-12


def test_a_perfect_score_and_two_equal_candidates_still_have_an_interval() -> None:
    perfect = mean_of(np.ones(100))
    estimate = jackknife_interval(perfect, singles(100))
    # As wide as the exact binomial interval, give or take one row.
    assert estimate.low == pytest.approx(0.025 ** (1 / 100), abs=0.01)
    assert estimate.high == 1
    low, high = bounds(jackknife_gain(perfect, perfect, singles(100), "rival", 0.05))
    assert low < 0 < high


def test_what_chance_may_have_added_widens_the_interval_downwards() -> None:
    scores = np.random.default_rng(3).random(100)
    plain = jackknife_interval(mean_of(scores), singles(100))
    biased = jackknife_interval(mean_of(scores, upward_bias=0.1), singles(100))
    assert (biased.low, biased.high) == pytest.approx((plain.low - 0.1, plain.high))


def test_one_group_or_rows_that_all_lie_in_one_group_are_refused() -> None:
    with pytest.raises(UserError, match="at least 2 groups") as caught:
        jackknife_interval(mean_of([0.2, 0.4]), ["same", "same"])
    assert caught.value.exit_code == 3
    parts = np.array([[1.0, 1.0], [0.0, 1.0], [0.0, 0.0]])
    with np.errstate(invalid="ignore"), pytest.raises(UserError, match="fewer than 2 groups"):
        jackknife_interval(statistic_of_sums(parts, lambda sums: sums[:, 0] / sums[:, 1]), ["a", "a", "b"])


def test_fewer_than_50_groups_give_no_bounds() -> None:
    gain = jackknife_gain(mean_of(np.ones(49)), mean_of(np.zeros(49)), singles(49), "rival", 0.05)
    assert (gain.value, gain.low, gain.high, gain.standard_error) == (1, None, None, None)
    gain = jackknife_gain(mean_of(np.ones(50)), mean_of(np.zeros(50)), singles(50), "rival", 0.05)
    assert bounds(gain)[0] > 0


def test_scores_of_zero_and_one_are_the_paired_gain_of_right_and_wrong() -> None:
    random = np.random.default_rng(4)
    candidate, rival = random.random((2, 120)) < 0.7
    assert paired_score_gain(candidate, rival, singles(120), "r", 0.05) == paired_gain(
        candidate, rival, singles(120), "r", 0.05
    )


def test_a_gain_in_scores_without_a_range_is_students_t_on_the_differences() -> None:
    random = np.random.default_rng(5)
    candidate, rival = random.normal(5, 1, 90), random.normal(4, 1, 90)
    gain = paired_score_gain(candidate, rival, singles(90), "rival", 0.05, span=None)
    reference = scipy_stats.ttest_1samp(candidate - rival, 0).confidence_interval(0.90)
    assert bounds(gain) == pytest.approx((reference.low, reference.high))
    assert gain.discordant == pytest.approx(float(((candidate - rival) ** 2).mean()))
    assert gain.mcnemar_p is None
    low, high = discordance_range(gain)
    assert low < gain.discordant < high


def f1_of(targets: npt.NDArray[np.bool_], answers: npt.NDArray[np.bool_]) -> Statistic:
    parts = np.column_stack([targets & answers, targets, answers]).astype(np.float64)
    return statistic_of_sums(parts, lambda sums: 2 * sums[:, 0] / np.maximum(1, sums[:, 1] + sums[:, 2]))


@pytest.mark.parametrize("clustered", [False, True])
def test_f1_and_a_gain_in_f1_hold_the_truth_as_often_as_they_say(clustered: bool) -> None:
    """A class of 30 %; the candidate finds 80 % of it, the opponent 65 %; both err on 8 % of the rest."""
    random = np.random.default_rng(6)
    repetitions, rows = 300, 240
    truths = [2 * 0.3 * found / (0.3 + 0.3 * found + 0.7 * 0.08) for found in (0.8, 0.65)]
    held = too_high = too_low = false_ships = 0
    for _ in range(repetitions):
        group = clusters(random, rows) if clustered else np.arange(rows)
        targets = (random.random(rows) < 0.3)[group]
        # In half of the rows the group, not the row, decides whether the answer is right.
        luck = np.where(random.random(rows) < 0.5, random.random(rows)[group], random.random(rows))
        also = np.where(random.random(rows) < 0.5, luck, random.random(rows))
        strong = f1_of(targets, np.where(targets, luck < 0.8, luck < 0.08))
        weak = f1_of(targets, np.where(targets, also < 0.65, also < 0.08))
        equal = f1_of(targets, np.where(targets, also < 0.8, also < 0.08))
        groups = group.astype(str).tolist()
        estimate = jackknife_interval(strong, groups)
        held += estimate.low <= truths[0] <= estimate.high
        low, high = bounds(jackknife_gain(strong, weak, groups, "weak", 0.05))
        too_high += low > truths[0] - truths[1]
        too_low += high < truths[0] - truths[1]
        false_ships += (
            worth_it(jackknife_gain(strong, equal, groups, "equal", 0.05), 0.0, "estimate") == "passed"
        )
    assert held / repetitions >= 0.93
    allowed = 0.05 + 3 * (0.05 * 0.95 / repetitions) ** 0.5
    assert max(too_high, too_low, false_ships) / repetitions <= allowed
