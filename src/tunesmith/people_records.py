"""The records of people's part: blind reviews, working time, and models that judge in people's place.

An outcome is 1 when the tuned candidate's answer was preferred, 0 when the opponent's was, 0.5 for a tie.
"""

from __future__ import annotations

from dataclasses import dataclass

from tunesmith.records import Answer, Check, Estimate


@dataclass(frozen=True)
class Drift:
    """One reviewer on items that were shown twice, positions swapped, some time apart.

    ``same``: the share judged the same both times. ``shift``: later minus earlier outcome, above 0 when
    the reviewer has come to like the tuned candidate more. Both None below 5 repeated items.
    """

    reviewer: str
    repeats: int
    same: Estimate | None
    shift: Estimate | None


@dataclass(frozen=True)
class CriterionResult:
    """One criterion over all reviewers; ``win_rate`` counts ties, and equal answers, as one half.

    ``agreement`` is Krippendorff's alpha of the outcomes of items that two people judged; None where it is
    not defined, for ``no_agreement``. ``grade_gain`` is the tuned candidate's mean grade less the
    opponent's, where single answers were graded.
    """

    criterion: str
    win_rate: Estimate | None
    agreement: Estimate | None
    no_agreement: str | None
    grade_gain: Estimate | None
    drifts: tuple[Drift, ...]
    check: Check


@dataclass(frozen=True)
class ReviewResult:
    """All that people said so far. ``equal_answers``: pairs that were ties without anybody looking."""

    tuned: str
    opponent: str
    form: str
    pairs: int
    equal_answers: int
    reviewers: tuple[str, ...]
    judgements: int
    criteria: tuple[CriterionResult, ...]
    comments: tuple[str, ...]


@dataclass(frozen=True)
class Labour:
    """Seconds that people take for an item, without and with the model's answer before them.

    ``saved`` is without minus with, by reviewer; ``ratio`` is with over without, by geometric means.
    ``score`` is how much better the final answers are with the model's answer. ``capped`` times counted as
    their reviewer's limit; items with a ``paused`` clock are left out. ``unmeasured``: why nothing is known.
    """

    candidate: str
    reviewers: tuple[str, ...]
    times_with: int
    times_without: int
    capped: int
    paused: int
    without: Estimate | None
    saved: Estimate | None
    ratio: Estimate | None
    score: Estimate | None
    metric: str
    unmeasured: str | None


@dataclass(frozen=True)
class JudgeAgreement:
    """How a judge does beside people, on items that people have judged. Intervals are over items.

    ``position``: how much more often it prefers the answer shown first than the one shown second (−1 to 1).
    ``people`` and ``judge``: agreement of people with each other, and of the judge with them, beyond chance
    (1 is perfect, 0 is chance). ``difference``: judge's minus people's agreement, not corrected for chance.
    """

    answer: Answer
    reason: str
    items: int
    position: Estimate | None
    people: Estimate | None
    judge: Estimate | None
    difference: Estimate | None


@dataclass(frozen=True)
class JudgedCriterion:
    """One criterion as a model judged it. ``win_rate`` is None unless the judge was ``accepted``."""

    criterion: str
    accepted: Check
    agreement: JudgeAgreement
    win_rate: Check
    unread: int


@dataclass(frozen=True)
class JudgeResult:
    """What a model said of the pairs; ``judgements_sha256`` names the people's judgements it was held to."""

    judge: str
    judgements_sha256: str
    criteria: tuple[JudgedCriterion, ...]
    spend: float


@dataclass(frozen=True)
class People:
    """Everything that people said, and a judge beside them, of the candidates of one run."""

    review: ReviewResult | None
    labour: Labour | None
    judge: JudgeResult | None
