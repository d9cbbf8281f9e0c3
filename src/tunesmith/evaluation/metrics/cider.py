"""CIDEr-D: consensus with several references, as measured for captions and attribute-to-text."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np

from tunesmith.evaluation.metrics.answered import Answered, RowScores
from tunesmith.evaluation.metrics.words import ngrams

_ORDERS = 4
_LENGTH_SIGMA = 6.0

_Vectors = list[dict[tuple[str, ...], float]]


def cider(answered: Answered) -> RowScores:
    """CIDEr-D (Vedantam et al. 2015) as in coco-caption, a mean over rows, from 0 to 10.

    Cosine of tf-idf vectors of 1- to 4-grams, clipped at the reference's weights, with a Gaussian penalty on
    the difference in length, averaged over orders and references, times 10. Document frequencies are those of
    these rows' references, so values of different tests do not compare. White space parts the words: the
    published form is of lower-case, tokenised text.
    """
    references = [[text.split() for text in texts] for texts in answered.right_answers]
    frequency: Counter[tuple[str, ...]] = Counter()
    for texts in references:
        frequency.update({ngram for tokens in texts for ngram in _counts(tokens)})
    log_rows = math.log(len(references))

    def vectors(tokens: list[str]) -> _Vectors:
        found: _Vectors = [{} for _ in range(_ORDERS)]
        for ngram, count in _counts(tokens).items():
            found[len(ngram) - 1][ngram] = count * (log_rows - math.log(max(1, frequency[ngram])))
        return found

    scores = []
    for answer, texts in zip(answered.predictions, references, strict=True):
        own = answer.split()
        own_vectors = vectors(own)
        each = [
            _similarity(own_vectors, vectors(tokens)) * _length_penalty(len(own), len(tokens))
            for tokens in texts
        ]
        scores.append(10 * sum(each) / len(each))
    return RowScores(np.array(scores), high=10.0)


def _counts(tokens: list[str]) -> Counter[tuple[str, ...]]:
    counts: Counter[tuple[str, ...]] = Counter()
    for order in range(1, _ORDERS + 1):
        counts.update(ngrams(tokens, order))
    return counts


def _similarity(own: _Vectors, other: _Vectors) -> float:
    total = 0.0
    for mine, theirs in zip(own, other, strict=True):
        norms = _norm(mine) * _norm(theirs)
        clipped = sum(
            min(weight, theirs.get(ngram, 0.0)) * theirs.get(ngram, 0.0) for ngram, weight in mine.items()
        )
        total += clipped / norms if norms > 0 else 0.0
    return total / _ORDERS


def _norm(vector: dict[tuple[str, ...], float]) -> float:
    return math.sqrt(sum(weight**2 for weight in vector.values()))


def _length_penalty(own: int, other: int) -> float:
    return math.exp(-((own - other) ** 2) / (2 * _LENGTH_SIGMA**2))
