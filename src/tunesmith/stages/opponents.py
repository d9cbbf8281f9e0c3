"""Stage 3: candidates that need no training, tuned and compared on validation; the finalists declared."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from tunesmith.files import file_sha256
from tunesmith.records import Candidate, Cost, Dataset, Plan, Row, Scorecard
from tunesmith.stages.answering import judging_identity, judging_of
from tunesmith.stages.memory import peak_mb, reset_peak
from tunesmith.stages.session import Session
from tunesmith.stages.text_opponents import text_opponents
from tunesmith.workspace import cached, stage_key

if TYPE_CHECKING:
    from tunesmith.candidates.prompts import Prompting
    from tunesmith.candidates.transformations import Transformations
    from tunesmith.data.questions import Questions
    from tunesmith.engine.scoring import LabelScores
    from tunesmith.evaluation.judging import Judging
    from tunesmith.models.loading import LoadedModel
    from tunesmith.task.settings import OpponentSettings

# Prompts are first compared on so many rows; one that is behind the best of them at this one-sided level is
# scored no further.
RACE_ROWS = 100
RACE_ALPHA = 0.005
TEST_ROWS_OF_THE_BEHIND = 400

PACKAGES = (
    "tunesmith.candidates",
    "tunesmith.engine",
    "tunesmith.models",
    "tunesmith.stats",
    "tunesmith.evaluation.metrics",
    "tunesmith.evaluation.scorecards",
    "tunesmith.evaluation.judging",
    "tunesmith.data.questions",
    "tunesmith.task.kinds",
    "tunesmith.stages.answering",
    "tunesmith.stages.opponents",
    "tunesmith.stages.text_opponents",
    "tunesmith.records",
)


@dataclass(frozen=True)
class OpponentsResult:
    """Scorecards on validation, and the ids of the finalists that will meet the tuned model on the test.

    ``test_rows`` has, by id, the finalists that are clearly behind another one on validation: so many test
    rows are enough to show it. ``message`` says which opponents of the task could not take part, and why.
    """

    scorecards: tuple[Scorecard, ...]
    finalists: tuple[str, ...]
    test_rows: dict[str, int]
    classical_grid: tuple[tuple[str, float], ...]
    seconds: float
    message: str | None = None

    def finalist_candidates(self) -> tuple[Candidate, ...]:
        by_id = {card.candidate.id: card.candidate for card in self.scorecards}
        return tuple(by_id[finalist] for finalist in self.finalists)

    def leader(self) -> Candidate:
        """The finalist with the highest accuracy on validation: guards are judged against it."""
        cards = [card for card in self.scorecards if card.candidate.id in self.finalists]
        return max(cards, key=lambda card: card.metrics["accuracy"].value).candidate


def measure_opponents(session: Session, dataset: Dataset, plan: Plan) -> OpponentsResult:
    """Score every opponent of the task on validation.

    The finalists are the best prompt and the best classical model by the goal's metric on validation; the
    constant answer when there is neither.
    """
    task = session.task
    inputs = {
        "dataset": dataset.manifest.version,
        "instruction": task.instruction,
        "opponents": task.opponents.model_dump(),
        "base": session.base().sha256,
        "precision": plan.precision,
        "judging": judging_identity(task),
        "files": text_files(session),
    }
    folder = session.folder.stage("opponents", stage_key("opponents", inputs, PACKAGES))
    return cached(folder, OpponentsResult, lambda _: _measure(session, dataset, plan))[0]


def _measure(session: Session, dataset: Dataset, plan: Plan) -> OpponentsResult:
    from tunesmith.data.versions import read_split
    from tunesmith.evaluation.judging import check_scope, questions, taught_rows

    started = time.perf_counter()
    judging = judging_of(session.task, dataset.manifest.labels)
    train = taught_rows(judging, read_split(dataset, "train"))
    asked = questions(judging, read_split(dataset, "validation"))
    check_scope(judging, asked.rows)
    grid: tuple[tuple[str, float], ...] = ()
    if session.task.kind == "classify":
        cards, grid = _label_cards(session, plan, judging, train, asked)
    else:
        cards = text_opponents(session, plan, judging, train, asked)
    finalists = _finalists(cards, judging)
    whole = [card for card in cards if card.stopped_after_rows is None]
    enough = _enough_test_rows([card for card in whole if card.candidate.id in finalists], judging, asked)
    seconds = time.perf_counter() - started
    return OpponentsResult(tuple(cards), finalists, enough, grid, seconds, _message(session, plan))


def prompt_counts(loaded: LoadedModel, opponents: OpponentSettings) -> list[int]:
    """How many examples each prompt of the task shows; none where the base reads no prompts."""
    if loaded.family == "encoder":
        return []
    return [*([0] if opponents.zero_shot else []), *opponents.few_shot]


def _message(session: Session, plan: Plan) -> str | None:
    asked = session.task.opponents
    if not (asked.zero_shot or asked.few_shot) or session.loaded(plan.precision).family != "encoder":
        return None
    return (
        f"{session.task.base} is encoder-only and reads no prompts: zero-shot and few-shot prompting do not "
        "apply, and the tuned model is compared with the other opponents alone"
    )


def _label_cards(
    session: Session, plan: Plan, judging: Judging, train: list[Row], asked: Questions
) -> tuple[list[Scorecard], tuple[tuple[str, float], ...]]:
    cards = [_majority_card(judging, train, asked)]
    grid: tuple[tuple[str, float], ...] = ()
    if session.task.opponents.classical:
        card, grid = _classical_card(session, judging, train, asked)
        cards.append(card)
    cards.extend(_prompt_cards(session, plan, judging, train, asked))
    return cards, grid


def _enough_test_rows(finalists: Sequence[Scorecard], judging: Judging, asked: Questions) -> dict[str, int]:
    from tunesmith.evaluation.judging import goal_value, is_behind

    answers = {
        card.candidate.id: [prediction.answer for prediction in card.predictions] for card in finalists
    }
    leader = max(answers.values(), key=lambda one: goal_value(judging, asked, one))
    return {
        finalist: TEST_ROWS_OF_THE_BEHIND
        for finalist, own in answers.items()
        if is_behind(judging, asked, own, leader, RACE_ALPHA)
    }


def _finalists(cards: Sequence[Scorecard], judging: Judging) -> tuple[str, ...]:
    best: dict[str, Scorecard] = {}

    def reached(card: Scorecard) -> float:
        return judging.sign * card.metrics[judging.metric].value

    for card in cards:
        kind = card.candidate.kind
        if card.stopped_after_rows is None and (kind not in best or reached(card) > reached(best[kind])):
            best[kind] = card
    chosen = [best[kind] for kind in ("classical", "prompt") if kind in best] or [best["constant"]]
    return tuple(card.candidate.id for card in chosen)


def _majority_card(judging: Judging, train: list[Row], asked: Questions) -> Scorecard:
    from tunesmith.candidates.classical import answer_majority, majority
    from tunesmith.evaluation.judging import judged

    candidate = majority(train)
    answers = answer_majority(candidate, asked.rows)
    cost = Cost(0.0, len(asked), 0, peak_mb())
    return judged(judging, candidate, "validation", asked, answers, cost)


def _classical_card(
    session: Session, judging: Judging, train: list[Row], asked: Questions
) -> tuple[Scorecard, tuple[tuple[str, float], ...]]:
    from tunesmith.candidates.classical import answer_classical, tune_classical
    from tunesmith.evaluation.judging import judged, scoping_of, value_of_labels

    reset_peak()
    started = time.perf_counter()
    with session.bar("opponents", "tuning classical models") as report:
        text = classical_text(session, train)
        value, scoping = value_of_labels(judging), scoping_of(judging)
        model, table = tune_classical(train, asked.rows, report, text, value, scoping)
    answers = answer_classical(model, asked.rows)
    cost = Cost(time.perf_counter() - started, len(asked), 0, peak_mb())
    return judged(judging, model.candidate, "validation", asked, answers, cost), tuple(table)


def classical_text(session: Session, train: Sequence[Row]) -> Transformations:
    """What the task does to a text before classical models see it."""
    from tunesmith.candidates.transformations import for_classical

    asked = session.task.opponents
    texts = [row.text for row in train]
    return for_classical(
        texts,
        asked.classical_lower_case,
        asked.classical_stop_words,
        asked.classical_spelling,
        session.task.folder,
    )


def text_files(session: Session) -> list[str]:
    """Contents of the word lists that the task names for classical models."""
    asked = session.task.opponents
    named = [asked.classical_stop_words, asked.classical_spelling]
    paths = [session.task.resolve(name) for name in named if name and name not in ("english", "train")]
    return [file_sha256(path) for path in paths if path.is_file()]


def _prompt_cards(
    session: Session, plan: Plan, judging: Judging, train: list[Row], asked: Questions
) -> list[Scorecard]:
    """Every prompt on some rows of validation; on the rest only those not clearly behind the best."""
    from tunesmith.candidates.prompts import Prompting, choose_variant, content_free_prior
    from tunesmith.engine.lora import lora_disabled
    from tunesmith.engine.scoring import joined_scores
    from tunesmith.evaluation.judging import goal_value, is_behind, judged, scoping_of, value_of_labels

    prompts = session.task.opponents
    if not (prompts.zero_shot or prompts.few_shot):
        return []
    loaded = session.loaded(plan.precision)
    counts = prompt_counts(loaded, prompts)
    if not counts:
        return []
    prompting = Prompting(loaded, session.task.instruction, judging.labels, train)
    value, scoping = value_of_labels(judging), scoping_of(judging)
    # An id is the hash of a row's content: ordered by it, the first rows are a fair draw.
    order = sorted(range(len(asked)), key=lambda index: asked.rows[index].id)
    # A threshold needs more rows out of scope than a race has.
    stop = RACE_ROWS if len(counts) > 1 and scoping is None else len(asked)
    first, rest = asked.take(order[:stop]), asked.take(order[stop:])
    cards = []
    with lora_disabled(loaded.model):
        priors = [content_free_prior(prompting, count, session.task.train.seed) for count in counts]
        heats = [
            _score_prompt(session, prompting, count, first.rows, prior, scoping is not None)
            for count, prior in zip(counts, priors, strict=True)
        ]
        given = [
            choose_variant(prompting, count, scores, first.rows, prior, value, scoping)[1].labels
            for count, prior, (scores, _) in zip(counts, priors, heats, strict=True)
        ]
        leader = max(given, key=lambda labels: goal_value(judging, first, labels))
        for count, prior, labels, (scores, cost) in zip(counts, priors, given, heats, strict=True):
            if len(rest) and is_behind(judging, first, labels, leader, RACE_ALPHA):
                candidate, answers = choose_variant(prompting, count, scores, first.rows, prior, value)
                card = judged(judging, candidate, "validation", first, answers, cost)
                cards.append(replace(card, stopped_after_rows=stop))
                continue
            if len(rest):
                more, more_cost = _score_prompt(session, prompting, count, rest.rows, prior)
                scores, cost = joined_scores([scores, more]), cost.plus(more_cost)
            in_order = replace(scores, log_probabilities=scores.log_probabilities[np.argsort(order)])
            candidate, answers = choose_variant(prompting, count, in_order, asked.rows, prior, value, scoping)
            cards.append(judged(judging, candidate, "validation", asked, answers, cost))
    return cards


def _score_prompt(
    session: Session,
    prompting: Prompting,
    examples: int,
    rows: Sequence[Row],
    prior: list[float],
    every_label: bool = False,
) -> tuple[LabelScores, Cost]:
    from tunesmith.candidates.prompts import prompt_name, score_prompt, variant_rules

    reset_peak()
    started = time.perf_counter()
    with session.bar("opponents", f"{prompt_name(examples)} on validation") as report:
        rules = None if every_label else variant_rules(prompting, prior)
        scores = score_prompt(prompting, examples, rows, rules, report)
    return scores, Cost(time.perf_counter() - started, len(rows), scores.tokens, peak_mb())
