"""Answers token by token: batched, with the next prompt in the place of every row that ends.

The prefix that all prompts share is encoded once. Rows never meet: what a row answers depends, up to the
rounding of products of other sizes, on its prompt and its place in the list alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from tunesmith.engine.choosing import choose
from tunesmith.engine.constrained import TokenFilter
from tunesmith.engine.decoder import decodes
from tunesmith.engine.decoding import SlotReader
from tunesmith.engine.encoder_decoder import greedy_answers
from tunesmith.engine.forward import common_prefix
from tunesmith.engine.pool import PoolReader
from tunesmith.engine.selfcheck import packs
from tunesmith.errors import UserError
from tunesmith.models.families import family_of

# Rows that are read together; with more, caches grow and little is gained (128: an eighth less speed).
ROWS_AT_ONCE = 256

# Prompt tokens put through the model at once.
TOKENS_PER_PREFILL = 4096

# A prefill is worth its small matrix products once this share of the rows is free.
REFILL_SHARE = 1 / 8

Advance = Callable[[int, int], None]
Ended = Literal["end", "stop", "length"]


@dataclass(frozen=True)
class Decoding:
    """How answers are chosen. Temperature 0 is greedy, and then nothing else of the sampling matters.

    ``stop`` strings end an answer; ``seed`` and a prompt's place in the list decide its draws.
    """

    max_new_tokens: int
    end_token: int
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int | None = None
    seed: int = 0
    stop: tuple[str, ...] = ()


@dataclass(frozen=True)
class Generated:
    """One answer: ``tokens`` without the end token, and why it ended.

    ``log_probabilities`` are the model's own, in nats, of every token and, where the answer ended by it, of
    the end token. ``text`` is cut before a stop string; None where :func:`generate` was given no decoder.
    """

    tokens: tuple[int, ...]
    log_probabilities: tuple[float, ...]
    ended: Ended
    text: str | None


@dataclass
class _Row:
    """An answer in the making: the index of its prompt, and the grammar's state where there is a grammar."""

    prompt: int
    state: int
    tokens: list[int] = field(default_factory=list)
    log_probabilities: list[float] = field(default_factory=list)
    ended: Ended | None = None
    text: str | None = None


@torch.no_grad()
def generate(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    decoding: Decoding,
    text_of: Callable[[Sequence[int]], str] | None = None,
    grammar: TokenFilter | None = None,
    advance: Advance | None = None,
    rows_at_once: int = ROWS_AT_ONCE,
) -> list[Generated]:
    """An answer to every prompt (token ids, not empty), in the prompts' order.

    ``text_of`` turns answers into text, and stop strings need it. With ``grammar`` every answer is a whole
    text of it, within ``max_new_tokens``. Raises UserError for settings out of range, rows longer than the
    model's context, a grammar that needs more tokens, and models that read no packed rows.
    """
    _check(model, prompts, decoding, grammar)
    if not prompts:
        return []
    if family_of(model.config) == "encoder-decoder":
        return _by_transformers(model, prompts, decoding, text_of, advance)
    assert text_of is not None or not decoding.stop
    shared = common_prefix(prompts)
    capacity = max(map(len, prompts)) - shared + decoding.max_new_tokens
    build = SlotReader if decodes(model) else PoolReader
    reader = build(model, prompts[0][:shared], min(rows_at_once, len(prompts)), capacity)
    refill = max(1, int(reader.rows * REFILL_SHARE))
    waiting = deque(sorted(range(len(prompts)), key=lambda index: (len(prompts[index]), index)))
    start = grammar.start if grammar is not None else 0
    done: list[Generated | None] = [None] * len(prompts)
    ended = 0
    rows: list[_Row] = []
    while rows or waiting:
        free = reader.rows - len(rows)
        if waiting and (not rows or free >= min(refill, len(waiting))):
            fresh = _next_prompts(waiting, prompts, shared, free)
            read = [_Row(prompt, start) for prompt in fresh]
            hidden = reader.admit([prompts[prompt][shared:] for prompt in fresh])
            rows += read
        else:
            read = rows
            hidden = reader.step(torch.tensor([row.tokens[-1] for row in rows]))
        _answer(reader.logits(hidden), read, decoding, text_of, grammar)
        staying = [place for place, row in enumerate(rows) if row.ended is None]
        if len(staying) < len(rows):
            for row in rows:
                if row.ended is not None:
                    done[row.prompt] = _finished(row, text_of)
            ended += len(rows) - len(staying)
            reader.keep(staying)
            rows = [rows[place] for place in staying]
        if advance is not None:
            advance(ended, len(prompts))
    return [answer for answer in done if answer is not None]


def sample(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    new_tokens: int,
    end_token: int,
    temperature: float,
    seed: int,
) -> list[list[int]]:
    """Up to ``new_tokens`` sampled token ids after each prompt, the end token not included.

    The same model, prompts and seed give the same samples.
    """
    decoding = Decoding(new_tokens, end_token, temperature=temperature, seed=seed)
    return [list(answer.tokens) for answer in generate(model, prompts, decoding)]


def check_answer_fits(grammar: TokenFilter | None, max_new_tokens: int) -> None:
    """UserError where no text of ``grammar`` is as short as ``max_new_tokens``."""
    if grammar is not None and grammar.fewest_tokens > max_new_tokens:
        raise UserError(
            f"generation: the shortest answer the schema allows takes {grammar.fewest_tokens:,} tokens, but "
            f"max_new_tokens is {max_new_tokens:,}",
            fix=f"set max_new_tokens to {grammar.fewest_tokens:,} or more",
        )


