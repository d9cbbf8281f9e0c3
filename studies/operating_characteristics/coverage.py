"""How often each 95 % interval of ``stats`` holds the truth, with the truth known exactly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import betaincinv, gammaincinv, ndtr

from projects import OPPONENT_ACCURACY, draw_groups, latent, right
from tunesmith.stats.intervals import (
    macro_f1_interval,
    mean_interval,
    proportion_interval,
    ratio_interval,
    relative_change_interval,
)
from tunesmith.stats.paired import paired_gain

Codes = npt.NDArray[np.intp]
LEVEL = 0.95
# Draws rows, computes the interval; returns low, high and the truth.
Draw = Callable[[np.random.Generator, Codes, bool], tuple[float, float, float]]


@dataclass(frozen=True)
class Coverage:
    """One interval in one setting: how many of ``repetitions`` intervals held the truth."""

    interval: str
    truth: float
    groups: int
    clustered: bool
    repetitions: int
    covered: int


def measure(interval: str, draw: Draw, groups: int, clustered: bool, repetitions: int, seed: int) -> Coverage:
    random = np.random.default_rng(seed)
    covered, truth = 0, 0.0
    for _ in range(repetitions):
        low, high, truth = draw(random, draw_groups(random, groups, clustered), clustered)
        covered += low <= truth <= high
    return Coverage(interval, truth, groups, clustered, repetitions, covered)


def accuracy(share: float) -> Draw:
    """A candidate that is right on ``share`` of all rows."""

    def draw(random: np.random.Generator, codes: Codes, clustered: bool) -> tuple[float, float, float]:
        correct = right(random, latent(random, codes, clustered), codes, clustered, share)
        estimate = proportion_interval(correct, _names(codes), LEVEL)
        return estimate.low, estimate.high, share

    return draw


def gain(true_gain: float) -> Draw:
    """Paired gain over an opponent that is right on 80 % of all rows."""

    def draw(random: np.random.Generator, codes: Codes, clustered: bool) -> tuple[float, float, float]:
        difficulty = latent(random, codes, clustered)
        opponent = right(random, difficulty, codes, clustered, OPPONENT_ACCURACY)
        tuned = right(random, difficulty, codes, clustered, OPPONENT_ACCURACY + true_gain)
        found = paired_gain(tuned, opponent, _names(codes), "opponent", (1 - LEVEL) / 2)
        assert found.low is not None
        assert found.high is not None
        return found.low, found.high, true_gain

    return draw


def mean_score(random: np.random.Generator, codes: Codes, clustered: bool) -> tuple[float, float, float]:
    """Scores between 0 and 1 that pile up near 0, as ROUGE on hard rows does: Beta(0.5, 2), mean 0.2."""
    scores = betaincinv(0.5, 2.0, ndtr(latent(random, codes, clustered)))
    estimate = mean_interval(scores, _names(codes), LEVEL)
    return estimate.low, estimate.high, 0.2


def bits_per_byte(random: np.random.Generator, codes: Codes, clustered: bool) -> tuple[float, float, float]:
    """Lognormal sizes; bits per byte Gamma with mean 1 and standard deviation 0.5."""
    sizes = np.exp(6 + 0.7 * latent(random, codes, clustered))
    rate = gammaincinv(4.0, ndtr(latent(random, codes, clustered))) / 4
    estimate = ratio_interval(sizes * rate, sizes, _names(codes), LEVEL)
    return estimate.low, estimate.high, 1.0


def relative_change(random: np.random.Generator, codes: Codes, clustered: bool) -> tuple[float, float, float]:
    """Two per cent more bits on average, with a long upper tail of texts that suffer more."""
    base = np.exp(7 + 0.7 * latent(random, codes, clustered))
    moved = 0.05 * (gammaincinv(1.0, ndtr(latent(random, codes, clustered))) - 1)
    estimate = relative_change_interval(base * (1.02 + moved), base, _names(codes), LEVEL)
    return estimate.low, estimate.high, 0.02


def macro_f1(labels: int, accuracy: float) -> Draw:
    """``labels`` labels, the most frequent three times as frequent as the rarest, errors spread evenly.

    The truth is the macro-F1 of all rows there are. Settings must leave every label in every test.
    """
    names = [f"label {number:02}" for number in range(labels)]
    shares = np.linspace(3, 1, labels)
    shares /= shares.sum()
    # A wrong answer is any other label, in proportion to its share.
    others = shares / (1 - shares)[:, None]
    np.fill_diagonal(others, 0)
    answered = shares * accuracy + (1 - accuracy) * (shares @ others)
    truth = float(np.mean(2 * shares * accuracy / (shares + answered)))
    steps = np.cumsum(others, axis=1)

    def draw(random: np.random.Generator, codes: Codes, clustered: bool) -> tuple[float, float, float]:
        correct = right(random, latent(random, codes, clustered), codes, clustered, accuracy)
        targets = np.searchsorted(np.cumsum(shares), random.random(len(codes)) * (1 - 1e-12))
        wrong = (random.random(len(codes))[:, None] > steps[targets]).sum(axis=1)
        answers = np.where(correct, targets, np.minimum(wrong, labels - 1))
        estimate = macro_f1_interval(
            [names[target] for target in targets],
            [names[answer] for answer in answers],
            _names(codes),
            names,
            LEVEL,
        )
        return estimate.low, estimate.high, truth

    return draw


def _names(codes: Codes) -> list[str]:
    names: list[str] = codes.astype(str).tolist()
    return names


INTERVALS: dict[str, Draw] = {
    "accuracy 55 %": accuracy(0.55),
    "accuracy 80 %": accuracy(0.80),
    "accuracy 95 %": accuracy(0.95),
    "accuracy 99 %": accuracy(0.99),
    "paired gain, 0 points": gain(0.0),
    "paired gain, 5 points": gain(0.05),
    "paired gain, 19 points": gain(0.19),
    "mean of skewed scores": mean_score,
    "bits per byte": bits_per_byte,
    "relative change of bits": relative_change,
    "macro-F1, 5 labels, accuracy 70 %": macro_f1(5, 0.70),
    "macro-F1, 5 labels, accuracy 95 %": macro_f1(5, 0.95),
}
