"""Power where there is no formula, and power of the guards: against simulations of the real rules."""

import numpy as np
import pytest

from tunesmith.stats.answers import Rule, non_inferior
from tunesmith.stats.intervals import relative_change_interval
from tunesmith.stats.levels import alpha_for_opening, guard_level
from tunesmith.stats.power import chance_bound_above_zero, chance_of_train, smallest_gain
from tunesmith.stats.power_guards import guard_power, joint_power
from tunesmith.stats.power_pilot import Floats, metric_power

ALPHA = alpha_for_opening(1)


def mean_score(sums: Floats) -> Floats:
    """Columns: rows right, rows."""
    return np.asarray(sums[:, 0] / sums[:, 1])


def pilot(random: np.random.Generator, rows: int, win: float, lose: float) -> tuple[Floats, Floats]:
    luck = random.random(rows)
    candidate, opponent = luck > lose, luck < 1 - win
    ones = np.ones(rows)
    return np.column_stack([candidate, ones]), np.column_stack([opponent, ones])


@pytest.mark.parametrize("rule", ["estimate", "margin"])
def test_power_drawn_from_a_pilot_agrees_with_the_formula_where_there_is_one(rule: Rule) -> None:
    candidate, opponent = pilot(np.random.default_rng(1), 4000, 0.09, 0.06)
    drawn = metric_power(candidate, opponent, mean_score, 1200, 0.03, ALPHA, rule)
    plan = (1200, 0.15, 1.0, 0.03, ALPHA)
    assert drawn.chance_of_train_at_goal == pytest.approx(chance_of_train(0.03, *plan, rule), abs=0.04)
    above_zero = chance_bound_above_zero(0.03, 1200, 0.15, 1.0, ALPHA)
    assert drawn.chance_bound_above_zero_at_goal == pytest.approx(above_zero, abs=0.04)
    assert drawn.smallest_gain_with_80_percent == pytest.approx(smallest_gain(*plan, rule), abs=0.002)


def macro_f1(sums: Floats) -> Floats:
    right, named = sums[:, :4], sums[:, 4:]
    return np.asarray((2 * right / np.maximum(named, 1)).mean(axis=1))


def test_the_error_of_macro_f1_in_a_larger_test_is_foreseen_from_a_pilot() -> None:
    random = np.random.default_rng(2)
    shares = np.array([0.5, 0.3, 0.15, 0.05])

    def sums(targets: np.ndarray, accuracy: float) -> Floats:
        answers = np.where(
            random.random(len(targets)) < accuracy, targets, random.integers(0, 4, len(targets))
        )
        wanted, given = np.eye(4)[targets], np.eye(4)[answers]
        return np.concatenate([wanted * given, wanted + given], axis=1)

    def gain(rows: int) -> float:
        targets = random.choice(4, rows, p=shares)
        both = (sums(targets, accuracy).sum(axis=0, keepdims=True) for accuracy in (0.85, 0.8))
        better, worse = (float(macro_f1(total)[0]) for total in both)
        return better - worse

    truly = float(np.std([gain(1000) for _ in range(400)]))
    targets = random.choice(4, 500, p=shares)
    foreseen = metric_power(sums(targets, 0.85), sums(targets, 0.8), macro_f1, 1000, 0.03, ALPHA, "estimate")
    assert foreseen.standard_error == pytest.approx(truly, rel=0.2)
    four_times = metric_power(
        sums(targets, 0.85), sums(targets, 0.8), macro_f1, 4000, 0.03, ALPHA, "estimate"
    )
    assert four_times.standard_error == pytest.approx(foreseen.standard_error / 2, rel=0.15)
    assert four_times.groups_needed == pytest.approx(foreseen.groups_needed, rel=0.3)


def test_a_pilot_that_never_differs_foretells_nothing() -> None:
    alike = np.column_stack([np.zeros(60), np.ones(60)])
    with pytest.raises(ValueError, match="score alike"):
        metric_power(alike, alike, lambda sums: sums[:, 0] / sums[:, 1], 100, 0.02, 0.03, "estimate")


def test_a_pilot_that_is_too_small_or_does_not_match_is_refused() -> None:
    candidate, opponent = pilot(np.random.default_rng(1), 29, 0.1, 0.1)
    with pytest.raises(ValueError, match="30 pilot groups"):
        metric_power(candidate, opponent, mean_score, 1200, 0.03, ALPHA, "estimate")
    with pytest.raises(ValueError, match="same groups"):
        metric_power(candidate, opponent[1:], mean_score, 1200, 0.03, ALPHA, "estimate")
    with pytest.raises(ValueError, match="not finite"), np.errstate(all="ignore"):
        metric_power(
            *pilot(np.random.default_rng(1), 40, 0.1, 0.1), lambda s: s[:, 0] / 0, 9, 0.1, ALPHA, "margin"
        )


@pytest.mark.parametrize("loss", [0.0, 0.015])
def test_the_power_of_a_guard_is_what_the_real_rule_gives(loss: float) -> None:
    random = np.random.default_rng(3)
    groups, margin, spread, repetitions = 150, 0.03, 0.1, 800
    names = [str(group) for group in range(groups)]
    base = np.full(groups, 1000.0)
    passed = 0
    for _ in range(repetitions):
        tuned = base * (1 + loss + random.normal(0, spread, groups))
        change = relative_change_interval(tuned, base, names, guard_level(1))
        passed += non_inferior(change, margin) == "passed"
    power = guard_power("all text", 200, groups, margin, spread, ALPHA)
    expected = power.chance_if_unchanged if loss == 0 else power.chance_at_half_margin
    assert passed / repetitions == pytest.approx(expected, abs=0.05)
    most = power.largest_loss_with_80_percent
    assert guard_power(
        "all text", 200, groups, margin - most, spread, ALPHA
    ).chance_if_unchanged == pytest.approx(0.8)


def test_joint_power_is_a_product_or_the_bonferroni_bound() -> None:
    guards = [guard_power(name, 100, 100, 0.03, 0.1, 0.05) for name in ("a", "b", "c")]
    joint = joint_power(guards, 0.05)
    chance = guards[0].chance_if_unchanged
    assert joint.if_independent == pytest.approx(chance**3)
    assert joint.at_least == pytest.approx(1 - 3 * (1 - chance))
    assert joint.at_least < joint.if_independent
    assert joint_power(guards * 20, 0.05).at_least == 0
