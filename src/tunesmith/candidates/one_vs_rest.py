"""Several labels a row without a language model: one linear classifier for each label on n-grams.

A row gets every label whose classifier says more than a threshold, which is the same for all labels and tuned
on validation.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC

from tunesmith.candidates.answers import Answers, Value
from tunesmith.candidates.classical import (
    FEATURES,
    LOGISTIC_C,
    SVM_C,
    Classifier,
    Features,
    fit_vectorizers,
    nothing_in_common,
    vectorised,
)
from tunesmith.candidates.transformations import UNCHANGED, Transformations
from tunesmith.data.label_sets import label_set_text, labels_of, target_labels
from tunesmith.data.made import learned_sha256
from tunesmith.files import content_hash
from tunesmith.progress import Report, silent
from tunesmith.records import Candidate, Row, Settings

METHOD = "one classifier for each label"
GRID: tuple[tuple[Classifier, tuple[float, ...]], ...] = (
    ("linear SVM", SVM_C),
    ("logistic regression", LOGISTIC_C),
)
# Of what a classifier says: distances from the plane of an SVM, log-odds. Below 0, as most labels are rare.
THRESHOLDS: dict[Classifier, tuple[float, ...]] = {
    "linear SVM": tuple(round(-1.0 + 0.1 * step, 1) for step in range(13)),
    "logistic regression": tuple(round(-3.0 + 0.25 * step, 2) for step in range(15)),
}


@dataclass(frozen=True)
class LabelModels:
    """Fitted classifiers, one for each of ``labels``; None for a label that every training row has."""

    candidate: Candidate
    vectorizers: tuple[TfidfVectorizer, ...]
    labels: tuple[str, ...]
    classifiers: tuple[Any, ...]
    text: Transformations


def tune_label_models(
    train: Sequence[Row],
    validation: Sequence[Row],
    value: Value,
    text: Transformations = UNCHANGED,
    report: Report = silent,
) -> tuple[LabelModels, list[tuple[str, float]]]:
    """The best of a grid of features × classifier × C × threshold by ``value`` on validation, and the table.

    On a tie the earlier, simpler setting wins; the table has each setting with its best threshold. ``text``
    is done to every text first. Raises UserError where the inputs hold nothing to learn from.
    """
    grid = [(features, kind, c) for features in FEATURES for kind, values in GRID for c in values]
    table: list[tuple[str, float]] = []
    best: tuple[float, LabelModels] | None = None
    prepared: Features | None = None
    for done, (features, kind, c) in enumerate(grid):
        if features != prepared:
            prepared = features
            vectorizers, matrix = fit_vectorizers(features, train, text)
            asked = vectorised(vectorizers, validation, text) if vectorizers else None
        if not vectorizers:
            continue
        labels, classifiers = each_label_fitted(kind, c, train, matrix)
        decisions = each_label_decisions(classifiers, asked)
        reached = [
            value(validation, label_texts(decisions, labels, threshold)) for threshold in THRESHOLDS[kind]
        ]
        most = max(reached)
        threshold = THRESHOLDS[kind][reached.index(most)]
        candidate = _candidate(features, kind, c, threshold, train, text)
        table.append((candidate.name, most))
        if best is None or most > best[0]:
            best = (most, LabelModels(candidate, vectorizers, labels, classifiers, text))
        report(done + 1, len(grid), f"best {best[0]:.1%}")
    if best is None:
        raise nothing_in_common(len(train))
    return best[1], table


def estimate_label_models_seconds(train: Sequence[Row]) -> float:
    """About how long :func:`tune_label_models` takes on these rows: one label's fits of its grid, timed."""
    started = time.perf_counter()
    vectorizers, matrix = fit_vectorizers("words and characters", train)
    prepared = time.perf_counter() - started
    counts = target_labels(train, label_sets=True)
    if not vectorizers or not counts:
        return 0.0
    usual = sorted(counts, key=lambda label: counts[label])[len(counts) // 2]
    has = np.array([usual in labels_of(row.target) for row in train])
    if has.all():
        return len(FEATURES) * prepared
    started = time.perf_counter()
    for kind, values in GRID:
        _classifier(kind, values[len(values) // 2]).fit(matrix, has)
    fits = (time.perf_counter() - started) / len(GRID) * sum(len(values) for _, values in GRID)
    return len(FEATURES) * (prepared + len(counts) * fits)


def fit_label_models(
    candidate: Candidate, train: Sequence[Row], text: Transformations = UNCHANGED
) -> LabelModels:
    """Fit again what :func:`tune_label_models` chose; the same rows give the same models."""
    settings = candidate.settings
    features = next(known for known in FEATURES if known == settings["features"])
    kind = next(known for known, _ in GRID if known == settings["classifier"])
    vectorizers, matrix = fit_vectorizers(features, train, text)
    labels, classifiers = each_label_fitted(kind, float(str(settings["C"])), train, matrix)
    return LabelModels(candidate, vectorizers, labels, classifiers, text)


def answer_label_models(models: LabelModels, rows: Sequence[Row]) -> Answers:
    """The set of labels of each row, as a text; without probabilities."""
    decisions = each_label_decisions(models.classifiers, vectorised(models.vectorizers, rows, models.text))
    threshold = float(str(models.candidate.settings["threshold"]))
    return Answers(label_texts(decisions, models.labels, threshold), None, 0)


def each_label_fitted(
    kind: Classifier, c: float, train: Sequence[Row], matrix: csr_matrix | NDArray[np.float32]
) -> tuple[tuple[str, ...], tuple[Any, ...]]:
    """The labels of the training rows, and a classifier for each; None for one that every row has."""
    sets = [set(labels_of(row.target)) for row in train]
    labels = tuple(sorted(set().union(*sets)))
    classifiers: list[Any] = []
    for label in labels:
        has = np.array([label in one for one in sets])
        classifiers.append(None if has.all() else _classifier(kind, c).fit(matrix, has))
    return labels, tuple(classifiers)


def _classifier(kind: Classifier, c: float) -> Any:
    if kind == "linear SVM":
        return LinearSVC(C=c, random_state=0)
    return LogisticRegression(C=c, solver="liblinear", random_state=0)


def each_label_decisions(
    classifiers: Sequence[Any], matrix: csr_matrix | NDArray[np.float32]
) -> NDArray[np.float64]:
    """What each classifier says of each row [rows, labels]."""
    always = np.full(matrix.shape[0], np.inf)
    return np.column_stack([always if one is None else one.decision_function(matrix) for one in classifiers])


def label_texts(decisions: NDArray[np.float64], labels: Sequence[str], threshold: float) -> list[str]:
    """The set of labels above ``threshold`` of each row, as a text."""
    return [
        label_set_text(labels[index] for index in np.flatnonzero(row > threshold).tolist())
        for row in decisions
    ]


def _candidate(
    features: Features,
    kind: Classifier,
    c: float,
    threshold: float,
    train: Sequence[Row],
    text: Transformations,
) -> Candidate:
    settings: Settings = {
        "method": METHOD,
        "features": features,
        "classifier": kind,
        "C": c,
        "threshold": threshold,
    }
    if text.identity is not None:
        settings["transformations"] = text.identity[:16]
    identity = content_hash(["labels one by one", settings, learned_sha256(train)])
    name = f"classical: one {kind} for each label on {features}, C={c:g}, above {threshold:g}"
    return Candidate(identity, "classical", name, settings)
