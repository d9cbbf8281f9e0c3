"""Constructed curves get the sentence that fits them, and noise alone gets none but 'converged' or doubt."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from tunesmith.run_records import Course
from tunesmith.stats.watch import RELEVANT_NATS, RELEVANT_SHARE, WatchedLosses, judge_course

STEPS = (25, 50, 75, 100, 125, 150, 175, 200)


def curve(
    means: Sequence[float], noise: float, seed: int, rows: int = 300, rows_per_group: int = 1
) -> WatchedLosses:
    """Rows of 3 to 8 tokens whose losses per token are ``means``, times what makes a row hard, plus noise.

    Rows of one group share their noise, so that they count as one.
    """
    random = np.random.default_rng(seed)
    tokens = random.integers(3, 9, rows)
    hard = random.gamma(2.0, 0.5, rows)
    groups = np.arange(rows) // rows_per_group
    losses = [
        tokens * (mean * hard + noise * random.standard_normal(groups.max() + 1)[groups]) for mean in means
    ]
    return WatchedLosses(
        [row.tolist() for row in losses], tokens.tolist(), [f"group {group}" for group in groups]
    )


FALLING = (2.0, 1.4, 1.0, 0.75, 0.6, 0.5, 0.42, 0.36)
FLAT = (2.0, 0.8, 0.41, 0.402, 0.4, 0.4, 0.4, 0.4)
RISING = (2.0, 0.8, 0.4, 0.42, 0.45, 0.5, 0.55, 0.6)


@pytest.mark.parametrize(
    ("means", "course", "since"),
    [(FALLING, "still learning", 150), (FLAT, "converged", 150), (RISING, "overfitting", 75)],
)
@pytest.mark.parametrize("seed", range(5))
def test_curves_that_are_clear_get_their_sentence(
    means: Sequence[float], course: Course, since: int, seed: int
) -> None:
    found = judge_course(STEPS, curve(means, 0.03, seed))
    assert found.course == course
    assert found.sentence.startswith(
        f"{course}{' since' if course == 'overfitting' else ': since'} step {since}"
    )
    assert "300 rows in 300 groups" in found.sentence
    assert found.recent is not None
    assert found.recent.low < found.recent.value < found.recent.high


def test_a_rise_on_training_rows_too_is_not_overfitting() -> None:
    both = judge_course(STEPS, curve(RISING, 0.03, 0), curve(RISING, 0.03, 1, rows=64))
    assert (both.course, both.since_step) == ("diverging", 75)
    assert "and so did that of 64 training rows: +0.1" in both.sentence
    by_heart = judge_course(STEPS, curve(RISING, 0.03, 0), curve(FALLING, 0.03, 1, rows=64))
    assert (by_heart.course, by_heart.since_step) == ("overfitting", 75)
    assert "against that of 64 training rows: -0.5" in by_heart.sentence


def test_noise_is_hardly_ever_taken_for_a_course() -> None:
    courses = [judge_course(STEPS, curve([0.4] * 8, 0.15, seed)).course for seed in range(300)]
    claimed = [course for course in courses if course in ("still learning", "overfitting", "diverging")]
    # Overfitting and still learning are each claimed at a one-sided 2.5 % at most.
    assert len(claimed) <= 0.08 * 300
    # The rows are few for so much noise: no claim of convergence for every curve either.
    assert {"converged", "unmeasured"} & set(courses)


def test_picking_the_lowest_of_many_validations_is_paid_for() -> None:
    steps = tuple(range(10, 410, 10))
    risen = sum(
        judge_course(steps, curve([0.01] * 40, 0.05, seed, rows=60)).course == "overfitting"
        for seed in range(200)
    )
    assert risen <= 0.06 * 200


def test_rows_of_one_group_count_as_one() -> None:
    means = (2.0, 0.8, 0.41, 0.4, 0.4, 0.4, 0.42, 0.43)
    alone = [judge_course(STEPS, curve(means, 0.1, seed)).course for seed in range(20)]
    grouped = [judge_course(STEPS, curve(means, 0.1, seed, rows_per_group=5)).course for seed in range(20)]
    assert alone.count("overfitting") > grouped.count("overfitting") + 5


@pytest.mark.parametrize("scale", [1.0, 0.001])
def test_a_rise_that_is_sure_but_too_small_to_matter_is_converged(scale: float) -> None:
    """Below 5 % of the loss, and below 0.005 nats however small the loss is."""
    level = 0.4 * scale
    step = 0.4 * max(RELEVANT_SHARE * level, RELEVANT_NATS)
    means = (2.0, 0.8, level, level + step / 2, *[level + step] * 4)
    found = judge_course(STEPS, curve(means, 1e-4, 0))
    assert found.rise is not None
    assert found.rise.low > 0
    assert found.course == "converged"


def test_what_cannot_be_told_is_unmeasured() -> None:
    wide = judge_course(STEPS, curve(FLAT, 0.5, 0))
    assert wide.course == "unmeasured"
    assert "may or may not reach 0.0" in wide.sentence
    few = judge_course(STEPS, curve(RISING, 0.01, 0, rows=49))
    assert few.sentence == "unmeasured: 49 groups in validation, and 50 are needed"
    short = judge_course(STEPS[:1], curve(RISING[:1], 0.01, 0))
    assert short.sentence == "unmeasured: validation was scored less than 2 times"
    assert judge_course(STEPS[:2], curve(RISING[:2], 0.01, 0)).course == "still learning"


def test_curves_without_any_noise_do_no_harm() -> None:
    assert judge_course(STEPS, curve([0.0] * 8, 0.0, 0)).course == "converged"
    assert judge_course(STEPS, curve(RISING, 0.0, 0)).course == "overfitting"
