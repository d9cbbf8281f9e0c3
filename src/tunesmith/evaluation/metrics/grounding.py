"""What an answer says that its source does not: words, numbers, names, and sentences not entailed.

The first three compare spelling and nothing else. They find what was made up, not what was turned round
("costs less" for "costs more"); only entailment, by a model of the user's own, can judge that.
"""

from __future__ import annotations

import math
import re

import numpy as np
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

from tunesmith.errors import UserError
from tunesmith.evaluation.metrics.answered import Answered, RowScores, unmeasured
from tunesmith.evaluation.metrics.words import words

_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_SENTENCE_END = re.compile(r"(?<=[.!?])[\"'”’)]*\s+|\n+")
_CAPITALISED = re.compile(r"\b[A-Z][\w'’-]+")
_ENDINGS = ("'s", "’s", "ings", "ing", "ies", "ied", "es", "ed", "ly", "s", "y", "e")
_SHORTEST_STEM = 3
_UNDER_TWENTY = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    *("eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
)
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_NUMBER_WORDS = {
    **{word: str(number) for number, word in enumerate(_UNDER_TWENTY)},
    **{word: str(10 * tens) for tens, word in enumerate(_TENS, start=2)},
}


def unsupported_words(answered: Answered) -> RowScores:
    """Share of an answer's content words that its source does not hold, a mean over rows.

    Content words are those of two letters or more that are neither English stop words (scikit-learn's list)
    nor numbers; they match without their English endings. An answer without any counts as 0.
    """
    scores = []
    for answer, source in zip(answered.predictions, answered.source_texts, strict=True):
        said = [word for word in words(answer) if _is_content(word)]
        known = {_stem(word) for word in words(source)}
        missing = sum(_stem(word) not in known for word in said)
        scores.append(missing / len(said) if said else 0.0)
    return RowScores(np.array(scores))


def unsupported_numbers(answered: Answered) -> RowScores:
    """Share of the answers with a number that is not in the source.

    1,200 and 1200, 3.50 and 3.5, "three" and 3 are the same; numbers that were computed count as unsupported.
    """
    pairs = zip(answered.predictions, answered.source_texts, strict=True)
    return RowScores(np.array([float(bool(_numbers(answer) - _numbers(source))) for answer, source in pairs]))


def unsupported_names(answered: Answered) -> RowScores:
    """Share of the answers with a capitalised word that is not in the source, in any case.

    First words of sentences are not looked at, as they are capitalised anyway; so a name that only ever
    begins sentences is missed, and in languages that capitalise nouns this counts every noun.
    """
    scores = []
    for answer, source in zip(answered.predictions, answered.source_texts, strict=True):
        known = {_stem(word) for word in words(source)}
        parts = {_stem(part) for name in _names(answer) for part in words(name)}
        scores.append(float(bool(parts - known)))
    return RowScores(np.array(scores))


def entailed(answered: Answered) -> RowScores:
    """Share of an answer's sentences that its source entails (at a half or more), a mean over rows.

    By the user's own model, ``Answered.entails``; UserError (exit code 3) without one, or where it gives no
    probability. An answer without a sentence counts as 1: it states nothing that is unsupported.
    """
    if answered.entails is None:
        raise unmeasured("entailed", "the task names no entailment model")
    scores = []
    triples = zip(answered.rows, answered.predictions, answered.source_texts, strict=True)
    for row, answer, source in triples:
        sentences = [part.strip() for part in _SENTENCE_END.split(answer) if words(part)]
        held = 0
        for sentence in sentences:
            probability = answered.entails(source, sentence)
            if not (math.isfinite(probability) and 0 <= probability <= 1):
                raise UserError(
                    f"{row.source}: the entailment model answers {probability!r}",
                    "it has to return a probability between 0 and 1",
                    exit_code=3,
                )
            held += probability >= 0.5
        scores.append(held / len(sentences) if sentences else 1.0)
    return RowScores(np.array(scores))


def _is_content(word: str) -> bool:
    return (
        len(word) > 1 and word not in ENGLISH_STOP_WORDS and not word.isdigit() and word not in _NUMBER_WORDS
    )


def _stem(word: str) -> str:
    """``word`` less an English ending, if three letters remain. Rough on purpose: "baked" is "bake"."""
    stem = word
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= _SHORTEST_STEM:
            stem = word[: -len(ending)]
            break
    doubled = len(stem) > _SHORTEST_STEM and stem[-1] == stem[-2] and stem[-1] not in "aeiou"
    return stem[:-1] if doubled else stem


def _numbers(text: str) -> set[str]:
    found = {_plain_number(number) for number in _NUMBER.findall(text)}
    return found | {_NUMBER_WORDS[word] for word in words(text) if word in _NUMBER_WORDS}


def _plain_number(written: str) -> str:
    """Commas before three digits part thousands; zeros after a point that end the number do not count."""
    number = re.sub(r",(?=\d{3}(?:\D|$))", "", written)
    whole, point, rest = number.partition(".")
    return f"{whole}{point}{rest}".rstrip("0").rstrip(".") if point and "." not in rest else number


def _names(text: str) -> set[str]:
    names: set[str] = set()
    for sentence in _SENTENCE_END.split(text):
        after_first = sentence.strip().partition(" ")[2]
        names.update(_CAPITALISED.findall(after_first))
    return {name for name in names if name.casefold() not in ENGLISH_STOP_WORDS}
