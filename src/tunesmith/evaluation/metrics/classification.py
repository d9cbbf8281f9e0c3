"""One label per row: accuracy, precision, recall, F1, Matthews correlation, confusion.

The values equal scikit-learn's (``accuracy_score``, ``balanced_accuracy_score``,
``precision_recall_fscore_support``, ``matthews_corrcoef``). Macro averages are over the labels that occur in
the targets. An answer that is no label counts as wrong for its row and as an answer of no label.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt

from tunesmith.evaluation.metrics.answered import Answered, RowScores
from tunesmith.records import Estimate
from tunesmith.stats.clusters import Floats
from tunesmith.stats.jackknife import Statistic, jackknife_interval, statistic_of_sums

_Score = Callable[[Floats, Floats, Floats], Floats]
Average = Callable[[Floats], Floats]


def accuracy(answered: Answered) -> RowScores:
    """Share of the rows whose answer is the target."""
    right = [float(a == t) for a, t in zip(answered.predictions, answered.targets, strict=True)]
    return RowScores(np.array(right))


def macro_precision(answered: Answered) -> Statistic:
    """Right answers of a label among all its answers, averaged over labels."""
    return _of_labels(answered, _macro(precision))


def macro_recall(answered: Answered) -> Statistic:
    """Right answers of a label among the rows that want it, averaged over labels: balanced accuracy."""
    return _of_labels(answered, _macro(recall))


def macro_f1(answered: Answered) -> Statistic:
    """F1 of each label, averaged over labels."""
    return _of_labels(answered, _macro(f1))


def micro_precision(answered: Answered) -> Statistic:
    """Right answers among all answers that are a label."""
    return _of_labels(answered, _micro(precision))


def micro_recall(answered: Answered) -> Statistic:
    """Right answers among all rows."""
    return _of_labels(answered, _micro(recall))


def micro_f1(answered: Answered) -> Statistic:
    """F1 of all labels together; accuracy where every answer is a label."""
    return _of_labels(answered, _micro(f1))


def weighted_precision(answered: Answered) -> Statistic:
    """Precision of each label, averaged by how often it is wanted."""
    return _of_labels(answered, _weighted(precision))


def weighted_f1(answered: Answered) -> Statistic:
    """F1 of each label, averaged by how often it is wanted."""
    return _of_labels(answered, _weighted(f1))


def mcc(answered: Answered) -> Statistic:
    """Matthews correlation of targets and answers, for several labels (Gorodkin 2004), from −1 to 1."""
    names = list(dict.fromkeys((*answered.targets, *answered.predictions)))
    parts = label_sums([{t} for t in answered.targets], [{a} for a in answered.predictions], names)
    return statistic_of_sums(parts, _mcc, low=-1.0)


def label_scores(answered: Answered, level: float = 0.95) -> dict[str, dict[str, Estimate]]:
    """Precision, recall and F1 of each label with intervals; for the report, from validation only.

    A label that is never wanted, or in fewer than two groups, is left out: its recall is not defined, or has
    no interval.
    """
    wanted, given = [{t} for t in answered.targets], [{a} for a in answered.predictions]
    return scores_by_label(wanted, given, known_labels(answered), answered.groups, level)


def scores_by_label(
    wanted: Sequence[set[str]],
    given: Sequence[set[str]],
    labels: Sequence[str],
    groups: Sequence[str],
    level: float = 0.95,
) -> dict[str, dict[str, Estimate]]:
    """As :func:`label_scores`, of the labels that are wanted and given in each row."""
    scores: dict[str, _Score] = {"precision": precision, "recall": recall, "f1": f1}
    table: dict[str, dict[str, Estimate]] = {}
    for name in labels:
        wanted_in = {group for group, targets in zip(groups, wanted, strict=True) if name in targets}
        if len(wanted_in) < 2:
            continue
        parts = label_sums(wanted, given, [name])
        table[name] = {
            metric: jackknife_interval(statistic_of_sums(parts, _macro(score)), groups, level)
            for metric, score in scores.items()
        }
    return table


def confusion_matrix(
    targets: Sequence[str], answers: Sequence[str]
) -> tuple[list[str], npt.NDArray[np.intp]]:
    """Names in sorted order, and how often each target (row) was answered each way (column)."""
    names = sorted({*targets, *answers})
    place = {name: index for index, name in enumerate(names)}
    counts = np.zeros((len(names), len(names)), dtype=np.intp)
    np.add.at(counts, ([place[target] for target in targets], [place[answer] for answer in answers]), 1)
    return names, counts


def known_labels(answered: Answered) -> list[str]:
    """The label set and whatever else is a target."""
    return list(dict.fromkeys((*answered.labels, *answered.targets)))


def label_sums(wanted: Sequence[set[str]], given: Sequence[set[str]], labels: Sequence[str]) -> Floats:
    """Shape (rows, 3·labels): is each label right, wanted, given in this row? Other labels do not count."""
    place = {label: index for index, label in enumerate(labels)}
    width = len(labels)
    cells: list[tuple[int, int]] = []
    for row, (targets, answers) in enumerate(zip(wanted, given, strict=True)):
        for offset, some in ((0, targets & answers), (width, targets), (2 * width, answers)):
            cells.extend((row, offset + place[label]) for label in some if label in place)
    parts = np.zeros((len(wanted), 3 * width))
    if cells:
        parts[tuple(np.array(cells).T)] = 1
    return parts


def _of_labels(answered: Answered, value: Callable[[Floats], Floats]) -> Statistic:
    parts = label_sums(
        [{t} for t in answered.targets], [{a} for a in answered.predictions], known_labels(answered)
    )
    return statistic_of_sums(parts, value)


def _macro(score: _Score) -> Callable[[Floats], Floats]:
    return partial(macro_average, score=score)


def _micro(score: _Score) -> Callable[[Floats], Floats]:
    return partial(micro_average, score=score)


def _weighted(score: _Score) -> Callable[[Floats], Floats]:
    return partial(weighted_average, score=score)


def macro_average(sums: Floats, score: _Score) -> Floats:
    """``sums`` as of ``label_sums``, shape (n, 3·labels); the mean over wanted labels, shape (n,)."""
    right, wanted, given = np.split(sums, 3, axis=1)
    occurs = wanted > 0
    number = occurs.sum(axis=1)
    total = np.where(occurs, score(right, wanted, given), 0).sum(axis=1)
    return np.where(number > 0, total / np.maximum(number, 1), np.nan)


def micro_average(sums: Floats, score: _Score) -> Floats:
    """``sums`` as of ``label_sums``, shape (n, 3·labels); the score of all labels together, shape (n,)."""
    return score(*(part.sum(axis=1) for part in np.split(sums, 3, axis=1)))


def weighted_average(sums: Floats, score: _Score) -> Floats:
    right, wanted, given = np.split(sums, 3, axis=1)
    weighted = (score(right, wanted, given) * wanted).sum(axis=1)
    return np.asarray(weighted / np.maximum(wanted.sum(axis=1), 1))


def precision(right: Floats, wanted: Floats, given: Floats) -> Floats:
    return np.asarray(right / np.maximum(given, 1))


def recall(right: Floats, wanted: Floats, given: Floats) -> Floats:
    return np.asarray(right / np.maximum(wanted, 1))


def f1(right: Floats, wanted: Floats, given: Floats) -> Floats:
    """2·right / (wanted + given), 0 where nothing is wanted or given."""
    return np.asarray(2 * right / np.maximum(wanted + given, 1))


def _mcc(sums: Floats) -> Floats:
    right, wanted, given = np.split(sums, 3, axis=1)
    rows = wanted.sum(axis=1)
    covariance = right.sum(axis=1) * rows - (wanted * given).sum(axis=1)
    spread = (rows**2 - (given**2).sum(axis=1)) * (rows**2 - (wanted**2).sum(axis=1))
    return np.where(spread > 0, covariance / np.sqrt(np.where(spread > 0, spread, 1)), 0.0)
