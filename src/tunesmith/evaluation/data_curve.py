"""What more training rows brought, and what twice as many would: from answers of models of nested shares."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tunesmith.data.questions import Questions
from tunesmith.evaluation.judging import Judging, measured_goal
from tunesmith.evaluation.pilot import group_sums
from tunesmith.records import Estimate
from tunesmith.stats.learning_curve import RESAMPLES, extrapolated_gains, fit_power_law

Floats = npt.NDArray[np.float64]
LEVEL = 0.95


def gain_of_twice_the_rows(
    judging: Judging, asked: Questions, sizes: Sequence[int], answers: Sequence[Sequence[str]], seed: int = 0
) -> Estimate | None:
    """The gain in the goal's metric if the largest of ``sizes`` were doubled, by a power law through all.

    ``answers``: of the model of each size, to all of ``asked``. Groups of questions are drawn with
    replacement 1,000 times, the same for every size, and the law is fitted to each draw. The interval is
    about other questions; it knows nothing of other seeds, other draws of rows, or that a power law may be
    the wrong law. None where the metric is no function of sums over rows, or does not lie between 0 and 1.
    """
    groups = [row.group for row in asked.rows]
    measured = [group_sums(measured_goal(judging, asked, own), groups) for own in answers]
    parts = [sums for sums, metric in measured if sums is not None and metric is not None]
    metrics = [metric for _, metric in measured if metric is not None]
    if len(parts) < len(answers):
        return None
    number = len(parts[0])
    drawn = np.random.default_rng(seed).multinomial(number, np.full(number, 1 / number), RESAMPLES)
    weights = np.vstack([np.ones((1, number)), drawn])
    values = np.column_stack([metric(weights @ sums) for metric, sums in zip(metrics, parts, strict=True)])
    if not np.isfinite(values).all() or values.min() < 0 or values.max() > 1:
        return None
    errors = 1 - values if judging.sign > 0 else values
    rows = np.asarray(sizes, dtype=np.float64)
    law = fit_power_law(rows, errors[0])
    value = law.at(float(rows.max())) - law.at(2 * float(rows.max()))
    low, high = np.quantile(extrapolated_gains(rows, errors[1:], 2.0), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(
        value,
        min(value, float(low)),
        max(value, float(high)),
        len(groups),
        number,
        LEVEL,
        f"power law through {len(rows)} sizes, bootstrap over groups, {RESAMPLES} resamples",
    )
