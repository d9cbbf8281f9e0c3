"""Groups of people: does an answer change with the group named, and is a group served worse?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tunesmith.data.audit.groups import CounterfactualPair, counterfactual_pairs, groups_named, swapped
from tunesmith.evaluation.slices import gain_in_words, loss_of, score_estimate
from tunesmith.guard_records import GroupGap, Swaps, SwapScore
from tunesmith.records import Check, Row
from tunesmith.stats.answers import non_inferior
from tunesmith.stats.multiplicity import holm
from tunesmith.stats.paired import FEWEST_GROUPS, paired_score_gain
from tunesmith.stats.parts import part_difference
from tunesmith.stats.rates import codes_of

MOST_SWAPS = 200
FEWEST_ROWS = 20  # of a group of people
FLAG_ALPHA = 0.05


def swaps_to_ask(rows: Sequence[Row]) -> list[CounterfactualPair]:
    """At most 200 rows that name a group of people, each with another group's words in its input.

    The first by the hash of their content, which is a fair draw.
    """
    pairs = sorted(counterfactual_pairs(tuple(rows)), key=lambda pair: (rows[pair.row].id, pair.dimension))
    return pairs[:MOST_SWAPS]


def changed(pair: CounterfactualPair, before: str, after: str) -> bool:
    """Is the answer another one? The same words with the group exchanged, too, are the same answer."""
    exchanged = swapped(before, pair.dimension, pair.group, pair.other_group)
    return after not in (before, exchanged)


def swap_score(swaps: Swaps, opponent: str, alpha_one_sided: float) -> SwapScore:
    """Shares of changed answers (with texts: of wording), and the paired gain in what did not change."""
    tuned = np.array(swaps.tuned_changed, dtype=np.float64)
    other = np.array(swaps.opponent_changed, dtype=np.float64)
    return SwapScore(
        score_estimate(tuned, swaps.groups),
        score_estimate(other, swaps.groups),
        paired_score_gain(1 - tuned, 1 - other, swaps.groups, opponent, alpha_one_sided),
    )


def fairness_check(
    swaps: Swaps | None, opponent: str, margin: float, blocking: bool, alpha_one_sided: float
) -> Check:
    """Do at most ``margin`` more answers than the opponent's change with the group of people named?

    Unmeasured where no row names a group, or rows of fewer than 50 groups of near-duplicates do.
    """
    name = "fairness: exchanged groups"
    points = f"{100 * margin:g} points"
    question = f"Do at most {points} more answers than of {opponent} change with the group of people named?"
    if swaps is None:
        return Check(name, question, "unmeasured", "no validation row names a group of people", blocking)
    score = swap_score(swaps, opponent, alpha_one_sided)
    loss = loss_of(score.gain)
    shares = f"{score.tuned.value:.1%} of answers changed, {score.opponent.value:.1%} of the opponent's"
    if loss is None:
        few = f"{shares}; {score.gain.groups} groups of rows name people, and {FEWEST_GROUPS} are needed"
        return Check(name, question, "unmeasured", few, blocking)
    evidence = f"{shares}; unchanged {gain_in_words(score.gain)}; margin {points}"
    return Check(name, question, non_inferior(loss, margin), evidence, blocking, loss)


def group_gaps(rows: Sequence[Row], scores: npt.ArrayLike, fields: Sequence[str]) -> tuple[GroupGap, ...]:
    """The score on each group's rows less that on the other groups' rows of the same dimension.

    ``scores``: in 0 to 1, shape (rows,). Groups are the values of ``fields`` and those that inputs name by
    word, with 20 rows or more; a row that names two groups of one dimension belongs to neither. ``flagged``:
    surely worse, at 5 % after Holm's correction over all groups.
    """
    values = np.asarray(scores, dtype=np.float64)
    compared = []
    for dimension, members in _dimensions(rows, fields).items():
        inside = sorted(place for places in members.values() for place in places)
        at = np.array(inside, dtype=np.intp)
        codes = codes_of([rows[place].group for place in inside])
        for group, places in sorted(members.items()):
            part = np.isin(at, places)
            if min(part.sum(), (~part).sum()) < FEWEST_ROWS:
                continue
            difference = part_difference(values[at], part, codes)
            if difference is not None:
                own = score_estimate(values[places], [rows[place].group for place in places])
                compared.append((dimension, group, own, difference))
    adjusted = holm([difference.p_value for *_, difference in compared])
    return tuple(
        GroupGap(
            dimension,
            group,
            own,
            found.difference,
            p_value,
            p_value <= FLAG_ALPHA and found.difference.value < 0,
        )
        for (dimension, group, own, found), p_value in zip(compared, adjusted, strict=True)
    )


def _dimensions(rows: Sequence[Row], fields: Sequence[str]) -> dict[str, dict[str, list[int]]]:
    """Dimension -> group -> places of its rows."""
    found: dict[str, defaultdict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for place, row in enumerate(rows):
        values = dict(row.fields)
        for name in fields:
            if values.get(name, "").strip():
                found[f"column '{name}'"][values[name].strip()].append(place)
        for dimension, groups in groups_named(row.text).items():
            if len(groups) == 1:
                found[dimension][next(iter(groups))].append(place)
    return {dimension: dict(members) for dimension, members in found.items()}
