"""Pruned scoring finds the same best label as full scoring, by every rule, for less work."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from transformers import PreTrainedModel

from engine_tiny import END, PAD, random_rows, tiny_model
from tunesmith.engine.pruning import Pruning, nodes_to_read, plain_pruning, reached
from tunesmith.engine.scoring import score_labels
from tunesmith.engine.trees import LabelTree, label_tree

# Few different tokens, so that labels share beginnings.
label_sets = st.lists(
    st.lists(st.integers(3, 6), min_size=1, max_size=5), min_size=2, max_size=12, unique_by=tuple
)


def three_rules(tree: LabelTree, prior: NDArray[np.float64]) -> list[Pruning]:
    labels = len(tree.ends)
    return [
        plain_pruning(labels),
        Pruning(1 / np.array(tree.lengths), np.zeros(labels)),
        Pruning(np.ones(labels), prior),
    ]


def read_from(tree: LabelTree, full: NDArray[np.float64], rules: list[Pruning] | None) -> NDArray[np.float64]:
    """Label scores when a model's step log-probabilities are ``full`` [rows, nodes + 1]; −inf if not read."""
    steps = np.full(full.shape, np.nan)
    steps[:, -1] = 0.0
    first = np.flatnonzero(np.array(tree.parents) == 0)
    steps[:, first] = full[:, first]
    read = np.zeros(full.shape, dtype=bool)
    while any(map(len, nodes := nodes_to_read(tree, steps, rules))):
        for row, wanted in enumerate(nodes):
            assert not read[row, wanted].any(), "no node is read twice"
            assert not np.isnan(steps[row, wanted]).all() or not len(wanted), "reading starts at known nodes"
            read[row, wanted] = True
            children = np.flatnonzero(np.isin(tree.parents, wanted))
            steps[row, children] = full[row, children]
    log_p, depths = reached(tree, steps)
    return np.where(depths == np.array(tree.lengths), log_p, -np.inf)


def random_steps(tree: LabelTree, rows: int, seed: int, spread: float) -> NDArray[np.float64]:
    """Log-probabilities of children after their parents that sum to less than one."""
    generator = np.random.default_rng(seed)
    full = np.zeros((rows, len(tree.tokens) + 1))
    for parent in range(len(tree.tokens)):
        children = np.flatnonzero(np.array(tree.parents) == parent)
        logits = generator.normal(0, spread, (rows, len(children) + 1))
        log_p = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
        full[:, children] = log_p[:, :-1]
    return full


@settings(max_examples=60, deadline=None)
@given(
    labels=label_sets,
    rows=st.sampled_from([1, 4, 40]),
    seed=st.integers(0, 2**16),
    spread=st.sampled_from([0.1, 1.0, 5.0]),
)
def test_the_best_label_by_every_rule_is_found_and_exact(
    labels: list[list[int]], rows: int, seed: int, spread: float
) -> None:
    tree = label_tree(labels, END)
    full = random_steps(tree, rows, seed, spread)
    complete = read_from(tree, full, None)
    assert np.isfinite(complete).all()
    prior = np.random.default_rng(seed).normal(-5, 3, len(labels))
    rules = three_rules(tree, prior)
    for chosen in ([rules[0]], [rules[1]], [rules[2]], rules):
        pruned = read_from(tree, full, chosen)
        scored = np.isfinite(pruned)
        np.testing.assert_array_equal(pruned[scored], complete[scored])
        for rule in chosen:
            expected = rule.weights * complete - rule.offsets
            ours = rule.weights * pruned - rule.offsets
            np.testing.assert_array_equal(ours.argmax(axis=1), expected.argmax(axis=1))


@settings(max_examples=60, deadline=None)
@given(
    labels=label_sets,
    rows=st.sampled_from([1, 4, 40]),
    seed=st.integers(0, 2**16),
    spread=st.sampled_from([0.1, 1.0, 5.0]),
    mass=st.sampled_from([0.0, 0.001, 0.01, 0.2]),
)
def test_labels_left_out_hold_no_more_than_the_allowed_mass(
    labels: list[list[int]], rows: int, seed: int, spread: float, mass: float
) -> None:
    tree = label_tree(labels, END)
    full = random_steps(tree, rows, seed, spread)
    complete = read_from(tree, full, None)
    pruned = read_from(tree, full, [plain_pruning(len(labels), mass)])
    left_out = np.where(np.isfinite(pruned), 0.0, np.exp(complete)).sum(axis=1)
    assert (left_out <= mass * np.exp(complete.max(axis=1))).all()
    shares = np.exp(complete) / np.exp(complete).sum(axis=1, keepdims=True)
    ours = np.exp(pruned) / np.exp(pruned).sum(axis=1, keepdims=True)
    assert np.abs(shares - ours).max() <= mass + 1e-12


@pytest.fixture(scope="module")
def llama() -> PreTrainedModel:
    return tiny_model("llama")


@settings(max_examples=25, deadline=None)
@given(
    labels=label_sets, lengths=st.lists(st.integers(1, 8), min_size=1, max_size=4), seed=st.integers(0, 2**16)
)
def test_pruned_scores_of_a_model_equal_its_full_ones_where_it_matters(
    llama: PreTrainedModel, labels: list[list[int]], lengths: list[int], seed: int
) -> None:
    tree = label_tree(labels, END)
    prompts = random_rows(lengths, prefix=2, seed=seed)
    full = score_labels(llama, prompts, tree, PAD, None)
    rules = three_rules(tree, full.log_probabilities.mean(axis=0))
    pruned = score_labels(llama, prompts, tree, PAD, rules)
    assert pruned.tokens <= full.tokens
    scored = np.isfinite(pruned.log_probabilities)
    np.testing.assert_allclose(pruned.log_probabilities[scored], full.log_probabilities[scored], atol=2e-4)
    for rule in rules:
        expected = rule.weights * full.log_probabilities - rule.offsets
        best = (rule.weights * pruned.log_probabilities - rule.offsets).argmax(axis=1)
        rows = np.arange(len(prompts))
        # Two labels may tie to within rounding.
        np.testing.assert_allclose(expected[rows, best], expected.max(axis=1), atol=4e-4)


def test_a_sure_model_reads_little_and_an_unsure_one_no_more_than_everything() -> None:
    tree = label_tree([[a, b, c] for a in (3, 4, 5) for b in (6, 7) for c in (8, 9)], END)
    read: dict[float, int] = {}
    for spread in (0.01, 8.0):
        full = random_steps(tree, 50, 0, spread)
        pruned = read_from(tree, full, [plain_pruning(len(tree.ends))])
        read[spread] = int(np.isfinite(pruned).sum())
    assert read[8.0] < 50 * len(tree.ends) / 3
    assert read[8.0] < read[0.01] <= 50 * len(tree.ends)
