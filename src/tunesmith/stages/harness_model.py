"""What lm-evaluation-harness asks of a model, answered by our engine: likelihoods, and texts written.

Texts are tokenised as there: a continuation's tokens are those that it adds to its context's, and a context
too long for the model loses its beginning (``Lengths`` counts these). No special token is added, but that an
empty context is the end token.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tunesmith.engine.generation import Decoding, generate
from tunesmith.engine.scoring import score_continuations
from tunesmith.errors import UserError
from tunesmith.models.rendering import encode
from tunesmith.progress import Report, silent

if TYPE_CHECKING:
    from tunesmith.models.loading import LoadedModel

MOST_NEW_TOKENS = 256  # the harness's own, for tasks that name none


@dataclass
class Lengths:
    """How many contexts were asked, and how many of them lost their beginning."""

    asked: int = 0
    cut: int = 0


def log_likelihoods(
    loaded: LoadedModel,
    asked: Sequence[tuple[str, str]],
    greedy: Sequence[bool],
    lengths: Lengths,
    report: Report = silent,
) -> list[tuple[float, bool]]:
    """Nats of each continuation after its context, and whether the model would write it greedily.

    The second is looked at only where ``greedy`` says so, else False. Raises UserError for a continuation
    longer than the model's context.
    """
    pairs = [_pair(loaded, context, continuation, lengths) for context, continuation in asked]
    prompts, continuations = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    totals, _ = score_continuations(
        loaded.model, prompts, continuations, loaded.pad_token, lambda done, total: report(done, total)
    )
    written = [False] * len(pairs)
    wanted = [index for index, ask in enumerate(greedy) if ask]
    if wanted:
        most = max(len(continuations[index]) for index in wanted)
        room = loaded.context_tokens - most
        answers = generate(
            loaded.model, [prompts[index][-room:] for index in wanted], Decoding(most, loaded.end_token)
        )
        for index, answer in zip(wanted, answers, strict=True):
            given = continuations[index]
            written[index] = list(answer.tokens[: len(given)]) == given
    return list(zip(totals.tolist(), written, strict=True))


def rolling_log_likelihoods(
    loaded: LoadedModel, texts: Sequence[str], report: Report = silent
) -> list[float]:
    """Nats of each whole text. One longer than the model's context is read in windows: every token is
    predicted once, and the last window goes back as far as it can."""
    prompts, continuations, owner = [], [], []
    room = loaded.context_tokens - 1
    for number, text in enumerate(texts):
        ids = [loaded.end_token, *encode(loaded, text)]
        for start in range(1, len(ids), room):
            stop = min(start + room, len(ids))
            prompts.append(ids[max(0, stop - 1 - room) : start])
            continuations.append(ids[start:stop])
            owner.append(number)
    nats = [0.0] * len(texts)
    if prompts:
        totals, _ = score_continuations(
            loaded.model, prompts, continuations, loaded.pad_token, lambda done, total: report(done, total)
        )
        for number, total in zip(owner, totals.tolist(), strict=True):
            nats[number] += total
    return nats


def written_texts(
    loaded: LoadedModel,
    asked: Sequence[tuple[str, Mapping[str, Any]]],
    lengths: Lengths,
    report: Report = silent,
) -> list[str]:
    """What the model writes after each context, up to the stop strings that ``until`` names.

    Greedy unless a request asks for ``do_sample``. Raises UserError where no context fits beside the answer.
    """
    alike: dict[tuple[int, float, float, tuple[str, ...]], list[int]] = {}
    for index, (_, wanted) in enumerate(asked):
        alike.setdefault(_decoding(wanted), []).append(index)
    texts = [""] * len(asked)
    for (tokens, temperature, top_p, stop), chosen in alike.items():
        room = loaded.context_tokens - tokens
        if room < 1:
            raise UserError(
                f"guards.lm_eval: a task asks for answers of {tokens:,} tokens, and {loaded.base.name} reads "
                f"{loaded.context_tokens:,} with the question",
                fix="leave that task out, or choose a base with a longer context",
            )
        prompts = []
        for index in chosen:
            ids = encode(loaded, asked[index][0]) or [loaded.end_token]
            _count(lengths, len(ids) > room)
            prompts.append(ids[-room:])
        answers = generate(
            loaded.model,
            prompts,
            Decoding(tokens, loaded.end_token, temperature=temperature, top_p=top_p, stop=stop),
            lambda ids: str(loaded.tokenizer.decode(ids, skip_special_tokens=True)),
            advance=lambda done, total: report(done, total),
        )
        for index, answer in zip(chosen, answers, strict=True):
            texts[index] = answer.text or ""
    return texts


def _pair(
    loaded: LoadedModel, context: str, continuation: str, lengths: Lengths
) -> tuple[list[int], list[int]]:
    """Tokens of both; white space at the end of the context belongs to the continuation."""
    kept = context.rstrip()
    if kept and len(kept) < len(context):
        context, continuation = kept, context[len(kept) :] + continuation
    before = encode(loaded, context)
    after = encode(loaded, context + continuation)[len(before) :] or encode(loaded, continuation)
    room = loaded.context_tokens - len(after)
    if room < 1:
        raise UserError(
            f"guards.lm_eval: the text {continuation[:40]!r}… has {len(after):,} tokens, and "
            f"{loaded.base.name} reads {loaded.context_tokens:,} with what stands before it",
            fix="leave its task out, or choose a base with a longer context",
        )
    _count(lengths, len(before) > room)
    return before[-room:] or [loaded.end_token], after


def _count(lengths: Lengths, cut: bool) -> None:
    lengths.asked += 1
    lengths.cut += cut


def _decoding(wanted: Mapping[str, Any]) -> tuple[int, float, float, tuple[str, ...]]:
    until = wanted.get("until") or []
    stop = tuple(text for text in ([until] if isinstance(until, str) else until) if text)
    tokens = int(wanted.get("max_gen_toks", MOST_NEW_TOKENS))
    if not wanted.get("do_sample", False):
        return tokens, 0.0, 1.0, stop
    return tokens, float(wanted.get("temperature", 1.0)), float(wanted.get("top_p", 1.0)), stop
