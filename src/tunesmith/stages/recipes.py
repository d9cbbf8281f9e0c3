"""Recipes: candidates made anew in each fold, their answers to the rows kept from them, and these joined."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tunesmith.data.questions import Questions
from tunesmith.errors import UserError
from tunesmith.files import content_hash
from tunesmith.records import (
    Candidate,
    CandidateKind,
    Cost,
    Dataset,
    Estimate,
    PairedGain,
    Plan,
    Scorecard,
    Settings,
)
from tunesmith.run_records import Fold, FoldScore
from tunesmith.stages.opponents import Family, OpponentsResult, family_of
from tunesmith.stages.session import Session
from tunesmith.stages.train import TrainResult
from tunesmith.stages.verdict import sealed_answers
from tunesmith.stats.crossfit import count_folds, crossfit_gain, raised_estimate, raised_gain

if TYPE_CHECKING:
    from tunesmith.evaluation.judging import Judging


@dataclass(frozen=True)
class FoldModels:
    """What was made of the other folds: finalists and a tuned model that no row of this fold has part in."""

    dataset: Dataset
    opponents: OpponentsResult
    train: TrainResult

    def candidates(self) -> tuple[Candidate, ...]:
        """The tuned model, then the finalists."""
        return (self.train.validation.candidate, *self.opponents.finalist_candidates())


@dataclass(frozen=True)
class Recipe:
    """How a candidate is made and chosen; ``of_folds`` is what that gave in each fold."""

    family: Family
    candidate: Candidate
    of_folds: tuple[Candidate, ...]


@dataclass(frozen=True)
class Answered:
    """A recipe's answers to the questions of each fold, each by what it made of the other folds."""

    recipe: Recipe
    answers: tuple[tuple[str, ...], ...]
    cost: Cost

    def joined(self) -> list[str]:
        """The answers to all rows, fold after fold."""
        return [answer for answers in self.answers for answer in answers]


def recipes_of(
    folds: Sequence[FoldModels], train: TrainResult, base: str, labelled: bool
) -> tuple[Recipe, ...]:
    """The tuned recipe, then one for each family of finalists. ``train`` is the model made of all rows,
    ``labelled`` whether answers are labels.

    Raises ValueError where the folds do not have the same families: the task decides them.
    """
    by_family = [{family_of(one, base): one for one in fold.candidates()} for fold in folds]
    families = list(by_family[0])
    if any(list(candidates) != families for candidates in by_family):
        raise ValueError(f"folds with different finalists: {[list(one) for one in by_family]}")
    recipes = []
    for family in families:
        of_folds = tuple(candidates[family] for candidates in by_family)
        name = _recipe_name(family, base, labelled) or f"{train.validation.candidate.name}, cross-fitted"
        chosen: Settings = {f"fold {place}": one.name for place, one in enumerate(of_folds, start=1)}
        kind: CandidateKind = of_folds[0].kind
        identity = content_hash(["crossfit", family, [one.id for one in of_folds]])
        own_base = of_folds[0].base if len({one.base for one in of_folds}) == 1 else None
        recipes.append(Recipe(family, Candidate(identity, kind, name, chosen, own_base), of_folds))
    return tuple(recipes)


def _recipe_name(family: Family, base: str, labelled: bool) -> str | None:
    """None for the tuned one, which is called after its method."""
    names: dict[Family, str] = {
        "constant": "most frequent label" if labelled else "one constant answer",
        "classical": "best classical model" if labelled else "best way without a language model",
        "prompt": f"best prompt on {base}",
        "other base": "best prompt on another base",
        "endpoint": "best endpoint",
    }
    return names.get(family)


@dataclass(frozen=True)
class Opened:
    """What is asked in each fold, once its rows were opened. Rows with one input are of one group, so that
    all references of a question are in its own fold."""

    of_folds: tuple[Questions, ...]

    def joined(self) -> Questions:
        """All questions, fold after fold."""
        return Questions(
            tuple(row for asked in self.of_folds for row in asked.rows),
            tuple(right for asked in self.of_folds for right in asked.references),
        )

    def fold_of(self) -> NDArray[np.intp]:
        """The fold of each question, shape (questions,)."""
        return np.repeat(np.arange(len(self.of_folds)), [len(asked) for asked in self.of_folds])


