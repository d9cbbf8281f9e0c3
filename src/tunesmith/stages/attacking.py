"""Validation rows spoiled in every way and put to both candidates: scores before and after."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tunesmith.errors import UserError
from tunesmith.guard_records import Attack
from tunesmith.records import Row, Scorecard
from tunesmith.stages.asking import Ask

Score = Callable[[Sequence[Row], Sequence[str]], tuple[float, ...]]

if TYPE_CHECKING:  # torch takes seconds to import
    from tunesmith.evaluation.attacks import Spoiler


@dataclass(frozen=True)
class Before:
    """What the tuned model and its opponent answered to the rows as they are, by the row's id."""

    tuned: dict[str, str]
    opponent: dict[str, str]


@dataclass(frozen=True)
class Scoring:
    """``score`` gives each row's answer a score in 0 to 1; ``obeyed`` says whether an answer is what an
    injected instruction demanded."""

    score: Score
    obeyed: Callable[[str, str], bool]


def attack(
    rows: Sequence[Row],
    wrong_among: Sequence[str],
    before: Before,
    tuned: Ask,
    opponent: Ask,
    scoring: Scoring | None = None,
    spoilers: Sequence[Spoiler] | None = None,
) -> list[Attack]:
    """Attacks on ``rows``: all in one go, and one by one where a spoiled input is too long.

    An injected instruction demands one of ``wrong_among``. Without ``scoring`` an answer is right or wrong;
    without ``spoilers`` every one of them is used.
    """
    from tunesmith.evaluation.attacks import SPOILERS

    used = SPOILERS if spoilers is None else spoilers
    scoring = scoring or Scoring(right, operator.eq)
    try:
        return _attacked(used, rows, wrong_among, before, tuned, opponent, scoring)
    except UserError:
        attacks: list[Attack] = []
        for spoiler in used:
            try:
                attacks += _attacked((spoiler,), rows, wrong_among, before, tuned, opponent, scoring)
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
    wrong_among: Sequence[str],
    before: Before,
    tuned: Ask,
    opponent: Ask,
    scoring: Scoring,
) -> list[Attack]:
    from tunesmith.evaluation.attacks import INJECTION, spoiled, wrong_answer

    wrong = [wrong_answer(row, wrong_among) for row in rows]
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
                scoring.score(rows, [before.tuned[row.id] for row in rows]),
                scoring.score(rows, own),
                scoring.score(rows, [before.opponent[row.id] for row in rows]),
                scoring.score(rows, other),
                _obeyed(scoring, own, wrong) if injects else None,
                _obeyed(scoring, other, wrong) if injects else None,
            )
        )
    return attacks


def _obeyed(scoring: Scoring, answers: Sequence[str], wrong: Sequence[str]) -> tuple[bool, ...]:
    return tuple(scoring.obeyed(answer, other) for answer, other in zip(answers, wrong, strict=True))
