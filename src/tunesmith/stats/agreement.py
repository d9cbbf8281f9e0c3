"""How far annotators agree: Cohen's kappa, Fleiss' kappa and Krippendorff's alpha, for unordered labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tunesmith.errors import UserError
from tunesmith.records import Estimate

RESAMPLES = 2000


def cohen_kappa(first: Sequence[str], second: Sequence[str]) -> float | None:
    """Cohen's kappa (1960) of two annotators who labelled the same items.

    None where chance alone would make them agree on every item (both gave one and the same label), so
    that kappa is 0/0. Raises ValueError when empty or of unequal length.
    """
    if len(first) != len(second) or not first:
        raise ValueError(f"need equally many labels, got {len(first)} and {len(second)}")
    items = len(first)
    observed = sum(one == other for one, other in zip(first, second, strict=True)) / items
    of_first, of_second = Counter(first), Counter(second)
    expected = sum(of_first[label] * of_second[label] for label in of_first) / items**2
    return None if expected == 1 else (observed - expected) / (1 - expected)


def fleiss_kappa(items: Sequence[Sequence[str]]) -> float | None:
    """Fleiss' kappa (1971): each item carries the same number of labels, at least two, by any annotators.

    None where every label is the same one. Raises ValueError when empty or when the numbers differ.
    """
    each = {len(labels) for labels in items}
    if len(each) != 1 or min(each) < 2:
        raise ValueError(f"every item needs the same number of labels, at least 2; found {sorted(each)}")
    raters = each.pop()
    counts = _counts(items)
    agreement = (counts * (counts - 1)).sum(axis=1) / (raters * (raters - 1))
    shares = counts.sum(axis=0) / counts.sum()
    expected = float((shares**2).sum())
    return None if expected == 1 else (float(agreement.mean()) - expected) / (1 - expected)


def krippendorff_alpha(items: Sequence[Sequence[str]], level: float = 0.95, seed: int = 0) -> Estimate | None:
    """Krippendorff's alpha for nominal labels, with a bootstrap interval over items.

    ``items`` holds the labels that each item got, whoever gave them; items with fewer than two say nothing
    and are left out (Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability", section C). Items
    are drawn with replacement, 2,000 times; ``rows`` of the estimate counts labels, ``groups`` items. None
    where all labels are the same one: alpha is 0/0 then. Raises UserError (exit code 3) without two items.
    """
    paired = [labels for labels in items if len(labels) > 1]
    if len(paired) < 2:
        raise UserError(
            f"agreement needs at least 2 items with 2 labels or more, found {len(paired)}",
            "have more items labelled by two people or more",
            exit_code=3,
        )
    counts = _counts(paired)
    value = float(_alpha(counts, np.ones((1, len(counts))))[0])
    if np.isnan(value):
        return None
    random = np.random.default_rng(seed)
    times = random.multinomial(len(counts), np.full(len(counts), 1 / len(counts)), RESAMPLES)
    # nan: a resample of items that all carry one label has no alpha.
    low, high = np.nanquantile(_alpha(counts, times), [(1 - level) / 2, (1 + level) / 2])
    method = f"percentile bootstrap over items, {RESAMPLES} resamples"
    return Estimate(
        value, min(value, float(low)), max(value, float(high)), int(counts.sum()), len(counts), level, method
    )


def _counts(items: Sequence[Sequence[str]]) -> npt.NDArray[np.float64]:
    """How often each item got each label, shape (items, labels)."""
    column = {label: index for index, label in enumerate(sorted({label for item in items for label in item}))}
    counts = np.zeros((len(items), len(column)))
    for row, labels in enumerate(items):
        for label in labels:
            counts[row, column[label]] += 1
    return counts


def _alpha(counts: npt.NDArray[np.float64], times: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Alpha with each item counted ``times``, shape (samples, items) -> (samples,); nan where it is 0/0."""
    weights = np.asarray(times, np.float64)
    raters = counts.sum(axis=1)
    # Each item's pairs of different labels, as the coincidence matrix weighs them.
    disagreement = (raters**2 - (counts**2).sum(axis=1)) / (raters - 1)
    totals = weights @ counts
    labels = totals.sum(axis=1)
    expected = (labels**2 - (totals**2).sum(axis=1)) / (labels - 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        alpha: npt.NDArray[np.float64] = 1 - (weights @ disagreement) / expected
    return np.where(expected > 0, alpha, np.nan)
