"""What the sealed test can tell in any metric, learned from two opponents' answers to validation rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from tunesmith.data.questions import Questions
from tunesmith.evaluation.judging import Judging, goal_value, measured_goal
from tunesmith.evaluation.metrics.answered import Measured, RowScores
from tunesmith.records import Scorecard
from tunesmith.run_records import PilotPower
from tunesmith.stats.answers import Rule
from tunesmith.stats.clusters import group_codes
from tunesmith.stats.power_pilot import FEWEST_PILOT_GROUPS, Metric, metric_power

Floats = npt.NDArray[np.float64]


def pilot_power(
    judging: Judging,
    asked: Questions,
    cards: Sequence[Scorecard],
    test_groups: int,
    goal_gain: float,
    alpha_one_sided: float,
    rule: Rule,
) -> PilotPower | None:
    """:func:`power_of_answers` of scorecards on validation."""
    answers = {card.candidate.name: [prediction.answer for prediction in card.predictions] for card in cards}
    return power_of_answers(judging, asked, answers, test_groups, goal_gain, alpha_one_sided, rule)


def power_of_answers(
    judging: Judging,
    asked: Questions,
    answers: Mapping[str, Sequence[str]],
    test_groups: int,
    goal_gain: float,
    alpha_one_sided: float,
    rule: Rule,
) -> PilotPower | None:
    """Draw tests of ``test_groups`` groups from the answers of the two best candidates to all of ``asked``.

    ``answers`` by the candidate's name. None where that says nothing: fewer than two candidates that answer
    differently in this metric, fewer than 30 groups, or a metric that is no function of sums over rows.
    """
    ranked = sorted(answers, key=lambda name: goal_value(judging, asked, answers[name]), reverse=True)
    groups = [row.group for row in asked.rows]
    if len(ranked) < 2 or len(set(groups)) < FEWEST_PILOT_GROUPS or answers[ranked[0]] == answers[ranked[1]]:
        return None
    pairs = [group_sums(measured_goal(judging, asked, answers[name]), groups) for name in ranked[:2]]
    (own, metric), (other, _) = pairs
    if own is None or other is None or metric is None:
        return None
    sign = judging.sign
    try:
        power = metric_power(
            own, other, lambda sums: sign * metric(sums), test_groups, goal_gain, alpha_one_sided, rule
        )
    except ValueError:  # a drawn test on which the metric is not defined, or scores that never differ
        return None
    return PilotPower(
        metric=judging.metric,
        better=ranked[0],
        worse=ranked[1],
        pilot_groups=power.pilot_groups,
        groups=power.groups,
        standard_error=power.standard_error,
        chance_of_train_at_goal=power.chance_of_train_at_goal,
        chance_bound_above_zero_at_goal=power.chance_bound_above_zero_at_goal,
        smallest_gain_with_80_percent=power.smallest_gain_with_80_percent,
        groups_needed=power.groups_needed,
    )


def group_sums(measured: Measured, groups: Sequence[str]) -> tuple[Floats | None, Metric | None]:
    """Sums by group [groups, parts], and the metric of each row of such sums; None where there are none."""
    if isinstance(measured, RowScores):
        about = np.ones(len(groups)) if measured.about is None else measured.about.astype(np.float64)
        parts: Floats | None = np.column_stack([measured.scores * about, about])
        metric: Metric | None = _mean
    else:
        parts, metric = measured.sums, measured.of_sums
    if parts is None:
        return None, None
    codes = group_codes(groups)
    sums = np.zeros((int(codes.max()) + 1, parts.shape[1]))
    np.add.at(sums, codes, parts)
    return sums, metric


def _mean(sums: Floats) -> Floats:
    return np.asarray(sums[:, 0] / sums[:, 1])
