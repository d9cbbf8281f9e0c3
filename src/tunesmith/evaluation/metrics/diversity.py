"""Does a candidate say different things, or the same thing again and again?"""

from __future__ import annotations

from collections import Counter
from functools import partial

import numpy as np

from tunesmith.evaluation.metrics.answered import Answered, RowScores, unmeasured
from tunesmith.evaluation.metrics.words import ngrams, words
from tunesmith.stats.clusters import Codes, Floats
from tunesmith.stats.jackknife import Statistic

_REPEATED_SIZE = 4


def distinct_1(answered: Answered) -> Statistic:
    """Different words over all words of all answers together (Li et al. 2016).

    It falls with the number of words, so it compares candidates on the same rows and nothing else; for the
    same reason its interval says how much it varies between samples of this size, and leans wide.
    """
    return _distinct("distinct_1", answered, 1)


def distinct_2(answered: Answered) -> Statistic:
    """The same of pairs of neighbouring words."""
    return _distinct("distinct_2", answered, 2)


def distinct_3(answered: Answered) -> Statistic:
    """The same of three neighbouring words."""
    return _distinct("distinct_3", answered, 3)


def repetition(answered: Answered) -> RowScores:
    """Share of an answer's 4-grams said before in it, a mean over rows (seq-rep-4, Welleck et al. 2020).

    Answers of fewer than five words cannot repeat and count as 0.
    """
    scores = []
    for answer in answered.predictions:
        counts = ngrams(words(answer), _REPEATED_SIZE)
        scores.append(1 - len(counts) / counts.total() if counts else 0.0)
    return RowScores(np.array(scores))


def _distinct(metric: str, answered: Answered, size: int) -> Statistic:
    counts = [ngrams(words(answer), size) for answer in answered.predictions]
    totals = np.array([count.total() for count in counts])
    if not totals.any():
        raise unmeasured(metric, f"no answer has {size} words")
    rows_of: dict[tuple[str, ...], list[int]] = {}
    for row, count in enumerate(counts):
        for ngram in count:
            rows_of.setdefault(ngram, []).append(row)
    return Statistic(
        len(rows_of) / int(totals.sum()), len(counts), partial(_without, list(rows_of.values()), totals)
    )


def _without(rows_of: list[list[int]], totals: Codes, codes: Codes) -> Floats:
    """An n-gram is lost with a group exactly when no other group has it."""
    by_row = codes.tolist()
    number = max(by_row) + 1
    lost: Counter[int] = Counter()
    for rows in rows_of:
        holders = {by_row[row] for row in rows}
        if len(holders) == 1:
            lost[holders.pop()] += 1
    left = totals.sum() - np.bincount(codes, weights=totals, minlength=number)
    distinct = len(rows_of) - np.array([lost[group] for group in range(number)])
    return np.where(left > 0, distinct / np.maximum(left, 1), np.nan)
