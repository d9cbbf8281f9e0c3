"""Which nodes of a label tree are still worth reading: branch and bound over labels.

A label's log-probability only falls with every further token, so what its first tokens have is a bound
on the whole; a label whose bound lies below the best whole label need not be read to its end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tunesmith.engine.trees import Integers, LabelTree

FloatArray = NDArray[np.float64]

FEW_NODES = 32


@dataclass(frozen=True)
class Pruning:
    """Labels are ranked by ``weights`` · log p − ``offsets`` (both [labels], weights above 0).

    The best label by this score, and its log-probability, come out exact. With ``mass``, the labels left
    out hold in all no more than that share of the probability of the most probable one, so normalised
    probabilities are off by no more.
    """

    weights: FloatArray
    offsets: FloatArray
    mass: float | None = None


def plain_pruning(labels: int, mass: float | None = None) -> Pruning:
    """Labels ranked by their log-probability."""
    return Pruning(np.ones(labels), np.zeros(labels), mass)


def nodes_to_read(tree: LabelTree, steps: FloatArray, rules: Sequence[Pruning] | None) -> list[Integers]:
    """For every row the nodes to read next; none where all rules are satisfied.

    ``steps`` [rows, nodes + 1] holds log p of each node after its parent, NaN where it is not known yet
    and 0 in the last column. Without rules every label is wanted.
    """
    reach, depths = reached(tree, steps)
    complete = depths == np.array(tree.lengths)
    # The deepest node whose log-probability is known, on the way to every label.
    frontier = np.take_along_axis(tree.paths[None], depths[:, :, None] - 1, axis=2)[:, :, 0]
    wanted = ~complete if rules is None else np.zeros_like(complete)
    whole = np.full_like(complete, rules is None)
    for rule in rules or ():
        scores = rule.weights * reach - rule.offsets
        best = np.where(complete, scores, -np.inf).max(axis=1, keepdims=True)
        promising = ~complete & (scores >= best)
        if rule.mass is not None:
            promising |= _too_much_to_leave_out(reach, complete, frontier, rule.mass)
        # Nothing can be left out before one label is whole: read on to the end of the likeliest.
        likeliest = np.zeros_like(complete)
        likeliest[np.arange(len(scores)), np.where(complete, -np.inf, scores).argmax(axis=1)] = True
        started = np.isfinite(best)
        wanted |= promising & (started | likeliest)
        whole |= ~started & likeliest
    # A last few nodes are not worth a pass for every level.
    if sum(len(np.unique(frontier[row, wanted[row]])) for row in range(len(steps))) < FEW_NODES:
        whole |= wanted
    return [
        _nodes_of_row(tree, np.flatnonzero(wanted[row]), frontier[row], depths[row], whole[row])
        for row in range(len(steps))
    ]


def reached(tree: LabelTree, steps: FloatArray) -> tuple[FloatArray, Integers]:
    """[rows, labels]: log p of the known part of each label, and how many tokens that is."""
    along = steps[:, tree.paths]
    known = np.logical_and.accumulate(~np.isnan(along), axis=2)
    depths = (known & (tree.paths < len(tree.tokens))).sum(axis=2)
    return np.where(known, along, 0.0).sum(axis=2), depths


def _nodes_of_row(
    tree: LabelTree, labels: Integers, frontier: Integers, depths: Integers, whole: NDArray[np.bool_]
) -> Integers:
    nodes = set(frontier[labels].tolist())
    for label in labels[whole[labels]].tolist():
        nodes.update(tree.paths[label, depths[label] - 1 : tree.lengths[label] - 1].tolist())
    return np.array(sorted(nodes), dtype=np.int64)


def _too_much_to_leave_out(
    reach: FloatArray, complete: NDArray[np.bool_], frontier: Integers, mass: float
) -> NDArray[np.bool_]:
    """[rows, labels]: incomplete labels that may not be left out together with all less likely ones."""
    wanted = np.zeros_like(complete)
    best = np.where(complete, reach, -np.inf).max(axis=1)
    for row in np.flatnonzero(~complete.all(axis=1)):
        open_labels = np.flatnonzero(~complete[row])
        # Labels still on the same node share its probability.
        nodes, first = np.unique(frontier[row, open_labels], return_index=True)
        log_p = reach[row, open_labels[first]]
        order = np.argsort(log_p)
        with np.errstate(over="ignore"):
            held = np.cumsum(np.exp(log_p[order] - best[row])) if np.isfinite(best[row]) else np.inf
        too_much = nodes[order][np.broadcast_to(held > mass, len(order))]
        wanted[row, open_labels] = np.isin(frontier[row, open_labels], too_much)
    return wanted
