"""Exact log-probabilities of whole answers: label sets as one token tree, and free texts.

A label's log-probability sums its tokens and the end token. All labels of a row are scored in one
forward pass over the tree of their tokens, each attending to the prompt and its own ancestors only; the
prefix that all prompts share is encoded once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from tunesmith.engine.forward import common_prefix, encode_prefix, expanded_cache, head_of
from tunesmith.engine.head import token_log_probabilities
from tunesmith.engine.trees import LabelTree
from tunesmith.errors import UserError

# Tokens put through the model at once: enough to keep the matrix products busy, little enough to hold.
TOKENS_PER_BATCH = 6144

# Probability, relative to the best label, that all branches left out may hold together.
PRUNED_MASS = 1e-4

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
    prune: bool,
    advance: Advance | None = None,
) -> LabelScores:
    """log p(label, end | prompt) for every prompt (token ids, not empty) and label.

    With ``prune``, branches that hold at most ``PRUNED_MASS`` of the best label's probability in all are
    left at −inf: the best label is exact, and normalised probabilities move by less than that.
    """
    shared = common_prefix(prompts)
    _check_window(model, max(len(prompt) for prompt in prompts) + max(tree.lengths))
    prefix = encode_prefix(model, torch.tensor(prompts[0][:shared])) if shared else []
    scores = np.full((len(prompts), len(tree.ends)), -np.inf)
    used, done = shared, 0
    tree_tokens = len(tree.tokens) // (3 if prune else 1)
    for chosen in batches_by_length([len(prompt) - shared + tree_tokens for prompt in prompts]):
        suffixes = [prompts[index][shared:] for index in chosen]
        scores[chosen], tokens = _score_batch(model, suffixes, prefix, shared, tree, pad_token, prune)
        used += tokens
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

    Where a prompt is empty the continuation's first token has nothing before it and is not counted.
    """
    weight, bias = head_of(model)
    rows = [[*prompt, *continuation] for prompt, continuation in zip(prompts, continuations, strict=True)]
    totals = np.zeros(len(rows))
    done = 0
    for chosen in batches_by_length([len(row) for row in rows]):
        ids = torch.full((len(chosen), max(len(rows[index]) for index in chosen)), pad_token)
        where: list[tuple[int, int]] = []
        for slot, index in enumerate(chosen):
            ids[slot, : len(rows[index])] = torch.tensor(rows[index])
            first = max(len(prompts[index]), 1)
            where.extend((slot, position) for position in range(first, len(rows[index])))
        hidden = model.base_model(input_ids=ids, use_cache=False).last_hidden_state
        slots = torch.tensor([slot for slot, _ in where], dtype=torch.long)
        positions = torch.tensor([position for _, position in where], dtype=torch.long)
        log_p = token_log_probabilities(
            hidden[slots, positions - 1], weight, bias, ids[slots, positions][:, None]
        )
        sums = torch.zeros(len(chosen), dtype=torch.float64).index_add_(0, slots, log_p[:, 0].double())
        totals[chosen] = sums.numpy()
        done += len(chosen)
        if advance is not None:
            advance(done, len(rows))
    return totals, sum(len(row) for row in rows)


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


def _score_batch(
    model: PreTrainedModel,
    suffixes: Sequence[Sequence[int]],
    prefix: list[tuple[Tensor, Tensor]],
    shared: int,
    tree: LabelTree,
    pad_token: int,
    prune: bool,
) -> tuple[FloatArray, int]:
    rows, longest = len(suffixes), max(len(suffix) for suffix in suffixes)
    ids = torch.full((rows, longest), pad_token)
    for index, suffix in enumerate(suffixes):
        ids[index, : len(suffix)] = torch.tensor(suffix)
    lengths = torch.tensor([len(suffix) for suffix in suffixes])
    cache = expanded_cache(prefix, rows) if prefix else DynamicCache()
    hidden = model.base_model(input_ids=ids, past_key_values=cache, use_cache=True).last_hidden_state
    last = hidden[torch.arange(rows), lengths - 1]

    weight, bias = head_of(model)
    first_tokens = torch.tensor([tree.tokens[root] for root in tree.roots])
    first = token_log_probabilities(last, weight, bias, first_tokens.expand(rows, -1)).double().numpy()
    negligible = np.log(PRUNED_MASS / len(tree.roots))
    keep = np.ones_like(first, dtype=bool)
    if prune:
        keep = first > first.max(axis=1, keepdims=True) + negligible
    scores = np.full((rows, len(tree.ends)), -np.inf)
    tokens = int(lengths.sum())
    pending = np.arange(rows)
    while len(pending):
        scores[pending], used = _score_branches(
            model, cache, pending, longest, lengths, shared, tree, keep, first, pad_token
        )
        tokens += used
        # A branch holds at most the mass of its first token; where that is not yet negligible beside
        # the best whole label, the row is scored again with the branch.
        best = scores.max(axis=1, keepdims=True)
        unsure = ~keep & (first > best + negligible)
        keep |= unsure
        pending = np.flatnonzero(unsure.any(axis=1))
    return scores, tokens


