"""Several labels per row. The values equal scikit-learn's on the indicator matrix.

Target and answer are a JSON list of labels (``["card", "fee"]``) or labels parted by commas, semicolons or
line ends; an empty text or ``[]`` is no label. Order, repetition and surrounding spaces do not count.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from tunesmith.data.label_sets import label_set
from tunesmith.evaluation.metrics.answered import Answered, RowScores
from tunesmith.evaluation.metrics.classification import (
    Average,
    f1,
    label_sums,
    macro_average,
    micro_average,
    precision,
    recall,
    scores_by_label,
    weighted_average,
)
from tunesmith.records import Estimate
from tunesmith.stats.jackknife import Statistic, statistic_of_sums


def subset_accuracy(answered: Answered) -> RowScores:
    """Share of the rows whose labels are all right, none missing and none too many."""
    wanted, given = _sets(answered)
    return RowScores(np.array([float(w == g) for w, g in zip(wanted, given, strict=True)]))


def hamming_loss(answered: Answered) -> RowScores:
    """Labels missing or too many, as a share of the label set. An answer outside the set counts once each,
    up to the whole set."""
    wanted, given = _sets(answered)
    number = max(1, len(_label_set(answered)))
    return RowScores(np.array([min(1.0, len(w ^ g) / number) for w, g in zip(wanted, given, strict=True)]))


def row_f1(answered: Answered) -> RowScores:
    """F1 of each row's labels, averaged over rows; 1 where none is wanted and none given."""
    wanted, given = _sets(answered)
    return RowScores(
        np.array(
            [
                2 * len(w & g) / (len(w) + len(g)) if w or g else 1.0
                for w, g in zip(wanted, given, strict=True)
            ]
        )
    )


def jaccard(answered: Answered) -> RowScores:
    """Labels both wanted and given as a share of those wanted or given, averaged over rows; 1 where none is
    wanted and none given."""
    wanted, given = _sets(answered)
    return RowScores(
        np.array([len(w & g) / len(w | g) if w or g else 1.0 for w, g in zip(wanted, given, strict=True)])
    )


def multilabel_macro_f1(answered: Answered) -> Statistic:
    """F1 of each label that is wanted somewhere, averaged over labels."""
    return _of_label_set(answered, partial(macro_average, score=f1))


def multilabel_macro_precision(answered: Answered) -> Statistic:
    """Right answers of a label among all its answers, averaged over the labels that are wanted somewhere."""
    return _of_label_set(answered, partial(macro_average, score=precision))


def multilabel_macro_recall(answered: Answered) -> Statistic:
    """Right answers of a label among the rows that want it, averaged over labels."""
    return _of_label_set(answered, partial(macro_average, score=recall))


def multilabel_weighted_f1(answered: Answered) -> Statistic:
    """F1 of each label, averaged by how often it is wanted."""
    return _of_label_set(answered, partial(weighted_average, score=f1))


def multilabel_micro_f1(answered: Answered) -> Statistic:
    """F1 of all labels together; an answer outside the label set counts as a wrong one."""
    return _of_everything(answered, partial(micro_average, score=f1))


def multilabel_micro_precision(answered: Answered) -> Statistic:
    """Right ones among all labels given, those outside the label set included."""
    return _of_everything(answered, partial(micro_average, score=precision))


def multilabel_micro_recall(answered: Answered) -> Statistic:
    """Right ones among all labels wanted."""
    return _of_everything(answered, partial(micro_average, score=recall))


def label_set_scores(answered: Answered, level: float = 0.95) -> dict[str, dict[str, Estimate]]:
    """Precision, recall and F1 of each label, as in :func:`~.classification.label_scores`."""
    return scores_by_label(*_sets(answered), _label_set(answered), answered.groups, level)


def _of_label_set(answered: Answered, average: Average) -> Statistic:
    return statistic_of_sums(label_sums(*_sets(answered), _label_set(answered)), average)


def _of_everything(answered: Answered, average: Average) -> Statistic:
    wanted, given = _sets(answered)
    everything = sorted(set().union(*wanted, *given))
    return statistic_of_sums(label_sums(wanted, given, everything), average)


def _sets(answered: Answered) -> tuple[list[set[str]], list[set[str]]]:
    return [label_set(text) for text in answered.targets], [label_set(text) for text in answered.predictions]


def _label_set(answered: Answered) -> list[str]:
    return sorted({*answered.labels}.union(*(label_set(text) for text in answered.targets)))
