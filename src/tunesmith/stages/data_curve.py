"""The model's learning curve: the same training on a quarter and half of the rows, judged on validation."""

from __future__ import annotations

from tunesmith.curve_records import DataCurve, DataPoint
from tunesmith.data.portions import QUARTERS, SMALLER
from tunesmith.records import Dataset, Plan
from tunesmith.stages.answering import judging_of
from tunesmith.stages.seeds import with_seed
from tunesmith.stages.session import Session
from tunesmith.stages.train import TrainResult, train_adapter

ALPHA = 0.025  # gains are told with two-sided 95 % intervals


def measure_data_curve(
    session: Session, dataset: Dataset, plan: Plan, train: TrainResult
) -> DataCurve | None:
    """Train on the smaller shares with the settings, and the seed, of ``train``; None where not asked for.

    Epochs stay the same, so a smaller share takes fewer steps. Errors as in ``train_adapter``, and UserError
    for training rows of fewer than four groups.
    """
    from tunesmith.data.versions import read_split
    from tunesmith.evaluation.data_curve import gain_of_twice_the_rows
    from tunesmith.evaluation.judging import goal_gain, questions

    if not session.task.train.learning_curve:
        return None
    seeds = train.training.seeds
    one = session if seeds is None else with_seed(session, seeds.chosen)
    results = [*(train_adapter(one, dataset, plan, quarters) for quarters in SMALLER), train]
    judging = judging_of(session.task, dataset.manifest.labels)
    asked = questions(judging, read_split(dataset, "validation"))
    answers = [[each.answer for each in result.validation.predictions] for result in results]
    points = tuple(
        DataPoint(
            quarters / QUARTERS,
            result.training.cost.rows,
            result.validation.metrics[judging.metric],
            result.training.adapter_sha256,
        )
        for quarters, result in zip((*SMALLER, QUARTERS), results, strict=True)
    )
    half = f"the model of {points[-2].rows:,} rows"
    return DataCurve(
        judging.metric,
        points,
        goal_gain(judging, asked, answers[-1], answers[-2], half, ALPHA),
        gain_of_twice_the_rows(judging, asked, [point.rows for point in points], answers),
    )
