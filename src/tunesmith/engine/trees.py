"""Possible answers as one tree of tokens, so that what they share is read once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class LabelTree:
    """Token sequences merged into a tree; node 0 is the end of the prompt and holds no token (−1).

    ``tokens``, ``parents`` and ``depths`` are per node, parents before children; ``ends`` is the node at
    which each sequence ends, ``lengths`` its number of tokens.
    """

    tokens: tuple[int, ...]
    parents: tuple[int, ...]
    depths: tuple[int, ...]
    ends: tuple[int, ...]
    lengths: tuple[int, ...]

    @cached_property
    def inner(self) -> Integers:
        """The nodes that have children, node 0 apart: those a model must read to predict the rest."""
        return np.array(sorted(set(self.parents) - {0, -1}), dtype=np.int64)

    @cached_property
    def paths(self) -> Integers:
        """[sequences, longest]: the nodes of every sequence in order, padded with the number of nodes."""
        padded = np.full((len(self.ends), max(self.lengths)), len(self.tokens))
        for index, (end, length) in enumerate(zip(self.ends, self.lengths, strict=True)):
            node = end
            for place in range(length - 1, -1, -1):
                padded[index, place] = node
                node = self.parents[node]
        return padded

    def sequences(self) -> list[list[int]]:
        """The token sequences that were merged, in their order."""
        return [
            [self.tokens[node] for node in path[:length]]
            for path, length in zip(self.paths.tolist(), self.lengths, strict=True)
        ]

    @cached_property
    def children(self) -> Integers:
        """[nodes, most children]: the children of each node, padded with the number of nodes."""
        lists: list[list[int]] = [[] for _ in self.tokens]
        for node in range(1, len(self.tokens)):
            lists[self.parents[node]].append(node)
        padded = np.full((len(self.tokens), max(map(len, lists))), len(self.tokens))
        for node, children in enumerate(lists):
            padded[node, : len(children)] = children
        return padded

    @cached_property
    def ancestors(self) -> NDArray[np.bool_]:
        """[nodes, nodes]: True where the second is the first or one of its ancestors (node 0 apart)."""
        seen = np.eye(len(self.tokens), dtype=bool)
        for node in range(1, len(self.tokens)):
            if self.parents[node]:
                seen[node] |= seen[self.parents[node]]
        return seen


def answer_tree(answers: Sequence[Sequence[int]]) -> LabelTree:
    """Merge sequences of token ids, none empty."""
    tokens, parents, depths, ends = [-1], [-1], [0], []
    children: dict[tuple[int, int], int] = {}
    for answer in answers:
        node = 0
        for token in answer:
            if (node, token) not in children:
                children[node, token] = len(tokens)
                tokens.append(token)
                parents.append(node)
                depths.append(depths[node] + 1)
            node = children[node, token]
        ends.append(node)
    lengths = tuple(len(answer) for answer in answers)
    return LabelTree(tuple(tokens), tuple(parents), tuple(depths), tuple(ends), lengths)


def label_tree(labels: Sequence[Sequence[int]], end_token: int) -> LabelTree:
    """Merge the labels' token ids, which must be distinct, each closed by the end token."""
    return answer_tree([[*label, end_token] for label in labels])
