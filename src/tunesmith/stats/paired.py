"""Is one candidate better than another on the same rows? The rule of evidence behind every verdict."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.special import bdtr, bdtrc

from tunesmith.records import PairedGain
from tunesmith.stats.clusters import clustered_ratio, group_codes, t_quantile

FEWEST_GROUPS = 50


def paired_gain(
    candidate_correct: npt.ArrayLike,
    opponent_correct: npt.ArrayLike,
    groups: Sequence[str],
    opponent: str,
    alpha_one_sided: float,
) -> PairedGain:
    """Mean per-row difference "candidate minus opponent" in correctness, with a clustered interval.

    ``candidate_correct`` and ``opponent_correct``: booleans for the same rows, shape (rows,). ``value`` is
    the plain row-weighted mean. The interval is a cluster-t on group sums after one pseudo-win and one
    pseudo-loss joined as two more single-row groups, so it never collapses at zero discordance; with every
    group a single row it is the adjusted Wald interval of Bonett and Price (2012) with t for z. It is
    centred on the mean with the pseudo-rows. ``design_effect`` counts them too, and so is always defined.

    Fewer than 50 groups: bounds and standard error are None (unmeasured). ``mcnemar_p`` is the exact
    two-sided McNemar test; None unless every group is a single row. Raises ValueError when empty, of
    unequal length, or when ``alpha_one_sided`` is not between 0 and 0.5.
    """
    candidate = np.asarray(candidate_correct, dtype=np.bool_).astype(np.float64)
    rival = np.asarray(opponent_correct, dtype=np.bool_).astype(np.float64)
    return paired_score_gain(candidate, rival, groups, opponent, alpha_one_sided)


def paired_score_gain(
    candidate_scores: npt.ArrayLike,
    opponent_scores: npt.ArrayLike,
    groups: Sequence[str],
    opponent: str,
    alpha_one_sided: float,
    span: float | None = 1.0,
) -> PairedGain:
    """The same for any score per row (ROUGE, a user's own metric), shape (rows,), with 1 for right.

    ``span`` is the width of the range a score can have: the size of the pseudo-win and the pseudo-loss. None
    where the range has no end: then there are none. ``discordant`` is the mean squared difference. McNemar's
    test is None unless every score is 0 or 1. Errors as in ``paired_gain``, and ValueError when a score is
    not finite.
    """
    if not 0 < alpha_one_sided < 0.5:
        raise ValueError(f"a one-sided level lies between 0 and 0.5, got {alpha_one_sided}")
    candidate = np.asarray(candidate_scores, dtype=np.float64)
    rival = np.asarray(opponent_scores, dtype=np.float64)
    if not len(candidate) == len(rival) == len(groups) or len(candidate) == 0:
        raise ValueError(f"need equally many rows: {len(candidate)}, {len(rival)}, {len(groups)}")
    difference = candidate - rival
    wins, losses = int((difference > 0).sum()), int((difference < 0).sum())
    rows = len(difference)
    binary = bool(np.isin(candidate, (0, 1)).all() and np.isin(rival, (0, 1)).all())

    codes = group_codes(groups)
    group_count = int(codes.max()) + 1
    pseudo = [] if span is None else [span, -span]
    with_pseudo = np.append(difference, pseudo)
    ratio = clustered_ratio(
        with_pseudo, np.ones_like(with_pseudo), np.append(codes, group_count + np.arange(len(pseudo)))
    )

    level = 1 - 2 * alpha_one_sided
    low = high = None
    if group_count >= FEWEST_GROUPS and ratio.standard_error is not None:
        half = t_quantile(level, ratio.groups - 1) * ratio.standard_error
        most = math.inf if span is None else span
        low, high = max(-most, ratio.value - half), min(most, ratio.value + half)
    return PairedGain(
        opponent=opponent,
        value=(wins - losses) / rows if binary else float(difference.mean()),
        low=low,
        high=high,
        level=level,
        rows=rows,
        groups=group_count,
        wins=wins,
        losses=losses,
        discordant=float((difference**2).mean()),
        design_effect=ratio.design_effect or 1.0,
        standard_error=None if low is None else ratio.standard_error,
        mcnemar_p=_mcnemar_exact(wins, losses) if binary and group_count == rows else None,
    )


def clearly_behind(gain: PairedGain) -> bool:
    """Whether a paired gain (over a leader) lies below 0 with its whole interval; not if unmeasured."""
    return gain.high is not None and gain.high < 0


def more_often_than(wins: int, rows: int, share: float) -> float:
    """One-sided p-value of the exact binomial test that wins are more than ``share`` of ``rows``."""
    return float(bdtrc(wins - 1, rows, share))


def _mcnemar_exact(wins: int, losses: int) -> float:
    """Two-sided binomial test that wins and losses are equally likely (McNemar 1947, exact form)."""
    return min(1.0, 2 * float(bdtr(min(wins, losses), wins + losses, 0.5)))
