"""From the errors on validation to the next step worth most, in words for people without ML training.

Each step answers a question with evidence: ``failed`` is a trouble that was found, ``passed`` one that was
looked for and not found. ``worth`` is the share of rows that its repair can bring at the very most.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from tunesmith.data.audit.findings import AuditData
from tunesmith.data.audit.labels import check_labels
from tunesmith.data.audit.ngrams import ngram_matrix
from tunesmith.data.audit.sampling import sample_rows
from tunesmith.data.audit.size import learning_curve
from tunesmith.data.duplicates import compared_text
from tunesmith.errors import UserError
from tunesmith.guard_records import SliceScore, Step
from tunesmith.records import Answer, Estimate, Row
from tunesmith.run_records import WatchedCourse
from tunesmith.stats.break_even import scaled
from tunesmith.stats.intervals import proportion_interval
from tunesmith.stats.learning_curve import extrapolated_gain

MOST_ROWS = 2000  # of the training rows, for the learning curve and the held-out predictions
FEWEST_ROWS = 200
WORTH_A_STEP = 0.005  # of the rows; less is not worth a sentence
_ORDER: tuple[Answer, ...] = ("failed", "unmeasured", "passed")


def diagnose(
    training: Sequence[Row],
    validation: Sequence[Row],
    answers: Sequence[str],
    train_score: Estimate | None,
    gap: Estimate | None,
    slices: Sequence[SliceScore],
    course: WatchedCourse | None,
) -> tuple[Step, ...]:
    """Every step that was considered: troubles found first, the one worth most leading.

    ``answers`` are the tuned model's on ``validation``; ``gap`` is its score on training rows less that on
    validation, ``slices`` are those of validation.
    """
    wrong = [answer != row.target for row, answer in zip(validation, answers, strict=True)]
    steps = [
        _confusion(validation, answers, wrong),
        _labels(training, validation, wrong),
        _more_rows(training),
        _by_heart(gap, course),
        _too_little(train_score, gap, course),
        *hard_slices(slices, len(validation)),
    ]
    return troubles_first([step for step in steps if step is not None])


def troubles_first(steps: Sequence[Step]) -> tuple[Step, ...]:
    """Troubles found first, the one worth most leading; then what these rows cannot tell."""
    return tuple(
        sorted(steps, key=lambda step: (_ORDER.index(step.answer), -(step.worth.value if step.worth else 0)))
    )


def _confusion(rows: Sequence[Row], answers: Sequence[str], wrong: Sequence[bool]) -> Step | None:
    """The two labels that are most often taken for each other."""
    pairs = Counter(
        tuple(sorted((row.target, answer)))
        for row, answer, bad in zip(rows, answers, wrong, strict=True)
        if bad
    )
    name = "two labels that are mixed up"
    if not pairs:
        return Step(name, "", f"no wrong answer on {len(rows):,} validation rows", "passed", None)
    (pair, count) = min(pairs.items(), key=lambda item: (-item[1], item[0]))
    mixed = [
        bad and tuple(sorted((row.target, answer))) == pair
        for row, answer, bad in zip(rows, answers, wrong, strict=True)
    ]
    worth = proportion_interval(mixed, [row.group for row in rows])
    advice = (
        f"Look at rows of “{pair[0]}” and “{pair[1]}” side by side. Where people cannot agree either, join "
        "the two or say in the instruction what sets them apart; where they can, add more rows of both."
    )
    evidence = f"{count:,} of {sum(wrong):,} wrong answers on validation take one for the other"
    return Step(name, advice, evidence, found_at(worth), worth)


def _labels(training: Sequence[Row], validation: Sequence[Row], wrong: Sequence[bool]) -> Step:
    """Wrong labels in the data: what the rows themselves say about them (confident learning)."""
    name = "wrong labels in the data"
    kept = [training[place] for place in sample_rows(training, MOST_ROWS)]
    rows = (*kept, *validation)
    result = check_labels(AuditData(rows, (None,) * len(rows)))
    disputed = {place - len(kept) for finding in result.findings for place in finding.rows}
    both = [bad and place in disputed for place, bad in enumerate(wrong)]
    worth = proportion_interval(both, [row.group for row in validation])
    advice = (
        "Let somebody who knows the task check the labels of disputed rows: `tunesmith data audit` lists "
        "them. The model cannot be better than the labels it is judged by."
    )
    evidence = (
        f"{result.summary}; the labels of {sum(both):,} of {sum(wrong):,} wrongly answered validation rows "
        "are disputed"
    )
    return Step(name, advice, evidence, result.answer, worth)


def _more_rows(training: Sequence[Row]) -> Step:
    """Would twice the rows help? A learning curve of a linear classifier on the training rows."""
    name = "too few training rows"
    rows = [training[place] for place in sample_rows(training, MOST_ROWS)]
    targets = [row.target for row in rows]
    counts = Counter(targets)
    few = len(rows) < FEWEST_ROWS or not 2 <= len(counts) <= len(rows) / 5
    matrix = None if few else ngram_matrix([compared_text(row) for row in rows], characters=False)
    if matrix is None:
        evidence = f"a learning curve needs {FEWEST_ROWS} rows of few labels, found {len(rows):,}"
        return Step(name, "", evidence, "unmeasured", None)
    try:
        groups = [row.group or str(place) for place, row in enumerate(rows)]
        worth = extrapolated_gain(*learning_curve(matrix, targets, groups), factor=2.0)
    except UserError as error:
        return Step(name, "", error.what, "unmeasured", None)
    rare = sorted(counts, key=lambda label: (counts[label], label))[:3]
    advice = f"Collect more rows, first of the labels with the fewest: {', '.join(rare)}."
    evidence = (
        f"a simple classifier would gain {in_points(worth)} from twice as many rows; a language model "
        "usually gains less"
    )
    return Step(name, advice, evidence, found_at(worth, worth.high < 2 * WORTH_A_STEP), worth)


def _by_heart(gap: Estimate | None, course: WatchedCourse | None) -> Step | None:
    """Overfitting: right on rows it was taught, not on others."""
    name = "learning by heart"
    if gap is None:
        return None
    advice = (
        "It knows the rows it was taught better than others. Train for fewer epochs, with "
        "train.adapter_dropout or a lower rank, and add rows that differ from those there are."
    )
    evidence = f"right on training rows more often than on validation: {in_points(gap)}"
    if course is not None and course.course in ("overfitting", "diverging"):
        evidence += f"; training was {course.sentence}"
    return Step(name, advice, evidence, found_at(gap, gap.high < 2 * WORTH_A_STEP), gap)


def _too_little(
    train_score: Estimate | None, gap: Estimate | None, course: WatchedCourse | None
) -> Step | None:
    """Underfitting: wrong even on rows that it was taught."""
    if train_score is None:
        return None
    missing = Estimate(
        1 - train_score.value,
        1 - train_score.high,
        1 - train_score.low,
        train_score.rows,
        train_score.groups,
        train_score.level,
        train_score.method,
    )
    advice = (
        "It is wrong even on rows that it was taught. Train for more epochs, with a higher rank or learning "
        "rate, or start from a larger base."
    )
    evidence = f"wrong on {missing.value:.1%} [{missing.low:.1%}, {missing.high:.1%}] of training rows"
    answer = found_at(missing, missing.high < 2 * WORTH_A_STEP)
    if course is not None and course.course == "still learning":
        evidence += f"; training was {course.sentence}"
    return Step("learning too little", advice, evidence, answer, missing)


def hard_slices(slices: Sequence[SliceScore], rows: int, metric: str | None = None) -> list[Step]:
    """The flagged slice that costs most, apart from labels, which the confusions tell.

    ``metric`` is what the scores are where they are not right and wrong, in words.
    """
    flagged = [one for one in slices if one.flagged and one.difference is not None and one.kind != "label"]
    if not flagged:
        tested = sum(one.p_adjusted is not None for one in slices)
        evidence = f"none of {tested} kinds of rows is surely worse than the rest (Holm, 5 %)"
        return [Step("kinds of rows it finds hard", "", evidence, "passed" if tested else "unmeasured", None)]

    def cost(one: SliceScore) -> Estimate:
        assert one.difference is not None
        share = one.tuned.rows / rows
        turned = Estimate(
            -one.difference.value,
            -one.difference.high,
            -one.difference.low,
            one.tuned.rows,
            one.tuned.groups,
            one.difference.level,
            one.difference.method,
        )
        return scaled(turned, share)

    worst = max(flagged, key=lambda one: cost(one).value)
    worth = cost(worst)
    below = abs(worst.difference.value if worst.difference else 0)
    scored = f"{worst.tuned.value:.1%} right, {below:.1%} less often than other rows"
    if metric is not None:
        scored = f"{metric} {worst.tuned.value:.1%}, {100 * below:.1f} points below other rows"
    evidence = f"rows of {worst.name} ({worst.kind}): {scored} (p {worst.p_adjusted:.2g} after Holm)"
    advice = f"Read wrongly answered rows of this kind ({worst.name}), and add training rows like them."
    return [Step("kinds of rows it finds hard", advice, evidence, "failed", worth)]


def found_at(worth: Estimate, surely_small: bool = False) -> Answer:
    """``failed``: there surely is something to gain; ``passed``: surely next to nothing."""
    if worth.low >= WORTH_A_STEP:
        return "failed"
    return "passed" if surely_small or worth.high < WORTH_A_STEP else "unmeasured"


def in_points(worth: Estimate) -> str:
    """``+3.1 points [0.2, 6.0]``."""
    return f"{100 * worth.value:+.1f} points [{100 * worth.low:.1f}, {100 * worth.high:.1f}]"


def best_step(steps: Sequence[Step]) -> Step | None:
    """The trouble found that is worth most; None where none was found."""
    found = [step for step in steps if step.answer == "failed"]
    return max(found, key=lambda step: step.worth.value if step.worth else np.inf) if found else None
