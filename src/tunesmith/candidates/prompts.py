"""Prompts on the untuned base: zero-shot with the label list, and the nearest training rows as examples.

Every answer is a valid label: the one with the highest exact log-probability, as it stands, per token
(length-normalised), or after contextual calibration (Zhao et al. 2021, arXiv 2102.09690), whichever is
best on validation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tunesmith.candidates.answers import Answers, Value, accuracy, answers_from_scores, task_tree
from tunesmith.candidates.calibration import fit_temperature
from tunesmith.candidates.forms import (
    PromptForm,
    Shown,
    Wording,
    form_name,
    form_settings,
    label_request,
    turns_of,
)
from tunesmith.candidates.retrieval import Library
from tunesmith.candidates.scope import Scoping, best_in_scope, scoped, threshold_of, with_none
from tunesmith.candidates.shown import ever_shorter, shown_with
from tunesmith.data.made import learned_sha256
from tunesmith.data.windowed import Cutting, cut_settings, in_windows, mean_scores
from tunesmith.engine.pruning import Pruning
from tunesmith.engine.scoring import LabelScores, score_labels
from tunesmith.files import content_hash
from tunesmith.models.embedding import Embedder
from tunesmith.models.loading import LoadedModel
from tunesmith.models.rendering import check_lengths, render_prompt
from tunesmith.progress import Report, silent
from tunesmith.records import Candidate, Message, Row

Variant = Literal["log-probability", "length-normalised", "calibrated"]
VARIANTS: tuple[Variant, ...] = ("log-probability", "length-normalised", "calibrated")

# Inputs that say nothing: what the prompt answers to them is its bias (Zhao et al. 2021).
CONTENT_FREE = ("N/A", "[MASK]", "…")
CALIBRATION_EXAMPLE_SETS = 4


@dataclass(frozen=True)
class Prompting:
    """What prompts of one task share: the base, its labels as a tree, and the rows to show as examples.

    With ``cutting`` long rows are read in windows; examples are windows, too.
    """

    loaded: LoadedModel
    instruction: str
    labels: tuple[str, ...]
    train: Sequence[Row]
    library: Library | None = None
    cutting: Cutting | None = None
    embedder: Embedder | None = None

    @cached_property
    def examples(self) -> list[Row]:
        """The rows that may be shown."""
        return in_windows(self.train, self.cutting).rows


def score_prompt(
    prompting: Prompting,
    form: PromptForm,
    rows: Sequence[Row],
    rules: Sequence[Pruning] | None,
    report: Report = silent,
) -> LabelScores:
    """Exact log-probabilities [rows, labels] under the prompts of ``form``.

    With ``rules`` only what they need is scored; without, every label. Scores of a row that is read
    in windows are the means over them, of every label. Passages that do not fit the base's context are left
    out, the least alike first.
    Raises UserError naming the rows whose prompt does not fit even so.
    """
    parts = in_windows(rows, prompting.cutting)
    rows, rules = parts.rows, None if parts.cut else rules
    tree = task_tree(prompting.loaded, prompting.labels)
    longest = max(tree.lengths)
    room = prompting.loaded.context_tokens - longest
    shown = shown_with(form, prompting.examples, rows, prompting.library, prompting.embedder)
    prompts = [_fitting(prompting, form, row, one, room) for row, one in zip(rows, shown, strict=True)]
    lengths = [len(prompt) + longest for prompt in prompts]
    check_lengths(prompting.loaded, rows, lengths, f"{form_name(form)} prompt")
    scores = score_labels(prompting.loaded.model, prompts, tree, prompting.loaded.pad_token, rules, report)
    return LabelScores(mean_scores(parts, scores.log_probabilities), scores.tokens)


def content_free_prior(prompting: Prompting, form: PromptForm, seed: int = 0) -> list[float]:
    """Mean log-probability of every label for inputs that say nothing, over a few sets of examples."""
    generator = np.random.default_rng(seed)
    rows, prompts = [], []
    for text in CONTENT_FREE:
        row = Row("", f"content-free prompt {text!r}", (Message("user", text),), "")
        for _ in range(CALIBRATION_EXAMPLE_SETS if form.examples or form.passages else 1):
            order = generator.permutation(len(prompting.examples))[: form.examples].tolist()
            examples = tuple(prompting.examples[index] for index in order)
            shown = Shown(examples, _some(prompting, form, generator))
            prompts.append(_render(prompting, form, row, shown))
            rows.append(row)
    tree = task_tree(prompting.loaded, prompting.labels)
    lengths = [len(prompt) + max(tree.lengths) for prompt in prompts]
    check_lengths(prompting.loaded, rows, lengths, f"{form_name(form)} prompt")
    scores = score_labels(prompting.loaded.model, prompts, tree, prompting.loaded.pad_token, None)
    means: list[float] = scores.log_probabilities.mean(axis=0).tolist()
    return means


def _some(prompting: Prompting, form: PromptForm, generator: np.random.Generator) -> tuple[str, ...]:
    if not form.passages or prompting.library is None:
        return ()
    passages = prompting.library.passages
    return tuple(passages[index].text for index in generator.permutation(len(passages))[: form.passages])


def choose_variant(
    prompting: Prompting,
    form: PromptForm,
    scores: LabelScores,
    rows: Sequence[Row],
    prior: list[float],
    value: Value = accuracy,
    scoping: Scoping | None = None,
) -> tuple[Candidate, Answers]:
    """The variant with the best ``value`` on ``rows`` (validation); on a tie the plainest.

    With ``scoping`` each variant gets a temperature and a threshold of its own; every label must be scored.
    """
    best: tuple[float, Candidate, Answers] | None = None
    for variant in VARIANTS:
        settings = form_settings(form) | {"variant": variant, "instruction": prompting.instruction}
        settings |= cut_settings(prompting.cutting)
        if variant == "calibrated":
            settings["prior"] = prior
        shown = [learned_sha256(prompting.train)] if form.examples else []
        if form.passages and prompting.library is not None:
            shown.append(prompting.library.sha256)
        if form.embeds and prompting.embedder is not None:
            shown.append(prompting.embedder.base.sha256)
        base = prompting.loaded.base
        identity = content_hash(["prompt", settings, list(prompting.labels), shown, base.sha256])
        name = f"{form_name(form)} ({variant})"
        candidate = Candidate(identity, "prompt", name, settings, base.name)
        if scoping is not None:
            candidate = _scoped(prompting, candidate, scores, rows, scoping)
        answers = answer_prompt(prompting, candidate, scores)
        reached = value(rows, answers.labels)
        if best is None or reached > best[0]:
            best = (reached, candidate, answers)
    assert best is not None  # there are variants
    return best[1], best[2]


def answer_prompt(prompting: Prompting, candidate: Candidate, scores: LabelScores) -> Answers:
    """Labels and probabilities from scores, by the candidate's variant."""
    adjusted = _adjusted(prompting, candidate, scores)
    if threshold_of(candidate) is not None:
        none_label, temperature = (str(candidate.settings[name]) for name in ("none_label", "temperature"))
        cooled = adjusted / float(temperature)
        best = best_in_scope(cooled, prompting.labels, none_label)
        return with_none(candidate, best, scores.tokens)
    return answers_from_scores(adjusted, prompting.labels, scores.tokens)


