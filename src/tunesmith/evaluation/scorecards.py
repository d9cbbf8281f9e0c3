"""One candidate on one split: the same code for a constant, a classifier, a prompt and a fine-tune."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tunesmith.data.questions import Questions
from tunesmith.records import Candidate, Cost, Estimate, Prediction, Row, Scorecard, SplitName
from tunesmith.run_records import Confusion, ExampleDuel
from tunesmith.stats.intervals import macro_f1_interval, proportion_interval

if TYPE_CHECKING:  # torch takes seconds to import
    from tunesmith.candidates.answers import Answers


def scorecard(
    candidate: Candidate,
    split: SplitName,
    rows: Sequence[Row],
    answers: Answers,
    labels: Sequence[str],
    cost: Cost,
) -> Scorecard:
    """Score ``answers`` to ``rows``; on the sealed test only aggregates are kept.

    The tuned model's card on validation says how well its probabilities are calibrated, too: elsewhere they
    are those of the best label alone.
    """
    calibrated = candidate.kind == "tuned" and split == "validation"
    clean = [index for index, row in enumerate(rows) if not row.conflict]
    predictions = tuple(
        Prediction(row.id, answer, _probability(answers, index), answer == row.target)
        for index, (row, answer) in enumerate(zip(rows, answers.labels, strict=True))
    )
    return Scorecard(
        candidate=candidate,
        split=split,
        metrics=_metrics(rows, answers.labels, labels) | (_calibration(rows, answers) if calibrated else {}),
        metrics_without_conflicts=_metrics(
            [rows[index] for index in clean], [answers.labels[index] for index in clean], labels
        ),
        predictions=() if split == "test" else predictions,
        cost=cost,
    )


def with_metrics_before_review(
    card: Scorecard, before: Sequence[Row], answers: Sequence[str], labels: Sequence[str]
) -> Scorecard:
    """``card`` with the same candidate's metrics on the rows as they were before people changed them."""
    return replace(card, metrics_before_review=_metrics(before, answers, labels))


def correctness(rows: Sequence[Row], answers: Sequence[str]) -> NDArray[np.float64]:
    """1 where the answer is the target, 0 elsewhere."""
    return np.array([float(row.target == answer) for row, answer in zip(rows, answers, strict=True)])


def confusions(rows: Sequence[Row], card: Scorecard, most: int = 12) -> tuple[Confusion, ...]:
    """The most frequent wrong answers of a validation scorecard, by target and answer."""
    pairs = Counter(
        (row.target, prediction.answer)
        for row, prediction in zip(rows, card.predictions, strict=True)
        if not prediction.correct
    )
    ranked = sorted(pairs.items(), key=lambda item: (-item[1], item[0]))
    groups = [row.group for row in rows]

    def share(target: str, answer: str) -> Estimate:
        pairs = zip(rows, card.predictions, strict=True)
        return proportion_interval(
            [(row.target, one.answer) == (target, answer) for row, one in pairs], groups
        )

    return tuple(Confusion(*pair, count, share(*pair)) for pair, count in ranked[:most])


def duels(
    rows: Sequence[Row], tuned: Scorecard, opponent: Scorecard, most: int = 8
) -> tuple[tuple[ExampleDuel, ...], tuple[ExampleDuel, ...]]:
    """Validation rows that only the tuned model, and that only the opponent, got right.

    The surest answers of the tuned model come first: they say most about what it learned, or learned wrong.
    """
    won: list[ExampleDuel] = []
    lost: list[ExampleDuel] = []
    for row, own, other in zip(rows, tuned.predictions, opponent.predictions, strict=True):
        if own.correct == other.correct:
            continue
        duel = ExampleDuel(row.source, row.text, row.target, own.answer, own.probability, other.answer)
        (won if own.correct else lost).append(duel)
    for group in (won, lost):
        group.sort(key=lambda duel: (-(duel.tuned_probability or 0.0), duel.source))
    return tuple(won[:most]), tuple(lost[:most])


def text_duels(
    asked: Questions, tuned: Scorecard, opponent: Scorecard, most: int = 8
) -> tuple[tuple[ExampleDuel, ...], tuple[ExampleDuel, ...]]:
    """Validation questions on which the tuned model's text scores most above, and most below, the other's."""
    compared: list[tuple[float, ExampleDuel]] = []
    for row, right, own, other in zip(
        asked.rows, asked.references, tuned.predictions, opponent.predictions, strict=True
    ):
        if own.score is None or other.score is None:
            continue
        duel = ExampleDuel(
            row.source, row.text, right[0], own.answer, None, other.answer, len(right) - 1,
            own.score, other.score,
        )  # fmt: skip
        compared.append((own.score - other.score, duel))
    compared.sort(key=lambda item: (-item[0], item[1].source))
    won = tuple(duel for difference, duel in compared[:most] if difference > 0)
    return won, tuple(duel for difference, duel in reversed(compared[-most:]) if difference < 0)


def _metrics(rows: Sequence[Row], answers: Sequence[str], labels: Sequence[str]) -> dict[str, Estimate]:
    # Here, because the libraries behind the metrics take seconds, and telling a stored result needs none.
    from tunesmith.evaluation.metrics.answered import Answered
    from tunesmith.evaluation.metrics.measure import measure

    if not rows:
        return {}
    groups = [row.group for row in rows]
    targets = [row.target for row in rows]
    known = sorted({*labels, *targets})
    found = {
        "accuracy": proportion_interval(correctness(rows, answers), groups),
        "macro_f1": macro_f1_interval(targets, list(answers), groups, known),
    }
    if len(set(groups)) > 1:
        found |= measure(("balanced_accuracy", "mcc"), Answered(rows, answers, labels=labels))
    return found


def _calibration(rows: Sequence[Row], answers: Answers) -> dict[str, Estimate]:
    from tunesmith.evaluation.metrics.answered import Answered
    from tunesmith.evaluation.metrics.measure import measure

    if answers.probabilities is None or len({row.group for row in rows}) < 2:
        return {}
    return measure(("ece", "brier"), Answered(rows, answers.labels, confidences=answers.probabilities))


def _probability(answers: Answers, index: int) -> float | None:
    return None if answers.probabilities is None else float(answers.probabilities[index])
