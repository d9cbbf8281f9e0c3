"""Scores of single texts in 0 to 1, larger when better, as slices, attacks and groups of people need them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tunesmith.data.questions import Questions
from tunesmith.evaluation.judging import Judging, row_scores
from tunesmith.records import Message, Row
from tunesmith.task.kinds import GOAL_METRICS, is_share

# Of a corpus: of one row they are nearly always 0.
_OF_A_CORPUS = ("bleu", "bleu_lowercase")


def row_judging(judging: Judging) -> Judging:
    """The judging whose metric scores single rows in 0 to 1: the goal's, else the kind's default.

    BLEU and CIDEr say next to nothing about one row, and a function of the user's own has no known range.
    """
    if is_share(judging.metric) and judging.metric not in _OF_A_CORPUS:
        return judging
    return replace(judging, goal=GOAL_METRICS[judging.kind][0])


def unit_scores(judging: Judging, asked: Questions, answers: Sequence[str]) -> list[float]:
    """Each row's score by ``row_judging``, shape (rows,); of a metric that should be small 1 less it.

    A row that the metric says nothing about (nothing to extract, and nothing extracted; another script)
    counts as 1 where its answer equals a right one, else as 0.
    """
    by_row = row_judging(judging)
    return [
        float(answer.strip() in {one.strip() for one in right})
        if score is None
        else min(1.0, max(0.0, score + (by_row.sign < 0)))
        for score, answer, right in zip(
            row_scores(by_row, asked, answers), answers, asked.references, strict=True
        )
    ]


def other_labels(after: str, before: str) -> float:
    """How different two sets of labels are: 1 − Jaccard, 0 to 1."""
    from tunesmith.evaluation.metrics.answered import Answered
    from tunesmith.evaluation.metrics.measure import value_of

    row = Row("compared", "compared", (Message("user", ""),), before)
    return 1.0 - value_of("jaccard", Answered([row], [after]))


def rewording(after: str, before: Sequence[str]) -> float:
    """How differently ``after`` is worded from the nearest of the answers ``before``: 1 − chrF, 0 to 1."""
    from tunesmith.evaluation.metrics.answered import Answered
    from tunesmith.evaluation.metrics.measure import value_of

    if after in before:
        return 0.0
    row = Row("compared", "compared", (Message("user", ""),), before[0])
    return 1.0 - value_of("chrf", Answered([row], [after], references=[tuple(before)]))
