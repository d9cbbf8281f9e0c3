"""Bases that think step by step before they answer: which do, and how they fare on validation."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tunesmith.models.catalog import Base
from tunesmith.models.size import STRONG_PARAMETERS, count_parameters
from tunesmith.records import Cost, Row, Scorecard
from tunesmith.stages.answering import cutting_of
from tunesmith.stages.memory import peak_mb, reset_peak
from tunesmith.stages.race import Entrant, race
from tunesmith.stages.session import Session
from tunesmith.task import Task
from tunesmith.task.kinds import LABELLED, REASONED_KINDS

if TYPE_CHECKING:  # torch takes seconds to import
    from tunesmith.candidates.answers import Answers
    from tunesmith.candidates.reasoned import Reasoning
    from tunesmith.data.questions import Questions
    from tunesmith.evaluation.judging import Judging
    from tunesmith.models.loading import LoadedModel

PROBED_ROWS = 8
PROBED_TOKENS = 12


def reasons(task: Task, base: Base) -> bool:
    """Whether ``base`` is asked to think first: where the task says so, else from a billion parameters on."""
    from tunesmith.candidates.forms import own_forms

    none, asked = task.none_of_these, task.opponents.reasoning.chain_of_thought
    if not own_forms(task.opponents):
        return False
    if task.kind not in REASONED_KINDS or asked is False or (none is not None and not none.in_training):
        return False
    return asked is True or count_parameters(Path(base.folder)) >= STRONG_PARAMETERS


def reasoning_of(task: Task, loaded: LoadedModel, judging: Judging) -> Reasoning:
    """How ``loaded`` thinks first, by the settings of the task."""
    from tunesmith.candidates.reasoned import Reasoning
    from tunesmith.candidates.replies import Asking

    settings = task.opponents.reasoning
    labels = judging.labels if judging.kind in LABELLED else ()
    return Reasoning(
        loaded,
        task.instruction,
        Asking(labels, judging.kind == "tag", judging.schema),
        settings.max_tokens,
        settings.samples,
        settings.temperature,
        cutting=cutting_of(task),
    )


def reasoned_cards(
    session: Session, loaded: LoadedModel, judging: Judging, asked: Questions, rivals: Sequence[Scorecard]
) -> list[Scorecard]:
    """A scorecard on validation for the base that thinks first; none where it is not asked to.

    ``rivals`` are the other prompts' scorecards: where it is clearly behind their best on some rows, it is
    asked no further.
    """
    from tunesmith.candidates.reasoned import reasoned_candidate

    if not reasons(session.task, loaded.base):
        return []
    if not _generates(loaded):
        session.say(f"{loaded.base.name} cannot sample texts here: it is not asked to think first")
        return []
    reasoning = reasoning_of(session.task, loaded, judging)
    whole = [card for card in rivals if card.stopped_after_rows is None]
    best = max(whole, key=lambda card: judging.sign * card.metrics[judging.metric].value, default=None)
    known = [] if best is None else [Entrant(best.candidate, _replayed(best))]
    entrants = [*known, Entrant(reasoned_candidate(reasoning), _answering(session, reasoning))]
    return race(judging, asked, entrants)[-1:]


def reasoned_seconds(session: Session, loaded: LoadedModel, judging: Judging, rows: Sequence[Row]) -> float:
    """Seconds a row takes the task's base at most when it thinks first, from a few tokens timed."""
    from tunesmith.candidates.reasoned import answer_by_reasoning

    if not _generates(loaded):
        return 0.0
    reasoning = reasoning_of(session.task, loaded, judging)
    some = rows[:: max(1, len(rows) // PROBED_ROWS)][:PROBED_ROWS]
    short = min(PROBED_TOKENS, reasoning.max_tokens)
    started = time.perf_counter()
    answer_by_reasoning(replace(reasoning, max_tokens=short, samples=1), some)
    seconds = (time.perf_counter() - started) / len(some)
    return seconds * reasoning.samples * reasoning.max_tokens / short


def _generates(loaded: LoadedModel) -> bool:
    from tunesmith.engine.decoder import decodes
    from tunesmith.engine.selfcheck import packs

    return loaded.family == "decoder" and (decodes(loaded.model) or packs(loaded.model))


def _replayed(card: Scorecard) -> Callable[[Questions], tuple[Answers, Cost]]:
    """What the candidate of ``card`` answered, without asking it again."""
    from tunesmith.candidates.answers import Answers

    given = {prediction.row_id: prediction.answer for prediction in card.predictions}
    return lambda asked: (Answers([given[row.id] for row in asked.rows], None, 0), replace(card.cost, rows=1))


def _answering(session: Session, reasoning: Reasoning) -> Callable[[Questions], tuple[Answers, Cost]]:
    from tunesmith.candidates.forms import form_name
    from tunesmith.candidates.reasoned import STEP_BY_STEP, answer_by_reasoning
    from tunesmith.engine.lora import lora_disabled

    def answered(asked: Questions) -> tuple[Answers, Cost]:
        reset_peak()
        started = time.perf_counter()
        with (
            session.bar("opponents", f"{form_name(STEP_BY_STEP)} on validation") as report,
            lora_disabled(reasoning.loaded.model),
        ):
            answers = answer_by_reasoning(reasoning, asked.rows, report)
        return answers, Cost(time.perf_counter() - started, len(asked), answers.tokens, peak_mb())

    return answered
