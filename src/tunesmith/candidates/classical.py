"""Opponents without a language model: the majority class, and tuned linear classifiers on n-grams.

Rows weigh what :func:`tunesmith.data.made.row_weight` says.
"""

from __future__ import annotations

import itertools
import re
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, hstack
from sklearn import config_context
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.svm import LinearSVC

from tunesmith.candidates.answers import Answers, Value, accuracy
from tunesmith.candidates.calibration import fit_temperature
from tunesmith.candidates.scope import InScope, Scoping, best_in_scope, scoped, threshold_of, with_none
from tunesmith.candidates.transformations import UNCHANGED, Transformations, transformed
from tunesmith.data.made import learned_sha256, row_weight
from tunesmith.errors import UserError
from tunesmith.files import content_hash
from tunesmith.progress import Report, silent
from tunesmith.records import Candidate, Row, Settings

Features = Literal["words", "words and characters", "versions and characters"]
Classifier = Literal["linear SVM", "logistic regression"]
# What tells rows that no label fits: the best label's share among all, or how far it lies inside by itself.
ScopeScore = Literal["share", "margin"]
SCOPE_SCORES: tuple[ScopeScore, ...] = ("share", "margin")

FEATURES: tuple[Features, ...] = ("words", "words and characters", "versions and characters")
SVM_C = (0.1, 0.3, 1.0, 3.0, 10.0)
LOGISTIC_C = (3.0, 30.0, 300.0)

# A number or version with its "+" ("2.0+", "v3"), else a word.
_VERSION_AWARE = re.compile(r"v?\d+(?:\.\d+)*\+?|[^\W\d_]+", re.IGNORECASE)

# Words of one character count: "R", "2", "好".
_WORD = r"\b\w+\b"


@dataclass(frozen=True)
class ClassicalModel:
    """A fitted classifier with its features; it is refitted from its settings when needed."""

    candidate: Candidate
    vectorizers: tuple[TfidfVectorizer, ...]
    classifier: Any
    labels: tuple[str, ...]
    text: Transformations = UNCHANGED


def majority(train: Sequence[Row]) -> Candidate:
    """The constant answer: the most frequent training label (the first in the alphabet on a tie)."""
    counts = Counter(row.target for row in train)
    label = min(counts, key=lambda name: (-counts[name], name))
    return Candidate(content_hash(["constant", label]), "constant", "majority class", {"answer": label})


def answer_majority(candidate: Candidate, rows: Sequence[Row]) -> Answers:
    """The same label for every row."""
    return Answers([str(candidate.settings["answer"])] * len(rows), None, 0)


def tune_classical(
    train: Sequence[Row],
    validation: Sequence[Row],
    report: Report = silent,
    text: Transformations = UNCHANGED,
    value: Value = accuracy,
    scoping: Scoping | None = None,
) -> tuple[ClassicalModel, list[tuple[str, float]]]:
    """The best of a grid of features × classifier × C by ``value`` on validation, and the whole table.

    On a tie the smaller C and the earlier, simpler setting win. ``report`` is told of every fit. ``text`` is
    done to every text first. With ``scoping`` each setting gets a threshold of its own, by the better of two
    scores. Raises UserError where the inputs hold nothing to learn from.
    """
    kinds: tuple[tuple[Classifier, tuple[float, ...]], ...] = (
        ("linear SVM", SVM_C),
        ("logistic regression", LOGISTIC_C),
    )
    grid = [
        (features, classifier, c) for features in FEATURES for classifier, values in kinds for c in values
    ]
    table: list[tuple[str, float]] = []
    best: tuple[float, ClassicalModel] | None = None
    prepared: Features | None = None
    for done, (features, classifier, c) in enumerate(grid):
        if features != prepared:
            prepared = features
            vectorizers, train_matrix = fit_vectorizers(features, train, text)
            validation_matrix = vectorised(vectorizers, validation, text) if vectorizers else None
        if not vectorizers:
            continue
        model = _fitted(features, classifier, c, train, vectorizers, train_matrix, text)
        for able in _scoped(model, validation_matrix, validation, scoping):
            reached = value(validation, _answers(able, validation_matrix).labels)
            table.append((able.candidate.name, reached))
            if best is None or reached > best[0]:
                best = (reached, able)
        report(done + 1, len(grid), f"best {max(reached for _, reached in table):.1%}")
    if best is None:
        raise nothing_in_common(len(train))
    return best[1], table


