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
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer

from tunesmith.candidates.answers import Answers, Value, accuracy, answers_from_scores, task_tree
from tunesmith.candidates.calibration import fit_temperature
from tunesmith.candidates.scope import Scoping, best_in_scope, scoped, threshold_of, with_none
from tunesmith.engine.pruning import Pruning
from tunesmith.engine.scoring import LabelScores, score_labels
from tunesmith.files import content_hash
from tunesmith.models.loading import LoadedModel
from tunesmith.models.rendering import check_lengths, instructed, render_prompt
from tunesmith.progress import Report, silent
from tunesmith.records import Candidate, Message, Row, Settings

Variant = Literal["log-probability", "length-normalised", "calibrated"]
VARIANTS: tuple[Variant, ...] = ("log-probability", "length-normalised", "calibrated")

# Inputs that say nothing: what the prompt answers to them is its bias (Zhao et al. 2021).
CONTENT_FREE = ("N/A", "[MASK]", "…")
CALIBRATION_EXAMPLE_SETS = 4

# Similarities to all of train are held for this many rows at a time.
ROWS_COMPARED_TOGETHER = 256


@dataclass(frozen=True)
class Prompting:
    """What prompts of one task share: the base, its labels as a tree, and the rows to show as examples."""

    loaded: LoadedModel
    instruction: str
    labels: tuple[str, ...]
    train: Sequence[Row]


def prompt_name(examples: int) -> str:
    """``zero-shot`` or ``3-shot nearest``."""
    return f"{examples}-shot nearest" if examples else "zero-shot"


def score_prompt(
    prompting: Prompting,
    examples: int,
    rows: Sequence[Row],
    rules: Sequence[Pruning] | None,
    report: Report = silent,
) -> LabelScores:
    """Exact log-probabilities [rows, labels] under the prompt with ``examples`` nearest training rows.

    With ``rules`` only what they need is scored; without, every label.
    Raises UserError naming the rows whose prompt does not fit the base's context.
    """
    shown = nearest(prompting.train, rows, examples) if examples else [[] for _ in rows]
    prompts = [_render(prompting, row, near) for row, near in zip(rows, shown, strict=True)]
    tree = task_tree(prompting.loaded, prompting.labels)
    longest = max(tree.lengths)
    lengths = [len(prompt) + longest for prompt in prompts]
    check_lengths(prompting.loaded, rows, lengths, f"{prompt_name(examples)} prompt")
    return score_labels(prompting.loaded.model, prompts, tree, prompting.loaded.pad_token, rules, report)


def content_free_prior(prompting: Prompting, examples: int, seed: int) -> list[float]:
    """Mean log-probability of every label for inputs that say nothing, over a few sets of examples."""
    generator = np.random.default_rng(seed)
    rows, prompts = [], []
    for text in CONTENT_FREE:
        row = Row("", f"content-free prompt {text!r}", (Message("user", text),), "")
        for _ in range(CALIBRATION_EXAMPLE_SETS if examples else 1):
            order = generator.permutation(len(prompting.train))[:examples].tolist()
            prompts.append(_render(prompting, row, [prompting.train[index] for index in order]))
            rows.append(row)
    tree = task_tree(prompting.loaded, prompting.labels)
    lengths = [len(prompt) + max(tree.lengths) for prompt in prompts]
    check_lengths(prompting.loaded, rows, lengths, f"{prompt_name(examples)} prompt")
    scores = score_labels(prompting.loaded.model, prompts, tree, prompting.loaded.pad_token, None)
    means: list[float] = scores.log_probabilities.mean(axis=0).tolist()
    return means


def choose_variant(
    prompting: Prompting,
    examples: int,
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
        settings: Settings = {"examples": examples, "variant": variant, "instruction": prompting.instruction}
        if variant == "calibrated":
            settings["prior"] = prior
        shown = sorted(row.id for row in prompting.train) if examples else []
        base = prompting.loaded.base
        identity = content_hash(["prompt", settings, list(prompting.labels), shown, base.sha256])
        name = f"{prompt_name(examples)} ({variant})"
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


def _render(prompting: Prompting, row: Row, examples: Sequence[Row]) -> list[int]:
    # One a line where commas would not part them.
    commas = any("," in label for label in prompting.labels)
    labels = "\n".join(["", *prompting.labels]) if commas else f" {', '.join(prompting.labels)}"
    instruction = f"{prompting.instruction}\nAnswer with exactly one of:{labels}"
    if examples:
        # Examples show the labels; the whole list would only make every prompt longer.
        instruction = f"{prompting.instruction}\nAnswer like the examples."
    turns = list(instructed(instruction, row))
    shown = [turn for example in examples for turn in example_turns(example)]
    return render_prompt(prompting.loaded, [turns[0], *shown, *turns[1:]])


def example_turns(row: Row) -> tuple[Message, ...]:
    """A training row as turns of a prompt: what was asked, and its answer."""
    asked = (message for message in row.messages if message.role != "system")
    return (*asked, Message("assistant", row.target))


def most_similar(train: Sequence[Row], rows: Sequence[Row], count: int) -> list[list[tuple[Row, float]]]:
    """The ``count`` training rows most like each row, the most similar first, with their TF-IDF cosine.

    A row is never shown itself, nor a near-duplicate of its group.
    """
    vectorizer = TfidfVectorizer(token_pattern=r"\b\w+\b", ngram_range=(1, 2), sublinear_tf=True)
    try:
        known = vectorizer.fit_transform([row.text for row in train]).T.tocsr()
    except ValueError:  # no words at all ("👍👍"): characters then
        vectorizer = TfidfVectorizer(analyzer="char", sublinear_tf=True)
        known = vectorizer.fit_transform([row.text for row in train]).T.tocsr()
    ids, groups = np.array([row.id for row in train]), np.array([row.group for row in train])
    near: list[list[tuple[Row, float]]] = []
    for start in range(0, len(rows), ROWS_COMPARED_TOGETHER):
        asked = rows[start : start + ROWS_COMPARED_TOGETHER]
        similar = (vectorizer.transform([row.text for row in asked]) @ known).toarray()
        for row, cosines in zip(asked, similar, strict=True):
            own = (ids == row.id) | ((groups == row.group) & (row.group != ""))
            order = np.argsort(np.where(own, np.inf, -cosines), kind="stable")[
                : min(count, int((~own).sum()))
            ]
            near.append([(train[index], float(cosines[index])) for index in order])
    return near


def nearest(train: Sequence[Row], rows: Sequence[Row], count: int) -> list[list[Row]]:
    """The most similar training rows, the nearest last, next to the question."""
    return [[row for row, _ in reversed(near)] for near in most_similar(train, rows, count)]
