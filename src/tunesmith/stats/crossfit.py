"""Few rows: the gain of a recipe by nested group cross-fitting, instead of the gain of one model on a test.

Groups are dealt into K outer folds. For each fold the whole recipe (curation, prompt choice, tuning,
threshold) is run on the other folds, validation inside them, and answers the rows of the fold, unseen so far.
Every row is answered once, so all rows count. What is estimated is the recipe's gain when it learns from
(K − 1)/K of the rows; the model to be used is then trained on everything and is not tested itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from tunesmith.records import PairedGain
from tunesmith.stats.clusters import t_quantile
from tunesmith.stats.paired import paired_gain

FEWEST_FOLDS = 3


def outer_folds(groups: Sequence[str], folds: int, seed: int) -> npt.NDArray[np.intp]:
    """The fold (0 … folds − 1) of each row: whole groups, dealt at random so that folds are about equal.

    Larger groups are dealt first, each to the fold with the fewest rows; ties are broken by ``seed``. Shape
    (rows,). Raises ValueError for fewer than 3 folds or fewer groups than folds.
    """
    names, codes, sizes = np.unique(np.asarray(groups), return_inverse=True, return_counts=True)
    if folds < FEWEST_FOLDS or len(names) < folds:
        raise ValueError(
            f"need {FEWEST_FOLDS} folds and a group for each: {folds} folds, {len(names)} groups"
        )
    random = np.random.default_rng(seed)
    order = random.permutation(len(names))
    order = order[np.argsort(-sizes[order], kind="stable")]
    rows = np.zeros(folds)
    fold_of = np.empty(len(names), dtype=np.intp)
    for group in order:
        emptiest = np.flatnonzero(rows == rows.min())
        fold_of[group] = random.choice(emptiest)
        rows[fold_of[group]] += sizes[group]
    return np.asarray(fold_of[codes], dtype=np.intp)


def inflation(folds: int) -> float:
    """By how much the standard error of K-fold cross-fitting is raised: √(1 + K/(K − 1)).

    Two training sets share (K − 2)/(K − 1) of their rows, so the folds' results hang together and the spread
    of rows alone is too small. Nadeau and Bengio (2003) replace the variance S²/J of J resampled tests by
    S²·(1/J + test share/training share); with J = K, shares 1/K and (K − 1)/K this is S²/K·(1 + K/(K − 1)).
    (Simulated, 80 groups, 5 folds, two equal recipes that learn: a plain 95 % interval holds the true gain of
    0 in 86 to 97 % of projects, 1-nearest-neighbour being the worst; this one in 98 to 100 %.)
    """
    return math.sqrt(1 + folds / (folds - 1))


def crossfit_gain(
    candidate_correct: npt.ArrayLike,
    opponent_correct: npt.ArrayLike,
    groups: Sequence[str],
    folds: npt.NDArray[np.intp],
    opponent: str,
    alpha_one_sided: float,
) -> PairedGain:
    """The recipe's gain over the opponent's recipe, from answers that every fold's models gave to its rows.

    As ``paired_gain`` (cluster-t on group sums with two pseudo-rows, unmeasured below 50 groups), with the
    standard error raised by ``inflation``. ``folds``: the fold of each row, as dealt by ``outer_folds``.
    There is no McNemar test: it knows nothing of training sets. Raises ValueError as ``paired_gain``, for
    fewer than 3 folds, and when a group lies in two folds.
    """
    dealt = len(np.unique(folds))
    if len(folds) != len(groups) or dealt < FEWEST_FOLDS:
        raise ValueError(f"need a fold for each of {len(groups)} rows and {FEWEST_FOLDS} folds, got {dealt}")
    if len(set(zip(groups, folds.tolist(), strict=True))) > len(set(groups)):
        raise ValueError("a group lies in two folds: its rows would be both learnt from and tested on")
    gain = paired_gain(candidate_correct, opponent_correct, groups, opponent, alpha_one_sided)
    if gain.standard_error is None:
        return replace(gain, mcnemar_p=None)
    error = gain.standard_error * inflation(dealt)
    # The pseudo-rows draw the centre towards 0 by as much as they draw the mean.
    centre = (gain.wins - gain.losses) / (gain.rows + 2)
    half = t_quantile(gain.level, gain.groups + 1) * error
    return replace(
        gain,
        low=max(-1.0, centre - half),
        high=min(1.0, centre + half),
        standard_error=error,
        mcnemar_p=None,
    )
