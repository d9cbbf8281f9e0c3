"""Where a training run was heading when it ended: a rule over its validations, with uncertainty.

The same validation rows are scored at every validation, so changes between two of them are paired by row and
clustered by group (:func:`tunesmith.stats.intervals.ratio_interval`), in nats per learned token. A change is
relevant from ``RELEVANT_SHARE`` of the lowest loss on, and from ``RELEVANT_NATS`` on at least.

- overfitting: from the lowest validation to the last, the loss surely rose (lower bound above 0) and the
  estimate is relevant. The lowest was picked among all, so the interval allows for as many comparisons
  (Bonferroni). Where the loss on training rows surely rose too it is not overfitting but diverging.
- still learning: over about the last quarter of the run the loss surely fell, and the estimate is relevant.
- converged: neither a relevant fall over that quarter nor a relevant rise since the lowest is plausible.
- unmeasured: the rows cannot tell, or there are fewer than 2 validations or 50 groups.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tunesmith.errors import UserError
from tunesmith.records import Estimate
from tunesmith.run_records import Course, WatchedCourse
from tunesmith.stats.intervals import ratio_interval
from tunesmith.stats.paired import FEWEST_GROUPS

LEVEL = 0.95
RELEVANT_SHARE = 0.05
RELEVANT_NATS = 0.005
FEWEST_VALIDATIONS = 2
LAST_PART = 0.25


@dataclass(frozen=True)
class WatchedLosses:
    """Rows scored at every validation: ``losses`` [validations][rows] are sums over each row's ``tokens``."""

    losses: Sequence[Sequence[float]]
    tokens: Sequence[int]
    groups: Sequence[str]

    def change(self, since: int, level: float) -> Estimate:
        """The change of the loss per token from validation ``since`` to the last, in nats."""
        difference = np.asarray(self.losses[-1]) - np.asarray(self.losses[since])
        return ratio_interval(difference, np.asarray(self.tokens, dtype=np.float64), self.groups, level)

    def level_at(self, at: int) -> Estimate:
        """The loss per token at validation ``at``, in nats. UserError with fewer than two groups."""
        tokens = np.asarray(self.tokens, dtype=np.float64)
        return ratio_interval(np.asarray(self.losses[at]), tokens, self.groups, LEVEL)


def loss_gap(validation: WatchedLosses, training: WatchedLosses, at: int) -> Estimate | None:
    """The loss of validation rows less that of training rows at validation ``at``, in nats per token.

    The two are of different groups, so their intervals are joined as those of independent estimates (MOVER:
    Zou and Donner 2008, doi:10.1002/sim.3095). None where either holds fewer than two groups.
    """
    try:
        own, learned = validation.level_at(at), training.level_at(at)
    except UserError:
        return None
    value = own.value - learned.value
    return Estimate(
        value,
        value - math.hypot(own.value - own.low, learned.high - learned.value),
        value + math.hypot(own.high - own.value, learned.value - learned.low),
        own.rows + learned.rows,
        own.groups + learned.groups,
        LEVEL,
        "difference of two linearised cluster-t intervals (MOVER)",
    )


def judge_course(
    steps: Sequence[int], validation: WatchedLosses, training: WatchedLosses | None = None
) -> WatchedCourse:
    """Still learning, converged, overfitting, diverging or unmeasured, by the rule above.

    ``steps`` [validations] are those after which ``validation`` and ``training`` were scored.
    """
    groups = len(set(validation.groups))
    if len(steps) < FEWEST_VALIDATIONS or groups < FEWEST_GROUPS:
        reason = (
            f"validation was scored less than {FEWEST_VALIDATIONS} times"
            if len(steps) < FEWEST_VALIDATIONS
            else f"{groups} groups in validation, and {FEWEST_GROUPS} are needed"
        )
        return WatchedCourse("unmeasured", f"unmeasured: {reason}", None, None, None, None)
    means = [sum(losses) / sum(validation.tokens) for losses in validation.losses]
    lowest, last = int(np.argmin(means)), len(steps) - 1
    relevant = max(RELEVANT_SHARE * means[lowest], RELEVANT_NATS)
    level = 1 - (1 - LEVEL) / last
    rise = validation.change(lowest, level) if lowest != last else None
    quarter = max((at for at in range(last) if steps[at] <= (1 - LAST_PART) * steps[-1]), default=0)
    recent = validation.change(quarter, LEVEL)
    training_rise = None
    if training is not None and lowest != last and len(set(training.groups)) > 1:
        training_rise = training.change(lowest, level)

    course: Course = "unmeasured"
    if rise is not None and rise.low > 0 and rise.value >= relevant:
        rose_too = (
            training_rise is not None and training_rise.low > 0 and training_rise.groups >= FEWEST_GROUPS
        )
        course = "diverging" if rose_too else "overfitting"
    elif recent.high < 0 and -recent.value >= relevant:
        course = "still learning"
    elif recent.low >= -relevant and (rise is None or rise.high <= relevant):
        course = "converged"
    since = steps[lowest] if course in ("overfitting", "diverging") else steps[quarter]
    sentence = _sentence(course, since, rise, recent, training_rise, relevant)
    return WatchedCourse(course, sentence, since, rise, recent, training_rise)


def _sentence(
    course: Course,
    since: int,
    rise: Estimate | None,
    recent: Estimate,
    training_rise: Estimate | None,
    relevant: float,
) -> str:
    if rise is not None and course in ("overfitting", "diverging"):
        told = f"{course} since step {since}: since then the validation loss rose, {_long(rise)}"
        if training_rise is None:
            return told
        joined = "and so did that" if course == "diverging" else "against that"
        return f"{told}, {joined} of {training_rise.rows} training rows: {_nats(training_rise)}"
    if course == "still learning":
        return f"still learning: since step {since} the validation loss fell, {_long(recent)}"
    if course == "converged":
        return (
            f"converged: since step {since} the validation loss changed by less than {relevant:.3f}: "
            f"{_long(recent)}"
        )
    wide = recent if rise is None or rise.high <= relevant else rise
    which = f"since step {since}" if wide is recent else "since its lowest"
    return (
        f"unmeasured: the change of the validation loss {which} may or may not reach {relevant:.3f}: "
        f"{_long(wide)}"
    )


def _nats(change: Estimate) -> str:
    return f"{change.value:+.3f} [{change.low:+.3f}, {change.high:+.3f}]"


def _long(change: Estimate) -> str:
    sample = f"{change.rows:,} rows in {change.groups:,} groups, {100 * change.level:.4g} % interval"
    return f"{_nats(change)} nats per token ({sample})"
