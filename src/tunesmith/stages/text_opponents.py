"""Opponents of the kinds that write texts, on validation: a constant, methods without a model, prompts."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from tunesmith.records import Cost, Plan, Row, Scorecard
from tunesmith.stages.answering import writing_of
from tunesmith.stages.memory import peak_mb, reset_peak
from tunesmith.stages.session import Session

if TYPE_CHECKING:  # torch, and the libraries behind the metrics, take seconds to import
    from tunesmith.candidates.answers import Answers
    from tunesmith.candidates.texts import Writing
    from tunesmith.data.questions import Questions
    from tunesmith.evaluation.judging import Judging

# Prompts are first compared on so many questions; one that is behind the best of them at this one-sided level
# is asked no further.
RACE_QUESTIONS = 100
RACE_ALPHA = 0.005


def text_opponents(
    session: Session, plan: Plan, judging: Judging, train: Sequence[Row], asked: Questions
) -> list[Scorecard]:
    """A scorecard on validation for every opponent of the task. ``train`` are rows as they are learned."""
    cards = _plain_cards(session, judging, train, asked)
    counts = [*([0] if session.task.opponents.zero_shot else []), *session.task.opponents.few_shot]
    if counts:
        writing = writing_of(session, session.loaded(plan.precision), judging, train)
        cards += _prompt_cards(session, writing, judging, counts, asked)
    return cards


def _plain_cards(
    session: Session, judging: Judging, train: Sequence[Row], asked: Questions
) -> list[Scorecard]:
    from tunesmith.candidates.plain_texts import answer_plain, best_plain, constant_text
    from tunesmith.evaluation.judging import goal_value, judged

    reset_peak()
    constant = constant_text(train)
    found = [(constant, answer_plain(constant, train, asked.rows))]
    started = time.perf_counter()
    if session.task.opponents.classical:
        session.say("answers of the nearest rows, and other ways without a language model")
        found += best_plain(
            session.task.kind, train, asked.rows, lambda answers: goal_value(judging, asked, answers)
        )
    seconds = (time.perf_counter() - started) / max(1, len(found) - 1)
    return [
        judged(
            judging,
            candidate,
            "validation",
            asked,
            answers,
            Cost(0.0 if candidate is constant else seconds, len(asked), 0, peak_mb()),
        )
        for candidate, answers in found
    ]


def _prompt_cards(
    session: Session, writing: Writing, judging: Judging, counts: Sequence[int], asked: Questions
) -> list[Scorecard]:
    """Every prompt on some questions; on the rest only those not clearly behind the best."""
    from tunesmith.candidates.answers import Answers
    from tunesmith.candidates.texts import fewer_examples, prompt_candidate
    from tunesmith.engine.lora import lora_disabled
    from tunesmith.evaluation.judging import goal_value, is_behind, judged

    # An id is the hash of a row's content: ordered by it, the first rows are a fair draw.
    order = sorted(range(len(asked)), key=lambda index: asked.rows[index].id)
    stop = RACE_QUESTIONS if len(counts) > 1 else len(asked)
    first, rest = asked.take(order[:stop]), asked.take(order[stop:])
    cards = []
    for count in counts:
        if fewer := fewer_examples(writing, count, asked.rows):
            session.say(
                f"{fewer:,} of {len(asked):,} {count}-shot prompts show fewer examples, to fit the base"
            )
    with lora_disabled(writing.loaded.model):
        heats = [_answered(session, writing, count, first) for count in counts]
        leader = max(
            (answers.labels for answers, _ in heats), key=lambda one: goal_value(judging, first, one)
        )
        for count, (answers, cost) in zip(counts, heats, strict=True):
            candidate = prompt_candidate(writing, count)
            if len(rest) and is_behind(judging, first, answers.labels, leader, RACE_ALPHA):
                card = judged(judging, candidate, "validation", first, answers, cost)
                cards.append(replace(card, stopped_after_rows=len(first)))
                continue
            if len(rest):
                more, more_cost = _answered(session, writing, count, rest)
                answers = Answers(answers.labels + more.labels, None, answers.tokens + more.tokens)
                cost = cost.plus(more_cost)
            in_order = [answers.labels[index] for index in np.argsort(order)]
            answers = Answers(in_order, None, answers.tokens)
            cards.append(judged(judging, candidate, "validation", asked, answers, cost))
    return cards


def _answered(session: Session, writing: Writing, examples: int, asked: Questions) -> tuple[Answers, Cost]:
    from tunesmith.candidates.prompts import prompt_name
    from tunesmith.candidates.texts import answer_by_prompt

    reset_peak()
    started = time.perf_counter()
    with session.bar("opponents", f"{prompt_name(examples)} on validation") as report:
        answers = answer_by_prompt(writing, examples, asked.rows, report)
    return answers, Cost(time.perf_counter() - started, len(asked), answers.tokens, peak_mb())
