"""Several labels per row. The values equal scikit-learn's on the indicator matrix.

Target and answer are a JSON list of labels (``["card", "fee"]``) or labels parted by commas, semicolons or
line ends; an empty text or ``[]`` is no label. Order, repetition and surrounding spaces do not count.
"""

from __future__ import annotations

import json
import re
from functools import partial

import numpy as np

from tunesmith.evaluation.metrics.answered import Answered, RowScores
from tunesmith.evaluation.metrics.classification import f1, label_sums, macro_average, micro_average
from tunesmith.stats.jackknife import Statistic, statistic_of_sums

_BETWEEN = re.compile(r"[,;\n]")


def label_set(text: str) -> set[str]:
    """The labels that a target or an answer names."""
    stripped = text.strip()
    if stripped.startswith("["):
        try:
            listed = json.loads(stripped)
        except ValueError:
            pass
        else:
            return {str(label).strip() for label in listed}
    return {label.strip() for label in _BETWEEN.split(stripped) if label.strip()}


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


def multilabel_macro_f1(answered: Answered) -> Statistic:
    """F1 of each label that is wanted somewhere, averaged over labels."""
    parts = label_sums(*_sets(answered), _label_set(answered))
    return statistic_of_sums(parts, partial(macro_average, score=f1))


def multilabel_micro_f1(answered: Answered) -> Statistic:
    """F1 of all labels together; an answer outside the label set counts as a wrong one."""
    wanted, given = _sets(answered)
    everything = sorted(set().union(*wanted, *given))
    return statistic_of_sums(label_sums(wanted, given, everything), partial(micro_average, score=f1))


def _sets(answered: Answered) -> tuple[list[set[str]], list[set[str]]]:
    return [label_set(text) for text in answered.targets], [label_set(text) for text in answered.predictions]


def _label_set(answered: Answered) -> list[str]:
    return sorted({*answered.labels}.union(*(label_set(text) for text in answered.targets)))
