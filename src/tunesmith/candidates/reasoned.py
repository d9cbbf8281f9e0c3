"""Prompts that let a base think step by step before it answers (chain of thought), once or several times.

Chain of thought: Wei et al. 2022, arXiv 2201.11903; the vote on several sampled answers (self-consistency):
Wang et al. 2022, arXiv 2203.11171. Answers are asked for, read and voted on as those of endpoints are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tunesmith.candidates.answers import Answers
from tunesmith.candidates.forms import PromptForm, Shown, Wording, form_name, form_settings, turns_of
from tunesmith.candidates.replies import Asking, read_reply, reply_request, voted
from tunesmith.data.windowed import Cutting, cut_settings, in_windows, merged_answers
from tunesmith.engine.forward import common_prefix
from tunesmith.engine.generation import Decoding, generate
from tunesmith.files import content_hash
from tunesmith.models.loading import LoadedModel
from tunesmith.models.rendering import render_prompt
from tunesmith.progress import Report, silent
from tunesmith.records import Candidate, Row, Settings

STEP_BY_STEP = PromptForm(reasoning=True)
# Thoughts and answer have so many tokens at least, where the context leaves a row no more.
FEWEST_TOKENS = 16


@dataclass(frozen=True)
class Reasoning:
    """A base that thinks first: up to ``max_tokens`` of thoughts and answer, ``samples`` times.

    One sample is greedy; several are drawn at ``temperature``, by ``seed`` and a row's place among the rows.
    """

    loaded: LoadedModel
    instruction: str
    asking: Asking
    max_tokens: int
    samples: int = 1
    temperature: float = 0.7
    seed: int = 0
    cutting: Cutting | None = None


def reasoned_candidate(reasoning: Reasoning) -> Candidate:
    """The untuned base that thinks first, named by what decides its answers."""
    settings: Settings = form_settings(STEP_BY_STEP) | {
        "instruction": reasoning.instruction,
        "max_tokens": reasoning.max_tokens,
    }
    settings |= cut_settings(reasoning.cutting)
    name = form_name(STEP_BY_STEP)
    if reasoning.samples > 1:
        drawn = {"samples": reasoning.samples, "temperature": reasoning.temperature, "seed": reasoning.seed}
        settings |= drawn
        name += f", best of {reasoning.samples} by vote"
    base, asking = reasoning.loaded.base, reasoning.asking
    request = reply_request(asking, STEP_BY_STEP)
    identity = content_hash(["prompt that reasons", settings, request, base.sha256])
    return Candidate(identity, "prompt", name, settings, base.name)


def answer_by_reasoning(reasoning: Reasoning, rows: Sequence[Row], report: Report = silent) -> Answers:
    """The answer to each row after thinking; with several samples the commonest.

    Where a prompt leaves less room than ``max_tokens`` in the base's context, thoughts and answer have that.
    A row that leaves less than ``FEWEST_TOKENS`` is not asked, and its answer is empty.
    """
    parts = in_windows(rows, reasoning.cutting)
    loaded, asking, samples = reasoning.loaded, reasoning.asking, reasoning.samples
    wording = Wording(reasoning.instruction, reply_request(asking, STEP_BY_STEP), asking.labels)
    prompts = [render_prompt(loaded, turns_of(wording, row, Shown())) for row in parts.rows]
    rooms = [loaded.context_tokens - len(prompt) for prompt in prompts]
    roomy = [index for index, room in enumerate(rooms) if room >= reasoning.max_tokens]
    tight = [index for index, room in enumerate(rooms) if FEWEST_TOKENS <= room < reasoning.max_tokens]
    texts: list[list[str]] = [[] for _ in prompts]
    tokens, done = 0, 0
    for some in (roomy, tight):
        if not some:
            continue
        limit = min(reasoning.max_tokens, *(rooms[one] for one in some))
        asked = [prompts[one] for one in some for _ in range(samples)]
        written = generate(
            loaded.model,
            asked,
            Decoding(
                limit,
                loaded.end_token,
                temperature=reasoning.temperature if samples > 1 else 0.0,
                seed=reasoning.seed,
            ),
            lambda tokens: str(loaded.tokenizer.decode(tokens, skip_special_tokens=True)),
            advance=_reporting(report, done, len(prompts) * samples),
        )
        for place, answer in enumerate(written):
            texts[some[place // samples]].append(answer.text or "")
        shared = common_prefix(asked)
        tokens += shared + sum(len(prompt) - shared for prompt in asked)
        tokens += sum(len(answer.log_probabilities) for answer in written)
        done += len(asked)
    answers = [
        voted([read_reply(asking, STEP_BY_STEP, text) for text in drawn] or [""], asking) for drawn in texts
    ]
    return Answers(merged_answers(parts, answers), None, tokens)


def _reporting(report: Report, before: int, total: int) -> Callable[[int, int], None]:
    """Progress of some answers, after the ``before`` answers of others."""
    return lambda ended, _: report(before + ended, total, "answers")
