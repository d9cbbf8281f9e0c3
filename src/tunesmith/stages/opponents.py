"""Stage 3: candidates that need no training, tuned and compared on validation; the finalists declared."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from tunesmith.records import Candidate, Cost, Dataset, Plan, Row, Scorecard
from tunesmith.stages.memory import peak_mb, reset_peak
from tunesmith.stages.session import Session
from tunesmith.workspace import cached, stage_key

PACKAGES = (
    "tunesmith.candidates",
    "tunesmith.engine",
    "tunesmith.models",
    "tunesmith.stats",
    "tunesmith.evaluation.scorecards",
    "tunesmith.stages.opponents",
    "tunesmith.records",
)


@dataclass(frozen=True)
class OpponentsResult:
    """Scorecards on validation, and the ids of the finalists that will meet the tuned model on the test."""

    scorecards: tuple[Scorecard, ...]
    finalists: tuple[str, ...]
    classical_grid: tuple[tuple[str, float], ...]
    seconds: float

    def finalist_candidates(self) -> tuple[Candidate, ...]:
        by_id = {card.candidate.id: card.candidate for card in self.scorecards}
        return tuple(by_id[finalist] for finalist in self.finalists)


def measure_opponents(session: Session, dataset: Dataset, plan: Plan) -> OpponentsResult:
    """Score every opponent of the task on validation.

    The finalists are the best prompt and the best classical model by validation accuracy; the majority class
    when there is neither.
    """
    task = session.task
    inputs = {
        "dataset": dataset.manifest.version,
        "instruction": task.instruction,
        "opponents": task.opponents.model_dump(),
        "base": session.base().sha256,
        "precision": plan.precision,
    }
    folder = session.folder.stage("opponents", stage_key("opponents", inputs, PACKAGES))
    return cached(folder, OpponentsResult, lambda _: _measure(session, dataset, plan))[0]


def _measure(session: Session, dataset: Dataset, plan: Plan) -> OpponentsResult:
    from tunesmith.data.versions import read_split

    started = time.perf_counter()
    train, validation = read_split(dataset, "train"), read_split(dataset, "validation")
    labels = dataset.manifest.labels
    cards = [_majority_card(train, validation, labels)]
    grid: tuple[tuple[str, float], ...] = ()
    if session.task.opponents.classical:
        card, grid = _classical_card(session, train, validation, labels)
        cards.append(card)
    cards.extend(_prompt_cards(session, plan, train, validation, labels))
    return OpponentsResult(tuple(cards), _finalists(cards), grid, time.perf_counter() - started)


def _finalists(cards: Sequence[Scorecard]) -> tuple[str, ...]:
    best: dict[str, Scorecard] = {}
    for card in cards:
        kind = card.candidate.kind
        if kind not in best or card.metrics["accuracy"].value > best[kind].metrics["accuracy"].value:
            best[kind] = card
    chosen = [best[kind] for kind in ("classical", "prompt") if kind in best] or [best["constant"]]
    return tuple(card.candidate.id for card in chosen)


def _majority_card(train: list[Row], validation: list[Row], labels: tuple[str, ...]) -> Scorecard:
    from tunesmith.candidates.classical import answer_majority, majority
    from tunesmith.evaluation.scorecards import scorecard

    candidate = majority(train)
    answers = answer_majority(candidate, validation)
    cost = Cost(0.0, len(validation), 0, peak_mb())
    return scorecard(candidate, "validation", validation, answers, labels, cost)


def _classical_card(
    session: Session, train: list[Row], validation: list[Row], labels: tuple[str, ...]
) -> tuple[Scorecard, tuple[tuple[str, float], ...]]:
    from tunesmith.candidates.classical import answer_classical, tune_classical
    from tunesmith.evaluation.scorecards import scorecard

    reset_peak()
    started = time.perf_counter()
    with session.bar("opponents", "tuning classical models") as report:
        model, table = tune_classical(train, validation, report)
    answers = answer_classical(model, validation)
    cost = Cost(time.perf_counter() - started, len(validation), 0, peak_mb())
    return scorecard(model.candidate, "validation", validation, answers, labels, cost), tuple(table)


def _prompt_cards(
    session: Session, plan: Plan, train: list[Row], validation: list[Row], labels: tuple[str, ...]
) -> list[Scorecard]:
    from tunesmith.candidates.prompts import (
        Prompting,
        choose_variant,
        content_free_prior,
        prompt_name,
        score_prompt,
        variant_rules,
    )
    from tunesmith.engine.lora import lora_disabled
    from tunesmith.evaluation.scorecards import scorecard

    counts = [*([0] if session.task.opponents.zero_shot else []), *session.task.opponents.few_shot]
    if not counts:
        return []
    loaded = session.loaded(plan.precision)
    prompting = Prompting(loaded, session.task.instruction, labels, train)
    cards = []
    with lora_disabled(loaded.model):
        for examples in counts:
            reset_peak()
            started = time.perf_counter()
            with session.bar("opponents", f"{prompt_name(examples)} on validation") as report:
                prior = content_free_prior(prompting, examples, session.task.train.seed)
                rules = variant_rules(prompting, prior)
                scores = score_prompt(prompting, examples, validation, rules, report)
            candidate, answers = choose_variant(prompting, examples, scores, validation, prior)
            cost = Cost(time.perf_counter() - started, len(validation), scores.tokens, peak_mb())
            cards.append(scorecard(candidate, "validation", validation, answers, labels, cost))
    return cards
