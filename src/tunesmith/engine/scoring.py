"""Exact log-probabilities of whole answers: label sets as one token tree, and free texts.

A label's log-probability sums its tokens and the end token. The prefix that all prompts share is encoded
once, prompts are read once, and the tokens of answers follow as branches that attend to the prompt and
their own ancestors only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel

from tunesmith.engine.attention import KeyValues, Packed
from tunesmith.engine.classifier_head import class_log_probabilities
from tunesmith.engine.encoder_decoder import answer_log_probabilities
from tunesmith.engine.forward import common_prefix, packed_hidden
from tunesmith.engine.head import own_log_probabilities
from tunesmith.engine.packing import Branches, Packing, pack_branches, pack_rows
from tunesmith.engine.pruning import Pruning, nodes_to_read, reached
from tunesmith.engine.segments import cut_at_shared_openings, in_batches
from tunesmith.engine.selfcheck import packs
from tunesmith.engine.trees import Integers, LabelTree, answer_tree
from tunesmith.errors import UserError
from tunesmith.models.families import family_of

# Tokens put through the model at once: enough to keep the matrix products busy, little enough to hold.
TOKENS_PER_BATCH = 6144

Advance = Callable[[int, int], None]
FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class LabelScores:
    """``log_probabilities`` [rows, labels] in nats, and the number of tokens put through the model."""

    log_probabilities: FloatArray
    tokens: int


@torch.no_grad()
def score_labels(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    tree: LabelTree,
    pad_token: int,
    rules: Sequence[Pruning] | None,
    advance: Advance | None = None,
) -> LabelScores:
    """log p(label, end | prompt) for every prompt (token ids, not empty) and label.

    With ``rules``, what none of them needs is left out: labels not read to their end are −inf, all others
    exact, among them the best by every rule. Raises UserError where the model's own forward disagrees.
    Of a classification head the labels are the classes, and ``tree`` only says how many.
    """
    family = family_of(model.config)
    if family == "encoder":
        return LabelScores(*class_log_probabilities(model, prompts, pad_token, advance))
    if family == "encoder-decoder":
        answers = tree.sequences()
        by_row, used = answer_log_probabilities(model, prompts, [answers] * len(prompts), pad_token, advance)
        return LabelScores(np.array(by_row), used)
    shared, prefix = _read_prefix(model, prompts)
    scores = np.full((len(prompts), len(tree.ends)), -np.inf)
    used, done = shared, 0
    expected = len(tree.inner) // (3 if rules else 1)
    suffixes = [prompt[shared:] for prompt in prompts]
    for chosen in in_batches(suffixes, [expected] * len(prompts), TOKENS_PER_BATCH):
        reading = _Reading(model, prefix, shared, [suffixes[row] for row in chosen], [tree] * len(chosen))
        nodes = nodes_to_read(tree, np.stack(reading.steps), rules)
        while any(map(len, nodes)):
            reading.read(nodes)
            nodes = nodes_to_read(tree, np.stack(reading.steps), rules)
        log_p, depths = reached(tree, np.stack(reading.steps))
        scores[chosen] = np.where(depths == np.array(tree.lengths), log_p, -np.inf)
        used += reading.tokens
        done += len(chosen)
        if advance is not None:
            advance(done, len(prompts))
    return LabelScores(scores, used)


@torch.no_grad()
def score_continuations(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    continuations: Sequence[Sequence[int]],
    pad_token: int,
    advance: Advance | None = None,
) -> tuple[FloatArray, int]:
    """Sum of log p(token | what stands before) over each continuation, in nats, and the tokens used.

    Prompts and continuations are token ids, neither empty. A prompt that several rows share is read once.
    Of an encoder the continuation is what its decoder answers, or the number of a class.
    Raises UserError where the model's own forward disagrees.
    """
    family = family_of(model.config)
    if family == "encoder":
        scores, used = class_log_probabilities(model, prompts, pad_token, advance)
        return scores[np.arange(len(prompts)), [one[0] for one in continuations]], used
    if family == "encoder-decoder":
        asked = [[continuation] for continuation in continuations]
        by_row, used = answer_log_probabilities(model, prompts, asked, pad_token, advance)
        return np.array([values[0] for values in by_row]), used
    rows_of: dict[tuple[int, ...], list[int]] = {}
    for row, prompt in enumerate(prompts):
        rows_of.setdefault(tuple(prompt), []).append(row)
    distinct = list(rows_of)
    trees = [answer_tree([continuations[row] for row in rows_of[prompt]]) for prompt in distinct]
    shared, prefix = _read_prefix(model, distinct)
    totals = np.zeros(len(prompts))
    used, done = shared, 0
    suffixes = [prompt[shared:] for prompt in distinct]
    for chosen in in_batches(suffixes, [len(tree.inner) for tree in trees], TOKENS_PER_BATCH):
        own = [suffixes[index] for index in chosen]
        reading = _Reading(model, prefix, shared, own, [trees[index] for index in chosen])
        reading.read([trees[index].inner for index in chosen])
        for index, steps in zip(chosen, reading.steps, strict=True):
            rows = rows_of[distinct[index]]
            totals[rows] = steps[trees[index].paths].sum(axis=1)
            done += len(rows)
        used += reading.tokens
        if advance is not None:
            advance(done, len(prompts))
    return totals, used


def joined_scores(parts: Sequence[LabelScores]) -> LabelScores:
    """The scores of rows that were scored in parts, one after the other."""
    return LabelScores(
        np.concatenate([part.log_probabilities for part in parts]), sum(part.tokens for part in parts)
    )


def batches_by_length(lengths: Sequence[int], tokens_per_batch: int = TOKENS_PER_BATCH) -> list[list[int]]:
    """Row indices in batches of like length, each at most ``tokens_per_batch`` with padding."""
    order = sorted(range(len(lengths)), key=lambda index: (lengths[index], index))
    batches: list[list[int]] = []
    current: list[int] = []
    for index in order:
        if current and (len(current) + 1) * lengths[index] > tokens_per_batch:
            batches.append(current)
            current = []
        current.append(index)
    if current:
        batches.append(current)
    return batches


class _Reading:
    """A batch of prompts, read, and the nodes of their trees read so far."""

    def __init__(
        self,
        model: PreTrainedModel,
        prefix: KeyValues,
        shared: int,
        suffixes: Sequence[Sequence[int]],
        trees: Sequence[LabelTree],
    ) -> None:
        self.model, self.shared, self.trees = model, shared, trees
        self.cache = dict(prefix)
        self.dtype = next(model.parameters()).dtype
        segments = cut_at_shared_openings(suffixes)
        lengths = [len(own) for own in segments.own]
        self.tokens = sum(lengths)
        stops = shared + np.cumsum(lengths)
        keys = [np.arange(stop - length, stop) for stop, length in zip(stops, lengths, strict=True)]
        self.prompt_keys = [
            np.concatenate([keys[at] for at in (segments.parents[place], place) if at is not None])
            for place in segments.places
        ]
        # log p of every node after its parent, NaN where not known, 0 for the padding of paths.
        self.steps = [np.append(np.full(len(tree.tokens), np.nan), 0.0) for tree in trees]
        # The key of every node that was read, −1 of others.
        self.keys = [np.full(len(tree.tokens), -1) for tree in trees]
        packing = pack_rows(shared, lengths, self.dtype, prefix_is_cached=True, parents=segments.parents)
        ids = torch.tensor([token for own in segments.own for token in own])
        last = torch.from_numpy(stops[segments.places]) - shared - 1
        self._run(ids, packing, last, [np.zeros(1, dtype=np.int64)] * len(suffixes))

    def read(self, nodes: Sequence[Integers]) -> None:
        """Read these nodes of every row (parents first, none twice) and learn log p of their children."""
        rows = [row for row, wanted in enumerate(nodes) if len(wanted)]
        if not rows:
            return
        branches = [self._branches(row, nodes[row]) for row in rows]
        first = len(self.key_positions)
        packing = pack_branches(self.shared, branches, self.key_positions, self.dtype)
        ids = [self.trees[row].tokens[node] for row in rows for node in nodes[row]]
        for row in rows:
            self.keys[row][nodes[row]] = np.arange(first, first + len(nodes[row]))
            first += len(nodes[row])
        self.tokens += len(ids)
        self._run(torch.tensor(ids), packing, torch.arange(len(ids)), nodes)

    def _branches(self, row: int, nodes: Integers) -> Branches:
        tree = self.trees[row]
        above = tree.ancestors[nodes].any(axis=0) & (self.keys[row] >= 0)
        earlier = np.flatnonzero(above)
        prompt = self.prompt_keys[row]
        return Branches(
            prompt_keys=prompt,
            earlier_keys=self.keys[row][earlier],
            positions=self.shared + len(prompt) + np.array(tree.depths)[nodes] - 1,
            sees=tree.ancestors[np.ix_(nodes, np.concatenate([earlier, nodes]))],
        )

    def _run(self, ids: Tensor, packing: Packing, wanted: Tensor, nodes: Sequence[Integers]) -> None:
        """Put ``ids`` through the model; the ``wanted`` hidden states belong to ``nodes`` row by row."""
        hidden = packed_hidden(self.model, ids, Packed(packing, self.cache), wanted)
        self.key_positions = packing.key_positions
        most = max(tree.children.shape[1] for tree in self.trees)
        tokens = np.zeros((len(hidden), most), dtype=np.int64)
        start = 0
        for tree, own in zip(self.trees, nodes, strict=True):
            children = tree.children[own]
            padded = np.append(tree.tokens, 0)
            tokens[start : start + len(own), : children.shape[1]] = padded[children]
            start += len(own)
        log_p = own_log_probabilities(self.model, hidden, torch.from_numpy(tokens)).double().numpy()
        start = 0
        for steps, tree, own in zip(self.steps, self.trees, nodes, strict=True):
            children = tree.children[own]
            steps[children] = log_p[start : start + len(own), : children.shape[1]]
            steps[-1] = 0.0
            start += len(own)


def _read_prefix(model: PreTrainedModel, prompts: Sequence[Sequence[int]]) -> tuple[int, KeyValues]:
    """How many leading tokens all prompts share, and their keys and values in every layer."""
    if not packs(model):
        raise UserError(
            f"base: answers of {type(model).__name__} cannot be scored: its layers do not read several "
            "rows as one packed sequence",
            fix="choose a base with ordinary causal attention, such as smollm2-135m-instruct",
        )
    shared = common_prefix(prompts)
    cache: KeyValues = {}
    if shared:
        packing = pack_rows(0, [shared], next(model.parameters()).dtype, prefix_is_cached=False)
        packed_hidden(model, torch.tensor(prompts[0][:shared]), Packed(packing, cache), torch.tensor([0]))
    return shared, cache
