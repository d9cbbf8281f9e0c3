""" "None of these": rows that no label fits, and the threshold below which no label is given."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tunesmith.errors import UserError
from tunesmith.evaluation.metrics.answered import Answered, Bools, RowScores, unmeasured
from tunesmith.records import Estimate
from tunesmith.stats.clusters import Codes, Floats, group_codes
from tunesmith.stats.intervals import proportion_interval
from tunesmith.stats.jackknife import Statistic


@dataclass(frozen=True)
class ScopeThreshold:
    """A row gets a label where its score is at least ``threshold``.

    ``false_accepts``: the share of out-of-scope validation rows that get one all the same; ``accepted``: the
    share of the other rows that do. Both are of the rows the threshold was chosen on.
    """

    threshold: float
    false_accept_rate: float
    false_accepts: Estimate
    accepted: Estimate


def choose_threshold(
    scores: npt.ArrayLike, out_of_scope: npt.ArrayLike, groups: Sequence[str], false_accept_rate: float
) -> ScopeThreshold:
    """The lowest threshold whose false accepts are expected to stay at or under ``false_accept_rate``.

    ``scores``: shape (rows,), larger the more surely a label fits; ``out_of_scope``: booleans; both of
    validation rows. Split conformal prediction (Vovk et al. 2005) with groups as the unit: at most
    ⌊rate·(G + 1)⌋ − 1 of the G groups that hold out-of-scope rows may have one at or above the threshold.
    Then the chance that any such row of a new group is accepted is at most the rate, whatever the scores'
    distribution. Raises UserError (exit code 3) with fewer than 1/rate − 1 such groups or without a row in
    scope, ValueError for a rate outside (0, 1).
    """
    if not 0 < false_accept_rate < 1:
        raise ValueError(f"a false-accept rate lies between 0 and 1, got {false_accept_rate}")
    values, outside = np.asarray(scores, dtype=np.float64), np.asarray(out_of_scope, dtype=np.bool_)
    names = np.array(groups)
    if outside.all():
        raise unmeasured("the threshold", "every validation row is out of scope", "add rows a label fits")
    codes = group_codes(names[outside].tolist())
    number = int(codes.max()) + 1 if len(codes) else 0
    # The small number keeps 0.05·20 from falling short of 1.
    may_pass = math.floor(false_accept_rate * (number + 1) + 1e-9) - 1
    if may_pass < 0:
        least = math.ceil(1 / false_accept_rate - 1e-9) - 1
        raise UserError(
            f"a false-accept rate of {false_accept_rate:.1%} needs out-of-scope validation rows in at least "
            f"{least} groups, found {number}",
            "collect more rows that no label fits, or allow a higher rate",
            exit_code=3,
        )
    highest = np.full(number, -np.inf)
    np.maximum.at(highest, codes, values[outside])
    ranked = np.sort(highest)[::-1]
    # Just above the first group that must not pass.
    threshold = float(np.nextafter(ranked[may_pass], np.inf))
    accepted = values >= threshold
    return ScopeThreshold(
        threshold=threshold,
        false_accept_rate=false_accept_rate,
        false_accepts=proportion_interval(accepted[outside], names[outside].tolist()),
        accepted=proportion_interval(accepted[~outside], names[~outside].tolist()),
    )


def apply_threshold(
    answers: Sequence[str], scores: npt.ArrayLike, threshold: float, none_label: str
) -> list[str]:
    """``answers``, with ``none_label`` where the score is below the threshold."""
    values = np.asarray(scores, dtype=np.float64).tolist()
    return [
        answer if score >= threshold else none_label for answer, score in zip(answers, values, strict=True)
    ]


def scope_auroc(answered: Answered) -> Statistic:
    """Chance that an in-scope row scores higher than an out-of-scope one, a tie counting half.

    Equals scikit-learn's ``roc_auc_score``. Raises UserError (exit code 3) where one kind is missing.
    """
    scores = answered.scope_scores if answered.scope_scores is not None else answered.confidences
    if scores is None:
        raise unmeasured("scope_auroc", "this candidate has no score or probability for its answers")
    inside = ~_out_of_scope(answered, "scope_auroc")
    if not inside.any():
        raise unmeasured("scope_auroc", "every row is out of scope", "add rows that a label fits")
    return auroc(np.asarray(scores, dtype=np.float64), inside)


def false_accept_rate(answered: Answered) -> RowScores:
    """Share of the out-of-scope rows that are given a label."""
    outside = _out_of_scope(answered, "false_accept_rate")
    return RowScores(_labelled(answered).astype(np.float64), about=outside)


def false_reject_rate(answered: Answered) -> RowScores:
    """Share of the other rows that are given none."""
    outside = _out_of_scope(answered, "false_reject_rate")
    return RowScores((~_labelled(answered)).astype(np.float64), about=~outside)


def auroc(scores: Floats, positive: Bools) -> Statistic:
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


def _won_pairs(scores: Floats, positive: Bools) -> float:
    if positive.all() or not positive.any():
        return 0.0
    difference = scores[positive][:, None] - scores[~positive][None, :]
    return float((difference > 0).sum() + (difference == 0).sum() / 2)


def _out_of_scope(answered: Answered, metric: str) -> Bools:
    if answered.none_label is None:
        raise unmeasured(metric, 'the task names no label for "none of these"')
    outside = np.array([target == answered.none_label for target in answered.targets])
    if not outside.any():
        raise unmeasured(
            metric, f"no row has the target {answered.none_label!r}", "add rows that no label fits"
        )
    return outside


def _labelled(answered: Answered) -> Bools:
    return np.array([answer != answered.none_label for answer in answered.predictions])