def estimate_tuning_seconds(train: Sequence[Row]) -> float:
    """About how long :func:`tune_classical` takes on these rows: two fits of its grid, timed."""
    started = time.perf_counter()
    vectorizers, matrix = fit_vectorizers("words and characters", train)
    if not vectorizers:
        return 0.0
    prepared = time.perf_counter()
    _fitted("words and characters", "linear SVM", 1.0, train, vectorizers, matrix, UNCHANGED)
    svm = time.perf_counter()
    _fitted("words and characters", "logistic regression", 30.0, train, vectorizers, matrix, UNCHANGED)
    logistic = time.perf_counter() - svm
    fits = len(SVM_C) * (svm - prepared) + len(LOGISTIC_C) * logistic
    return len(FEATURES) * (prepared - started + fits)


def fit_classical(
    candidate: Candidate, train: Sequence[Row], text: Transformations = UNCHANGED
) -> ClassicalModel:
    """Fit again what :func:`tune_classical` chose; the same rows give the same model."""
    settings = candidate.settings
    features, classifier = str(settings["features"]), str(settings["classifier"])
    for known in FEATURES:
        if known == features:
            vectorizers, matrix = fit_vectorizers(known, train, text)
            kind: Classifier = "linear SVM" if classifier == "linear SVM" else "logistic regression"
            model = _fitted(known, kind, float(str(settings["C"])), train, vectorizers, matrix, text)
            return model if threshold_of(candidate) is None else replace(model, candidate=candidate)
    raise ValueError(f"unknown features {features!r}")


def answer_classical(model: ClassicalModel, rows: Sequence[Row]) -> Answers:
    """Labels for ``rows``; probabilities only from logistic regression and where there is a threshold."""
    return _answers(model, vectorised(model.vectorizers, rows, model.text))


def _answers(model: ClassicalModel, matrix: csr_matrix) -> Answers:
    if threshold_of(model.candidate) is not None:
        best = _in_scope(model, matrix, model.candidate.settings)
        return with_none(model.candidate, best, 0)
    labels = [str(label) for label in model.classifier.predict(matrix)]
    if model.candidate.settings["classifier"] == "linear SVM":
        return Answers(labels, None, 0)
    return Answers(labels, model.classifier.predict_proba(matrix).max(axis=1), 0)


def _scoped(
    model: ClassicalModel, matrix: csr_matrix, rows: Sequence[Row], scoping: Scoping | None
) -> list[ClassicalModel]:
    """``model``, or with ``scoping`` the same with a threshold for either score."""
    if scoping is None:
        return [model]
    able = []
    for kind in SCOPE_SCORES:
        more: Settings = {"scope_score": kind}
        if kind == "share":
            more["temperature"] = fit_temperature(_decisions(model, matrix), _classes(model), rows)
        best = _in_scope(model, matrix, {**more, "none_label": scoping.none_label})
        candidate = scoped(model.candidate, scoping, rows, best, more)
        named = replace(candidate, name=f"{candidate.name}, none of these by {kind}")
        able.append(replace(model, candidate=named))
    return able


def _in_scope(model: ClassicalModel, matrix: csr_matrix, settings: Settings) -> InScope:
    decisions, none_label = _decisions(model, matrix), str(settings["none_label"])
    if settings["scope_score"] == "share":
        temperature = float(str(settings["temperature"]))
        return best_in_scope(decisions / temperature, _classes(model), none_label)
    best = best_in_scope(decisions, _classes(model), none_label)
    inside = [index for index, label in enumerate(_classes(model)) if label != none_label]
    return replace(best, probabilities=1 / (1 + np.exp(-decisions[:, inside].max(axis=1))))


def _classes(model: ClassicalModel) -> tuple[str, ...]:
    return tuple(str(label) for label in model.classifier.classes_)


def _decisions(model: ClassicalModel, matrix: csr_matrix) -> NDArray[np.float64]:
    """How far each row lies inside each label [rows, labels]; of two labels scikit-learn says it of one."""
    values: NDArray[np.float64] = np.asarray(model.classifier.decision_function(matrix), dtype=np.float64)
    return np.column_stack([-values, values]) if values.ndim == 1 else values


