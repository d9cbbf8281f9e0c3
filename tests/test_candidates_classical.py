"""The opponents without a language model are tuned, reproducible, and cope with odd data."""

from __future__ import annotations

import warnings
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiny import toy_rows
from tunesmith.candidates.classical import (
    FEATURES,
    LOGISTIC_C,
    SVM_C,
    answer_classical,
    answer_majority,
    estimate_tuning_seconds,
    fit_classical,
    majority,
    tune_classical,
    version_aware_tokens,
)
from tunesmith.candidates.neighbours import NEIGHBOURS, answer_neighbours, tune_neighbours
from tunesmith.errors import UserError
from tunesmith.records import Message, Row, Settings

LABELS = ("billing", "delivery", "GPL, 2.0 or later", "a\nb")


def accuracy(labels: list[str], rows: list[Row]) -> float:
    return float(np.mean([label == row.target for label, row in zip(labels, rows, strict=True)]))


def rows_of(*pairs: tuple[str, str]) -> list[Row]:
    return [
        Row(f"row-{index}", f"data.csv:{index + 1}", (Message("user", text),), target)
        for index, (text, target) in enumerate(pairs)
    ]


def test_the_majority_class_is_the_most_frequent_label_and_the_first_of_equals() -> None:
    rows = rows_of(("x", "b"), ("x", "a"), ("x", "b"), ("x", "a"), ("x", "c"))
    candidate = majority(rows)
    assert answer_majority(candidate, rows).labels == ["a"] * 5
    assert majority(rows[:3]).settings == {"answer": "b"}
    assert candidate.id != majority(rows[:3]).id


def test_the_tuned_classifier_beats_the_majority_class_on_rows_it_has_not_seen() -> None:
    train, validation, test = toy_rows(160, LABELS, 0), toy_rows(80, LABELS, 1), toy_rows(200, LABELS, 2)
    told: list[tuple[int, int]] = []
    model, table = tune_classical(train, validation, lambda done, total, note="": told.append((done, total)))
    answers = answer_classical(model, test)
    assert set(answers.labels) <= set(LABELS)
    assert accuracy(answers.labels, test) > 0.9
    assert accuracy(answer_majority(majority(train), test).labels, test) < 0.4
    tried = len(FEATURES) * (len(SVM_C) + len(LOGISTIC_C))
    assert told == [(done + 1, tried) for done in range(tried)]
    scores = dict(table)
    assert len(scores) == tried
    assert scores[model.candidate.name] == max(scores.values())
    assert scores[model.candidate.name] == accuracy(answer_classical(model, validation).labels, validation)
    assert next(name for name, score in table if score == max(scores.values())) == model.candidate.name


@pytest.mark.parametrize("classifier", ["linear SVM", "logistic regression"])
@pytest.mark.parametrize("features", FEATURES)
def test_a_classifier_fitted_again_from_its_settings_gives_the_same_answers(
    classifier: str, features: str
) -> None:
    train, validation = toy_rows(120, LABELS, 0), toy_rows(60, LABELS, 1)
    candidate, _ = tune_classical(train, validation)
    settings: Settings = {"features": features, "classifier": classifier, "C": 3.0}
    first = fit_classical(replace(candidate.candidate, settings=settings), train)
    again = fit_classical(first.candidate, train)
    assert again.candidate == first.candidate
    ours, theirs = answer_classical(again, validation), answer_classical(first, validation)
    assert ours.labels == theirs.labels
    if classifier == "linear SVM":
        assert ours.probabilities is None
    else:
        assert ours.probabilities is not None
        assert theirs.probabilities is not None
        np.testing.assert_array_equal(ours.probabilities, theirs.probabilities)
        assert ours.probabilities.min() >= 1 / len(LABELS)
        assert ours.probabilities.max() <= 1


def test_other_training_rows_are_another_candidate() -> None:
    train, validation = toy_rows(60, LABELS, 0), toy_rows(30, LABELS, 1)
    model, _ = tune_classical(train, validation)
    assert fit_classical(model.candidate, train).candidate.id == model.candidate.id
    assert fit_classical(model.candidate, train[1:]).candidate.id != model.candidate.id
    assert fit_classical(model.candidate, train[::-1]).candidate.id == model.candidate.id


