"""What makes a million rows possible changes no number: counts in bulk equal counts one by one."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_matrix, hstack
from sklearn.feature_extraction.text import TfidfVectorizer

from bank_samples import audit_data, questions
from tunesmith.data.audit import classifier
from tunesmith.data.audit.classifier import cross_validate, text_features
from tunesmith.data.audit.diversity import check_diversity, lexical_variety
from tunesmith.data.audit.labels import check_labels
from tunesmith.data.audit.leaks import FOLDS, _held_out
from tunesmith.data.audit.ngrams import ngram_matrix
from tunesmith.data.audit.privacy import private_spans
from tunesmith.data.numbered import numbered_words

ODD = ["ΟΔΟΣ ΣΑΣ  ab\tcd", "", "!!", " ", "a", "ab c ab c ab", "Naïve café, naïve CAFÉ", "x " * 1500]


@pytest.mark.parametrize("characters", [True, False])
def test_ngrams_are_those_of_scikit_learn(characters: bool) -> None:
    texts = [*(row.text for row in questions(60)), *ODD, *ODD]
    short = [text[:2000] for text in texts]
    vectorizers = [TfidfVectorizer(token_pattern=r"\b\w+\b", ngram_range=(1, 2), sublinear_tf=True, min_df=2)]
    if characters:
        vectorizers.append(
            TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), sublinear_tf=True, min_df=2)
        )
    columns = [vectorizer.fit_transform(short) for vectorizer in vectorizers]
    reference = hstack(columns).toarray()
    found = ngram_matrix(texts, characters)
    assert found is not None
    assert found.shape == reference.shape
    assert np.allclose(found.toarray(), reference, atol=1e-6)
    # Rounded numbers are also summed in the same order.
    assert (found.indices == csr_matrix(hstack(columns)).indices).all()


def test_texts_with_nothing_in_common_have_no_ngrams() -> None:
    assert ngram_matrix(["ab", "cd"]) is None
    assert ngram_matrix(["", "!"], characters=False) is None


_TEXTS = st.lists(st.lists(st.sampled_from("abcd"), max_size=6), max_size=6)


@given(_TEXTS)
def test_variety_is_that_of_counting_every_run_of_words(texts: list[list[str]]) -> None:
    found = lexical_variety(texts)
    for n in (1, 2, 3):
        runs = [tuple(text[start : start + n]) for text in texts for start in range(len(text) - n + 1)]
        assert found[f"distinct_{n}"] == pytest.approx(len(set(runs)) / len(runs) if runs else 0.0)


@given(_TEXTS)
def test_numbered_words_are_the_words(texts: list[list[str]]) -> None:
    numbered = numbered_words(iter(texts))
    said = [numbered.words[number] for number in numbered.numbers]
    assert said == [word for text in texts for word in text]
    assert numbered.lengths.tolist() == [len(text) for text in texts]
    assert len(set(numbered.words)) == len(numbered.words)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2), st.integers(0, FOLDS - 1)), min_size=1))
def test_what_a_column_tells_is_that_of_counting_row_by_row(rows: list[tuple[int, int, int]]) -> None:
    value, target, fold = (np.array(column, np.intp) for column in zip(*rows, strict=True))
    by_value, by_majority = _held_out(value, target, fold)

    def most(targets: list[int]) -> int:
        counts = Counter(targets)
        return min(counts, key=lambda one: (-counts[one], one))

    for place, (own, wanted, held_out) in enumerate(rows):
        others = [row for row in rows if row[2] != held_out]
        if not others:
            continue
        majority = most([target for _, target, _ in others])
        alike = [target for value, target, _ in others if value == own]
        assert by_majority[place] == (wanted == majority)
        assert by_value[place] == (wanted == (most(alike) if alike else majority))


def test_rows_beyond_the_basis_have_features_that_tell_their_label(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = questions(900)
    monkeypatch.setattr(classifier, "DIMENSIONS", 30)
    monkeypatch.setattr(classifier, "BASIS_ROWS", 300)
    vectors = text_features(rows)
    assert vectors is not None
    assert vectors.shape == (900, 30)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-4)
    held_out = cross_validate(vectors, [row.target for row in rows], [row.group for row in rows])
    assert held_out.right.mean() > 0.7  # one in six by chance


def test_checks_that_sample_say_how_many_rows_and_which() -> None:
    data = audit_data(questions(300))
    for result in (check_diversity(data, 200), check_labels(data, 200)):
        assert result.sampled_rows == 200
        assert "(a sample of 200 of 300 rows: whole groups, seed 0)" in result.summary
    assert "sample" not in check_diversity(data).summary


def test_a_national_number_with_few_digits_is_found() -> None:
    number = "ABCPE1234F"  # India's PAN has the fewest
    assert [span.value for span in private_spans(f"my PAN is {number} thanks")] == [number]
    assert private_spans(f"my PAN is {number.lower()} thanks") == []
