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

from tunesmith.records import Estimate, PairedGain
from tunesmith.stats.clusters import t_quantile
from tunesmith.stats.paired import paired_gain

FEWEST_FOLDS = 3


def outer_folds(
    groups: Sequence[str], folds: int, seed: int, strata: Sequence[str] | None = None
) -> npt.NDArray[np.intp]:
    """The fold (0 … folds − 1) of each row: whole groups, dealt at random so that folds are about equal.

    Larger groups are dealt first, each to the fold with the fewest rows; ties are broken by ``seed``. With
    ``strata``, one for each row (its label), a group goes to a fold with the fewest rows of its stratum, and
    among those to one with the fewest rows; a group counts with its most frequent stratum. Shape (rows,).
    Raises ValueError for fewer than 3 folds or fewer groups than folds.
    """
    names, codes, sizes = np.unique(np.asarray(groups), return_inverse=True, return_counts=True)
    if folds < FEWEST_FOLDS or len(names) < folds:
        raise ValueError(
            f"need {FEWEST_FOLDS} folds and a group for each: {folds} folds, {len(names)} groups"
        )
    random = np.random.default_rng(seed)
    order = random.permutation(len(names))
    order = order[np.argsort(-sizes[order], kind="stable")]
    stratum_of = np.zeros(len(names), dtype=np.intp)
    if strata is not None:
        _, stratum_codes = np.unique(np.asarray(strata), return_inverse=True)
        counts = np.zeros((len(names), int(stratum_codes.max()) + 1))
        np.add.at(counts, (codes, stratum_codes), 1)
        stratum_of = counts.argmax(axis=1)
    rows = np.zeros(folds)
    rows_of_stratum = np.zeros((int(stratum_of.max()) + 1, folds))
    fold_of = np.empty(len(names), dtype=np.intp)
    for group in order:
        own = rows_of_stratum[stratum_of[group]]
        fewest = np.flatnonzero(own == own.min())
        emptiest = fewest[rows[fewest] == rows[fewest].min()]
        fold_of[group] = random.choice(emptiest)
        own[fold_of[group]] += sizes[group]
        rows[fold_of[group]] += sizes[group]
    return np.asarray(fold_of[codes], dtype=np.intp)


def count_folds(groups: Sequence[str], folds: npt.NDArray[np.intp]) -> int:
    """How many folds there are. ValueError for fewer than 3, and when a group lies in two of them."""
    dealt = len(np.unique(folds))
    if len(folds) != len(groups) or dealt < FEWEST_FOLDS:
        raise ValueError(f"need a fold for each of {len(groups)} rows and {FEWEST_FOLDS} folds, got {dealt}")
    if len(set(zip(groups, folds.tolist(), strict=True))) > len(set(groups)):
        raise ValueError("a group lies in two folds: its rows would be both learnt from and tested on")
    return dealt


def inflation(folds: int) -> float:
    """By how much the standard error of K-fold cross-fitting is raised: √(1 + K/(K − 1)).

    Two training sets share (K − 2)/(K − 1) of their rows, so the folds' results hang together and the spread
    of rows alone is too small. Nadeau and Bengio (2003) replace the variance S²/J of J resampled tests by
    S²·(1/J + test share/training share); with J = K, shares 1/K and (K − 1)/K this is S²/K·(1 + K/(K − 1)).
    (Simulated with recipes that learn, in three metrics: docs/few-rows-simulated.md.)
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
    dealt = count_folds(groups, folds)
    gain = paired_gain(candidate_correct, opponent_correct, groups, opponent, alpha_one_sided)
    # The pseudo-win and the pseudo-loss are two more groups.
    return raised_gain(gain, dealt, degrees_of_freedom=gain.groups + 1, span=1.0)


def raised_gain(
    gain: PairedGain, folds: int, degrees_of_freedom: int | None = None, span: float | None = None
) -> PairedGain:
    """A paired gain in any metric, answered by K folds' models, with its error raised by ``inflation``.

    Its bounds move outwards by t·error·(inflation − 1), with Student's t of ``degrees_of_freedom`` (groups
    − 1 where left out), and end at ±``span``. ``design_effect`` is raised by inflation², so that rows needed
    are those that cross-fitting needs.
    """
    factor = inflation(folds)
    raised = replace(gain, design_effect=gain.design_effect * factor**2, mcnemar_p=None)
    if gain.standard_error is None or gain.low is None or gain.high is None:
        return raised
    critical = t_quantile(gain.level, degrees_of_freedom or gain.groups - 1)
    further = critical * gain.standard_error * (factor - 1)
    most = math.inf if span is None else span
    return replace(
        raised,
        low=max(-most, gain.low - further),
        high=min(most, gain.high + further),
        standard_error=gain.standard_error * factor,
    )


def raised_estimate(estimate: Estimate, folds: int) -> Estimate:
    """The interval of a mean over rows that K folds' models answered, made wider by ``inflation``.

    Both sides are stretched from the value; a bound within 0 and 1 stays there.
    """
    factor = inflation(folds)
    low = estimate.value - factor * (estimate.value - estimate.low)
    high = estimate.value + factor * (estimate.high - estimate.value)
    return replace(
        estimate,
        low=max(low, 0.0) if estimate.low >= 0 else low,
        high=min(high, 1.0) if estimate.high <= 1 else high,
        method=f"{estimate.method}, widened {factor:.2f} times for cross-fitting",
    )