def version_aware_tokens(text: str) -> list[str]:
    """Lower-case words and versions, versions keeping their ``+``, and their neighbours joined.

    "GPL 2.0+ or later" gives gpl, 2.0+, or, later, gpl_2.0+, 2.0+_or, or_later, ….
    """
    tokens = [token.lower() for token in _VERSION_AWARE.findall(text)]
    pairs = [f"{left}_{right}" for left, right in itertools.pairwise(tokens)]
    triples = [f"{a}_{b}_{c}" for a, b, c in zip(tokens, tokens[1:], tokens[2:], strict=False)]
    return [*tokens, *pairs, *triples]


def _vectorizers(features: Features, lower_case: bool) -> tuple[TfidfVectorizer, ...]:
    words = TfidfVectorizer(token_pattern=_WORD, ngram_range=(1, 2), sublinear_tf=True, lowercase=lower_case)
    characters = TfidfVectorizer(
        analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True, min_df=2, lowercase=lower_case
    )
    versions = TfidfVectorizer(analyzer=version_aware_tokens, sublinear_tf=True)
    if features == "words":
        return (words,)
    return (words, characters) if features == "words and characters" else (versions, characters)


def _texts(rows: Sequence[Row], text: Transformations) -> list[str]:
    return transformed([row.text for row in rows], text)


def nothing_in_common(rows: int) -> UserError:
    """What to say where so many training rows hold nothing to learn from."""
    return UserError(
        f"the inputs of {rows:,} training rows hold no words and no characters in common",
        fix="check that data.input names the right column, or set opponents.classical: false",
    )


def fit_vectorizers(
    features: Features, train: Sequence[Row], text: Transformations = UNCHANGED
) -> tuple[tuple[TfidfVectorizer, ...], csr_matrix]:
    """The vectorizers that find anything in ``train``, and its matrix: "👍👍" has no words."""
    fitted, matrices = [], []
    texts = _texts(train, text)
    for vectorizer in _vectorizers(features, text.lower_case):
        try:
            matrices.append(vectorizer.fit_transform(texts))
            fitted.append(vectorizer)
        except ValueError:  # scikit-learn's way to say that the vocabulary is empty
            continue
    return tuple(fitted), csr_matrix(hstack(matrices)) if fitted else csr_matrix((len(train), 0))


def vectorised(
    vectorizers: Sequence[TfidfVectorizer], rows: Sequence[Row], text: Transformations = UNCHANGED
) -> csr_matrix:
    """The rows' features [rows, features]."""
    texts = _texts(rows, text)
    return csr_matrix(hstack([vectorizer.transform(texts) for vectorizer in vectorizers]))


def _fitted(
    features: Features,
    classifier: Classifier,
    c: float,
    train: Sequence[Row],
    vectorizers: tuple[TfidfVectorizer, ...],
    matrix: csr_matrix,
    text: Transformations,
) -> ClassicalModel:
    if classifier == "linear SVM":
        model: Any = LinearSVC(C=c, random_state=0)
    else:
        model = OneVsRestClassifier(LogisticRegression(C=c, solver="liblinear", random_state=0))
    targets = [row.target for row in train]
    weights = [row_weight(row) for row in train]
    weighed = any(weight != 1 for weight in weights)
    if weighed:
        # What the one-against-the-rest classifier hands on to its parts has to be asked for.
        with config_context(enable_metadata_routing=True):
            if classifier == "logistic regression":
                model.estimator.set_fit_request(sample_weight=True)
            model.fit(matrix, targets, sample_weight=weights)
    else:
        model.fit(matrix, targets)
    settings: dict[str, Any] = {"features": features, "classifier": classifier, "C": c}
    if text.identity is not None:
        settings["transformations"] = text.identity[:16]
    identity = content_hash(["classical", settings, learned_sha256(train)])
    name = f"classical: {classifier} on {features}, C={c:g}"
    candidate = Candidate(identity, "classical", name, settings)
    return ClassicalModel(candidate, vectorizers, model, tuple(sorted(set(targets))), text)
