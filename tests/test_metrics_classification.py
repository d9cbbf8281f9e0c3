"""Metrics of labels and probabilities, against scikit-learn."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics
from sklearn.preprocessing import MultiLabelBinarizer

from metric_samples import answered
from tunesmith.data.label_sets import label_set
from tunesmith.errors import UserError
from tunesmith.evaluation.metrics.answered import Measured, RowScores
from tunesmith.evaluation.metrics.calibration import reliability
from tunesmith.evaluation.metrics.catalogue import METRICS
from tunesmith.evaluation.metrics.classification import confusion_matrix, label_scores
from tunesmith.evaluation.metrics.measure import measure
from tunesmith.evaluation.metrics.scope import apply_threshold, choose_threshold

LABELS = list("abcd")


def value_of(measured: Measured) -> float:
    if isinstance(measured, RowScores):
        scores = measured.scores if measured.about is None else measured.scores[measured.about]
        return float(scores.mean())
    return measured.value


def averaged(score: Callable[..., float], average: str) -> Callable[[list[str], list[str]], float]:
    def reference(targets: list[str], answers: list[str]) -> float:
        labels = sorted(set(targets)) if average == "macro" else LABELS
        return float(score(targets, answers, labels=labels, average=average, zero_division=0))

    return reference


REFERENCES: dict[str, Callable[[list[str], list[str]], float]] = {
    "accuracy": sklearn_metrics.accuracy_score,
    "mcc": sklearn_metrics.matthews_corrcoef,
    **{
        f"{average}_{name}": averaged(score, average)
        for average in ("macro", "micro", "weighted")
        for name, score in (
            ("precision", sklearn_metrics.precision_score),
            ("recall", sklearn_metrics.recall_score),
            ("f1", sklearn_metrics.f1_score),
        )
        if (average, name) != ("weighted", "recall")  # accuracy once more
    },
}


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(
        st.tuples(st.sampled_from("abc"), st.sampled_from(["a", "b", "c", "d", "no such label"])),
        min_size=1,
        max_size=40,
    )
)
def test_every_metric_of_labels_equals_scikit_learn(rows: list[tuple[str, str]]) -> None:
    targets, answers = (list(part) for part in zip(*rows, strict=True))
    given_rows = answered(targets, answers, labels=LABELS)
    for name, reference in REFERENCES.items():
        ours = value_of(METRICS[name].measure(given_rows))
        assert ours == pytest.approx(reference(targets, answers)), name


def test_balanced_accuracy_equals_scikit_learn() -> None:
    targets, answers = list("aaaabbc"), list("aaabbca")
    ours = value_of(METRICS["balanced_accuracy"].measure(answered(targets, answers)))
    assert ours == pytest.approx(sklearn_metrics.balanced_accuracy_score(targets, answers))


label_lists = st.lists(st.sampled_from("abcd"), max_size=3, unique=True)


@settings(max_examples=25, deadline=None)
@given(rows=st.lists(st.tuples(label_lists, label_lists), min_size=1, max_size=30))
def test_several_labels_a_row_equal_scikit_learn(rows: list[tuple[list[str], list[str]]]) -> None:
    wanted, given_labels = (list(part) for part in zip(*rows, strict=True))
    binariser = MultiLabelBinarizer(classes=LABELS).fit([LABELS])
    truth, guess = binariser.transform(wanted), binariser.transform(given_labels)
    given_rows = answered([", ".join(w) for w in wanted], [", ".join(g) for g in given_labels], labels=LABELS)

    def ours(name: str) -> float:
        return value_of(METRICS[name].measure(given_rows))

    f1_score = sklearn_metrics.f1_score
    assert ours("subset_accuracy") == pytest.approx(sklearn_metrics.accuracy_score(truth, guess))
    assert ours("hamming_loss") == pytest.approx(sklearn_metrics.hamming_loss(truth, guess))
    assert ours("row_f1") == pytest.approx(f1_score(truth, guess, average="samples", zero_division=1))
    jaccard = sklearn_metrics.jaccard_score(truth, guess, average="samples", zero_division=1)
    assert ours("jaccard") == pytest.approx(jaccard)
    together = {
        "f1": f1_score,
        "precision": sklearn_metrics.precision_score,
        "recall": sklearn_metrics.recall_score,
    }
    for name, score in together.items():
        reference = score(truth, guess, average="micro", zero_division=0)
        assert ours(f"multilabel_micro_{name}") == pytest.approx(reference)
    weighted = f1_score(truth, guess, average="weighted", zero_division=0)
    assert ours("multilabel_weighted_f1") == pytest.approx(weighted)
    occurring = np.flatnonzero(truth.any(axis=0))
    if len(occurring):
        for name, score in together.items():
            macro = score(truth, guess, labels=occurring, average="macro", zero_division=0)
            assert ours(f"multilabel_macro_{name}") == pytest.approx(macro)


@pytest.mark.parametrize("text", ['["card", "fee"]', "fee, card", "card\nfee\n", " card ;fee; card "])
def test_labels_are_read_from_json_or_from_a_list_in_words(text: str) -> None:
    assert label_set(text) == {"card", "fee"}


def test_no_label_is_an_empty_set() -> None:
    assert label_set("") == label_set("[]") == set()


def test_the_confusion_matrix_equals_scikit_learn() -> None:
    targets, answers = list("aabbc"), list("abbbd")
    names, counts = confusion_matrix(targets, answers)
    assert names == list("abcd")
    assert counts.tolist() == sklearn_metrics.confusion_matrix(targets, answers, labels=names).tolist()


def test_each_label_has_its_precision_and_recall_with_an_interval() -> None:
    table = label_scores(answered(list("aaaab"), list("aabbb")))
    assert set(table) == {"a"}  # one group wants b: no interval for its recall
    assert (table["a"]["precision"].value, table["a"]["recall"].value) == (1.0, 0.5)
    assert table["a"]["recall"].low < 0.5 < table["a"]["recall"].high


def drawn(rows: int, seed: int, surer: float = 0.0) -> tuple[list[str], list[str], np.ndarray]:
    random = np.random.default_rng(seed)
    chance = random.uniform(0.3, 1, rows)
    answers = ["a" if luck < share else "b" for luck, share in zip(random.random(rows), chance, strict=True)]
    return ["a"] * rows, answers, np.clip(chance + surer, 0, 1)


def test_ece_and_brier_by_hand_and_by_scikit_learn() -> None:
    given_rows = answered(list("aaaa"), list("aaab"), confidences=np.array([0.95, 0.95, 0.6, 0.61]))
    # Bins [14/15, 1] with right 1 and confidence 0.95, and [9/15, 10/15) with right 1/2 and 0.605.
    assert value_of(METRICS["ece"].measure(given_rows)) == pytest.approx((0.05 + 0.105) / 2)
    targets, answers, confidences = drawn(300, 0)
    given_rows = answered(targets, answers, confidences=confidences)
    right = [answer == "a" for answer in answers]
    brier = sklearn_metrics.brier_score_loss(right, confidences)
    assert value_of(METRICS["brier"].measure(given_rows)) == pytest.approx(brier)
    shown = reliability(given_rows)
    assert sum(one.right.rows for one in shown) == 300
    assert all(one.low <= one.confidence <= one.high for one in shown)


def test_brier_over_all_labels_is_the_squared_distance_to_the_target() -> None:
    given_rows = answered(
        ["a", "new"], ["a", "b"], labels=["a", "b"], label_probabilities=np.array([[0.8, 0.2], [0.3, 0.7]])
    )
    measured = METRICS["brier_labels"].measure(given_rows)
    assert isinstance(measured, RowScores)
    assert measured.scores.tolist() == pytest.approx([0.08, 0.3**2 + 0.7**2 + 1])


@pytest.mark.parametrize("surer", [0.0, 0.15])
def test_the_interval_of_ece_holds_the_truth_with_and_without_calibration(surer: float) -> None:
    """In bins of 1/15 the true ECE of this overconfidence is the mean of min(0.15, 1 − chance)."""
    chance = np.linspace(0.3, 1, 200_001)
    truth = float(np.mean(np.minimum(surer, 1 - chance)))
    held = 0
    for seed in range(200):
        targets, answers, confidences = drawn(300, seed, surer)
        estimate = measure(["ece"], answered(targets, answers, confidences=confidences))["ece"]
        held += estimate.low <= truth <= estimate.high
    assert held >= 0.93 * 200


def test_overconfidence_is_told_from_calibration() -> None:
    targets, answers, confidences = drawn(600, 3, 0.15)
    card = measure(["ece", "overconfidence"], answered(targets, answers, confidences=confidences))
    assert card["ece"].low > 0
    assert card["overconfidence"].low > 0
    targets, answers, confidences = drawn(600, 3)
    card = measure(["ece", "overconfidence"], answered(targets, answers, confidences=confidences))
    assert card["ece"].low == 0
    assert card["overconfidence"].low < 0 < card["overconfidence"].high


@settings(max_examples=40, deadline=None)
@given(rows=st.lists(st.tuples(st.booleans(), st.integers(0, 9), st.integers(0, 5)), min_size=4, max_size=40))
def test_scope_auroc_and_each_group_left_out_equal_scikit_learn(rows: list[tuple[bool, int, int]]) -> None:
    inside, scores, groups = (np.array(part) for part in zip(*rows, strict=True))
    if inside.all() or not inside.any():
        return
    targets = ["x" if one else "none" for one in inside]
    given_rows = answered(targets, targets, none_label="none", scope_scores=scores / 10)
    statistic = METRICS["scope_auroc"].measure(given_rows)
    assert not isinstance(statistic, RowScores)
    assert statistic.value == pytest.approx(sklearn_metrics.roc_auc_score(inside, scores))
    codes = np.unique(groups, return_inverse=True)[1]
    for code, without in enumerate(statistic.without(codes)):
        left = codes != code
        if inside[left].all() or not inside[left].any():
            assert np.isnan(without)
        else:
            assert without == pytest.approx(sklearn_metrics.roc_auc_score(inside[left], scores[left]))


def test_false_accepts_and_rejects_count_the_rows_they_are_about() -> None:
    given_rows = answered(
        ["none", "none", "none", "none", "card", "card"],
        ["none", "card", "none", "none", "card", "none"],
        none_label="none",
    )
    card = measure(["false_accept_rate", "false_reject_rate"], given_rows)
    assert (card["false_accept_rate"].value, card["false_accept_rate"].rows) == (0.25, 4)
    assert (card["false_reject_rate"].value, card["false_reject_rate"].rows) == (0.5, 2)


def test_a_threshold_keeps_the_stated_rate_of_false_accepts_on_new_rows() -> None:
    random = np.random.default_rng(8)
    rates = []
    for _ in range(200):
        scores = np.r_[random.normal(1, 1, 100), random.normal(0, 1, 60)]
        outside = np.arange(160) >= 100
        chosen = choose_threshold(scores, outside, [str(row) for row in range(160)], 0.05)
        assert chosen.false_accepts.value <= 0.05
        rates.append(float((random.normal(0, 1, 2000) >= chosen.threshold).mean()))
    assert np.mean(rates) <= 0.05 + 3 * np.std(rates) / 200**0.5
    assert np.mean(rates) >= 0.03  # and is no stricter than it must be


def test_a_threshold_from_too_few_rows_is_refused_with_the_number_needed() -> None:
    scores, names = np.linspace(0, 1, 40), [str(row) for row in range(40)]
    with pytest.raises(UserError, match=r"at least 19 groups, found 18") as caught:
        choose_threshold(scores, np.arange(40) < 18, names, 0.05)
    assert caught.value.exit_code == 3
    assert choose_threshold(scores, np.arange(40) < 19, names, 0.05).threshold > scores[18]


def test_answers_below_the_threshold_become_none_of_these() -> None:
    assert apply_threshold(["a", "b"], [0.5, 0.49], 0.5, "none") == ["a", "none"]


@pytest.mark.parametrize(
    ("metric", "why"),
    [
        ("ece", "no probability"),
        ("perplexity", "no log-probability"),
        ("scope_auroc", "no score"),
        ("false_accept_rate", "names no label"),
        ("schema_valid", "no schema"),
        ("entailed", "no entailment model"),
    ],
)
def test_a_metric_without_what_it_needs_is_unmeasured_never_a_number(metric: str, why: str) -> None:
    with pytest.raises(UserError, match=why) as caught:
        measure([metric], answered(["a", "b"], ["a", "a"]))
    assert caught.value.exit_code == 3
