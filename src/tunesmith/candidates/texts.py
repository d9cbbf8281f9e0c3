"""Candidates that write their answers: prompts on the base, and the tuned model, both by greedy generation.

Every candidate of a task has the same limit of tokens and, where the task has one, is held to the same JSON
schema while it writes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tunesmith.candidates.answers import Answers
from tunesmith.candidates.forms import (
    PromptForm,
    Shown,
    Wording,
    form_name,
    form_settings,
    label_list_request,
    schema_text,
    text_request,
    turns_of,
)
from tunesmith.candidates.retrieval import Library
from tunesmith.candidates.shown import ever_shorter, shown_with
from tunesmith.candidates.tuned_prompts import tuned_prompts
from tunesmith.data.made import learned_sha256
from tunesmith.data.windowed import Cutting, Windowed, cut_settings, in_windows, merged_answers
from tunesmith.engine.constrained import TokenFilter, json_filter
from tunesmith.engine.forward import common_prefix
from tunesmith.engine.generation import Decoding, generate
from tunesmith.engine.label_lists import label_lists
from tunesmith.engine.vocabulary import read_vocabulary
from tunesmith.files import content_hash
from tunesmith.models.adapters import METHOD_TITLES
from tunesmith.models.embedding import Embedder
from tunesmith.models.loading import LoadedModel
from tunesmith.models.rendering import check_lengths, render_answer, render_prompt
from tunesmith.progress import Report, silent
from tunesmith.records import Candidate, Row, Settings

# An answer may be as long as this share of the training answers.
COVERED_SHARE = 0.99


@dataclass(frozen=True)
class Writing:
    """What candidates that write share: the base, the instruction, the limit of an answer, rows to show.

    With ``labels`` an answer is a list of some of them.
    With ``cutting`` long rows are read in windows, whose answers make one; examples are windows, too.
    """

    loaded: LoadedModel
    instruction: str
    max_new_tokens: int
    schema: Mapping[str, Any] | None
    train: Sequence[Row]
    library: Library | None = None
    labels: tuple[str, ...] = ()
    cutting: Cutting | None = None
    embedder: Embedder | None = None

    @cached_property
    def examples(self) -> list[Row]:
        """The rows that may be shown."""
        return in_windows(self.train, self.cutting).rows

    @cached_property
    def grammar(self) -> TokenFilter | None:
        """The tokens that keep an answer inside the schema, or a list of the labels; None without either."""
        if self.labels:
            vocabulary = read_vocabulary(self.loaded.tokenizer)
            return TokenFilter(label_lists(self.labels), vocabulary, self.loaded.end_token)
        if self.schema is None:
            return None
        return json_filter(self.schema, self.loaded.tokenizer, self.loaded.end_token)


def answer_limit(
    loaded: LoadedModel, train: Sequence[Row], asked: int | None, covered: float = COVERED_SHARE
) -> int:
    """The most tokens of an answer: ``asked``, else what so many training answers and their ends have."""
    if asked is not None:
        return asked
    lengths = sorted(len(render_answer(loaded, row.target)) for row in train)
    return lengths[math.ceil(covered * len(lengths)) - 1]


def prompt_candidate(writing: Writing, form: PromptForm) -> Candidate:
    """The untuned base under the prompts of ``form``."""
    settings = _settings(writing) | form_settings(form)
    shown = [learned_sha256(writing.train)] if form.examples else []
    base = writing.loaded.base
    found = [writing.library.sha256] if form.passages and writing.library is not None else []
    if form.embeds and writing.embedder is not None:
        found.append(writing.embedder.base.sha256)
    identity = content_hash(["prompt that writes", settings, shown, base.sha256, *found, *_choices(writing)])
    return Candidate(identity, "prompt", form_name(form), settings, base.name)


def tuned_candidate(writing: Writing, adapter_sha256: str, method: str, passages: int = 0) -> Candidate:
    """The tuned model, named by what decides its answers."""
    settings = _settings(writing) | {"adapter_sha256": adapter_sha256}
    base = writing.loaded.base
    name = f"{base.name} + {METHOD_TITLES[method]}"
    found = []
    if passages and writing.library is not None:
        settings["passages"] = passages
        found = [writing.library.sha256]
        name += f" + {form_name(PromptForm(passages=passages))}"
    identity = content_hash(["tuned to write", base.sha256, settings, *found, *_choices(writing)])
    return Candidate(identity, "tuned", name, settings, base.name)


def answer_by_prompt(
    writing: Writing, form: PromptForm, rows: Sequence[Row], report: Report = silent
) -> Answers:
    """Answers under the prompts of ``form``.

    Where a prompt is longer than the base's context, passages and examples least like the row are left out.
    Raises UserError naming the rows that do not fit even without any.
    """
    parts = in_windows(rows, writing.cutting)
    shown = shown_with(form, writing.examples, parts.rows, writing.library, writing.embedder)
    prompts = [_fitting(writing, form, row, one) for row, one in zip(parts.rows, shown, strict=True)]
    return _written(writing, prompts, parts, f"{form_name(form)} prompt", report)


def fewer_examples(writing: Writing, form: PromptForm, rows: Sequence[Row]) -> int:
    """How many prompts show less than ``form`` wants, as all of it does not fit the base's context."""
    rows = in_windows(rows, writing.cutting).rows
    shown = shown_with(form, writing.examples, rows, writing.library, writing.embedder)
    room = writing.loaded.context_tokens - writing.max_new_tokens
    return sum(
        len(_prompt(writing, form, row, one)) > room
        for row, one in zip(rows, shown, strict=True)
        if one != Shown()
    )


