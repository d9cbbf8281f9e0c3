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
