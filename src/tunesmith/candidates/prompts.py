"""Prompts on the untuned base: zero-shot with the label list, and the nearest training rows as examples.

Every answer is a valid label: the one with the highest exact log-probability, as it stands, per token
(length-normalised), or after contextual calibration (Zhao et al. 2021, arXiv 2102.09690), whichever is
best on validation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from tunesmith.candidates.answers import Answers, Value, accuracy, answers_from_scores, task_tree
from tunesmith.candidates.forms import (
    PromptForm,
    Shown,
    form_name,
    form_settings,
    label_request,
    shown_with,
    turns_of,
)
from tunesmith.engine.pruning import Pruning
from tunesmith.engine.scoring import LabelScores, score_labels
from tunesmith.files import content_hash
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
    """What prompts of one task share: the base, its labels as a tree, and the rows to show as examples."""

    loaded: LoadedModel
    instruction: str
    labels: tuple[str, ...]
    train: Sequence[Row]


def score_prompt(
    prompting: Prompting,
    form: PromptForm,
    rows: Sequence[Row],
    rules: Sequence[Pruning] | None,
    report: Report = silent,
) -> LabelScores:
    """Exact log-probabilities [rows, labels] under the prompts of ``form``.

    With ``rules`` only what they need is scored; without, every label.
    Raises UserError naming the rows whose prompt does not fit the base's context.
    """
    shown = shown_with(form, prompting.train, rows)
    prompts = [_render(prompting, row, one) for row, one in zip(rows, shown, strict=True)]
    tree = task_tree(prompting.loaded, prompting.labels)
    longest = max(tree.lengths)
    lengths = [len(prompt) + longest for prompt in prompts]
    check_lengths(prompting.loaded, rows, lengths, f"{form_name(form)} prompt")
    return score_labels(prompting.loaded.model, prompts, tree, prompting.loaded.pad_token, rules, report)


def content_free_prior(prompting: Prompting, form: PromptForm, seed: int) -> list[float]:
    """Mean log-probability of every label for inputs that say nothing, over a few sets of examples."""
    generator = np.random.default_rng(seed)
    rows, prompts = [], []
    for text in CONTENT_FREE:
        row = Row("", f"content-free prompt {text!r}", (Message("user", text),), "")
        for _ in range(CALIBRATION_EXAMPLE_SETS if form.examples else 1):
            order = generator.permutation(len(prompting.train))[: form.examples].tolist()
            prompts.append(_render(prompting, row, Shown(tuple(prompting.train[index] for index in order))))
            rows.append(row)
    tree = task_tree(prompting.loaded, prompting.labels)
    lengths = [len(prompt) + max(tree.lengths) for prompt in prompts]
    check_lengths(prompting.loaded, rows, lengths, f"{form_name(form)} prompt")
    scores = score_labels(prompting.loaded.model, prompts, tree, prompting.loaded.pad_token, None)
    means: list[float] = scores.log_probabilities.mean(axis=0).tolist()
    return means


def choose_variant(
    prompting: Prompting,
    form: PromptForm,
    scores: LabelScores,
    rows: Sequence[Row],
    prior: list[float],
    value: Value = accuracy,
) -> tuple[Candidate, Answers]:
    """The variant with the best ``value`` on ``rows`` (validation); on a tie the plainest."""
    best: tuple[float, Candidate, Answers] | None = None
    for variant in VARIANTS:
        settings = form_settings(form) | {"variant": variant, "instruction": prompting.instruction}
        if variant == "calibrated":
            settings["prior"] = prior
        shown = sorted(row.id for row in prompting.train) if form.examples else []
        base = prompting.loaded.base
        identity = content_hash(["prompt", settings, list(prompting.labels), shown, base.sha256])
        name = f"{form_name(form)} ({variant})"
        candidate = Candidate(identity, "prompt", name, settings, base.name)
        answers = answer_prompt(prompting, candidate, scores)
        reached = value(rows, answers.labels)
        if best is None or reached > best[0]:
            best = (reached, candidate, answers)
    assert best is not None  # there are variants
    return best[1], best[2]


def answer_prompt(prompting: Prompting, candidate: Candidate, scores: LabelScores) -> Answers:
    """Labels and probabilities from scores, by the candidate's variant."""
    (rule,) = candidate_rules(prompting, candidate)
    adjusted = rule.weights * scores.log_probabilities - rule.offsets
    return answers_from_scores(adjusted, prompting.labels, scores.tokens)


def variant_rules(prompting: Prompting, prior: list[float]) -> list[Pruning]:
    """What must be scored so that :func:`choose_variant` finds every variant's best label."""
    return [_rule(prompting, variant, prior) for variant in VARIANTS]


def candidate_rules(prompting: Prompting, candidate: Candidate) -> list[Pruning]:
    """What must be scored so that :func:`answer_prompt` finds the candidate's best label."""
    prior = candidate.settings.get("prior")
    return [_rule(prompting, candidate.settings["variant"], prior)]


def _rule(prompting: Prompting, variant: object, prior: object) -> Pruning:
    """The label score of a variant: weights · log p − offsets."""
    labels = len(prompting.labels)
    weights, offsets = np.ones(labels), np.zeros(labels)
    if variant == "length-normalised":
        weights = 1 / np.array(task_tree(prompting.loaded, prompting.labels).lengths)
    if variant == "calibrated":
        offsets = np.array(prior, dtype=np.float64)
    return Pruning(weights, offsets)


def _render(prompting: Prompting, row: Row, shown: Shown) -> list[int]:
    request = label_request(prompting.labels)
    if shown.examples:
        # Examples show the labels; the whole list would only make every prompt longer.
        request = "Answer like the examples."
    return render_prompt(prompting.loaded, turns_of(prompting.instruction, request, row, shown))
