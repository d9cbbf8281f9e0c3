"""Cross-fitting: whole groups, equal folds, and a raised error. How often its interval holds the gain of real
recipes that learn is simulated in ``studies/operating_characteristics/crossfitting.py``."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tunesmith.stats.clusters import t_quantile
from tunesmith.stats.crossfit import crossfit_gain, inflation, outer_folds
from tunesmith.stats.paired import paired_gain


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
