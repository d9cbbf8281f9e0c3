"""One batch through the model: the shared prefix once, no padding, the head only where needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedModel

from tunesmith.engine.attention import ATTENTION_NAME, Packed, register
from tunesmith.engine.decoder import decode, decodes
from tunesmith.engine.devices import device_of
from tunesmith.engine.head import cross_entropies, summed_cross_entropy
from tunesmith.engine.packing import pack_rows, pack_whole_rows
from tunesmith.engine.segment_attention import has_kernel
from tunesmith.engine.segments import Segments, cut_at_shared_openings

# Tokens, or one row, whose logits the plain path holds at once where nothing is learned.
PLAIN_TOKENS_AT_ONCE = 512


@dataclass(frozen=True)
class Batch:
    """Rows with a common token prefix taken out.

    ``prefix`` is [prefix tokens] (may be empty); ``suffixes`` is [rows, longest], padded on the right, of
    which ``lengths`` [rows] are real.
    ``rows`` and ``positions`` [supervised] say which hidden state of the whole row predicts ``targets``
    [supervised]: position p predicts token p + 1. ``useful_tokens`` counts tokens as rendered, without
    padding and with the prefix in every row; ``computed_tokens`` counts what is put through the model.
    ``weights`` [supervised] multiply the losses of the targets; None where all count as one. ``segments``
    are the suffixes cut where several of them open alike, so that a document is read once for all that is
    asked about it; None where every suffix is read whole.
    """

    prefix: Tensor
    suffixes: Tensor
    rows: Tensor
    positions: Tensor
    targets: Tensor
    useful_tokens: int
    computed_tokens: int
    lengths: Tensor
    weights: Tensor | None = None
    segments: Segments | None = None


def make_batch(
    ids: Sequence[Sequence[int]],
    learn: Sequence[Sequence[bool]],
    pad_token: int,
    prefix_tokens: int,
    share_openings: bool = False,
) -> Batch:
    """Rows of token ids and learn masks as tensors, with their first ``prefix_tokens`` shared.

    The caller guarantees that the rows agree on the prefix, and that no row learns inside it. With
    ``share_openings`` what only some rows share after it is computed once, too.
    """
    longest = max(len(row) for row in ids) - prefix_tokens
    suffixes = torch.full((len(ids), longest), pad_token, dtype=torch.long)
    rows, positions, targets = [], [], []
    for index, (row, learned) in enumerate(zip(ids, learn, strict=True)):
        suffixes[index, : len(row) - prefix_tokens] = torch.tensor(row[prefix_tokens:], dtype=torch.long)
        for position in range(1, len(row)):
            if learned[position]:
                rows.append(index)
                positions.append(position - 1)
                targets.append(row[position])
    useful = sum(len(row) for row in ids)
    computed = useful - prefix_tokens * (len(ids) - 1)
    segments = None
    if share_openings:
        # What predicts the first learned token is each row's own.
        ends = [learned.index(True) - prefix_tokens for learned in learn]
        segments = cut_at_shared_openings([row[prefix_tokens:] for row in ids], ends)
        computed = prefix_tokens + sum(map(len, segments.own))
    return Batch(
        prefix=torch.tensor(ids[0][:prefix_tokens], dtype=torch.long),
        suffixes=suffixes,
        rows=torch.tensor(rows, dtype=torch.long),
        positions=torch.tensor(positions, dtype=torch.long),
        targets=torch.tensor(targets, dtype=torch.long),
        useful_tokens=useful,
        computed_tokens=computed,
        lengths=torch.tensor([len(row) - prefix_tokens for row in ids], dtype=torch.long),
        segments=segments,
    )


def common_prefix(rows: Sequence[Sequence[int]], first_learned: Sequence[int] | None = None) -> int:
    """How many leading tokens all ``rows`` share, leaving each at least one token of its own.

    With ``first_learned`` (index of each row's first learned token) the prefix also ends before the
    hidden state that predicts it, so that every supervised position lies in the suffixes.
    """
    shortest, longest = min(map(tuple, rows)), max(map(tuple, rows))
    shared = 0
    for left, right in zip(shortest, longest, strict=False):
        if left != right:
            break
        shared += 1
    shared = min(shared, min(len(row) for row in rows) - 1)
    if first_learned is not None:
        shared = min(shared, min(first_learned) - 1)
    return max(shared, 0)


def head_of(model: PreTrainedModel) -> tuple[Tensor, Tensor | None]:
    """The output head's weight [vocabulary, width] and bias."""
    head: Any = model.get_output_embeddings()  # type: ignore[no-untyped-call]  # so is Transformers' own
    return head.weight, getattr(head, "bias", None)


def packed_hidden(model: PreTrainedModel, ids: Tensor, packed: Packed, wanted: Tensor) -> Tensor:
    """The final hidden states [wanted, width] of packed token ``ids`` [tokens].

    By our own decoder for the families it knows, else by the model's layers over our attention.
    Differentiable unless keys are cached. Whether a model's layers heed the packing is for
    :func:`tunesmith.engine.selfcheck.packs` to find out.
    """
    device = device_of(model)
    ids, wanted = ids.to(device), wanted.to(device)
    packed = Packed(packed.packing.to(device), packed.cache)
    if decodes(model):
        return decode(model, ids, packed, wanted)
    register()
    before = model.config._attn_implementation
    if before != ATTENTION_NAME:
        model.set_attn_implementation(ATTENTION_NAME)
    try:
        output = model.base_model(
            input_ids=ids[None],
            # A mask of four dimensions keeps Transformers from making one of tokens × tokens.
            attention_mask=torch.zeros(1, 1, 1, 1, dtype=next(model.parameters()).dtype, device=device),
            position_ids=packed.packing.query_positions[None],
            use_cache=False,
            packed=packed,
        ).last_hidden_state[0]
    finally:
        if before != ATTENTION_NAME:
            model.set_attn_implementation(before)
    picked: Tensor = output[wanted]
    return picked


def hidden_states(model: PreTrainedModel, batch: Batch) -> Tensor:
    """The hidden states [supervised, width] that predict the batch's targets.

    The shared prefix is computed once, but where a GPU's kernel reads whole rows in less time.
    """
    lengths = batch.lengths.tolist()
    if batch.segments is None and reads_whole_rows(model, len(batch.prefix), lengths):
        return whole_row_states(model, batch)
    return shared_states(model, batch)


def shared_states(model: PreTrainedModel, batch: Batch) -> Tensor:
    """The same states with what rows share computed once, on every device."""
    prefix = len(batch.prefix)
    if batch.segments is not None:
        return _hidden_states_of_segments(model, batch, batch.segments)
    real = torch.arange(batch.suffixes.shape[1]) < batch.lengths[:, None]
    ids = torch.cat([batch.prefix, batch.suffixes[real]])
    starts = torch.cumsum(batch.lengths, 0) - batch.lengths
    packing = pack_rows(
        prefix, batch.lengths.tolist(), next(model.parameters()).dtype, prefix_is_cached=False
    )
    # The prefix stands once, before the first row.
    return packed_hidden(model, ids, Packed(packing, None), starts[batch.rows] + batch.positions)


def reads_whole_rows(model: PreTrainedModel, prefix: int, lengths: Sequence[int]) -> bool:
    """Whether rows are read whole by one kernel: on a GPU, unless that would double the tokens or more."""
    config = model.config.get_text_config()
    heads = getattr(config, "num_attention_heads", 1)
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // heads
    if not has_kernel(device_of(model), next(model.parameters()).dtype, head_dim):
        return False
    capped = getattr(config, "attn_logit_softcapping", None) is not None
    return not capped and sharing_saves_little(prefix, lengths)


def sharing_saves_little(prefix: int, lengths: Sequence[int]) -> bool:
    """Whether rows of ``lengths`` own tokens read whole are fewer than twice the tokens."""
    once = prefix + sum(lengths)
    return once + prefix * (len(lengths) - 1) < 2 * once


def whole_row_states(model: PreTrainedModel, batch: Batch) -> Tensor:
    """The same states with every row read whole, its prefix included."""
    prefix = len(batch.prefix)
    lengths = (batch.lengths + prefix).tolist()
    ids = torch.cat(
        [
            part
            for row, own in zip(batch.suffixes, batch.lengths.tolist(), strict=True)
            for part in (batch.prefix, row[:own])
        ]
    )
    starts = torch.cumsum(batch.lengths + prefix, 0) - (batch.lengths + prefix)
    wanted = starts[batch.rows] + batch.positions
    return packed_hidden(model, ids, Packed(pack_whole_rows(lengths), None), wanted)


def _hidden_states_of_segments(model: PreTrainedModel, batch: Batch, segments: Segments) -> Tensor:
    lengths = torch.tensor([len(own) for own in segments.own])
    ids = torch.cat([batch.prefix, *(torch.tensor(own) for own in segments.own)])
    dtype = next(model.parameters()).dtype
    packing = pack_rows(
        len(batch.prefix), lengths.tolist(), dtype, prefix_is_cached=False, parents=segments.parents
    )
    places = torch.tensor(segments.places)
    # Where each row's own tokens would start if all that stands before them stood there.
    starts = (torch.cumsum(lengths, 0) - lengths)[places] - (batch.lengths - lengths[places])
    return packed_hidden(model, ids, Packed(packing, None), starts[batch.rows] + batch.positions)


def summed_loss(model: PreTrainedModel, batch: Batch, smoothing: float = 0.0) -> Tensor:
    """Weighted sum over the supervised tokens of −log p, or of its smoothed form, in nats, by the fast path.

    See :func:`tunesmith.engine.head.summed_cross_entropy`.
    """
    return _summed_loss(model, batch, hidden_states(model, batch), smoothing)


def shared_summed_loss(model: PreTrainedModel, batch: Batch, smoothing: float = 0.0) -> Tensor:
    """The same with what rows share computed once, also where a GPU would read these rows whole."""
    return _summed_loss(model, batch, shared_states(model, batch), smoothing)


def _summed_loss(model: PreTrainedModel, batch: Batch, hidden: Tensor, smoothing: float) -> Tensor:
    weight, bias = head_of(model)
    weights = None if batch.weights is None else batch.weights.to(hidden.device)
    return summed_cross_entropy(hidden, weight, bias, batch.targets.to(hidden.device), smoothing, weights)


def plain_summed_loss(model: PreTrainedModel, batch: Batch, smoothing: float = 0.0) -> Tensor:
    """The same by the model's own forward, whole rows, an explicit mask and full logits."""
    picked = _plain_logits(model, batch)
    targets = batch.targets.to(picked.device)
    if batch.weights is None:
        return F.cross_entropy(picked, targets, reduction="sum", label_smoothing=smoothing)
    losses = F.cross_entropy(picked, targets, reduction="none", label_smoothing=smoothing)
    return (losses * batch.weights.to(losses.device)).sum()


@torch.no_grad()
def token_losses(model: PreTrainedModel, batch: Batch) -> Tensor:
    """−log p of every supervised token, in nats, fp32 [supervised] on the CPU, by the fast path."""
    weight, bias = head_of(model)
    hidden = hidden_states(model, batch)
    return cross_entropies(hidden, weight, bias, batch.targets.to(hidden.device)).cpu()


@torch.no_grad()
def plain_token_losses(model: PreTrainedModel, batch: Batch) -> Tensor:
    """The same by the model's own forward, a few rows at a time: it makes the logits of every position."""
    losses = torch.empty(len(batch.targets), dtype=torch.float32)
    longest = len(batch.prefix) + batch.suffixes.shape[1]
    at_once = max(1, PLAIN_TOKENS_AT_ONCE // longest)
    for start in range(0, len(batch.suffixes), at_once):
        own = (batch.rows >= start) & (batch.rows < start + at_once)
        few = replace(
            batch,
            suffixes=batch.suffixes[start : start + at_once],
            lengths=batch.lengths[start : start + at_once],
            rows=batch.rows[own] - start,
            positions=batch.positions[own],
        )
        logits = _plain_logits(model, few)
        losses[own] = F.cross_entropy(logits, batch.targets[own].to(logits.device), reduction="none").cpu()
    return losses


def _plain_logits(model: PreTrainedModel, batch: Batch) -> Tensor:
    """The logits [supervised, vocabulary] that predict the batch's targets, fp32."""
    rows = len(batch.suffixes)
    prefix_tokens = len(batch.prefix)
    ids = torch.cat([batch.prefix.expand(rows, -1), batch.suffixes], dim=1)
    mask = (torch.arange(ids.shape[1]) < prefix_tokens + batch.lengths[:, None]).long()
    device = device_of(model)
    logits = model(input_ids=ids.to(device), attention_mask=mask.to(device), use_cache=False).logits
    picked: Tensor = logits[batch.rows, batch.positions].float()
    return picked
