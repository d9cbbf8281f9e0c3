"""From an interval to one of three answers: passed, failed, unmeasured."""

from __future__ import annotations

from typing import Literal

from tunesmith.records import Answer, Estimate, PairedGain

Rule = Literal["estimate", "margin"]


def worth_it(gain: PairedGain, goal_gain: float, rule: Rule) -> Answer:
    """Is the gain worth having, by the rule that was set beforehand?

    ``estimate``: passed when the lower bound is above 0 and the estimate reaches ``goal_gain``.
    ``margin``: passed when the lower bound itself reaches ``goal_gain``. Either way failed when the upper
    bound is below ``goal_gain``, and otherwise unmeasured: the rows cannot tell. A gain without bounds is
    unmeasured. Raises ValueError when ``goal_gain`` is negative: that would be a non-inferiority question.
    """
    if not goal_gain >= 0:
        raise ValueError(f"goal_gain is a gain, 0 or more; got {goal_gain}")
    if gain.low is None or gain.high is None:
        return "unmeasured"
    by_estimate = gain.low > 0 and gain.value >= goal_gain
    by_margin = gain.low >= goal_gain
    if by_margin if rule == "margin" else by_estimate:
        return "passed"
    return "failed" if gain.high < goal_gain else "unmeasured"


def non_inferior(change: Estimate, margin: float) -> Answer:
    """Did something not get worse by more than ``margin``? ``change`` is larger when worse.

    Passed when the whole interval is at or below the margin, failed when it is all above, else unmeasured
    (a bound that is not a number is unmeasured too). A guard at one-sided 5 % needs ``change`` at level 0.90.
    """
    if change.high <= margin:
        return "passed"
    return "failed" if change.low > margin else "unmeasured"
