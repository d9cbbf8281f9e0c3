"""How strict the k-th look at one sealed test has to be."""

from __future__ import annotations

import math


def alpha_for_opening(opening: int, alpha: float = 0.05) -> float:
    """One-sided level at which the ``opening``-th distinct contest on a sealed test is judged.

    alpha·6/(π²k²): the levels of all openings, however many follow, add up to ``alpha`` (alpha spending
    with weights 1/k², the Basel series). Raises ValueError when ``opening`` is below 1.
    """
    if opening < 1:
        raise ValueError(f"openings are counted from 1, got {opening}")
    return alpha * 6 / (math.pi**2 * opening**2)


def guard_level(opening: int, alpha: float = 0.05) -> float:
    """Two-sided level of a guard's interval in the ``opening``-th contest: 1 − 2·alpha_for_opening.

    Guards that all must pass need no correction among themselves, but a new candidate is a new chance to
    slip past each of them. (Simulated: ten candidates that are all exactly at the margin of a guard, judged
    one after another at one-sided 5 % each; one of them passes in 43 % of projects, with these levels in
    less than 5 %.) Raises ValueError when ``opening`` is below 1.
    """
    return 1 - 2 * alpha_for_opening(opening, alpha)
