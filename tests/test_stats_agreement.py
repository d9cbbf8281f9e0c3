"""Agreement and consensus against published worked examples."""

import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from tunesmith.errors import UserError
from tunesmith.stats.agreement import cohen_kappa, fleiss_kappa, krippendorff_alpha
from tunesmith.stats.consensus import dawid_skene

# Fleiss (1971), table as printed in textbooks: 10 items, 14 raters, 5 categories; kappa 0.210.
FLEISS = [
    [0, 0, 0, 0, 14],
    [0, 2, 6, 4, 2],
    [0, 0, 3, 5, 6],
    [0, 3, 9, 2, 0],
    [2, 2, 8, 1, 1],
    [7, 7, 0, 0, 0],
    [3, 2, 6, 3, 0],
    [2, 5, 3, 2, 2],
    [6, 5, 2, 1, 0],
    [0, 2, 2, 3, 7],
]

# Krippendorff (2011), section C: 4 observers, 12 units, missing values; nominal alpha 0.743.
OBSERVERS = [
    [1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3],
    [None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None],
]


def units(observers: list[list[int | None]]) -> list[list[str]]:
    return [[str(value) for value in unit if value is not None] for unit in zip(*observers, strict=True)]


def test_cohens_kappa_of_the_textbook_grants() -> None:
    # 50 grant proposals: both yes 20, both no 15, disagreements 5 and 10; kappa 0.4.
    first = ["yes"] * 25 + ["no"] * 25
    second = ["yes"] * 20 + ["no"] * 5 + ["yes"] * 10 + ["no"] * 15
    assert cohen_kappa(first, second) == pytest.approx(0.4)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("abcd")), min_size=2, max_size=40))
def test_cohens_kappa_equals_scikit_learns(pairs: list[tuple[str, str]]) -> None:
    first, second = [one for one, _ in pairs], [other for _, other in pairs]
    kappa = cohen_kappa(first, second)
    if kappa is not None:
        assert kappa == pytest.approx(cohen_kappa_score(first, second))
    else:
        assert len({*first, *second}) == 1


def test_fleiss_kappa_of_the_published_table() -> None:
    items = [[f"category {label}" for label, count in enumerate(row) for _ in range(count)] for row in FLEISS]
    assert fleiss_kappa(items) == pytest.approx(0.210, abs=5e-4)


def test_krippendorffs_alpha_of_the_published_table() -> None:
    alpha = krippendorff_alpha(units(OBSERVERS))
    assert alpha is not None
    assert alpha.value == pytest.approx(0.743, abs=5e-4)
    assert (alpha.rows, alpha.groups) == (40, 11)  # the unit with one value says nothing
    assert alpha.low < 0.743 < alpha.high <= 1


def test_krippendorffs_two_coder_binary_example() -> None:
    # Krippendorff (2011), section A: 10 units, two observers, binary; alpha 0.095.
    first = "0100000000"
    second = "1110010010"
    alpha = krippendorff_alpha([list(pair) for pair in zip(first, second, strict=True)])
    assert alpha is not None
    assert alpha.value == pytest.approx(0.095, abs=5e-4)


def test_the_bootstrap_interval_of_alpha_covers_the_truth() -> None:
    chance = random.Random(0)
    # Two annotators who are right with 0.9 on balanced binary labels agree 0.82, so alpha is 0.64.
    covered = 0
    for seed in range(100):
        items = []
        for _ in range(150):
            truth = chance.randrange(2)
            items.append([str(truth if chance.random() < 0.9 else 1 - truth) for _ in range(2)])
        alpha = krippendorff_alpha(items, seed=seed)
        assert alpha is not None
        covered += alpha.low <= 0.64 <= alpha.high
    assert covered >= 88


def test_one_label_only_has_no_kappa_and_too_few_items_are_unmeasured() -> None:
    assert cohen_kappa(["a", "a"], ["a", "a"]) is None
    assert fleiss_kappa([["a", "a"], ["a", "a"]]) is None
    assert krippendorff_alpha([["a", "a"], ["a", "a"]]) is None
    with pytest.raises(UserError) as error:
        krippendorff_alpha([["a"], ["a", "b"]])
    assert error.value.exit_code == 3
    with pytest.raises(ValueError, match="same number"):
        fleiss_kappa([["a", "b"], ["a"]])


def crowd(seed: int, items: int) -> tuple[list[str], list[tuple[int, str, str]], dict[str, float]]:
    """Labels by three good annotators and four who guess, and the truth."""
    chance = random.Random(seed)
    skill = {
        "good1": 0.9,
        "good2": 0.88,
        "good3": 0.85,
        "poor1": 0.4,
        "poor2": 0.4,
        "poor3": 0.4,
        "poor4": 0.4,
    }
    truth = [chance.choice("abc") for _ in range(items)]
    annotations = [
        (item, name, right if chance.random() < share else chance.choice([x for x in "abc" if x != right]))
        for item, right in enumerate(truth)
        for name, share in skill.items()
    ]
    return truth, annotations, skill


def test_consensus_finds_who_is_reliable_and_beats_the_majority_vote() -> None:
    truth, annotations, skill = crowd(seed=1, items=600)
    consensus = dawid_skene(annotations, items=600)
    right = np.mean([one == other for one, other in zip(consensus.answers(), truth, strict=True)])
    votes: list[list[str]] = [[] for _ in truth]
    for item, _, label in annotations:
        votes[item].append(label)
    majority = [max(sorted(set(given)), key=given.count) for given in votes]
    by_vote = np.mean([one == other for one, other in zip(majority, truth, strict=True)])
    assert right > by_vote + 0.03
    for name, estimated in consensus.accuracy().items():
        assert estimated == pytest.approx(skill[name], abs=0.06)
    assert consensus.iterations < 200
    assert np.allclose(consensus.probabilities.sum(axis=1), 1)


def test_consensus_of_unanimous_annotators_is_what_they_said() -> None:
    said = ["a", "b", "a", "b"]
    annotations = [(item, name, label) for item, label in enumerate(said) for name in ("one", "two")]
    consensus = dawid_skene(annotations, items=5)
    assert consensus.answers()[:4] == said
    # The fifth item nobody labelled: it gets the prior.
    assert math.isclose(consensus.probabilities[4, 0], 0.5, abs_tol=0.01)
