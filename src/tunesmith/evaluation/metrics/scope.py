""" "None of these": rows that no label fits, and the threshold below which no label is given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tunesmith.evaluation.metrics.answered import Answered, Bools, RowScores, unmeasured
from tunesmith.records import Estimate
from tunesmith.stats.conformal import conformal_threshold
from tunesmith.stats.intervals import proportion_interval
from tunesmith.stats.jackknife import Statistic
from tunesmith.stats.ranks import auroc


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
    validation rows. Errors as in ``conformal_threshold``, and UserError without a row in scope.
    """
    values, outside = np.asarray(scores, dtype=np.float64), np.asarray(out_of_scope, dtype=np.bool_)
    names = np.array(groups)
    if outside.all():
        raise unmeasured("the threshold", "every validation row is out of scope", "add rows a label fits")
    threshold = conformal_threshold(values[outside], names[outside].tolist(), false_accept_rate)
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
    if outside.all():
        raise unmeasured("false_reject_rate", "every row is out of scope", "add rows that a label fits")
    return RowScores((~_labelled(answered)).astype(np.float64), about=~outside)


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
