"""Validation rows spoiled in every way and put to both candidates: scores before and after."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tunesmith.errors import UserError
from tunesmith.guard_records import Attack
from tunesmith.records import Row, Scorecard

if TYPE_CHECKING:  # torch takes seconds to import
    from tunesmith.candidates.answers import Answers
    from tunesmith.evaluation.attacks import Spoiler

Ask = Callable[[Sequence[Row]], "Answers"]


@dataclass(frozen=True)
class Before:
    """What the tuned model and its opponent answered to the rows as they are, by the row's id."""

    tuned: dict[str, str]
    opponent: dict[str, str]


def attack(
    rows: Sequence[Row], labels: Sequence[str], before: Before, tuned: Ask, opponent: Ask
) -> list[Attack]:
    """Every attack on ``rows``: all in one go, and one by one where a spoiled input is too long."""
    from tunesmith.evaluation.attacks import SPOILERS

    try:
        return _attacked(SPOILERS, rows, labels, before, tuned, opponent)
    except UserError:
        attacks: list[Attack] = []
        for spoiler in SPOILERS:
            try:
                attacks += _attacked((spoiler,), rows, labels, before, tuned, opponent)
            except UserError as error:
                attacks.append(Attack(spoiler.name, spoiler.done, unmeasured=error.what))
        return attacks


def label_order(rows: Sequence[Row], before: Before, opponent: Ask) -> Attack:
    """The opponent's prompt with its labels in another order; the tuned model's prompt lists none."""
    own = [before.tuned[row.id] for row in rows]
    return Attack(
        "label order",
        "the opponent's prompt lists the labels the other way round; the tuned model's lists none",
        tuple(row.group for row in rows),
        right(rows, own),
        right(rows, own),
        right(rows, [before.opponent[row.id] for row in rows]),
        right(rows, opponent(rows).labels),
    )


def right(rows: Sequence[Row], answers: Sequence[str]) -> tuple[float, ...]:
    """1 where the answer is the target, else 0."""
    return tuple(float(row.target == answer) for row, answer in zip(rows, answers, strict=True))


def answers_of(card: Scorecard) -> dict[str, str]:
    """The answers of a validation scorecard by the row's id."""
    return {prediction.row_id: prediction.answer for prediction in card.predictions}


def scores_of(card: Scorecard) -> list[float]:
    """The scores of a validation scorecard, 1 for right, in the order of its rows."""
    return [float(prediction.correct) for prediction in card.predictions]


def _attacked(
    spoilers: Sequence[Spoiler],
    rows: Sequence[Row],
    labels: Sequence[str],
    before: Before,
    tuned: Ask,
    opponent: Ask,
) -> list[Attack]:
    from tunesmith.evaluation.attacks import INJECTION, spoiled, wrong_answer

    wrong = [wrong_answer(row, labels) for row in rows]
    asked = [
        spoiled(row, spoiler, other) for spoiler in spoilers for row, other in zip(rows, wrong, strict=True)
    ]
    own_answers, other_answers = tuned(asked).labels, opponent(asked).labels
    attacks = []
    for place, spoiler in enumerate(spoilers):
        part = slice(place * len(rows), (place + 1) * len(rows))
        own, other = own_answers[part], other_answers[part]
        injects = spoiler.name == INJECTION
        attacks.append(
            Attack(
                spoiler.name,
                spoiler.done,
                tuple(row.group for row in rows),
                right(rows, [before.tuned[row.id] for row in rows]),
                right(rows, own),
                right(rows, [before.opponent[row.id] for row in rows]),
                right(rows, other),
                _same(own, wrong) if injects else None,
                _same(other, wrong) if injects else None,
            )
        )
    return attacks


def _same(answers: Sequence[str], wrong: Sequence[str]) -> tuple[bool, ...]:
    return tuple(answer == other for answer, other in zip(answers, wrong, strict=True))