def prompt_lengths(writing: Writing, form: PromptForm, rows: Sequence[Row]) -> list[int]:
    """Tokens of each row's prompt of ``form``; of all of its windows together."""
    parts = in_windows(rows, writing.cutting)
    shown = shown_with(form, writing.examples, parts.rows, writing.library, writing.embedder)
    lengths = [0] * len(rows)
    for document, row, one in zip(parts.documents, parts.rows, shown, strict=True):
        lengths[document] += len(_fitting(writing, form, row, one))
    return lengths


def answer_by_tuned(
    writing: Writing, rows: Sequence[Row], report: Report = silent, passages: int = 0
) -> Answers:
    """Answers of the tuned model in ``writing.loaded``, after the same prompt as in training.

    With ``passages`` up to so many, as fit, stand before each row's text.
    """
    limit, library, parts = writing.max_new_tokens, writing.library, in_windows(rows, writing.cutting)
    prompts = tuned_prompts(writing.loaded, writing.instruction, parts.rows, limit, passages, library)
    return _written(writing, prompts, parts, "prompt", report)


def _settings(writing: Writing) -> Settings:
    settings: Settings = {"instruction": writing.instruction, "max_new_tokens": writing.max_new_tokens}
    if writing.schema is not None:
        settings["json_schema"] = schema_text(writing.schema)
    return settings | cut_settings(writing.cutting)


def _choices(writing: Writing) -> list[list[str]]:
    return [list(writing.labels)] if writing.labels else []


def _fitting(writing: Writing, form: PromptForm, row: Row, shown: Shown) -> list[int]:
    room = writing.loaded.context_tokens - writing.max_new_tokens
    for less in ever_shorter(shown):
        prompt = _prompt(writing, form, row, less)
        if len(prompt) <= room:
            break
    return prompt


def _prompt(writing: Writing, form: PromptForm, row: Row, shown: Shown) -> list[int]:
    request = text_request(writing.schema, bool(shown.examples))
    if writing.labels:
        request = label_list_request(writing.labels)
    wording = Wording(writing.instruction, request, writing.labels, form.template)
    return render_prompt(writing.loaded, turns_of(wording, row, shown))


def _written(
    writing: Writing, prompts: list[list[int]], parts: Windowed, what: str, report: Report
) -> Answers:
    if not prompts:
        return Answers([], None, 0)
    loaded = writing.loaded
    limit = writing.max_new_tokens
    check_lengths(loaded, parts.rows, [len(prompt) + limit for prompt in prompts], f"{what} with its answer")
    written = generate(
        loaded.model,
        prompts,
        Decoding(limit, loaded.end_token),
        lambda tokens: str(loaded.tokenizer.decode(tokens, skip_special_tokens=True)),
        writing.grammar,
        lambda done, total: report(done, total, "answers"),
    )
    shared = common_prefix(prompts)
    read = shared + sum(len(prompt) - shared for prompt in prompts)
    tokens = read + sum(len(answer.log_probabilities) for answer in written)
    answers = [(answer.text or "").strip() for answer in written]
    return Answers(merged_answers(parts, answers), None, tokens)
