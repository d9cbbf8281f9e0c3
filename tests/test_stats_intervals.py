"""Intervals: they agree with published methods, hold the truth as often as they say, and never collapse."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats
from sklearn.metrics import f1_score

from tunesmith.errors import UserError
from tunesmith.stats.clusters import clustered_ratio, group_codes, t_quantile
from tunesmith.stats.intervals import (
    agresti_coull,
    macro_f1_interval,
    mean_interval,
    proportion_interval,
    ratio_interval,
    relative_change_interval,
    wilson,
)

clustered_booleans = st.lists(st.tuples(st.booleans(), st.sampled_from("abcdefgh")), min_size=1, max_size=60)
clustered_numbers = st.lists(
    st.tuples(st.floats(-5, 5), st.floats(0.5, 9), st.sampled_from("abcdefgh")), min_size=3, max_size=60
).filter(lambda rows: len({group for *_, group in rows}) > 1)


def singles(count: int) -> list[str]:
    return [str(number) for number in range(count)]


def clusters(random: np.random.Generator, rows: int) -> np.ndarray:
    """Group numbers for ``rows`` rows in groups of 1 to 6, about as skewed as near-duplicates are."""
    sizes = np.minimum(random.geometric(0.6, rows), 6)
    return np.repeat(np.arange(rows), sizes)[:rows]


@pytest.mark.parametrize(("right", "rows"), [(0, 40), (40, 40), (1, 7), (888, 1000)])
def test_wilson_equals_scipy_and_agresti_coull_contains_it_around_the_same_centre(
    right: int, rows: int
) -> None:
    reference = scipy_stats.binomtest(right, rows).proportion_ci(0.95, method="wilson")
    critical = float(scipy_stats.norm.ppf(0.975))
    assert wilson(right / rows, rows, critical) == pytest.approx((reference.low, reference.high))
    estimate = proportion_interval([True] * right + [False] * (rows - right), singles(rows))
    assert estimate.low <= reference.low + 1e-12
    assert estimate.high >= reference.high - 1e-12
    if 0 < estimate.low < estimate.high < 1:
        assert estimate.low + estimate.high == pytest.approx(reference.low + reference.high)
    assert estimate.method == "Agresti–Coull"


@pytest.mark.parametrize("rows", [100, 137, 400])
def test_a_proportion_holds_every_true_share_in_at_least_93_5_percent_of_tests(rows: int) -> None:
    right = np.arange(rows + 1)
    bounds = np.array([agresti_coull(count / rows, rows, 1.959964) for count in right])
    for share in np.concatenate([np.linspace(0.5, 0.99, 99), np.linspace(0.99, 0.9999, 50)]):
        held = (bounds[:, 0] <= share) & (share <= bounds[:, 1])
        assert scipy_stats.binom.pmf(right, rows, share)[held].sum() >= 0.935


@pytest.mark.parametrize("right", [0, 1])
def test_a_proportion_of_0_or_1_keeps_a_width_and_clusters_widen_it(right: int) -> None:
    single = proportion_interval([right] * 60, singles(60))
    clustered = proportion_interval([right] * 60, [str(row // 3) for row in range(60)])
    one_group = proportion_interval([right] * 60, ["same"] * 60)
    widths = [estimate.high - estimate.low for estimate in (single, clustered, one_group)]
    assert 0 < widths[0] < widths[1] < widths[2] <= 1
    assert clustered.value == right
    assert clustered.low <= right <= clustered.high


def test_repeating_every_row_in_its_group_tells_a_proportion_nothing_new() -> None:
    correct = [row % 5 > 0 for row in range(200)]
    once = proportion_interval(correct, singles(200))
    thrice = proportion_interval(correct * 3, singles(200) * 3)
    assert thrice.value == once.value
    assert thrice.high - thrice.low == pytest.approx(once.high - once.low, rel=0.02)


@settings(max_examples=60, deadline=None)
@given(rows=clustered_booleans)
def test_the_share_of_mistakes_mirrors_the_share_of_right_answers(rows: list[tuple[bool, str]]) -> None:
    groups = [group for _, group in rows]
    right = proportion_interval([correct for correct, _ in rows], groups)
    wrong = proportion_interval([not correct for correct, _ in rows], groups)
    assert (wrong.low, wrong.high) == pytest.approx((1 - right.high, 1 - right.low))


@settings(max_examples=60, deadline=None)
@given(rows=clustered_booleans, seed=st.integers(0, 99))
def test_a_proportion_holds_its_estimate_ignores_row_order_and_widens_with_the_level(
    rows: list[tuple[bool, str]], seed: int
) -> None:
    def interval(rows: list[tuple[bool, str]], level: float) -> tuple[float, float, float]:
        estimate = proportion_interval([right for right, _ in rows], [group for _, group in rows], level)
        return estimate.low, estimate.value, estimate.high

    low, value, high = interval(rows, 0.95)
    assert 0 <= low <= value <= high <= 1
    order = np.random.default_rng(seed).permutation(len(rows))
    assert interval([rows[row] for row in order], 0.95) == pytest.approx((low, value, high))
    wider_low, _, wider_high = interval(rows, 0.99)
    assert wider_low <= low + 1e-12
    assert wider_high >= high - 1e-12


@settings(max_examples=60, deadline=None)
@given(rows=clustered_numbers, seed=st.integers(0, 99))
def test_a_ratio_holds_its_estimate_ignores_row_order_and_widens_with_the_level(
    rows: list[tuple[float, float, str]], seed: int
) -> None:
    def interval(rows: list[tuple[float, float, str]], level: float) -> tuple[float, float, float]:
        above, below, groups = zip(*rows, strict=True)
        estimate = ratio_interval(above, below, groups, level)
        return estimate.low, estimate.value, estimate.high

    low, value, high = interval(rows, 0.90)
    assert low <= value <= high
    order = np.random.default_rng(seed).permutation(len(rows))
    assert interval([rows[row] for row in order], 0.90) == pytest.approx((low, value, high), abs=1e-9)
    wider = interval(rows, 0.98)
    assert wider[0] <= low
    assert wider[2] >= high


def test_the_mean_of_single_rows_is_students_t_where_they_are_not_skewed() -> None:
    half = np.random.default_rng(4).normal(3, 2, 40)
    symmetric = np.concatenate([half, 6 - half])
    estimate = mean_interval(symmetric, singles(80), 0.9)
    reference = scipy_stats.ttest_1samp(symmetric, 0).confidence_interval(0.9)
    assert (estimate.low, estimate.high) == pytest.approx((reference.low, reference.high))


def test_a_long_upper_tail_raises_the_upper_bound_only_and_uneven_sizes_widen_both() -> None:
    random = np.random.default_rng(5)
    skewed = random.exponential(1, 80)
    estimate = mean_interval(skewed, singles(80), 0.9)
    reference = scipy_stats.ttest_1samp(skewed, 0).confidence_interval(0.9)
    assert estimate.low == pytest.approx(reference.low)
    assert estimate.high > reference.high + 0.01
    sizes = np.full(80, 10.0)
    noise = np.concatenate([random.normal(0, 1, 40)] * 2) * np.repeat([1, -1], 40)
    even = ratio_interval(sizes + noise, sizes, singles(80), 0.9)
    sizes[:2] = 200.0
    noise[:2] = 0.0
    uneven = ratio_interval(sizes + noise, sizes, singles(80), 0.9)
    plain = clustered_ratio(sizes + noise, sizes, group_codes(singles(80))).standard_error
    assert plain is not None
    assert even.high - even.low < 0.8 * (uneven.high - uneven.low) * (1180 / 800)
    assert (uneven.high - uneven.low) / 2 > 1.2 * t_quantile(0.9, 79) * plain


def test_a_ratio_weights_documents_by_their_bytes() -> None:
    estimate = ratio_interval([10.0, 300.0], [10.0, 100.0], ["short", "long"])
    assert estimate.value == pytest.approx(310 / 110)


def test_twice_the_bits_on_every_document_is_a_change_of_exactly_one() -> None:
    base = np.random.default_rng(1).uniform(5, 50, 30)
    estimate = relative_change_interval(2 * base, base, singles(30))
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx((1, 1, 1))


def test_ratio_and_relative_change_hold_the_truth_as_often_as_they_say() -> None:
    random = np.random.default_rng(11)
    held_ratio = held_change = 0
    repetitions = 400
    for _ in range(repetitions):
        groups = clusters(random, 200)
        topic = random.normal(0, 0.15, 200)[groups]
        size = random.lognormal(5, 0.5, 200)
        base = size * (1.2 + topic + random.normal(0, 0.1, 200))
        tuned = base * (1.02 + 0.2 * topic + random.normal(0, 0.02, 200))
        names = groups.astype(str).tolist()
        ratio = ratio_interval(base, size, names, 0.90)
        held_ratio += ratio.low <= 1.2 <= ratio.high
        # The change weights by bits, so topic counts with itself: E[base·(1.02 + 0.2·topic)] / E[base].
        change = relative_change_interval(tuned, base, names, 0.90)
        held_change += change.low <= 0.02 + 0.2 * 0.15**2 / 1.2 <= change.high
    error = 2.6 * (0.9 * 0.1 / repetitions) ** 0.5
    assert held_ratio / repetitions >= 0.90 - error
    assert held_change / repetitions >= 0.90 - error


@pytest.mark.parametrize("true_share", [0.7, 0.89])
def test_a_clustered_proportion_holds_the_truth_as_often_as_it_says(true_share: float) -> None:
    random = np.random.default_rng(12)
    repetitions, held = 400, 0
    for _ in range(repetitions):
        groups = clusters(random, 400)
        luck = np.where(random.random(400) < 0.8, random.random(400)[groups], random.random(400))
        estimate = proportion_interval(luck < true_share, groups.tolist())
        held += estimate.low <= true_share <= estimate.high
    assert held / repetitions >= 0.95 - 2.6 * (0.95 * 0.05 / repetitions) ** 0.5


@pytest.mark.parametrize(("score", "low", "high"), [(0.455, 0.0, 1.0), (1.0, 0.0, 1.0), (0.0, -1.0, 1.0)])
def test_rows_that_all_score_alike_leave_room_for_rows_that_were_not_drawn(
    score: float, low: float, high: float
) -> None:
    unseen = 1 - 0.025 ** (1 / 20)
    estimate = mean_interval([score] * 20, singles(20), limits=(low, high))
    assert estimate.low == pytest.approx(score - unseen * (score - low))
    assert estimate.high == pytest.approx(score + unseen * (high - score))
    assert estimate.high - estimate.low > 0.1
    assert "unseen rows" in estimate.method
    by_five = mean_interval([score] * 20, [str(number // 5) for number in range(20)], limits=(low, high))
    assert by_five.high - by_five.low > 3 * (estimate.high - estimate.low)


def test_rows_with_an_ordinary_spread_keep_the_cluster_t_interval_within_their_range() -> None:
    random = np.random.default_rng(6)
    scores = random.beta(2, 3, 100)
    assert mean_interval(scores, singles(100), limits=(0.0, 1.0)) == mean_interval(scores, singles(100))
    few = mean_interval([0.9, 1.0, 0.2], singles(3), limits=(0.0, 1.0))
    assert few.low == 0.0
    assert few.high == 1.0


def test_rare_low_scores_are_within_the_interval_as_often_as_it_says() -> None:
    random = np.random.default_rng(7)
    draws = np.where(random.random((400, 100)) < 0.015, 0.0, 0.9)
    groups, truth = singles(100), 0.985 * 0.9
    bounded = [mean_interval(draw, groups, limits=(0.0, 1.0)) for draw in draws]
    plain = [mean_interval(draw, groups) for draw in draws]
    assert sum(one.low <= truth <= one.high for one in bounded) >= 0.935 * 400
    assert sum(one.low <= truth <= one.high for one in plain) < 0.85 * 400


def test_an_interval_from_one_group_is_refused_not_invented() -> None:
    with pytest.raises(UserError, match="at least 2 groups") as caught:
        mean_interval([1.0, 2.0], ["same", "same"])
    assert caught.value.exit_code == 3


@settings(max_examples=40, deadline=None)
@given(
    rows=st.lists(
        st.tuples(st.sampled_from("abc"), st.sampled_from("abcd?"), st.sampled_from("12345")),
        min_size=1,
        max_size=40,
    )
)
def test_macro_f1_equals_scikit_learn_over_the_labels_that_occur(rows: list[tuple[str, str, str]]) -> None:
    targets, answers, groups = zip(*rows, strict=True)
    estimate = macro_f1_interval(targets, answers, groups, labels=list("abcd"))
    present = sorted(set(targets))
    reference = f1_score(targets, answers, average="macro", labels=present, zero_division=0)
    assert estimate.value == pytest.approx(reference, abs=1e-6)
    assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1


def test_macro_f1_of_1200_rows_and_77_labels_takes_less_than_a_tenth_of_a_second() -> None:
    random = np.random.default_rng(2)
    targets = [str(label) for label in random.integers(0, 77, 1200)]
    answers = [target if random.random() < 0.85 else "0" for target in targets]
    groups = clusters(random, 1200).astype(str).tolist()
    labels = [str(label) for label in range(77)]
    begun = time.process_time()
    estimate = macro_f1_interval(targets, answers, groups, labels)
    assert time.process_time() - begun < 0.1
    assert estimate.low < estimate.value < estimate.high


def test_macro_f1_over_many_rare_labels_holds_the_truth_where_plain_percentiles_do_not() -> None:
    """40 labels at 10 rows each, F1 near 0.6: plain percentiles hold the truth in fewer than 8 of 10 runs."""
    random = np.random.default_rng(7)
    labels = [str(label) for label in range(40)]

    def draw(rows: int) -> tuple[np.ndarray, np.ndarray]:
        targets = random.integers(0, 40, rows)
        wrong = (targets + random.integers(1, 4, rows)) % 40
        return targets, np.where(random.random(rows) < 0.6, targets, wrong)

    truth = f1_score(*draw(400_000), average="macro")
    repetitions, held = 500, 0
    for _ in range(repetitions):
        targets, answers = (part.astype(str).tolist() for part in draw(400))
        estimate = macro_f1_interval(targets, answers, singles(400), labels)
        held += estimate.low <= truth <= estimate.high
    assert held / repetitions >= 0.95 - 2.6 * (0.95 * 0.05 / repetitions) ** 0.5


def test_macro_f1_keeps_a_width_where_nothing_is_wrong() -> None:
    names = list("aabb") * 30
    estimate = macro_f1_interval(names, names, singles(120), ["a", "b"])
    assert (estimate.value, estimate.high) == (1, 1)
    assert 0.94 < estimate.low < 0.98
