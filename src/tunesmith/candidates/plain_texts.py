"""Texts without a language model: opponents that cost nothing, and that a tuned model should beat."""

from __future__ import annotations

import re
import statistics
from collections import Counter
from collections.abc import Callable, Sequence

from tunesmith.candidates.answers import Answers
from tunesmith.candidates.fields import FieldModels, can_learn_fields
from tunesmith.candidates.nearest import most_similar
from tunesmith.candidates.templates import Templates, can_learn_templates
from tunesmith.data.made import learned_sha256
from tunesmith.files import content_hash
from tunesmith.records import Candidate, Row, Settings
from tunesmith.task.kinds import Kind

LEAD_SENTENCES = (1, 2, 3, 4, 5, 6)
FIELD_C = (0.3, 1.0, 3.0)

_SENTENCE_END = re.compile(r"(?<=[.!?])[\"'”’)]*\s+|\n+")


def constant_text(train: Sequence[Row]) -> Candidate:
    """The most frequent training answer; of equally frequent ones that whose length is nearest the median."""
    counts = Counter(row.target for row in train)
    median = statistics.median(len(row.target) for row in train)
    text = min(counts, key=lambda one: (-counts[one], abs(len(one) - median), one))
    return Candidate(content_hash(["constant", text]), "constant", "one constant answer", {"answer": text})


def best_plain(
    kind: Kind,
    train: Sequence[Row],
    rows: Sequence[Row],
    value: Callable[[Sequence[str]], float],
) -> list[tuple[Candidate, Answers]]:
    """Every method that applies to ``kind`` and these rows, with its answers to ``rows`` (validation).

    ``value`` of the answers, larger when better, chooses among a method's settings; on a tie the first.
    """
    methods: list[list[Settings]] = [[{"method": "nearest"}]]
    if kind == "summarise":
        methods.append([{"method": "lead", "sentences": count} for count in LEAD_SENTENCES])
    if kind == "generate" and can_learn_templates(train):
        methods.append([{"method": "templates"}])
    if kind == "extract" and can_learn_fields(train):
        methods.append([{"method": "fields", "C": c} for c in FIELD_C])
    best = []
    for variants in methods:
        found = [
            (candidate, answer_plain(candidate, train, rows)) for candidate in _candidates(variants, train)
        ]
        values = [value(answers.labels) for _, answers in found] if len(found) > 1 else [0.0]
        best.append(found[values.index(max(values))])
    return best


def answer_plain(candidate: Candidate, train: Sequence[Row], rows: Sequence[Row]) -> Answers:
    """The answers of a candidate of :func:`best_plain` or :func:`constant_text`."""
    settings = candidate.settings
    if candidate.kind == "constant":
        return Answers([str(settings["answer"])] * len(rows), None, 0)
    match settings["method"]:
        case "lead":
            count = int(str(settings["sentences"]))
            return Answers([lead(row.messages[-1].content, count) for row in rows], None, 0)
        case "templates":
            templates = Templates(train)
            near = _nearest_targets(train, rows)
            texts = [templates.answer(row.text) or other for row, other in zip(rows, near, strict=True)]
            return Answers(texts, None, 0)
        case "fields":
            return Answers(FieldModels(train, float(str(settings["C"]))).answers(rows), None, 0)
        case _:
            return Answers(_nearest_targets(train, rows), None, 0)


def lead(text: str, sentences: int) -> str:
    """The first sentences (or lines) of a text, one after the other."""
    parts = [part.strip() for part in _SENTENCE_END.split(text) if part.strip()]
    return " ".join(parts[:sentences])


def _nearest_targets(train: Sequence[Row], rows: Sequence[Row]) -> list[str]:
    return [near[0][0].target if near else "" for near in most_similar(train, rows, 1)]


def _candidates(variants: Sequence[Settings], train: Sequence[Row]) -> list[Candidate]:
    learned = learned_sha256(train)
    return [
        Candidate(content_hash(["plain text", settings, learned]), "classical", _name(settings), settings)
        for settings in variants
    ]


def _name(settings: Settings) -> str:
    match settings["method"]:
        case "lead":
            count = settings["sentences"]
            return f"first {count} sentences" if count != 1 else "first sentence"
        case "templates":
            return "templates learned from training rows"
        case "fields":
            return f"a linear SVM for each field, C={settings['C']:g}"
        case _:
            return "answer of the nearest training row"
