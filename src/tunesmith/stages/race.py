"""Prompts compared on some questions of validation; on the rest only those not clearly behind the best."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from tunesmith.records import Candidate, Cost, Scorecard

if TYPE_CHECKING:  # torch takes seconds to import
    from tunesmith.candidates.answers import Answers
    from tunesmith.data.questions import Questions
    from tunesmith.evaluation.judging import Judging

# Prompts are first compared on so many questions; one that is behind the best of them at this one-sided level
# is asked no further.
RACE_QUESTIONS = 100
RACE_ALPHA = 0.005


@dataclass(frozen=True)
class Entrant:
    """A candidate whose answers need no choice on validation, and how it answers."""

    candidate: Candidate
    answer: Callable[[Questions], tuple[Answers, Cost]]


def race(judging: Judging, asked: Questions, entrants: Sequence[Entrant]) -> list[Scorecard]:
    """A scorecard for every entrant, in order; ``stopped_after_rows`` says who was asked no further."""
    from tunesmith.candidates.answers import Answers
    from tunesmith.evaluation.judging import goal_value, is_behind, judged

    # An id is the hash of a row's content: ordered by it, the first rows are a fair draw.
    order = sorted(range(len(asked)), key=lambda index: asked.rows[index].id)
    stop = RACE_QUESTIONS if len(entrants) > 1 else len(asked)
    first, rest = asked.take(order[:stop]), asked.take(order[stop:])
    heats = [entrant.answer(first) for entrant in entrants]
    leader = max(
        (answers.labels for answers, _ in heats),
        key=lambda labels: goal_value(judging, first, labels),
        default=[],
    )
    cards = []
    for entrant, (answers, cost) in zip(entrants, heats, strict=True):
        if len(rest) and is_behind(judging, first, answers.labels, leader, RACE_ALPHA):
            card = judged(judging, entrant.candidate, "validation", first, answers, cost)
            cards.append(replace(card, stopped_after_rows=len(first)))
            continue
        if len(rest):
            more, more_cost = entrant.answer(rest)
            answers = Answers(answers.labels + more.labels, None, answers.tokens + more.tokens)
            cost = cost.plus(more_cost)
        in_order = [answers.labels[index] for index in np.argsort(order)]
        answers = Answers(in_order, None, answers.tokens)
        cards.append(judged(judging, entrant.candidate, "validation", asked, answers, cost))
    return cards
