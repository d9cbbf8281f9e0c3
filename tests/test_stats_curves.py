"""Learning curves and mixture shares recover what was planted."""

import numpy as np
import pytest

from tunesmith.errors import UserError
from tunesmith.stats.learning_curve import PowerLaw, extrapolated_gain, fit_power_law
from tunesmith.stats.mixture import largest_share

SIZES = np.array([125.0, 250.0, 500.0, 750.0, 1000.0])


@pytest.mark.parametrize("law", [PowerLaw(0.05, 3.0, 0.5), PowerLaw(0.0, 2.0, 0.3), PowerLaw(0.1, 40.0, 1.0)])
def test_a_planted_power_law_is_found(law: PowerLaw) -> None:
    found = fit_power_law(SIZES, [law.at(size) for size in SIZES])
    assert found.exponent == pytest.approx(law.exponent, abs=1e-9)
    assert found.floor == pytest.approx(law.floor, abs=1e-9)
    assert found.at(2000) == pytest.approx(law.at(2000))


def test_a_flat_curve_promises_nothing() -> None:
    law = fit_power_law(SIZES, np.full(5, 0.2))
    assert law.at(1000) - law.at(2000) == pytest.approx(0, abs=1e-9)
    with pytest.raises(ValueError, match="3 points"):
        fit_power_law(SIZES[:2], [0.2, 0.1])


def test_the_interval_of_an_extrapolation_covers_the_truth() -> None:
    law = PowerLaw(0.08, 4.0, 0.5)
    truth = law.at(1000) - law.at(2000)
    random = np.random.default_rng(0)
    covered = 0
    for seed in range(100):
        errors = np.array([law.at(size) for size in SIZES]) + 0.01 * random.standard_normal((5, 5))
        gain = extrapolated_gain(SIZES, errors, factor=2.0, seed=seed)
        covered += gain.low <= truth <= gain.high
        assert gain.low <= gain.value <= gain.high
    assert covered >= 85
    with pytest.raises(UserError):
        extrapolated_gain(SIZES, np.full((2, 5), 0.1), factor=2.0)


def scores(random: np.random.Generator, share: float, rows: int, floor: float) -> np.ndarray:
    """A share of rows that score like the component, and others that reach down to ``floor`` only."""
    strange = random.random(rows) < share
    return np.where(strange, random.beta(0.3, 6, rows), floor + (1 - floor) * random.beta(6, 1.5, rows))


def test_a_planted_share_is_estimated_and_its_interval_holds_it() -> None:
    random = np.random.default_rng(1)
    component = random.beta(0.3, 6, 20_000)
    covered = 0
    for _ in range(60):
        found, there = largest_share(scores(random, 0.05, 3000, floor=0.1), component)
        covered += found.low <= 0.05 <= found.high
        assert there
    assert covered >= 54


def test_what_is_not_there_is_bounded_near_nothing() -> None:
    random = np.random.default_rng(2)
    component = random.beta(0.3, 6, 20_000)
    found, there = largest_share(scores(random, 0.0, 3000, floor=0.1), component)
    assert found.value < 0.005
    assert found.high < 0.01
    assert not there


def test_rows_that_only_come_near_the_component_are_a_bound_not_a_share() -> None:
    random = np.random.default_rng(3)
    component = random.beta(0.3, 6, 20_000)
    hard = np.where(
        random.random(5000) < 0.3, 0.02 + 0.3 * random.beta(1.5, 3, 5000), random.beta(6, 1.5, 5000)
    )
    _, there = largest_share(hard, component)
    assert not there
    with pytest.raises(ValueError, match="need observed"):
        largest_share([], component)
