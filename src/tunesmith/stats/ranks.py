"""Does a score rank one kind of row above another?"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tunesmith.stats.clusters import Codes, Floats
from tunesmith.stats.jackknife import Statistic


def auroc(scores: Floats, positive: npt.NDArray[np.bool_]) -> Statistic:
    """Area under the ROC curve as a Mann–Whitney statistic; ``scores`` and ``positive`` of shape (rows,).

    Leaving a group out takes away its pairs with everybody else, counted once (Obuchowski 1997).
    """
    above, below = np.sort(scores[positive]), np.sort(scores[~positive])
    # For each row: pairs with all rows of the other kind that speak for a high score of positive rows.
    won = np.where(
        positive,
        (np.searchsorted(below, scores, "left") + np.searchsorted(below, scores, "right")) / 2,
        len(above) - (np.searchsorted(above, scores, "left") + np.searchsorted(above, scores, "right")) / 2,
    )
    total = float(won[positive].sum())

    def without(codes: Codes) -> Floats:
        number = int(codes.max()) + 1
        order = np.argsort(codes, kind="stable")
        starts = np.searchsorted(codes[order], np.arange(number))
        inner = np.array([_won_pairs(scores[rows], positive[rows]) for rows in np.split(order, starts[1:])])
        pairs = total - np.bincount(codes, weights=won, minlength=number) + inner
        positives = len(above) - np.bincount(codes, weights=positive, minlength=number)
        negatives = len(below) - np.bincount(codes, weights=~positive, minlength=number)
        possible = positives * negatives
        return np.where(possible > 0, pairs / np.maximum(possible, 1), np.nan)

    return Statistic(total / (len(above) * len(below)), len(scores), without)


def _won_pairs(scores: Floats, positive: npt.NDArray[np.bool_]) -> float:
    if positive.all() or not positive.any():
        return 0.0
    difference = scores[positive][:, None] - scores[~positive][None, :]
    return float((difference > 0).sum() + (difference == 0).sum() / 2)