def test_versions_keep_their_plus_and_their_point() -> None:
    assert version_aware_tokens("GPL 2.0+ or later") == [
        *("gpl", "2.0+", "or", "later"),
        *("gpl_2.0+", "2.0+_or", "or_later"),
        *("gpl_2.0+_or", "2.0+_or_later"),
    ]
    assert version_aware_tokens("Version 2.0.") == ["version", "2.0", "version_2.0"]
    assert "v3+" in version_aware_tokens("AGPL-v3+")
    assert version_aware_tokens("") == []


@given(st.integers(0, 30), st.integers(0, 30))
def test_a_version_and_the_same_version_or_later_are_told_apart(major: int, minor: int) -> None:
    exact, later = (set(version_aware_tokens(f"{major}.{minor}{plus} only")) for plus in ("", "+"))
    assert f"{major}.{minor}" in exact - later
    assert f"{major}.{minor}+" in later - exact


def test_notices_that_differ_in_a_plus_alone_get_their_own_labels() -> None:
    pairs = [
        (f"{word} under the terms of version 2.0{plus}", f"gpl-2.0{'-plus' if plus else ''}")
        for word in ("licensed", "released", "published", "distributed", "made available", "offered")
        for plus in ("", "+")
    ]
    rows = rows_of(*pairs)
    model, table = tune_classical(rows, rows)
    assert accuracy(answer_classical(model, rows).labels, rows) == 1
    versions = [score for name, score in table if "versions" in name]
    words = [score for name, score in table if "on words," in name]
    assert max(versions) == 1 > max(words)


def test_a_class_with_a_single_row_is_trained_on() -> None:
    train = [*toy_rows(60, LABELS, 0), *rows_of(("zebra zebra zebra", "zoo"))]
    model, _ = tune_classical(train, toy_rows(30, LABELS, 1))
    assert "zoo" in model.labels
    assert answer_classical(model, rows_of(("zebra zebra zebra", "zoo"))).labels == ["zoo"]


def test_two_classes_are_enough() -> None:
    rows = toy_rows(60, LABELS[:2], 0)
    model, _ = tune_classical(rows, toy_rows(30, LABELS[:2], 1))
    assert Counter(answer_classical(model, rows).labels).keys() == {"billing", "delivery"}


@pytest.mark.parametrize(
    "texts",
    [
        ("👍👍", "👎👎", "👍👍👍", "👎👎👎"),
        ("a", "b", "a", "b"),
        ("好的", "不好", "好的好的", "不好不好"),
        ("", "no", "", "no"),
        ("1\r\n1", "2\r\n2", "1\r\n", "2\r\n"),
    ],
)
def test_texts_without_ordinary_words_are_learned_too(texts: tuple[str, ...]) -> None:
    rows = rows_of(*((text, ("yes", "no")[index % 2]) for index, text in enumerate(texts)))
    model, _ = tune_classical(rows, rows)
    assert answer_classical(model, rows).labels == [row.target for row in rows]


def test_inputs_with_nothing_to_learn_from_get_a_clear_message() -> None:
    rows = rows_of(("", "yes"), (" ", "no"))
    with pytest.raises(UserError, match="inputs of 2 training rows hold no words"):
        tune_classical(rows, rows)
    assert estimate_tuning_seconds(rows) == 0
    assert estimate_tuning_seconds(toy_rows(60, LABELS, 0)) > 0


def test_no_warning_reaches_the_user() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tune_classical(toy_rows(120, LABELS, 0), toy_rows(40, LABELS, 1))


def test_the_nearest_rows_are_asked_and_their_number_is_tuned() -> None:
    train, validation, test = toy_rows(160, LABELS, 0), toy_rows(80, LABELS, 1), toy_rows(200, LABELS, 2)
    candidate, answers = tune_neighbours(train, validation)
    assert candidate.settings["neighbours"] in NEIGHBOURS
    assert answer_neighbours(candidate, train, validation).labels == answers.labels
    told = answer_neighbours(candidate, train, test).labels
    assert accuracy(told, test) > accuracy(answer_majority(majority(train), test).labels, test) + 0.2
    worst, _ = tune_neighbours(train, validation, lambda rows, labels: -accuracy(list(labels), list(rows)))
    assert worst.id != candidate.id


def test_the_most_similar_row_decides_between_labels_of_equal_weight() -> None:
    train = rows_of(("invoice charge", "billing"), ("parcel courier", "delivery"))
    candidate, answers = tune_neighbours(train, rows_of(("my parcel", "delivery"), ("no such words", "x")))
    assert answers.labels == ["delivery", "billing"]
    assert candidate.name == "nearest training row"
