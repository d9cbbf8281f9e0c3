"""Encoder–decoders (T5 family): losses, answers' log-probabilities, greedy answers, by Transformers' layers.

A rendered row stays one sequence: what is not learned is the encoder's input, what is learned are the
decoder's labels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from tunesmith.engine.devices import device_of
from tunesmith.engine.forward import Batch
from tunesmith.errors import UserError

# Tokens put through the encoder at once, and positions whose logits are held at once.
TOKENS_PER_BATCH = 4096
POSITIONS_AT_ONCE = 1024

Advance = Callable[[int, int], None]


def encoder_decoder_loss(model: PreTrainedModel, batch: Batch, smoothing: float = 0.0) -> Tensor:
    """Weighted sum over the supervised tokens of −log p, or of its smoothed form, in nats."""
    logits = _logits(model, batch)
    targets = batch.targets.to(logits.device)
    losses = F.cross_entropy(logits, targets, reduction="none", label_smoothing=smoothing)
    return losses.sum() if batch.weights is None else (losses * batch.weights.to(losses.device)).sum()


@torch.no_grad()
def encoder_decoder_token_losses(model: PreTrainedModel, batch: Batch) -> Tensor:
    """−log p of every supervised token, in nats, fp32 [supervised] on the CPU."""
    logits = _logits(model, batch)
    return F.cross_entropy(logits, batch.targets.to(logits.device), reduction="none").cpu()


@torch.no_grad()
def answer_log_probabilities(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    answers: Sequence[Sequence[Sequence[int]]],
    pad_token: int,
    advance: Advance | None = None,
) -> tuple[list[NDArray[np.float64]], int]:
    """Sum of log p over each of ``answers[row]`` (token ids) after ``prompts[row]``, in nats.

    The encoder reads every prompt once. Also the number of tokens put through encoder and decoder.
    """
    found: list[NDArray[np.float64]] = [np.zeros(len(own)) for own in answers]
    start, device = _start_token(model), device_of(model)
    used = done = 0
    for chosen in _by_length(prompts):
        ids, mask = _padded([prompts[row] for row in chosen], pad_token, device)
        encoded = _encoder(model)(input_ids=ids, attention_mask=mask).last_hidden_state
        used += int(mask.sum())
        pairs = [(at, answer) for at, row in enumerate(chosen) for answer in range(len(answers[row]))]
        longest = max(len(answers[chosen[at]][answer]) for at, answer in pairs)
        for part in _in_parts(pairs, max(1, POSITIONS_AT_ONCE // longest)):
            sequences = [answers[chosen[at]][answer] for at, answer in part]
            targets, real = _padded(sequences, pad_token, device)
            given = torch.cat([torch.full((len(part), 1), start, device=device), targets[:, :-1]], dim=1)
            rows = torch.tensor([at for at, _ in part])
            logits = model(
                encoder_outputs=BaseModelOutput(last_hidden_state=encoded[rows]),
                attention_mask=mask[rows],
                decoder_input_ids=given,
                use_cache=False,
            ).logits
            log_p = -F.cross_entropy(logits.float().transpose(1, 2), targets, reduction="none")
            sums = (log_p.double() * real).sum(dim=1).tolist()
            for (at, answer), value in zip(part, sums, strict=True):
                found[chosen[at]][answer] = value
            used += int(real.sum())
        done += len(chosen)
        if advance is not None:
            advance(done, len(prompts))
    return found, used


@torch.no_grad()
def greedy_answers(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    end_token: int,
    advance: Advance | None = None,
) -> list[tuple[list[int], list[float]]]:
    """The likeliest token again and again, by Transformers' own ``generate``; in the prompts' order.

    Token ids without the end token, and log p of each of them and, where the answer ended, of the end token.
    """
    done: list[tuple[list[int], list[float]]] = [([], []) for _ in prompts]
    pad = model.config.pad_token_id
    pad = end_token if pad is None else pad
    finished = 0
    untyped: Any = model
    for chosen in _by_length(prompts):
        ids, mask = _padded([prompts[row] for row in chosen], pad, device_of(model))
        output = untyped.generate(
            input_ids=ids,
            attention_mask=mask,
            do_sample=False,
            num_beams=1,
            max_new_tokens=max_new_tokens,
            eos_token_id=end_token,
            pad_token_id=pad,
            decoder_start_token_id=_start_token(model),
            output_logits=True,
            return_dict_in_generate=True,
        )
        log_p = torch.log_softmax(torch.stack(output.logits, dim=1).float(), dim=-1)
        tokens = output.sequences[:, 1:]
        values = log_p.gather(2, tokens[:, :, None])[:, :, 0]
        for row, own, own_values in zip(chosen, tokens.tolist(), values.tolist(), strict=True):
            stop = own.index(end_token) if end_token in own else len(own)
            done[row] = (own[:stop], own_values[: stop + 1])
        finished += len(chosen)
        if advance is not None:
            advance(finished, len(prompts))
    return done


def _logits(model: PreTrainedModel, batch: Batch) -> Tensor:
    """The decoder's logits [supervised, vocabulary] that predict the batch's targets, fp32."""
    rows = len(batch.suffixes)
    whole = torch.cat([batch.prefix.expand(rows, -1), batch.suffixes], dim=1)
    # Of every row all that stands before its first target.
    lengths = torch.full((rows,), whole.shape[1]).scatter_reduce(
        0, batch.rows, batch.positions + 1, reduce="amin"
    )
    inputs = whole[:, : int(lengths.max())]
    mask = torch.arange(inputs.shape[1]) < lengths[:, None]
    places = batch.positions + 1 - lengths[batch.rows]
    given = torch.full((rows, int(places.max()) + 1), _start_token(model))
    before = places > 0
    given[batch.rows[before], places[before]] = batch.targets[torch.nonzero(before)[:, 0] - 1]
    device = device_of(model)
    logits = model(
        input_ids=inputs.to(device),
        attention_mask=mask.long().to(device),
        decoder_input_ids=given.to(device),
        use_cache=False,
    ).logits
    picked: Tensor = logits[batch.rows, places].float()
    return picked


def _start_token(model: PreTrainedModel) -> int:
    start = getattr(model.config, "decoder_start_token_id", None)
    if start is None:
        raise UserError(
            f"base: the configuration of {type(model).__name__} names no decoder_start_token_id, so its "
            "decoder cannot begin an answer",
            fix="add it to the model's config.json (of T5 it is the pad token's id, 0)",
        )
    return int(start)


def _encoder(model: PreTrainedModel) -> Any:
    untyped: Any = model
    return untyped.get_encoder()


def _padded(rows: Sequence[Sequence[int]], pad_token: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Token ids [rows, longest] padded on the right, and 1 where they are real."""
    ids = torch.full((len(rows), max(map(len, rows))), pad_token, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = torch.tensor(row, dtype=torch.long)
        mask[index, : len(row)] = 1
    return ids.to(device), mask.to(device)


def _by_length(prompts: Sequence[Sequence[int]]) -> Iterator[list[int]]:
    """Rows of like length, at most ``TOKENS_PER_BATCH`` together with padding."""
    order = sorted(range(len(prompts)), key=lambda index: (len(prompts[index]), index))
    batch: list[int] = []
    for index in order:
        if batch and (len(batch) + 1) * len(prompts[index]) > TOKENS_PER_BATCH:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def _in_parts(pairs: list[tuple[int, int]], size: int) -> Iterator[list[tuple[int, int]]]:
    for first in range(0, len(pairs), size):
        yield pairs[first : first + size]
