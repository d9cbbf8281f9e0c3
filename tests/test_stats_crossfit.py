"""Cross-fitting, with real recipes that learn: its interval holds their gain, and equal ones do not ship."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from tunesmith.stats.answers import worth_it
from tunesmith.stats.clusters import t_quantile
from tunesmith.stats.crossfit import crossfit_gain, inflation, outer_folds
from tunesmith.stats.paired import paired_gain

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
# Learn from inputs and labels, answer other inputs.
Learner = Callable[[Floats, Bools, Floats], Bools]
FOLDS = 5


def nearest_mean(inputs: Floats, labels: Bools, asked: Floats) -> Bools:
    one, other = inputs[labels].mean(axis=0), inputs[~labels].mean(axis=0)
    return np.asarray((asked - (one + other) / 2) @ (one - other) > 0)


def nearest_row(inputs: Floats, labels: Bools, asked: Floats) -> Bools:
    """One nearest neighbour: answers change a lot with the training rows."""
    distances = (inputs**2).sum(axis=1) - 2 * asked @ inputs.T
    return np.asarray(labels[distances.argmin(axis=1)])


def draw(
    random: np.random.Generator, groups: int, features: int, signal: float
) -> tuple[Floats, Bools, npt.NDArray[np.intp]]:
    """Rows in groups of 1 to 3 that share their label and half of their noise."""
    codes = np.repeat(np.arange(groups), random.integers(1, 4, groups))
    labels = (random.random(groups) < 0.5)[codes]
    noise = random.standard_normal((groups, features))[codes] + random.standard_normal((len(codes), features))
    return noise / math.sqrt(2) + signal * (2 * labels[:, None] - 1), labels, codes


def answered(learner: Learner, inputs: Floats, labels: Bools, folds: npt.NDArray[np.intp]) -> Bools:
    right = np.empty(len(labels), dtype=bool)
    for fold in range(FOLDS):
        test = folds == fold
        right[test] = learner(inputs[~test], labels[~test], inputs[test]) == labels[test]
    return right


@pytest.mark.parametrize("learner", [nearest_mean, nearest_row])
@pytest.mark.parametrize("features", [4, 30])
def test_two_recipes_that_are_equal_rarely_differ_and_rarely_ship(learner: Learner, features: int) -> None:
    """Both learn alike, from inputs of their own that are worth the same: the true gain is exactly 0."""
    random = np.random.default_rng(features)
    repetitions, held, shipped = 200, 0, 0
    for seed in range(repetitions):
        inputs, labels, codes = draw(random, 80, 2 * features, 0.5 / math.sqrt(features / 4))
        names = codes.astype(str).tolist()
        folds = outer_folds(names, FOLDS, seed)
        candidate = answered(learner, inputs[:, :features], labels, folds)
        opponent = answered(learner, inputs[:, features:], labels, folds)
        gain = crossfit_gain(candidate, opponent, names, folds, "rival", 0.025)
        assert gain.low is not None
        assert gain.high is not None
        held += gain.low <= 0 <= gain.high
        judged = crossfit_gain(candidate, opponent, names, folds, "rival", 0.05)
        shipped += worth_it(judged, 0.02, "estimate") == "passed"
    assert held / repetitions >= 0.95 - 2.6 * math.sqrt(0.95 * 0.05 / repetitions)
    assert shipped / repetitions <= 0.05 + 2.6 * math.sqrt(0.95 * 0.05 / repetitions)


@pytest.mark.parametrize("learner", [nearest_mean, nearest_row])
def test_the_interval_holds_the_gain_of_the_recipe_over_all_training_sets(learner: Learner) -> None:
    random = np.random.default_rng(9)
    groups, own, other = 80, 0.5, 0.35
    truths = []
    for _ in range(200):
        parts = [draw(random, groups * (FOLDS - 1) // FOLDS, 6, signal) for signal in (own, other)]
        tests = [draw(random, 300, 6, signal) for signal in (own, other)]
        shares = [
            float((learner(train[0], train[1], test[0]) == test[1]).mean())
            for train, test in zip(parts, tests, strict=True)
        ]
        truths.append(shares[0] - shares[1])
    truth = float(np.mean(truths))
    repetitions, held = 200, 0
    for seed in range(repetitions):
        inputs, labels, codes = draw(random, groups, 12, 0.0)
        inputs += np.repeat([own, other], 6) * (2 * labels[:, None] - 1)
        names = codes.astype(str).tolist()
        folds = outer_folds(names, FOLDS, seed)
        candidate = answered(learner, inputs[:, :6], labels, folds)
        opponent = answered(learner, inputs[:, 6:], labels, folds)
        gain = crossfit_gain(candidate, opponent, names, folds, "rival", 0.025)
        assert gain.low is not None
        assert gain.high is not None
        held += gain.low <= truth <= gain.high
    assert held / repetitions >= 0.95 - 2.6 * math.sqrt(0.95 * 0.05 / repetitions)


def test_folds_hold_whole_groups_are_about_equal_and_follow_the_seed() -> None:
    random = np.random.default_rng(1)
    groups = np.repeat(np.arange(90), random.integers(1, 9, 90)).astype(str).tolist()
    folds = outer_folds(groups, 5, 3)
    assert len(set(zip(groups, folds.tolist(), strict=True))) == 90
    sizes = np.bincount(folds)
    assert sizes.max() - sizes.min() <= 2
    assert (folds == outer_folds(groups, 5, 3)).all()
    assert (folds != outer_folds(groups, 5, 4)).any()
    with pytest.raises(ValueError, match="a group for each"):
        outer_folds(["a", "b"], 3, 0)


def test_the_interval_is_the_paired_one_made_wider_and_a_split_group_is_refused() -> None:
    random = np.random.default_rng(2)
    luck = random.random(200)
    groups = [str(row) for row in range(200)]
    folds = outer_folds(groups, 5, 0)
    plain = paired_gain(luck > 0.08, luck < 0.85, groups, "rival", 0.05)
    wider = crossfit_gain(luck > 0.08, luck < 0.85, groups, folds, "rival", 0.05)
    assert plain.standard_error is not None
    assert wider.standard_error is not None
    assert wider.standard_error == pytest.approx(plain.standard_error * math.sqrt(2.25))
    assert inflation(5) == pytest.approx(1.5)
    assert wider.low is not None
    assert wider.high is not None
    assert (wider.high - wider.low) / 2 == pytest.approx(t_quantile(0.9, 201) * wider.standard_error)
    assert wider.value == plain.value
    assert wider.mcnemar_p is None
    with pytest.raises(ValueError, match="two folds"):
        crossfit_gain(luck > 0.08, luck < 0.85, ["0", *groups[:-1]], folds, "rival", 0.05)
    few = crossfit_gain([True] * 40, [False] * 40, groups[:40], np.arange(40) % 5, "rival", 0.05)
    assert few.low is None
