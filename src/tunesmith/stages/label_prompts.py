"""Prompts that choose a label, on validation: exact scores, tuned variants, and a race."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from tunesmith.records import Cost, Row, Scorecard
from tunesmith.stages.answering import cutting_of
from tunesmith.stages.embedding import embedder_of
from tunesmith.stages.memory import peak_mb, reset_peak
from tunesmith.stages.passages import library_of
from tunesmith.stages.race import RACE_ALPHA, RACE_QUESTIONS
from tunesmith.stages.session import Session

# How many rows are scored to tell how much a prompt reads, of at least how many groups.
PROBED_ROWS = 8
PROBED_GROUPS = 3
PROBED_OF_GROUP = 32

if TYPE_CHECKING:  # torch takes seconds to import
    from tunesmith.candidates.forms import PromptForm
    from tunesmith.candidates.prompts import Prompting
    from tunesmith.data.questions import Questions
    from tunesmith.engine.scoring import LabelScores
    from tunesmith.evaluation.judging import Judging
    from tunesmith.models.loading import LoadedModel


def label_prompt_cards(
    session: Session,
    loaded: LoadedModel,
    judging: Judging,
    train: Sequence[Row],
    asked: Questions,
    rivals: Sequence[Scorecard] = (),
) -> list[Scorecard]:
    """Every prompt on some rows of validation; on the rest only those not clearly behind the best.

    ``rivals`` are scorecards on all of validation that prompts are compared with, too.
    """
    from tunesmith.candidates.forms import own_forms
    from tunesmith.candidates.prompts import Prompting, choose_variant, content_free_prior
    from tunesmith.engine.lora import lora_disabled
    from tunesmith.engine.scoring import joined_scores
    from tunesmith.evaluation.judging import goal_value, is_behind, judged, scoping_of, value_of_labels

    forms = own_forms(session.task.opponents)
    if not forms:
        return []
    task = session.task
    library = library_of(task, train)
    cutting, embedder = cutting_of(task), embedder_of(session)
    prompting = Prompting(loaded, task.instruction, judging.labels, train, library, cutting, embedder)
    value, scoping = value_of_labels(judging), scoping_of(judging)
    # An id is the hash of a row's content: ordered by it, the first rows are a fair draw.
    order = sorted(range(len(asked)), key=lambda index: asked.rows[index].id)
    # A threshold needs more rows out of scope than a race has.
    races = len(forms) + len(rivals) > 1 and scoping is None
    stop = RACE_QUESTIONS if races else len(asked)
    first, rest = asked.take(order[:stop]), asked.take(order[stop:])
    cards = []
    with lora_disabled(loaded.model):
        priors = [content_free_prior(prompting, form) for form in forms]
        heats = [
            _score_prompt(session, prompting, form, first.rows, prior, scoping is not None)
            for form, prior in zip(forms, priors, strict=True)
        ]
        given = [
            choose_variant(prompting, form, scores, first.rows, prior, value, scoping)[1].labels
            for form, prior, (scores, _) in zip(forms, priors, heats, strict=True)
        ]
        others = [[card.predictions[index].answer for index in order[:stop]] for card in rivals]
        leader = max([*given, *others], key=lambda labels: goal_value(judging, first, labels))
        for form, prior, labels, (scores, cost) in zip(forms, priors, given, heats, strict=True):
            if len(rest) and is_behind(judging, first, labels, leader, RACE_ALPHA):
                candidate, answers = choose_variant(prompting, form, scores, first.rows, prior, value)
                card = judged(judging, candidate, "validation", first, answers, cost)
                cards.append(replace(card, stopped_after_rows=stop))
                continue
            if len(rest):
                more, more_cost = _score_prompt(session, prompting, form, rest.rows, prior)
                scores, cost = joined_scores([scores, more]), cost.plus(more_cost)
            in_order = replace(scores, log_probabilities=scores.log_probabilities[np.argsort(order)])
            candidate, answers = choose_variant(prompting, form, in_order, asked.rows, prior, value, scoping)
            cards.append(judged(judging, candidate, "validation", asked, answers, cost))
    return cards


def _score_prompt(
    session: Session,
    prompting: Prompting,
    form: PromptForm,
    rows: Sequence[Row],
    prior: list[float],
    every_label: bool = False,
) -> tuple[LabelScores, Cost]:
    from tunesmith.candidates.forms import form_name
    from tunesmith.candidates.prompts import score_prompt, variant_rules

    reset_peak()
    started = time.perf_counter()
    with session.bar("opponents", f"{form_name(form)} on validation") as report:
        rules = None if every_label else variant_rules(prompting, prior)
        scores = score_prompt(prompting, form, rows, rules, report)
    return scores, Cost(time.perf_counter() - started, len(rows), scores.tokens, peak_mb())


def prompt_tokens(
    session: Session, loaded: LoadedModel, judging: Judging, train: Sequence[Row], validation: Sequence[Row]
) -> list[float]:
    """Tokens read for one row of each label prompt, from a few rows scored."""
    from tunesmith.candidates.forms import found_by_words, own_forms
    from tunesmith.candidates.prompts import Prompting, score_prompt, variant_rules

    task = session.task
    rows = probed_rows(validation)
    library = library_of(task, train)
    prompting = Prompting(loaded, task.instruction, judging.labels, train, library, cutting_of(task))
    no_prior = [0.0] * len(judging.labels)
    rules = variant_rules(prompting, no_prior) if judging.none_of_these is None else None
    return [
        score_prompt(prompting, found_by_words(form), rows, rules).tokens / len(rows)
        for form in (own_forms(task.opponents) if loaded.family != "encoder" else ())
    ]


def probed_rows(rows: Sequence[Row]) -> list[Row]:
    """About PROBED_ROWS rows; those of a group together, as a document that they share is read once."""
    groups: defaultdict[str, list[Row]] = defaultdict(list)
    for row in rows:
        groups[row.group or row.id].append(row)
    spread = list(groups.values())[:: max(1, len(groups) // PROBED_ROWS)]
    chosen: list[Row] = []
    for place, group in enumerate(spread):
        if place >= PROBED_GROUPS and len(chosen) >= PROBED_ROWS:
            break
        chosen += group[:PROBED_OF_GROUP]
    return chosen
