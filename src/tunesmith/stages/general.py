"""General ability of a model: its scores on general texts and probes, the base's cached by its hash."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from tunesmith.engine.generation import sample
from tunesmith.engine.scoring import score_continuations
from tunesmith.errors import UserError
from tunesmith.evaluation.forgetting import (
    GeneralScores,
    ProbeScores,
    ScoredText,
    material_sha256,
    score_general,
    score_probes,
    score_texts,
)
from tunesmith.evaluation.probes import ProbeItem, probe_items
from tunesmith.evaluation.refusals import refused
from tunesmith.evaluation.texts import general_texts, own_samples
from tunesmith.files import content_hash, read_record, write_json
from tunesmith.models.families import NO_LIKELIHOOD_OF_TEXT
from tunesmith.models.rendering import encode_all, render_prompt
from tunesmith.progress import Report, silent
from tunesmith.records import Estimate, Message
from tunesmith.stats.intervals import relative_change_interval

if TYPE_CHECKING:
    from pathlib import Path

    from tunesmith.models.loading import LoadedModel
    from tunesmith.models.rendering import Renderer
    from tunesmith.task.guard_settings import GuardsSettings

CURVE_TEXTS = 40
SAMPLE_SEED = 20261121
SAMPLE_TEMPERATURE = 1.0
# How draws are made of the seed; another way of drawing is other material.
SAMPLE_DRAWS = "one uniform number for each seed, prompt and token, through the cumulative distribution"


def base_general_scores(loaded: LoadedModel, precision: str, cache: Path, report: Report) -> GeneralScores:
    """The untuned base's scores; measured once per base, precision and material, then read from the cache.

    The caller sees to it that no adapter is active.
    """
    sampling = [SAMPLE_SEED, SAMPLE_TEMPERATURE, SAMPLE_DRAWS]
    key = content_hash([loaded.base.sha256, precision, material_sha256(), *sampling])
    path = cache / "general" / f"{loaded.base.name}-{key[:16]}.json"
    if path.is_file():
        try:
            return read_record(path, GeneralScores)
        except ValueError:  # half a file, or a record of another version: measured again
            path.unlink()
    texts = (*general_texts(), *own_samples(lambda prompts, tokens: _sampled(loaded, prompts, tokens)))
    scores = score_general(texts, lambda asked: _log_probs(loaded, asked, report))
    write_json(path, scores)
    return scores


def check_guards(loaded: Renderer, guards: GuardsSettings) -> None:
    """Raises UserError where a guard that blocks could never pass: the base's family cannot be measured."""
    if loaded.family == "decoder":
        return
    asked = {
        "own_probes": guards.own_probes is not None,
        "lm_eval": guards.lm_eval is not None,
        "refusals": guards.refusals is not None,
        "forgetting_curve": guards.forgetting_curve,
        "canaries": guards.canaries > 0 and loaded.family == "encoder",
    }
    for name, wanted in asked.items():
        if wanted:
            raise UserError(
                f"guards.{name}: cannot be measured with {loaded.base.name}: "
                f"{NO_LIKELIHOOD_OF_TEXT[loaded.family]}",
                fix=f"leave guards.{name} out, or choose a decoder-only base",
            )
    for name, guard in (
        ("general_text", guards.general_text),
        ("probes", guards.probes),
        ("probe_log_probability", guards.probe_log_probability),
    ):
        if guard is not None and guard.blocking:
            raise UserError(
                f"guards.{name}: cannot block with {loaded.base.name}: "
                f"{NO_LIKELIHOOD_OF_TEXT[loaded.family]}, so it stays unmeasured and the verdict could never "
                "be TRAIN",
                fix=f"set guards.{name}.blocking: false, or choose a decoder-only base",
            )


def tuned_general_scores(loaded: LoadedModel, base: GeneralScores, report: Report) -> GeneralScores:
    """The tuned model on the very texts its base was scored on."""
    return score_general(base.texts, lambda asked: _log_probs(loaded, asked, report))


def tuned_text_bits(loaded: LoadedModel, base: GeneralScores, report: Report) -> list[float]:
    """The bits that the tuned model needs for each text its base was scored on, without the probes."""
    return score_texts(base.texts, lambda asked: _log_probs(loaded, asked, report))


def general_text_change(loaded: LoadedModel) -> Callable[[], Estimate]:
    """How many more bits than now the model will need for some general texts, relative to now.

    The texts are ``CURVE_TEXTS`` of those of the forgetting guard, evenly spaced; 0.01 is one per cent more.
    """
    every = general_texts()
    count = min(CURVE_TEXTS, len(every))
    texts = [every[place * len(every) // count] for place in range(count)]
    groups = [f"{text.domain}/{text.source}" for text in texts]

    def bits() -> list[float]:
        return score_texts(texts, lambda asked: _log_probs(loaded, asked, silent))

    before = bits()
    return lambda: relative_change_interval(bits(), before, groups)


def refused_requests(loaded: LoadedModel, report: Report) -> list[bool]:
    """Whether the model refuses each built-in request (see ``evaluation/refusals.py``)."""
    return refused(lambda asked: _log_probs(loaded, asked, report))


def own_probe_scores(loaded: LoadedModel, items: Sequence[ProbeItem], report: Report) -> ProbeScores:
    """The model's scores on the user's own probes."""
    return score_probes(items, lambda asked: _log_probs(loaded, asked, report))


def scored_tokens(loaded: LoadedModel) -> int:
    """About how many tokens one model is scored on, its base's samples apart."""
    texts = []
    for item in probe_items():
        texts += [item.prompt, *item.options]
    return text_tokens(loaded) + sum(map(len, encode_all(loaded, texts)))


def text_tokens(loaded: LoadedModel) -> int:
    """Those of the general texts alone."""
    return sum(map(len, encode_all(loaded, [text.text for text in general_texts()])))


def _log_probs(loaded: LoadedModel, asked: Sequence[ScoredText], report: Report) -> Sequence[float]:
    scores = [0.0] * len(asked)
    done = 0
    # Apart, so that the chat template's opening, which all chat prompts share, is read once.
    for chat in (False, True):
        chosen = [index for index, text in enumerate(asked) if text.chat == chat]
        if not chosen:
            continue
        prompts = _prompts(loaded, [asked[index].prompt for index in chosen], chat)
        continuations = encode_all(loaded, [asked[index].continuation for index in chosen])
        advance = partial(_advance, report, done, len(asked))
        totals, _ = score_continuations(loaded.model, prompts, continuations, loaded.pad_token, advance)
        for index, total in zip(chosen, totals.tolist(), strict=True):
            scores[index] = total
        done += len(chosen)
    return scores


def _prompts(loaded: LoadedModel, texts: Sequence[str], chat: bool) -> list[list[int]]:
    if chat:
        return [render_prompt(loaded, [Message("user", text)]) for text in texts]
    return encode_all(loaded, texts)


def _advance(report: Report, before: int, total: int, done: int, _: int) -> None:
    report(before + done, total)


def _sampled(loaded: LoadedModel, prompts: Sequence[str], tokens: int) -> Sequence[str]:
    rendered = [render_prompt(loaded, [Message("user", prompt)]) for prompt in prompts]
    sampled = sample(loaded.model, rendered, tokens, loaded.end_token, SAMPLE_TEMPERATURE, SAMPLE_SEED)
    return [loaded.tokenizer.decode(ids, skip_special_tokens=True) for ids in sampled]
