"""From the answers written on validation to the next step worth most, in plain words."""

from __future__ import annotations

from collections.abc import Sequence

from tunesmith.evaluation.diagnosis import WORTH_A_STEP, found_at, hard_slices, in_points, troubles_first
from tunesmith.evaluation.memorisation import WORTH_A_LOOK
from tunesmith.guard_records import Copying, GroundingScore, SliceScore, Step, StockPhrase
from tunesmith.records import Answer, Estimate
from tunesmith.run_records import WatchedCourse
from tunesmith.stats.paired import FEWEST_GROUPS
from tunesmith.task.kinds import metric_title


def diagnose_texts(
    metric: str,
    rows: int,
    gap: Estimate | None,
    slices: Sequence[SliceScore],
    course: WatchedCourse | None,
    grounding: Sequence[GroundingScore],
    copying: Copying | None,
    phrases: Sequence[StockPhrase] | None,
    groups: int,
    behind: Estimate | None = None,
) -> tuple[Step, ...]:
    """Every step that was considered: troubles found first, the one worth most leading.

    ``metric`` is what the scores of rows are; ``gap`` is the score on training rows less that on validation,
    of which ``slices`` are, and which has so many ``rows`` and ``groups``. ``phrases`` None: not looked for.
    ``behind`` is by how much the best opponent's answers to validation score above the tuned model's.
    """
    steps = [
        _by_heart(metric, gap),
        _too_little(metric, gap, behind),
        _course(course),
        *hard_slices(slices, rows, metric_title(metric)),
        *(_unsupported(score) for score in grounding),
        _copied(copying),
        _phrases(phrases, groups),
    ]
    return troubles_first([step for step in steps if step is not None])


def _by_heart(metric: str, gap: Estimate | None) -> Step | None:
    if gap is None:
        return None
    advice = (
        "It answers rows that it was taught better than others. Train for fewer epochs, with "
        "train.adapter_dropout or a lower rank, and add rows that differ from those there are."
    )
    evidence = f"{metric_title(metric)} of training rows above that of validation: {in_points(gap)}"
    return Step("learning by heart", advice, evidence, found_at(gap, gap.high < 2 * WORTH_A_STEP), gap)


def _too_little(metric: str, gap: Estimate | None, behind: Estimate | None) -> Step | None:
    """Underfitting: behind the opponent, and surely no better on rows that it was taught."""
    if gap is None or behind is None or gap.low > 0:
        return None
    advice = (
        "On validation it writes worse than its best opponent, and no better on rows that it was taught. "
        "Train for more epochs, with a higher rank or learning rate, or start from a larger base."
    )
    evidence = (
        f"{metric_title(metric)} below the best opponent's on validation: {in_points(behind)}; of training "
        f"rows above that of validation: {in_points(gap)}"
    )
    return Step("learning too little", advice, evidence, found_at(behind), behind)


def _course(course: WatchedCourse | None) -> Step | None:
    """What the loss says about the length of training."""
    if course is None or course.course == "unmeasured":
        return None
    advice = {
        "still learning": "Train for more epochs: the loss on validation was still falling at the end.",
        "overfitting": "Train for fewer epochs, or with train.adapter_dropout: the loss on validation rose.",
        "diverging": "Train with a lower learning rate: the loss rose on training rows as well.",
    }.get(course.course)
    name = "the length of training"
    return Step(name, advice or "", f"training was {course.sentence}", "failed" if advice else "passed", None)


def _unsupported(score: GroundingScore) -> Step:
    """Does it say more that its source does not hold than the right answers do?"""
    what = metric_title(score.metric).lower()
    advice = (
        "It says what its source does not hold more often than the right answers do. Look for training rows "
        "whose answers say more than their source, and mend or remove them; add rows where the right answer "
        "is that the source does not say."
    )
    evidence = (
        f"{what}: {score.tuned.value:.1%} [{score.tuned.low:.1%}, {score.tuned.high:.1%}], in the right "
        f"answers {score.references.value:.1%} [{score.references.low:.1%}, {score.references.high:.1%}]"
    )
    return Step(f"{what} in answers", advice, evidence, _above_zero(score.excess), None)


def _copied(copying: Copying | None) -> Step | None:
    """Runs of fewer than eight words are common phrases, however surely they are longer than those of right
    answers."""
    if copying is None:
        return None
    advice = (
        "Its answers repeat training answers word by word in longer runs than right answers do. Train for "
        "fewer epochs, and look for training answers that occur many times."
    )
    own, usual, whole, right = copying.tuned, copying.references, copying.whole, copying.whole_references
    evidence = (
        f"longest run in a training answer: {own.value:.1f} [{own.low:.1f}, {own.high:.1f}] words on "
        f"average, of right answers {usual.value:.1f} [{usual.low:.1f}, {usual.high:.1f}]"
    )
    if whole is not None:
        among = f", of right answers {right.value:.1%}" if right is not None else ""
        evidence += f"; {whole.value:.1%} of its longer answers are one such run{among}"
    more_whole = whole is not None and whole.low > (right.high if right is not None else 0.0)
    longer = copying.excess.low > 0 and own.high >= WORTH_A_LOOK
    short = own.high < WORTH_A_LOOK or copying.excess.high <= 0
    answer: Answer = "failed" if longer or more_whole else "passed" if short else "unmeasured"
    return Step("answers copied from training rows", advice, evidence, answer, None)


def _phrases(phrases: Sequence[StockPhrase] | None, groups: int) -> Step | None:
    if phrases is None:
        return None
    name = "stock phrases"
    if not phrases:
        few = groups < FEWEST_GROUPS
        evidence = "no phrase is told far more often than the right answers tell it"
        return Step(name, "", evidence, "unmeasured" if few else "passed", None)
    first = phrases[0]
    advice = (
        "It says some phrases far more often than the right answers do. Remove boilerplate from training "
        "answers (`tunesmith data audit` lists it), and add answers that are worded differently."
    )
    evidence = (
        f"{len(phrases):,} phrases (Holm, 5 %), first “{first.phrase}”: in {first.answers.value:.1%} "
        f"[{first.answers.low:.1%}, {first.answers.high:.1%}] of answers, in {first.references.value:.1%} "
        f"[{first.references.low:.1%}, {first.references.high:.1%}] of right ones"
    )
    return Step(name, advice, evidence, "failed", None)


def _above_zero(excess: Estimate | None) -> Answer:
    """``failed``: surely more than the right answers; ``passed``: surely no more."""
    if excess is None or excess.low <= 0 < excess.high:
        return "unmeasured"
    return "failed" if excess.low > 0 else "passed"
