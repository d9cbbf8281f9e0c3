"""Metrics of generated text."""

import random as python_random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from metric_samples import answered
from tunesmith.errors import UserError
from tunesmith.evaluation.metrics.answered import RowScores
from tunesmith.evaluation.metrics.catalogue import METRICS
from tunesmith.evaluation.metrics.measure import measure
from tunesmith.evaluation.metrics.stock_phrases import stock_phrases
from tunesmith.evaluation.metrics.words import words
from tunesmith.stats.jackknife import Statistic

WORDS = ["the", "Old", "pub", "is", "near", "a", "river", ",", "cheap.", "bar's", "42"]
sentences = st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join)
text_rows = st.lists(
    st.tuples(sentences, st.lists(sentences.filter(bool), min_size=1, max_size=3)), min_size=2, max_size=12
)
Rows = list[tuple[str, list[str]]]


def statistic(name: str, answers: list[str], references: list[list[str]]) -> Statistic:
    measured = METRICS[name].measure(answered([""] * len(answers), answers, references=references))
    assert isinstance(measured, Statistic)
    return measured


def scores(name: str, answers: list[str], **more: Any) -> list[float]:
    measured = METRICS[name].measure(answered([""] * len(answers), answers, **more))
    assert isinstance(measured, RowScores)
    return [float(score) for score in measured.scores]


def corpus(metric: Any, rows: Rows) -> float:
    """sacrebleu's own corpus score; None stands for a reference that a row does not have."""
    most = max(len(texts) for _, texts in rows)
    streams = [[texts[n] if n < len(texts) else None for _, texts in rows] for n in range(most)]
    return float(metric.corpus_score([answer for answer, _ in rows], streams).score) / 100


@settings(max_examples=40, deadline=None)
@given(rows=text_rows)
def test_bleu_and_chrf_with_and_without_each_row_equal_sacrebleu(rows: Rows) -> None:
    answers, references = [answer for answer, _ in rows], [texts for _, texts in rows]
    for name, metric in (("bleu", BLEU()), ("bleu_lowercase", BLEU(lowercase=True)), ("chrf", CHRF())):
        ours = statistic(name, answers, references)
        assert ours.value == pytest.approx(corpus(metric, rows)), name
        left_out = ours.without(np.arange(len(rows)))
        for row, without in enumerate(left_out):
            assert without == pytest.approx(corpus(metric, rows[:row] + rows[row + 1 :])), name


@settings(max_examples=40, deadline=None)
@given(rows=text_rows)
def test_rouge_is_that_of_the_best_reference(rows: Rows) -> None:
    answers, references = [answer for answer, _ in rows], [texts for _, texts in rows]
    for name, of_package in (("rouge_1", "rouge1"), ("rouge_2", "rouge2"), ("rouge_l", "rougeL")):
        scorer = RougeScorer([of_package], use_stemmer=True)
        expected = [
            max(scorer.score(text, answer)[of_package].fmeasure for text in texts) for answer, texts in rows
        ]
        assert scores(name, answers, references=references) == pytest.approx(expected)


def test_rouge_of_another_script_is_unmeasured_not_zero() -> None:
    with pytest.raises(UserError, match=r"data\.jsonl:1 has a reference without Latin letters") as caught:
        measure(["rouge_l"], answered(["добрый день", "good day"], ["добрый день", "good day"]))
    assert caught.value.exit_code == 3
    card = measure(["chrf"], answered(["добрый день", "good day"], ["добрый день", "good day"]))
    one_word = measure(["rouge_l"], answered(["Zürich", "café"], ["Zürich", "café"]))
    assert one_word["rouge_l"].value == 1
    assert card["chrf"].value == 1


def test_cider_prefers_what_the_references_agree_on() -> None:
    references = [["a b c d", "a b c e"], ["w x y z", "w x y v"]]
    agreeing, one_sided, other = (
        scores("cider", [answer, "w x y"], references=references)[0] for answer in ("a b c", "d", "q")
    )
    assert agreeing > one_sided > other == 0
    same = scores("cider", ["a b c d", "w x y z"], references=[["a b c d"], ["w x y z"]])
    assert same == pytest.approx([10, 10])


def test_the_length_ratio_counts_words_of_answers_and_references() -> None:
    ratio = statistic("length_ratio", ["one two", "three"], [["one two three four"], ["five six", "a b c d"]])
    assert ratio.value == pytest.approx(3 / (4 + 3))