def _score_branches(
    model: PreTrainedModel,
    cache: DynamicCache,
    pending: NDArray[np.int64],
    longest: int,
    lengths: Tensor,
    shared: int,
    tree: LabelTree,
    keep: NDArray[np.bool_],
    first: FloatArray,
    pad_token: int,
) -> tuple[FloatArray, int]:
    """Run the kept branches after the prompts of the ``pending`` rows: [pending, labels], tokens used."""
    dtype = next(model.parameters()).dtype
    blocked = torch.finfo(dtype).min
    nodes_of = [np.flatnonzero(np.append(False, keep[row])[tree.branches + 1]) for row in pending]
    widest = max(len(nodes) for nodes in nodes_of)
    node_tokens, depths = np.array(tree.tokens), np.array(tree.depths)
    ids = np.full((len(pending), widest), pad_token)
    positions = np.zeros((len(pending), widest), dtype=np.int64)
    visible = np.zeros((len(pending), widest, shared + longest + widest), dtype=bool)
    visible[:, :, shared + longest :] = np.eye(widest, dtype=bool)
    for slot, (row, nodes) in enumerate(zip(pending, nodes_of, strict=True)):
        end_of_prompt = shared + int(lengths[row])
        ids[slot, : len(nodes)] = node_tokens[nodes]
        positions[slot, : len(nodes)] = end_of_prompt + depths[nodes] - 1
        visible[slot, :, :end_of_prompt] = True
        own = visible[slot, : len(nodes), shared + longest : shared + longest + len(nodes)]
        own |= tree.ancestors[np.ix_(nodes, nodes)]
    mask = torch.zeros(visible.shape, dtype=dtype).masked_fill_(torch.from_numpy(~visible), blocked)
    chosen_rows = DynamicCache()
    everyone = len(pending) == len(lengths)
    for index, layer in enumerate(cache.layers):
        keys, values = layer.keys, layer.values
        chosen_rows.update(
            keys if everyone else keys[pending], values if everyone else values[pending], index
        )
    hidden = model.base_model(
        input_ids=torch.from_numpy(ids),
        attention_mask=mask[:, None],
        position_ids=torch.from_numpy(positions),
        past_key_values=chosen_rows,
        use_cache=True,
    ).last_hidden_state

    slots = np.repeat(np.arange(len(pending)), [len(nodes) for nodes in nodes_of])
    nodes = np.concatenate(nodes_of)
    columns = np.concatenate([np.arange(len(own)) for own in nodes_of])
    weight, bias = head_of(model)
    log_p = token_log_probabilities(
        hidden[torch.from_numpy(slots), torch.from_numpy(columns)],
        weight,
        bias,
        tree.choices()[torch.from_numpy(nodes)],
    ).numpy()
    ends = np.full((len(pending), len(tree.tokens)), -np.inf)
    ends[slots, nodes] = log_p[:, 0]
    step = np.full((len(pending), len(tree.tokens) + 1), -np.inf)
    step[slots[:, None], tree.children[nodes]] = log_p[:, 1:]
    step[:, tree.roots] = np.where(keep[pending], first[pending], -np.inf)
    reached = np.zeros((len(pending), len(tree.tokens)))
    for node in range(1, len(tree.tokens)):
        reached[:, node] = reached[:, tree.parents[node]] + step[:, node]
    ending = list(tree.ends)
    return reached[:, ending] + ends[:, ending], len(nodes)


def _check_window(model: PreTrainedModel, longest: int) -> None:
    window = getattr(model.config, "sliding_window", None)
    sliding = "sliding_attention" in (getattr(model.config, "layer_types", None) or [])
    if sliding and window and longest > window:
        raise UserError(
            f"base: {type(model).__name__} attends through a sliding window of {window:,} tokens, and a prompt "
            f"with its answer has {longest:,}; labels are not scored beyond the window",
            fix="set data.max_words so that rows fit the window, or choose a base with full attention",
        )
