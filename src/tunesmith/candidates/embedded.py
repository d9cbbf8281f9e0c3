"""Opponents on sentence embeddings: logistic regression on vectors of an encoder that is not trained.

For one label a row one model over all labels, for several one for each label. C is tuned on validation, as
with n-grams (``candidates/classical.py``, ``candidates/one_vs_rest.py``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from tunesmith.candidates.answers import Answers, Value, accuracy, answers_from_scores
from tunesmith.candidates.calibration import fit_temperature
from tunesmith.candidates.one_vs_rest import THRESHOLDS, each_label_decisions, each_label_fitted, label_texts
from tunesmith.candidates.scope import Scoping, best_in_scope, scoped, threshold_of, with_none
from tunesmith.data.made import learned_sha256, row_weight
from tunesmith.files import content_hash
from tunesmith.models.embedding import Embedder, Vectors
from tunesmith.progress import Report, silent
from tunesmith.records import Candidate, Row, Settings

METHOD = "embeddings"
# Larger than with n-grams: the vectors have length 1, and all point into much the same direction.
EMBEDDED_C = (1.0, 10.0, 100.0, 1000.0)
MOST_STEPS = 2000


@dataclass(frozen=True)
class EmbeddedModel:
    """A fitted classifier of vectors; it is refitted from its settings when needed.

    With ``several`` labels a row there is a classifier for each of ``labels``, None where every row has it.
    """

    candidate: Candidate
    embedder: Embedder
    labels: tuple[str, ...]
    classifiers: tuple[Any, ...]
    several: bool


def tune_embedded(
    embedder: Embedder,
    train: Sequence[Row],
    validation: Sequence[Row],
    several: bool,
    value: Value = accuracy,
    scoping: Scoping | None = None,
    report: Report = silent,
) -> tuple[EmbeddedModel, list[tuple[str, float]]]:
    """The C (with several labels, C and threshold) with the best ``value`` on validation, and the table.

    On a tie the smaller C wins. With ``scoping`` each C gets a threshold of its own.
    """
    known, asked = embedder.known(_texts(train)), embedder.embed(_texts(validation))
    table: list[tuple[str, float]] = []
    best: tuple[float, EmbeddedModel] | None = None
    for done, c in enumerate(EMBEDDED_C):
        model = _fitted(embedder, train, known, c, several)
        thresholds = THRESHOLDS["logistic regression"] if several else (None,)
        tried = [_with_threshold(model, threshold) for threshold in thresholds]
        if scoping is not None:
            tried = [_scoped(model, asked, validation, scoping) for model in tried]
        values = [value(validation, _answers(one, asked).labels) for one in tried]
        most = max(values)
        chosen = tried[values.index(most)]
        table.append((chosen.candidate.name, most))
        if best is None or most > best[0]:
            best = (most, chosen)
        report(done + 1, len(EMBEDDED_C), f"best {best[0]:.1%}")
    assert best is not None  # there are values of C
    return best[1], table


def fit_embedded(embedder: Embedder, candidate: Candidate, train: Sequence[Row]) -> EmbeddedModel:
    """Fit again what :func:`tune_embedded` chose; the same rows give the same model."""
    several = bool(candidate.settings["several"])
    c = float(str(candidate.settings["C"]))
    model = _fitted(embedder, train, embedder.known(_texts(train)), c, several)
    return replace(model, candidate=candidate)


def answer_embedded(model: EmbeddedModel, rows: Sequence[Row]) -> Answers:
    """A label for each row, with its probability; with several labels the set of them, without."""
    return _answers(model, model.embedder.embed(_texts(rows)))


def _answers(model: EmbeddedModel, vectors: Vectors) -> Answers:
    settings = model.candidate.settings
    if model.several:
        decisions = each_label_decisions(model.classifiers, vectors)
        return Answers(label_texts(decisions, model.labels, float(str(settings["threshold"]))), None, 0)
    scores = _log_probabilities(model, vectors)
    if threshold_of(model.candidate) is None:
        return answers_from_scores(scores, model.labels, 0)
    cooled = scores / float(str(settings["temperature"]))
    return with_none(model.candidate, best_in_scope(cooled, model.labels, str(settings["none_label"])), 0)


def _fitted(
    embedder: Embedder, train: Sequence[Row], vectors: Vectors, c: float, several: bool
) -> EmbeddedModel:
    settings: Settings = {
        "method": METHOD,
        "model": embedder.base.name,
        "model_sha256": embedder.base.sha256,
        "C": c,
        "several": several,
    }
    name = f"classical: logistic regression on embeddings of {embedder.base.name}, C={c:g}"
    candidate = Candidate(
        content_hash([METHOD, settings, learned_sha256(train)]), "classical", name, settings
    )
    if several:
        labels, each = each_label_fitted("logistic regression", c, train, vectors)
        return EmbeddedModel(candidate, embedder, labels, each, several)
    classifier = LogisticRegression(C=c, max_iter=MOST_STEPS)
    classifier.fit(vectors, [row.target for row in train], sample_weight=[row_weight(row) for row in train])
    labels = tuple(str(label) for label in classifier.classes_)
    return EmbeddedModel(candidate, embedder, labels, (classifier,), several)


def _with_threshold(model: EmbeddedModel, threshold: float | None) -> EmbeddedModel:
    if threshold is None:
        return model
    old = model.candidate
    chosen: Settings = {**old.settings, "threshold": threshold}
    name = f"{old.name}, above {threshold:g}"
    return replace(
        model, candidate=replace(old, id=content_hash([old.id, threshold]), name=name, settings=chosen)
    )


def _scoped(model: EmbeddedModel, vectors: Vectors, rows: Sequence[Row], scoping: Scoping) -> EmbeddedModel:
    scores = _log_probabilities(model, vectors)
    temperature = fit_temperature(scores, model.labels, rows)
    best = best_in_scope(scores / temperature, model.labels, scoping.none_label)
    candidate = scoped(model.candidate, scoping, rows, best, {"temperature": temperature})
    return replace(model, candidate=candidate)


def _log_probabilities(model: EmbeddedModel, vectors: Vectors) -> NDArray[np.float64]:
    values: NDArray[np.float64] = np.asarray(model.classifiers[0].predict_log_proba(vectors), np.float64)
    return values


def _texts(rows: Sequence[Row]) -> list[str]:
    return [row.text for row in rows]