@settings(max_examples=40, deadline=None)
@given(rows=st.lists(st.tuples(sentences, st.integers(0, 3)), min_size=2, max_size=12))
def test_distinct_ngrams_with_each_group_left_out_equal_a_count_from_scratch(
    rows: list[tuple[str, int]],
) -> None:
    def by_hand(texts: list[str]) -> float:
        pairs = [pair for text in texts for pair in zip(words(text), words(text)[1:], strict=False)]
        return len(set(pairs)) / len(pairs) if pairs else float("nan")

    texts = [text for text, _ in rows]
    if np.isnan(by_hand(texts)):
        return
    ours = statistic("distinct_2", texts, [["x"]] * len(texts))
    assert ours.value == pytest.approx(by_hand(texts))
    codes = np.unique([group for _, group in rows], return_inverse=True)[1]
    expected = [
        by_hand([text for text, own in zip(texts, codes, strict=True) if own != code])
        for code in range(codes.max() + 1)
    ]
    assert ours.without(codes).tolist() == pytest.approx(expected, nan_ok=True)


def test_repetition_is_the_share_of_ngrams_said_before() -> None:
    answers = ["so it goes on so it goes on so it goes on", "nothing here is ever said twice", "short"]
    assert scores("repetition", answers) == pytest.approx([1 - 4 / 9, 0, 0])


SOURCE = "Patient Anna Smith, 47, takes 1,200 mg daily. She was referred to Mercy Hospital."


@pytest.mark.parametrize(
    ("answer", "numbers", "names"),
    [
        ("Anna Smith is 47 and takes 1200 mg.", 0, 0),
        ("Forty mg daily for Smith.", 1, 0),
        ("She takes 1,300 mg.", 1, 0),
        ("She takes 1200.0 mg. The rest is at Mercy.", 0, 0),
        ("She was seen by Dr Jones at Mercy Hospital.", 0, 1),
        ("The patient smith is 47.", 0, 0),
    ],
)
def test_numbers_and_names_that_the_source_does_not_hold_are_found(
    answer: str, numbers: int, names: int
) -> None:
    assert scores("unsupported_numbers", [answer], sources=[SOURCE]) == [numbers]
    assert scores("unsupported_names", [answer], sources=[SOURCE]) == [names]


def test_unsupported_words_are_content_words_in_other_forms_than_the_sources() -> None:
    # "takes", "referral" and "hospitals": only the referral has another stem than in the source.
    answer = "She is taking it; a referral to hospitals."
    assert scores("unsupported_words", [answer], sources=[SOURCE]) == pytest.approx([1 / 3])
    assert scores("unsupported_words", ["It is what it is."], sources=[SOURCE]) == [0]


def test_the_source_is_the_question_unless_another_is_given() -> None:
    given_rows = answered(["x"], ["Rome"], texts=["Where is Rome?"])
    measured = METRICS["unsupported_words"].measure(given_rows)
    assert isinstance(measured, RowScores)
    assert measured.scores.tolist() == [0]


def test_entailment_is_judged_sentence_by_sentence_by_the_users_own_model() -> None:
    asked = []

    def entails(source: str, sentence: str) -> float:
        asked.append(sentence)
        return float(sentence in source)

    answer = "She was referred to Mercy Hospital. She went home! "
    assert scores("entailed", [answer, ""], sources=[SOURCE] * 2, entails=entails) == [0.5, 1.0]
    assert asked == ["She was referred to Mercy Hospital.", "She went home!"]
    with pytest.raises(UserError, match=r"data\.jsonl:1: the entailment model answers 2"):
        scores("entailed", ["A b."], sources=["x"], entails=lambda *_: 2.0)


def talk(random: python_random.Random, rows: int) -> list[str]:
    common = ["the light", "a dark", "river bank", "of the town", "as you know", "well then", "by and by"]
    return [" ".join(random.choices(common, k=6)) for _ in range(rows)]


def test_a_planted_stock_phrase_is_found_whole_and_nothing_else() -> None:
    random = python_random.Random(1)
    answers, references = talk(random, 150), talk(random, 150)
    planted = [
        f"{text} it is important to note" if row % 5 == 0 else text for row, text in enumerate(answers)
    ]
    found = stock_phrases(answered(references, planted))
    assert [one.phrase for one in found] == ["it is important to note"]
    assert (found[0].answers.value, found[0].references.value) == (0.2, 0)
    assert found[0].p_adjusted < 0.05


def test_a_model_that_talks_as_its_references_has_no_stock_phrases() -> None:
    flagged = 0
    for seed in range(40):
        random = python_random.Random(seed)
        flagged += bool(stock_phrases(answered(talk(random, 120), talk(random, 120))))
    assert flagged <= 40 * 0.05 + 3 * (40 * 0.05 * 0.95) ** 0.5


def test_answers_of_one_group_count_once() -> None:
    random = python_random.Random(2)
    references, groups = talk(random, 60), [f"g{row // 30}" for row in range(60)]
    answers = [f"{text} it is important to note" for text in talk(random, 60)]
    assert stock_phrases(answered(references, answers, groups)) == ()
    assert stock_phrases(answered(references, answers))