def _check(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    decoding: Decoding,
    grammar: TokenFilter | None,
) -> None:
    limits = (
        ("max_new_tokens", decoding.max_new_tokens, decoding.max_new_tokens >= 1, "at least 1"),
        ("temperature", decoding.temperature, 0 <= decoding.temperature < float("inf"), "0 or more"),
        ("top_p", decoding.top_p, 0 < decoding.top_p <= 1, "above 0 and at most 1"),
        ("top_k", decoding.top_k, decoding.top_k is None or decoding.top_k >= 1, "at least 1, or none"),
        ("seed", decoding.seed, decoding.seed >= 0, "0 or more"),
    )
    for name, value, fits, wanted in limits:
        if not fits:
            raise UserError(f"generation: {name} is {value}", fix=f"give {name} a value {wanted}")
    context = getattr(model.config, "max_position_embeddings", None)
    longest = max(map(len, prompts), default=0) + decoding.max_new_tokens
    if context is not None and longest > context:
        raise UserError(
            f"generation: the longest prompt and {decoding.max_new_tokens:,} new tokens are {longest:,} "
            f"tokens, but the model's context is {context:,}",
            fix="shorten the prompts, or set a smaller max_new_tokens",
        )
    check_answer_fits(grammar, decoding.max_new_tokens)
    family = family_of(model.config)
    if family == "encoder":
        raise UserError(
            f"base: {type(model).__name__} is encoder-only: it chooses among classes and writes no text",
            fix="choose a decoder-only or encoder–decoder base",
        )
    if family == "encoder-decoder":
        if decoding.temperature or decoding.stop or grammar is not None:
            raise UserError(
                f"generation: {type(model).__name__}, an encoder–decoder, only answers greedily here, "
                "without stop strings or a schema",
                fix="set temperature 0 and leave stop and schema out, or choose a decoder-only base",
            )
    elif not decodes(model) and not packs(model):
        raise UserError(
            f"base: {type(model).__name__} cannot generate here: its layers do not read several rows as one "
            "packed sequence",
            fix="choose a base with ordinary causal attention, such as smollm2-135m-instruct",
        )


def _by_transformers(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    decoding: Decoding,
    text_of: Callable[[Sequence[int]], str] | None,
    advance: Advance | None,
) -> list[Generated]:
    answers = greedy_answers(model, prompts, decoding.max_new_tokens, decoding.end_token, advance)
    return [
        Generated(
            tuple(tokens),
            tuple(log_p),
            "end" if len(log_p) > len(tokens) else "length",
            None if text_of is None else text_of(tokens),
        )
        for tokens, log_p in answers
    ]


def _next_prompts(waiting: deque[int], prompts: Sequence[Sequence[int]], shared: int, free: int) -> list[int]:
    """The next prompts to read together: at least one, within the free rows and a prefill's tokens."""
    chosen = [waiting.popleft()]
    tokens = len(prompts[chosen[0]]) - shared
    while waiting and len(chosen) < free:
        tokens += len(prompts[waiting[0]]) - shared
        if tokens > TOKENS_PER_PREFILL:
            break
        chosen.append(waiting.popleft())
    return chosen


def _answer(
    logits: Tensor,
    rows: Sequence[_Row],
    decoding: Decoding,
    text_of: Callable[[Sequence[int]], str] | None,
    grammar: TokenFilter | None,
) -> None:
    """Give each row its next token, and see whether it has ended."""
    draws = allowed = None
    if decoding.temperature > 0:
        draws = torch.tensor([_draw(decoding.seed, row) for row in rows], dtype=torch.float64)
    if grammar is not None:
        remaining = [decoding.max_new_tokens - len(row.tokens) for row in rows]
        allowed = grammar.allowed([row.state for row in rows], remaining, logits.shape[1])
    draws, allowed = (None if given is None else given.to(logits.device) for given in (draws, allowed))
    chosen, log_p = choose(logits, decoding.temperature, decoding.top_k, decoding.top_p, draws, allowed)
    for row, token, value in zip(rows, chosen.tolist(), log_p.tolist(), strict=True):
        row.log_probabilities.append(value)
        if token == decoding.end_token:
            row.ended = "end"
            continue
        row.tokens.append(token)
        if grammar is not None:
            row.state = grammar.after(row.state, token)
        if len(row.tokens) == decoding.max_new_tokens:
            row.ended = "length"
        if decoding.stop and text_of is not None:
            text = text_of(row.tokens)
            found = [place for place in map(text.find, decoding.stop) if place >= 0]
            if found:
                row.ended, row.text = "stop", text[: min(found)]


def _draw(seed: int, row: _Row) -> float:
    # Of the seed, the prompt's place and the token's place alone, whatever rows are read beside it.
    return float(np.random.default_rng([seed, row.prompt, len(row.tokens)]).random())


def _finished(row: _Row, text_of: Callable[[Sequence[int]], str] | None) -> Generated:
    assert row.ended is not None
    text = row.text
    if text is None and text_of is not None:
        text = text_of(row.tokens)
    return Generated(tuple(row.tokens), tuple(row.log_probabilities), row.ended, text)
