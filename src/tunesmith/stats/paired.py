"""Is one candidate better than another on the same rows? The rule of evidence behind every verdict."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.special import bdtr

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
    if not 0 < alpha_one_sided < 0.5:
        raise ValueError(f"a one-sided level lies between 0 and 0.5, got {alpha_one_sided}")
    candidate = np.asarray(candidate_correct, dtype=np.bool_)
    rival = np.asarray(opponent_correct, dtype=np.bool_)
    if not len(candidate) == len(rival) == len(groups) or len(candidate) == 0:
        raise ValueError(f"need equally many rows: {len(candidate)}, {len(rival)}, {len(groups)}")
    difference = candidate.astype(np.float64) - rival
    wins, losses = int((difference > 0).sum()), int((difference < 0).sum())
    rows = len(difference)

    codes = group_codes(groups)
    group_count = int(codes.max()) + 1
    with_pseudo = np.append(difference, [1.0, -1.0])
    ratio = clustered_ratio(
        with_pseudo, np.ones_like(with_pseudo), np.append(codes, [group_count, group_count + 1])
    )
    if ratio.standard_error is None or ratio.design_effect is None:
        raise AssertionError("two pseudo-rows in groups of their own always give a variance")

    level = 1 - 2 * alpha_one_sided
    measured = group_count >= FEWEST_GROUPS
    half = t_quantile(level, ratio.groups - 1) * ratio.standard_error
    return PairedGain(
        opponent=opponent,
        value=(wins - losses) / rows,
        low=max(-1.0, ratio.value - half) if measured else None,
        high=min(1.0, ratio.value + half) if measured else None,
        level=level,
        rows=rows,
        groups=group_count,
        wins=wins,
        losses=losses,
        discordant=(wins + losses) / rows,
        design_effect=ratio.design_effect,
        standard_error=ratio.standard_error if measured else None,
        mcnemar_p=_mcnemar_exact(wins, losses) if group_count == rows else None,
    )


def clearly_behind(
    correct: npt.ArrayLike, leader_correct: npt.ArrayLike, groups: Sequence[str], alpha_one_sided: float
) -> bool:
    """Whether a candidate's paired gain over the leader lies below 0 with its whole interval.

    Shapes, groups and errors as in :func:`paired_gain`; never true for fewer than 50 groups.
    """
    gain = paired_gain(correct, leader_correct, groups, "leader", alpha_one_sided)
    return gain.high is not None and gain.high < 0


def _mcnemar_exact(wins: int, losses: int) -> float:
    """Two-sided binomial test that wins and losses are equally likely (McNemar 1947, exact form)."""
    return min(1.0, 2 * float(bdtr(min(wins, losses), wins + losses, 0.5)))
