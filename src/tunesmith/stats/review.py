"""What people prefer, how steady they are, and whether a judge may stand in for them.

An outcome is 1 when the tuned candidate's answer was preferred, 0 when the opponent's was, 0.5 for a tie.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from tunesmith.people_records import Drift, JudgeAgreement
from tunesmith.records import Answer, Estimate
from tunesmith.stats.clusters import group_codes, t_quantile
from tunesmith.stats.intervals import mean_interval, proportion_interval

Floats = npt.NDArray[np.float64]
_RESAMPLES = 2000
FEWEST_REPEATS = 5
FEWEST_JUDGED = 50


def win_rate(
    outcomes: Sequence[float],
    items: Sequence[str],
    reviewers: Sequence[str],
    level: float = 0.95,
    seed: int = 0,
) -> Estimate:
    """Mean outcome over all judgements, for new items and new reviewers alike; ``groups`` are the items.

    Items and reviewers are drawn with replacement, 2,000 times each, and the two variances added (compare
    Owen 2007). A bootstrap of R reviewers makes their part R/(R − 1) too small, which is mended. The interval
    is Student's t on Satterthwaite's degrees of freedom: two or three reviewers say little about others. With
    one reviewer it is about items only, and says so in ``method``. What single judgements vary by is in both
    variances, so the interval is a little wide rather than too narrow.
    Raises ValueError when empty, of unequal length, for an outcome outside [0, 1] or fewer than two items.
    """
    if not len(outcomes) == len(items) == len(reviewers) or not outcomes:
        raise ValueError(f"need equally many: {len(outcomes)}, {len(items)}, {len(reviewers)}")
    values = np.asarray(outcomes, dtype=np.float64)
    if not ((values >= 0) & (values <= 1)).all():
        raise ValueError("outcomes lie between 0 (the opponent's is better) and 1")
    item_codes, reviewer_codes = group_codes(items), group_codes(reviewers)
    item_count, reviewer_count = int(item_codes.max()) + 1, int(reviewer_codes.max()) + 1
    if item_count < 2:
        raise ValueError("a win rate needs two items")
    rate = float(values.mean())
    sums, counts = np.zeros((2, item_count, reviewer_count))
    np.add.at(sums, (item_codes, reviewer_codes), values - rate)
    np.add.at(counts, (item_codes, reviewer_codes), 1)

    random = np.random.default_rng(seed)
    # One pseudo-win and one pseudo-loss on items of their own: unanimity is no proof of a rate of 1.
    least = (0.25 + 0.25) / (len(values) + 2) ** 2
    everyone = np.ones((_RESAMPLES, reviewer_count))
    item_variance = _variance(sums, counts, _times(random, item_count), everyone) + least
    reviewer_variance = 0.0
    method = "cluster bootstrap over items; one reviewer, so nothing is said about others"
    if reviewer_count > 1:
        all_items = np.ones((_RESAMPLES, item_count))
        drawn = _variance(sums, counts, all_items, _times(random, reviewer_count))
        reviewer_variance = drawn * reviewer_count / (reviewer_count - 1)
        method = "cluster bootstrap over items and over reviewers, Student's t"
    variance = item_variance + reviewer_variance
    freedom = variance**2 / (
        item_variance**2 / (item_count - 1) + reviewer_variance**2 / max(1, reviewer_count - 1)
    )
    half = t_quantile(level, max(1, int(freedom))) * float(np.sqrt(variance))
    low, high = max(0.0, rate - half), min(1.0, rate + half)
    return Estimate(rate, low, high, len(values), item_count, level, method)


def _times(random: np.random.Generator, number: int) -> Floats:
    """How often each of ``number`` is drawn, shape (resamples, number)."""
    return random.multinomial(number, np.full(number, 1 / number), size=_RESAMPLES).astype(np.float64)


def _variance(sums: Floats, counts: Floats, items: Floats, reviewers: Floats) -> float:
    totals = ((items @ counts) * reviewers).sum(axis=1)
    drawn = ((items @ sums) * reviewers).sum(axis=1)[totals > 0] / totals[totals > 0]
    return float(drawn.var(ddof=1))


def drift(reviewer: str, earlier: Sequence[float], later: Sequence[float]) -> Drift:
    """Compare the two outcomes of each repeated item. Raises ValueError when lengths differ."""
    if len(earlier) != len(later):
        raise ValueError(f"need two outcomes an item, got {len(earlier)} and {len(later)}")
    if len(earlier) < FEWEST_REPEATS:
        return Drift(reviewer, len(earlier), None, None)
    items = [str(item) for item in range(len(earlier))]
    first, second = np.asarray(earlier, dtype=np.float64), np.asarray(later, dtype=np.float64)
    shift = mean_interval(second - first, items, limits=(-1.0, 1.0))
    return Drift(
        reviewer,
        len(items),
        proportion_interval(first == second, items),
        shift,
    )


def judge_agreement(
    people: Mapping[str, Sequence[float]],
    judge: Mapping[str, tuple[float, float]],
    margin: float = 0.10,
    level: float = 0.90,
) -> JudgeAgreement:
    """May the judge stand in for people on this task?

    ``people``: for each item the outcomes of its reviewers, one each. ``judge``: for each item its outcomes
    with the tuned answer shown first, and shown second. An answer that changes with the position is a tie.

    Passed when, at one-sided 5 % (``level`` 0.90), it prefers neither position by more than ``margin``,
    agrees with people beyond chance, and no more than ``margin`` less than people agree with each other
    (compare Calderon et al. 2025, the alternative annotator test). Failed when one of them is surely not so.
    Unmeasured where it cannot be told: fewer than 50 items with two reviewers, or people who do not agree
    beyond chance.
    """
    items = [item for item, outcomes in people.items() if len(outcomes) >= 2 and item in judge]
    if len(items) < FEWEST_JUDGED:
        reason = f"{len(items)} items were judged by two people and by the judge; {FEWEST_JUDGED} are needed"
        return JudgeAgreement("unmeasured", reason, len(items), None, None, None, None)
    # First-shown minus second-shown, over both orders: 0 for an answer that keeps to the candidate.
    either = (-1.0, 1.0)
    position = mean_interval([judge[item][0] - judge[item][1] for item in items], items, level, either)
    decided = {item: _settled((judge[item][0] + judge[item][1]) / 2) for item in items}
    among = np.array(
        [np.mean([_agree(a, b) for a, b in itertools.combinations(people[item], 2)]) for item in items]
    )
    with_judge = np.array([np.mean([_agree(decided[item], one) for one in people[item]]) for item in items])
    said = [outcome for item in items for outcome in people[item]]
    beyond_people = mean_interval(_beyond_chance(among, said, said), items, level)
    beyond_judge = mean_interval(_beyond_chance(with_judge, said, list(decided.values())), items, level)
    difference = mean_interval(with_judge - among, items, level, either)

    def found(answer: Answer, reason: str) -> JudgeAgreement:
        return JudgeAgreement(answer, reason, len(items), position, beyond_people, beyond_judge, difference)

    if position.low > margin or position.high < -margin:
        return found("failed", "it prefers a position, whatever stands there")
    if beyond_people.low <= 0:
        return found("unmeasured", "people do not agree with each other beyond chance")
    if beyond_judge.high <= 0 or difference.high < -margin:
        return found("failed", "it agrees with people less than they agree with each other")
    if position.low < -margin or position.high > margin:
        return found("unmeasured", "too few items to rule out that it prefers a position")
    if beyond_judge.low <= 0 or difference.low < -margin:
        return found("unmeasured", "too few items to show that it agrees with people as they do")
    return found("passed", "it agrees with people about as they agree with each other")


def by_item(
    outcomes: Sequence[float], items: Sequence[str], reviewers: Sequence[str]
) -> dict[str, list[float]]:
    """The outcomes of each item, one a reviewer: the first where an item was shown again."""
    found: dict[str, dict[str, float]] = defaultdict(dict)
    for outcome, item, reviewer in zip(outcomes, items, reviewers, strict=True):
        found[item].setdefault(reviewer, outcome)
    return {item: list(given.values()) for item, given in found.items()}


def _settled(mean: float) -> float:
    return 1.0 if mean > 0.5 else 0.0 if mean < 0.5 else 0.5


def _agree(one: float, other: float) -> float:
    """1 for the same, 0.5 when one of the two says tie, 0 for opposites."""
    return 1 - abs(_settled(one) - _settled(other))


def _beyond_chance(agreement: Floats, one: Sequence[float], other: Sequence[float]) -> Floats:
    """Each item's agreement, with the agreement of two who answer at random in these shares as 0."""
    kinds = (0.0, 0.5, 1.0)
    shares = [[np.mean([_settled(x) == kind for x in given]) for kind in kinds] for given in (one, other)]
    chance = float(np.array(shares[0]) @ [[_agree(a, b) for b in kinds] for a in kinds] @ shares[1])
    return (agreement - chance) / (1 - chance) if chance < 1 else np.zeros_like(agreement)
