"""Several seeds as one study: each is trained, and one of them goes on by a rule stated beforehand."""

from __future__ import annotations

from dataclasses import replace

from tunesmith.records import Cost, Dataset, Plan
from tunesmith.run_records import SeedRun, SeedStudy, Training, ValidationPoint
from tunesmith.stages.session import Session
from tunesmith.stages.train import TrainResult, stored_training, train_adapter
from tunesmith.stats.seeds import mean_over_seeds, spread_over_seeds


def train_seeds(session: Session, dataset: Dataset, plan: Plan) -> TrainResult:
    """Train the task with its seed, or with each of ``train.seeds``: the best one, and all of them compared.

    Every seed is a training of its own, kept and resumed by itself; one that was run alone before is not
    repeated. The choice is made on validation only. Errors as in ``train_adapter``.
    """
    settings = session.task.train
    if settings.seeds is None:
        return train_adapter(session, dataset, plan)
    results = {seed: train_adapter(with_seed(session, seed), dataset, plan) for seed in settings.seeds}
    chosen = min(results, key=lambda seed: _rank(results[seed].training, settings.best_by))
    best = results[chosen]
    metric = session.task.metric
    runs = tuple(
        SeedRun(
            seed,
            result.training.best_step,
            _best(result.training).loss,
            result.validation.metrics[metric],
            result.training.adapter_sha256,
        )
        for seed, result in results.items()
    )
    scores = [run.score.value for run in runs]
    rule = "lowest validation loss" if settings.best_by == "loss" else "best task metric on validation"
    study = SeedStudy(runs, metric, chosen, rule, mean_over_seeds(scores), spread_over_seeds(scores))
    cost = best.training.cost
    for seed, result in results.items():
        if seed != chosen:
            cost = _both(cost, result.training.cost)
    return replace(
        best,
        training=replace(best.training, seeds=study, cost=cost),
        seconds=sum(result.seconds for result in results.values()),
    )


def is_trained(session: Session, dataset: Dataset, plan: Plan) -> bool:
    """Whether :func:`train_seeds` would find every training done."""
    seeds = session.task.train.seeds
    asked = [session] if seeds is None else [with_seed(session, seed) for seed in seeds]
    return all(stored_training(one, dataset, plan) is not None for one in asked)


def with_seed(session: Session, seed: int) -> Session:
    """The session of the same task with this one seed."""
    train = session.task.train.model_copy(update={"seed": seed, "seeds": None})
    return session.beside(session.task.model_copy(update={"train": train}), session.folder)


def _both(one: Cost, other: Cost) -> Cost:
    return replace(one.plus(other), rows=one.rows)  # the same rows, trained on again


def _rank(training: Training, best_by: str) -> tuple[float, float]:
    """Smaller is better; the loss decides between equals."""
    point = _best(training)
    score = point.metric.value if best_by == "metric" and point.metric is not None else 0.0
    return -score, point.loss


def _best(training: Training) -> ValidationPoint:
    return next(point for point in training.validation if point.step == training.best_step)
