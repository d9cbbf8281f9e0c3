"""Generated text against one or several references: ROUGE, BLEU, chrF, length.

All but the length ratio are shares, from 0 to 1: a BLEU of 0.41 is what papers print as 41.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from tunesmith.evaluation.metrics.answered import Answered, RowScores, unmeasured
from tunesmith.evaluation.metrics.words import words
from tunesmith.stats.clusters import Floats
from tunesmith.stats.jackknife import Statistic, statistic_of_sums

_BLEU_ORDERS = 4
_SEEN_BY_ROUGE = re.compile(r"[a-z0-9]")


def rouge_1(answered: Answered) -> RowScores:
    """F-measure of words shared with the best reference (rouge-score, Porter-stemmed), a mean over rows."""
    return _rouge(answered, "rouge1")


def rouge_2(answered: Answered) -> RowScores:
    """The same of pairs of neighbouring words."""
    return _rouge(answered, "rouge2")


def rouge_l(answered: Answered) -> RowScores:
    """The same of the longest common subsequence of words, each text taken as one sentence."""
    return _rouge(answered, "rougeL")


def bleu(answered: Answered) -> Statistic:
    """Corpus BLEU as sacrebleu computes it: 13a tokens, exponential smoothing, case counts."""
    return _bleu(answered, lowercase=False)


def bleu_lowercase(answered: Answered) -> Statistic:
    """The same with all text in lower case (sacrebleu -lc)."""
    return _bleu(answered, lowercase=True)


def chrf(answered: Answered) -> Statistic:
    """chrF2 of the corpus as sacrebleu computes it: character 6-grams, recall counts twice."""
    metric: Any = CHRF()
    # sacrebleu's own bootstrap takes the same two steps: counts of each segment, then a score of their sum.
    counts = metric._extract_corpus_statistics(list(answered.predictions), _streams(answered.right_answers))

    def value(sums: Floats) -> Floats:
        return np.array([metric._compute_score_from_stats(row).score / 100 for row in sums.tolist()])

    return statistic_of_sums(np.array(counts, dtype=np.float64), value)


def length_ratio(answered: Answered) -> Statistic:
    """Words of the answers over words of the references (the mean of a row's references). Neither more nor
    less is better."""
    own = [len(words(answer)) for answer in answered.predictions]
    wanted = [np.mean([len(words(text)) for text in texts]) for texts in answered.right_answers]

    def value(sums: Floats) -> Floats:
        return np.asarray(sums[:, 0] / sums[:, 1])

    if not any(wanted):
        raise unmeasured("length_ratio", "no reference holds a word")
    return statistic_of_sums(np.column_stack([own, wanted]).astype(np.float64), value, high=None, low=None)


def check_rouge(source: str, reference: str) -> None:
    """UserError (exit code 3) where rouge-score, which sees a to z and digits, sees nothing in a reference
    that holds words: whatever the answer, it would score 0."""
    if words(reference) and not _SEEN_BY_ROUGE.search(reference.lower()):
        raise unmeasured("ROUGE", f"{source} has a reference without Latin letters", "use chrf instead")


def _rouge(answered: Answered, name: str) -> RowScores:
    """The reference with the highest F-measure counts, as in rouge-score's ``score_multi``.

    Raises UserError (exit code 3) at a reference that it does not see (:func:`check_rouge`).
    """
    scorer = RougeScorer([name], use_stemmer=True)
    scores = []
    for row, answer, texts in zip(answered.rows, answered.predictions, answered.right_answers, strict=True):
        for text in texts:
            check_rouge(row.source, text)
        scores.append(max(scorer.score(text, answer)[name].fmeasure for text in texts))
    return RowScores(np.array(scores, dtype=np.float64))


def _bleu(answered: Answered, lowercase: bool) -> Statistic:
    segments = BLEU(lowercase=lowercase, effective_order=True)
    counts = []
    for answer, texts in zip(answered.predictions, answered.right_answers, strict=True):
        one = segments.sentence_score(answer, list(texts))
        counts.append([one.sys_len, one.ref_len, *one.counts, *one.totals])

    def value(sums: Floats) -> Floats:
        scores = []
        for row in sums.astype(np.intp).tolist():
            right, possible = row[2 : 2 + _BLEU_ORDERS], row[2 + _BLEU_ORDERS :]
            score = BLEU.compute_bleu(right, possible, row[0], row[1], smooth_method="exp").score
            scores.append(score / 100)
        return np.array(scores)

    return statistic_of_sums(np.array(counts, dtype=np.float64), value)


def _streams(references: Sequence[Sequence[str]]) -> list[list[str | None]]:
    """sacrebleu wants the first references of all rows, then the second ones; None where a row has none."""
    most = max(len(texts) for texts in references)
    return [[texts[n] if n < len(texts) else None for texts in references] for n in range(most)]