def variant_rules(prompting: Prompting, prior: list[float]) -> list[Pruning]:
    """What must be scored so that :func:`choose_variant` finds every variant's best label."""
    return [_rule(prompting, variant, prior) for variant in VARIANTS]


def candidate_rules(prompting: Prompting, candidate: Candidate) -> list[Pruning] | None:
    """What must be scored so that :func:`answer_prompt` finds its answer; None for every label."""
    return None if threshold_of(candidate) is not None else [_candidate_rule(prompting, candidate)]


def _candidate_rule(prompting: Prompting, candidate: Candidate) -> Pruning:
    return _rule(prompting, candidate.settings["variant"], candidate.settings.get("prior"))


def _adjusted(prompting: Prompting, candidate: Candidate, scores: LabelScores) -> NDArray[np.float64]:
    """The labels' scores [rows, labels] by the candidate's variant."""
    rule = _candidate_rule(prompting, candidate)
    adjusted: NDArray[np.float64] = rule.weights * scores.log_probabilities - rule.offsets
    return adjusted


def _scoped(
    prompting: Prompting, candidate: Candidate, scores: LabelScores, rows: Sequence[Row], scoping: Scoping
) -> Candidate:
    adjusted = _adjusted(prompting, candidate, scores)
    temperature = fit_temperature(adjusted, prompting.labels, rows)
    best = best_in_scope(adjusted / temperature, prompting.labels, scoping.none_label)
    return scoped(candidate, scoping, rows, best, {"temperature": temperature})


def _rule(prompting: Prompting, variant: object, prior: object) -> Pruning:
    """The label score of a variant: weights · log p − offsets."""
    labels = len(prompting.labels)
    weights, offsets = np.ones(labels), np.zeros(labels)
    if variant == "length-normalised":
        weights = 1 / np.array(task_tree(prompting.loaded, prompting.labels).lengths)
    if variant == "calibrated":
        offsets = np.array(prior, dtype=np.float64)
    return Pruning(weights, offsets)


def _fitting(prompting: Prompting, form: PromptForm, row: Row, shown: Shown, room: int) -> list[int]:
    for less in ever_shorter(shown):
        prompt = _render(prompting, form, row, less)
        if len(prompt) <= room or not less.passages:
            break
    return prompt


def _render(prompting: Prompting, form: PromptForm, row: Row, shown: Shown) -> list[int]:
    request = label_request(prompting.labels)
    if shown.examples:
        # Examples show the labels; the whole list would only make every prompt longer.
        request = "Answer like the examples."
    wording = Wording(prompting.instruction, request, prompting.labels, form.template)
    return render_prompt(prompting.loaded, turns_of(wording, row, shown))