def answer_folds(
    session: Session, plan: Plan, folds: Sequence[FoldModels], recipe: Recipe, opened: Opened
) -> Answered:
    """A recipe's answers to the questions of each fold; those that are kept are not given again."""
    answers, cost = [], Cost(0.0, 0, 0, 0.0)
    for fold, candidate, asked in zip(folds, recipe.of_folds, opened.of_folds, strict=True):
        sealed = sealed_answers(session, fold.dataset, plan, fold.train, candidate, asked.rows)
        answers.append(sealed.answers)
        cost = cost.plus(sealed.cost)
    return Answered(recipe, tuple(answers), cost)


def joined_card(judging: Judging, answered: Answered, opened: Opened) -> Scorecard:
    """The scorecard of all answers together, its intervals widened for cross-fitting."""
    from tunesmith.candidates.answers import Answers
    from tunesmith.evaluation.judging import judged

    answers = Answers(answered.joined(), None, answered.cost.tokens, answered.cost.spend)
    card = judged(judging, answered.recipe.candidate, "test", opened.joined(), answers, answered.cost)

    def widened(metrics: dict[str, Estimate]) -> dict[str, Estimate]:
        return {name: raised_estimate(value, len(opened.of_folds)) for name, value in metrics.items()}

    return replace(
        card,
        metrics=widened(card.metrics),
        metrics_without_conflicts=widened(card.metrics_without_conflicts),
    )


def joined_gain(
    judging: Judging,
    tuned: Answered,
    opponent: Answered,
    opened: Opened,
    alpha_one_sided: float,
) -> PairedGain:
    """The gain of the tuned recipe in the goal's metric, with the corrected variance of cross-fitting."""
    from tunesmith.evaluation.judging import goal_gain, measured_goal
    from tunesmith.evaluation.scorecards import correctness

    asked, fold_of = opened.joined(), opened.fold_of()
    groups = [row.group for row in asked.rows]
    own, other, name = tuned.joined(), opponent.joined(), opponent.recipe.candidate.name
    if judging.metric == "accuracy":
        right = correctness(asked.rows, own), correctness(asked.rows, other)
        return crossfit_gain(*right, groups, fold_of, name, alpha_one_sided)
    plain = goal_gain(judging, asked, own, other, name, alpha_one_sided)
    measured = measured_goal(judging, asked, own)
    ends = measured.low, measured.high
    span = None if ends[0] is None or ends[1] is None else ends[1] - ends[0]
    return raised_gain(plain, count_folds(groups, fold_of), span=span)


def told_folds(
    judging: Judging,
    folds: Sequence[FoldModels],
    answered: Sequence[Answered],
    opened: Opened,
) -> tuple[Fold, ...]:
    """For each fold its sizes, what every recipe chose, and its score in the goal's metric there."""
    return tuple(
        Fold(
            version=fold.dataset.manifest.version,
            judged=fold.dataset.manifest.splits["test"],
            train_rows=fold.dataset.manifest.splits["train"].rows,
            validation_rows=fold.dataset.manifest.splits["validation"].rows,
            best_step=fold.train.training.best_step,
            adapter_sha256=fold.train.training.adapter_sha256,
            scores=tuple(
                FoldScore(
                    one.recipe.candidate.name,
                    one.recipe.of_folds[place].name,
                    _score(judging, asked, one.answers[place]),
                )
                for one in answered
            ),
            opponents_seconds=fold.opponents.seconds,
            train_seconds=fold.train.seconds,
        )
        for place, (fold, asked) in enumerate(zip(folds, opened.of_folds, strict=True))
    )


def _score(judging: Judging, asked: Questions, answers: Sequence[str]) -> Estimate | None:
    """None where this fold's rows do not have what the metric is about."""
    from tunesmith.evaluation.judging import goal_estimate

    try:
        return goal_estimate(judging, asked, list(answers))
    except UserError as error:
        if error.exit_code != 3:
            raise
        return None
