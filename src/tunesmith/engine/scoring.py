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

    Prompts and continuations are token ids, neither empty. A prompt that several rows share is encoded once.
    """
    rows_of: dict[tuple[int, ...], list[int]] = {}
    for row, prompt in enumerate(prompts):
        rows_of.setdefault(tuple(prompt), []).append(row)
    shared = list(rows_of)
    totals = np.zeros(len(prompts))
    used = done = 0
    longest_of = [max(len(continuations[row]) for row in rows_of[prompt]) for prompt in shared]
    costs = [
        len(prompt) + len(rows_of[prompt]) * longest
        for prompt, longest in zip(shared, longest_of, strict=True)
    ]
    for chosen in batches_by_length(costs):
        batch_prompts = [shared[index] for index in chosen]
        owners = [slot for slot, prompt in enumerate(batch_prompts) for _ in rows_of[prompt]]
        rows = [row for prompt in batch_prompts for row in rows_of[prompt]]
        totals[rows] = _score_continuation_batch(
            model, batch_prompts, owners, [continuations[row] for row in rows], pad_token
        )
        used += sum(map(len, batch_prompts)) + sum(len(continuations[row]) for row in rows)
        done += len(rows)
        if advance is not None:
            advance(done, len(prompts))
    return totals, used


def _score_continuation_batch(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    owners: Sequence[int],
    continuations: Sequence[Sequence[int]],
    pad_token: int,
) -> FloatArray:
    """``owners[i]`` is the prompt of continuation i."""
    prompt_ids, prompt_lengths = _padded(prompts, pad_token)
    ids, lengths = _padded(continuations, pad_token)
    owner = torch.tensor(owners)
    cache = DynamicCache()
    hidden = model.base_model(input_ids=prompt_ids, past_key_values=cache, use_cache=True).last_hidden_state
    last = hidden[torch.arange(len(prompts)), prompt_lengths - 1][owner]
    states = last[:, None]
    if ids.shape[1] > 1:
        repeated = DynamicCache()
        for index, layer in enumerate(cache.layers):
            repeated.update(layer.keys[owner], layer.values[owner], index)
        dtype = next(model.parameters()).dtype
        queries, longest = ids.shape[1] - 1, prompt_ids.shape[1]
        visible = torch.ones(len(owners), queries, longest + queries, dtype=torch.bool)
        visible[:, :, :longest] = (torch.arange(longest) < prompt_lengths[owner][:, None])[:, None]
        visible[:, :, longest:] = torch.ones(queries, queries, dtype=torch.bool).tril()
        mask = torch.zeros(visible.shape, dtype=dtype).masked_fill_(~visible, torch.finfo(dtype).min)
        later = model.base_model(
            input_ids=ids[:, :-1],
            attention_mask=mask[:, None],
            position_ids=prompt_lengths[owner][:, None] + torch.arange(queries),
            past_key_values=repeated,
            use_cache=True,
        ).last_hidden_state
        states = torch.cat([states, later], dim=1)
    wanted = torch.arange(ids.shape[1]) < lengths[:, None]
    weight, bias = head_of(model)
    log_p = token_log_probabilities(states[wanted], weight, bias, ids[wanted][:, None])
    rows = torch.nonzero(wanted)[:, 0]
    sums = torch.zeros(len(owners), dtype=torch.float64).index_add_(0, rows, log_p[:, 0].double())
    return sums.numpy()


def _padded(rows: Sequence[Sequence[int]], pad_token: int) -> tuple[Tensor, Tensor]:
    """Token ids [rows, longest] padded on the right, and the length of each row."""
    ids = torch.full((len(rows), max(map(len, rows))), pad_token)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = torch.tensor(row)
    return ids, torch.tensor([len(row) for row in rows])


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
    ids, lengths = _padded(suffixes, pad_token)
    rows, longest = ids.shape
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
