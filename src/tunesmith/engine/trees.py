"""The labels of a task as one tree of tokens, so that all are scored in one forward pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class LabelTree:
    """Token sequences of the labels merged into a tree; node 0 is the end of the prompt.

    ``tokens``, ``parents``, ``depths`` are per node (node 0 holds no token) with parents before children;
    ``ends`` is the node at which each label ends; ``lengths`` its number of tokens with the end token;
    ``end_token`` closes every label.
    """

    tokens: tuple[int, ...]
    parents: tuple[int, ...]
    depths: tuple[int, ...]
    ends: tuple[int, ...]
    lengths: tuple[int, ...]
    end_token: int

    @cached_property
    def roots(self) -> list[int]:
        """The nodes of the labels' first tokens: one branch of the tree each."""
        return [node for node in range(1, len(self.tokens)) if self.parents[node] == 0]

    @cached_property
    def branches(self) -> NDArray[np.int64]:
        """[nodes]: the index in ``roots`` of the branch a node belongs to; −1 for node 0."""
        branch = np.full(len(self.tokens), -1)
        for index, root in enumerate(self.roots):
            branch[root] = index
        for node in range(1, len(self.tokens)):
            if self.parents[node]:
                branch[node] = branch[self.parents[node]]
        return branch

    @cached_property
    def children(self) -> NDArray[np.int64]:
        """[nodes, most children]: the children of each node, padded with the number of nodes."""
        lists: list[list[int]] = [[] for _ in self.tokens]
        for node in range(1, len(self.tokens)):
            lists[self.parents[node]].append(node)
        most = max(len(children) for children in lists)
        padded = np.full((len(self.tokens), most), len(self.tokens))
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

    def choices(self) -> Tensor:
        """[nodes, 1 + most children]: the end token, then the children's tokens (padded with it)."""
        tokens = np.array([*self.tokens, self.end_token])
        return torch.from_numpy(
            np.concatenate([np.full((len(self.tokens), 1), self.end_token), tokens[self.children]], axis=1)
        )


def label_tree(labels: Sequence[Sequence[int]], end_token: int) -> LabelTree:
    """Merge the labels' token ids, which must be distinct, not empty, and without the end token."""
    tokens, parents, depths, ends = [-1], [-1], [0], []
    children: dict[tuple[int, int], int] = {}
    for label in labels:
        node = 0
        for token in label:
            if (node, token) not in children:
                children[node, token] = len(tokens)
                tokens.append(token)
                parents.append(node)
                depths.append(depths[node] + 1)
            node = children[node, token]
        ends.append(node)
    lengths = tuple(len(label) + 1 for label in labels)
    return LabelTree(tuple(tokens), tuple(parents), tuple(depths), tuple(ends), lengths, end_token)
