"""What noisy labelling functions together say about each row, and how accurate each of them is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tunesmith.stats.clusters import Codes, Floats

ABSTAINED = -1

# A function begins as if 7 of 10 of its votes had been seen to be right, with the weight of so many rows of
# each label; so one with few votes stays modest, and labels keep their meaning.
_PRIOR_ACCURACY = 0.7
_PSEUDO_ROWS = 5.0
_LARGEST_SHARE = 0.95


@dataclass(frozen=True)
class LabelModel:
    """``balance``: (labels,), sums to 1. ``tables``: (functions, true label, labels + 1), what a function
    does on rows of each label; the last entry is to abstain; each sums to 1."""

    balance: Floats
    tables: Floats
    iterations: int

    def probabilities(self, votes: Codes) -> Floats:
        """Of each label for each row of ``votes`` (rows, functions); rows sum to 1."""
        patterns, place = np.unique(votes, axis=0, return_inverse=True)
        return _posterior(self, patterns)[place.reshape(-1)]

    def accuracy(self) -> Floats:
        """The chance that a vote of each function is right, shape (functions,)."""
        labels = len(self.balance)
        right = np.einsum("y,fyy->f", self.balance, self.tables[:, :, :labels])
        voted = np.einsum("y,fyv->f", self.balance, self.tables[:, :, :labels])
        return np.asarray(right / np.maximum(voted, 1e-12))


def fit_label_model(
    votes: Codes,
    labels: int,
    balance: Floats | None = None,
    iterations: int = 300,
    tolerance: float = 1e-5,
) -> LabelModel:
    """The generative model for functions that are independent given the true label, by EM, without a label.

    ``votes``: (rows, functions), the number of a label or -1 (``ABSTAINED``). To abstain is one more answer
    (Dawid and Skene 1979, with the tables of Ratner et al. 2019, "Training Complex Models with Multi-Task
    Weak Supervision"), so a function that knows one label only is weighed too, and its silence says
    something.
    ``balance`` (labels,) is how frequent the labels are; default: all alike. It takes three functions that
    overlap to learn which of them is right. Functions that copy each other are counted as if they were
    independent: leave copies out.

    Raises ValueError with fewer than two labels or no vote at all.
    """
    if labels < 2 or not (votes != ABSTAINED).any():
        raise ValueError(f"need two labels and a vote, got {labels} labels")
    shares = np.full(labels, 1 / labels) if balance is None else np.asarray(balance, dtype=np.float64)
    patterns, times = np.unique(votes, axis=0, return_counts=True)
    prior = _prior_tables(votes, shares / shares.sum())
    model = LabelModel(shares / shares.sum(), prior, 0)
    posterior = _posterior(model, patterns)
    for done in range(1, iterations + 1):
        weights = posterior * times[:, None]
        tables = _PSEUDO_ROWS * prior
        for function, table in enumerate(tables):
            # -1, an abstention, is the last entry.
            np.add.at(table.T, patterns[:, function], weights)
        model = LabelModel(model.balance, tables / tables.sum(axis=2, keepdims=True), done)
        updated = _posterior(model, patterns)
        moved = float(np.abs(updated - posterior).max())
        posterior = updated
        if moved <= tolerance:
            break
    return model


def majority_votes(votes: Codes, labels: int) -> Codes:
    """The label with most votes for each row, shape (rows,); -1 without votes and on a tie."""
    counts = np.stack([(votes == label).sum(axis=1) for label in range(labels)], axis=1)
    best = counts.max(axis=1)
    tied = (counts == best[:, None]).sum(axis=1) > 1
    return np.asarray(np.where((best == 0) | tied, ABSTAINED, counts.argmax(axis=1)), dtype=np.intp)


def _posterior(model: LabelModel, patterns: Codes) -> Floats:
    logarithms = np.tile(np.log(model.balance), (len(patterns), 1))
    for function, table in enumerate(np.log(np.maximum(model.tables, 1e-300))):
        logarithms += table.T[patterns[:, function]]
    likely = np.exp(logarithms - logarithms.max(axis=1, keepdims=True))
    return np.asarray(likely / likely.sum(axis=1, keepdims=True))


def _prior_tables(votes: Codes, balance: Floats) -> Floats:
    """Tables of functions that vote as often as they do, and whose votes are right 7 times in 10."""
    labels = len(balance)
    tables = np.zeros((votes.shape[1], labels, labels + 1))
    for function, table in enumerate(tables):
        for vote in range(labels):
            share = float((votes[:, function] == vote).mean())
            # Bayes' rule: P(vote | label) = P(label | vote) · P(vote) / P(label).
            table[:, vote] = share * (1 - _PRIOR_ACCURACY) / (1 - balance[vote])
            table[vote, vote] = share * _PRIOR_ACCURACY / balance[vote]
        voted = table.sum(axis=1, keepdims=True)
        table *= np.minimum(1.0, _LARGEST_SHARE / np.maximum(voted, 1e-12))
        table[:, labels] = 1 - table.sum(axis=1)
    return tables


def voted_answers(votes: Codes, probabilities: Floats) -> tuple[Codes, Floats]:
    """The most probable of the labels that got a vote, and its probability, both (rows,).

    Silence may speak for a label that no function named; nobody could say why it is the answer. Rows
    without a vote have -1, with probability 0.
    """
    named = np.zeros_like(probabilities)
    for given in votes.T:
        voted = np.flatnonzero(given != ABSTAINED)
        named[voted, given[voted]] = 1
    allowed = probabilities * named
    best = np.asarray(np.where(named.any(axis=1), allowed.argmax(axis=1), ABSTAINED), dtype=np.intp)
    return best, np.asarray(allowed.max(axis=1))
