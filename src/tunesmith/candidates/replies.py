"""Answers in a model's own words, of endpoints and of bases that think first: asked for, read, voted on."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tunesmith.candidates.forms import (
    REASONING_REQUEST,
    PromptForm,
    label_list_request,
    label_request,
    text_request,
)
from tunesmith.data.label_sets import label_set, label_set_text

_FENCED = re.compile(r"```(?:json)?\s*\n(.*?)\n?```", re.DOTALL)
_ANSWER = re.compile(r"answer\W*:", re.IGNORECASE)
_AROUND_LABELS = " \t\r\n\"'`*_.,:;!?“”‘’«»()[]<>"


@dataclass(frozen=True)
class Asking:
    """What an answer may be: a label, with ``several`` a list of labels, JSON of a ``schema``, or a text."""

    labels: tuple[str, ...]
    several: bool
    schema: Mapping[str, Any] | None


def reply_request(asking: Asking, form: PromptForm) -> str:
    """What a prompt of ``form`` says of its answer."""
    request = text_request(asking.schema, False)
    if asking.labels:
        request = (label_list_request if asking.several else label_request)(asking.labels)
    if form.examples:
        # Unlike a base whose labels are scored, it must know the labels that no example shows.
        request = f"{request}\nAnswer like the examples.".strip()
    if form.reasoning:
        request = f"{request}\n{REASONING_REQUEST}".strip()
    return request


def read_reply(asking: Asking, form: PromptForm, text: str) -> str:
    """The answer in ``text``: after thinking, what follows the last "Answer:"; a label, or a text."""
    if form.reasoning and (answers := _ANSWER.split(text)):
        text = answers[-1]
    if asking.several:
        return read_labels(text, asking.labels) or text.strip()
    if asking.labels:
        # What is no label stays as it is, and so counts as wrong.
        return read_label(text, asking.labels) or text.strip()
    if asking.schema is not None and (fenced := _FENCED.search(text)):
        return fenced[1].strip()
    return text.strip()


def voted(answers: Sequence[str], asking: Asking) -> str:
    """The commonest answer, of labels where there is one; on a tie that which was drawn first.

    Self-consistency: Wang et al. 2022, arXiv 2203.11171.
    """
    known = [] if asking.several else asking.labels
    labels = [answer for answer in answers if answer in known]
    return Counter(labels or answers).most_common(1)[0][0]


def read_label(text: str, labels: Sequence[str]) -> str | None:
    """The label that ``text`` is: exactly, or after both are normalised; None where it is none, or two.

    Normalised: Unicode NFKC, lower case, runs of white space as one space, and without quotation marks,
    brackets, emphasis and punctuation around it.
    """
    stripped = text.strip()
    if stripped in labels:
        return stripped
    wanted = _normalised(text)
    fitting = [label for label in labels if _normalised(label) == wanted]
    return fitting[0] if len(fitting) == 1 else None


def read_labels(text: str, labels: Sequence[str]) -> str | None:
    """The set of labels that ``text`` lists, in the one way it is written; None where one of them is none.

    A JSON list, or labels parted by commas, semicolons or line ends; each is read as by :func:`read_label`.
    """
    fenced = _FENCED.search(text)
    named = [read_label(one, labels) for one in label_set(fenced[1] if fenced else text)]
    known = [label for label in named if label is not None]
    return label_set_text(known) if len(known) == len(named) else None


def _normalised(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split()).strip(_AROUND_LABELS)
