"""Opponents of the kinds that write texts, on validation: a constant, methods without a model, prompts."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from tunesmith.records import Cost, Row, Scorecard
from tunesmith.stages.answering import writing_of
from tunesmith.stages.memory import peak_mb, reset_peak
from tunesmith.stages.race import Entrant, race
from tunesmith.stages.session import Session

if TYPE_CHECKING:  # torch, and the libraries behind the metrics, take seconds to import
    from tunesmith.candidates.answers import Answers
    from tunesmith.candidates.forms import PromptForm
    from tunesmith.candidates.texts import Writing
    from tunesmith.data.questions import Questions
    from tunesmith.evaluation.judging import Judging
    from tunesmith.models.loading import LoadedModel


def plain_text_cards(
    session: Session, judging: Judging, train: Sequence[Row], asked: Questions
) -> list[Scorecard]:
    """A constant, and every way without a language model that applies. ``train`` are rows as learned."""
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


def text_prompt_cards(
    session: Session, loaded: LoadedModel, judging: Judging, train: Sequence[Row], asked: Questions
) -> list[Scorecard]:
    """A scorecard on validation for every prompt of the task on ``loaded``."""
    from tunesmith.candidates.forms import form_name, own_forms
    from tunesmith.candidates.texts import fewer_examples, prompt_candidate
    from tunesmith.engine.lora import lora_disabled

    forms = own_forms(session.task.opponents)
    if not forms:
        return []
    writing = writing_of(session, loaded, judging, train)
    for form in forms:
        if fewer := fewer_examples(writing, form, asked.rows):
            session.say(f"{fewer:,} of {len(asked):,} {form_name(form)} prompts show less, to fit the base")
    entrants = [
        Entrant(prompt_candidate(writing, form), _answering(session, writing, form)) for form in forms
    ]
    with lora_disabled(writing.loaded.model):
        return race(judging, asked, entrants)


def _answering(
    session: Session, writing: Writing, form: PromptForm
) -> Callable[[Questions], tuple[Answers, Cost]]:
    from tunesmith.candidates.forms import form_name
    from tunesmith.candidates.texts import answer_by_prompt

    def answered(asked: Questions) -> tuple[Answers, Cost]:
        reset_peak()
        started = time.perf_counter()
        with session.bar("opponents", f"{form_name(form)} on validation") as report:
            answers = answer_by_prompt(writing, form, asked.rows, report)
        return answers, Cost(time.perf_counter() - started, len(asked), answers.tokens, peak_mb())

    return answered
