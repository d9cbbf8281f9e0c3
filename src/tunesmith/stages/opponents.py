"""Stage 3: candidates that need no training, tuned and compared on validation; the finalists declared."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tunesmith.files import file_sha256
from tunesmith.records import Candidate, CandidateKind, Cost, Dataset, Plan, Row, Scorecard
from tunesmith.stages.answering import judging_identity, judging_of, opponents_identity
from tunesmith.stages.bases import other_base_cards, other_bases, prompt_cards
from tunesmith.stages.embedding import embedder_of, embeddings_sha256, release_embedder
from tunesmith.stages.endpoints import endpoint_cards
from tunesmith.stages.memory import peak_mb, reset_peak
from tunesmith.stages.race import RACE_ALPHA
from tunesmith.stages.session import Session
from tunesmith.stages.text_opponents import plain_text_cards
from tunesmith.task.kinds import Kind
from tunesmith.workspace import cached, stage_key

if TYPE_CHECKING:
    from tunesmith.candidates.transformations import Transformations
    from tunesmith.data.questions import Questions
    from tunesmith.evaluation.judging import Judging

TEST_ROWS_OF_THE_BEHIND = 250
# One finalist of each goes to the test.
Family = CandidateKind | Literal["other base"]

PACKAGES = (
    "tunesmith.candidates",
    "tunesmith.engine",
    "tunesmith.models",
    "tunesmith.stats",
    "tunesmith.evaluation.metrics",
    "tunesmith.evaluation.scorecards",
    "tunesmith.evaluation.judging",
    "tunesmith.data.made",
    "tunesmith.data.windowed",
    "tunesmith.data.windows",
    "tunesmith.data.questions",
    "tunesmith.task.kinds",
    "tunesmith.stages.answering",
    "tunesmith.stages.opponents",
    "tunesmith.stages.bases",
    "tunesmith.stages.embedding",
    "tunesmith.stages.endpoints",
    "tunesmith.stages.label_prompts",
    "tunesmith.stages.passages",
    "tunesmith.stages.race",
    "tunesmith.stages.reasoning",
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

    def leader(self, metric: str, sign: int = 1) -> Candidate:
        """The finalist that does best on validation: guards are judged against it. ``sign`` −1: less is
        better."""
        cards = [card for card in self.scorecards if card.candidate.id in self.finalists]
        return max(
            cards, key=lambda card: (card.stopped_after_rows is None, sign * card.metrics[metric].value)
        ).candidate


def strong_opponents(session: Session) -> tuple[str, ...]:
    """The endpoints of the task, and the prompted models of a billion parameters or more."""
    from tunesmith.candidates.forms import own_forms
    from tunesmith.models.size import STRONG_PARAMETERS, count_parameters

    opponents = session.task.opponents
    prompted = [session.base(), *other_bases(session)] if own_forms(opponents) else []
    large = [base.name for base in prompted if count_parameters(Path(base.folder)) >= STRONG_PARAMETERS]
    return (*(endpoint.name for endpoint in opponents.endpoints), *large)


def measure_opponents(session: Session, dataset: Dataset, plan: Plan) -> OpponentsResult:
    """Score every opponent of the task on validation.

    The finalists are, by the goal's metric on validation, the best classical model, the best prompt on the
    task's base, the best one on another base, and the best endpoint; the constant answer when there is none.
    """
    task = session.task
    inputs = {
        "dataset": dataset.manifest.version,
        "instruction": task.instruction,
        "opponents": opponents_identity(task),
        "base": session.base().sha256,
        "bases": [base.sha256 for base in other_bases(session)],
        "precision": plan.precision,
        "judging": judging_identity(task),
        "files": text_files(session),
        "embeddings": embeddings_sha256(session),
    }
    folder = session.folder.stage("opponents", stage_key("opponents", inputs, PACKAGES))
    return cached(folder, OpponentsResult, lambda _: _measure(session, dataset, plan))[0]


def _measure(session: Session, dataset: Dataset, plan: Plan) -> OpponentsResult:
    from tunesmith.candidates.forms import own_forms
    from tunesmith.data.versions import read_split
    from tunesmith.evaluation.judging import check_scope, questions, taught_rows

    started = time.perf_counter()
    judging = judging_of(session.task, dataset.manifest.labels)
    train = taught_rows(judging, read_split(dataset, "train"))
    asked = questions(judging, read_split(dataset, "validation"))
    check_scope(judging, asked.rows)
    grid: tuple[tuple[str, float], ...] = ()
    # First, so that a key that is missing or a server that is down is told before the long work.
    endpoints = endpoint_cards(session, judging, train, asked)
    if session.task.kind == "classify":
        cards, grid = _label_cards(session, judging, train, asked)
    else:
        cards = plain_text_cards(session, judging, train, asked)
    if session.task.kind == "tag" and session.task.opponents.classical:
        card, grid = _label_models_card(session, judging, train, asked)
        cards.append(card)
        cards += _embedded_cards(session, judging, train, asked)
    if own_forms(session.task.opponents):
        cards += prompt_cards(session, session.loaded(plan.precision), judging, train, asked, rivals=cards)
        cards += other_base_cards(session, plan.precision, judging, train, asked)
    cards += endpoints
    release_embedder(session)
    finalists = _finalists(cards, judging, session.base().name)
    enough = _enough_test_rows([card for card in cards if card.candidate.id in finalists], judging, asked)
    seconds = time.perf_counter() - started
    return OpponentsResult(tuple(cards), finalists, enough, grid, seconds, _message(session, plan))


def _message(session: Session, plan: Plan) -> str | None:
    from tunesmith.candidates.forms import own_forms

    if not own_forms(session.task.opponents) or session.loaded(plan.precision).family != "encoder":
        return None
    return (
        f"{session.task.base} is encoder-only and reads no prompts: zero-shot and few-shot prompting do not "
        "apply, and the tuned model is compared with the other opponents alone"
    )


def _label_cards(
    session: Session, judging: Judging, train: list[Row], asked: Questions
) -> tuple[list[Scorecard], tuple[tuple[str, float], ...]]:
    cards = [_majority_card(judging, train, asked)]
    grid: tuple[tuple[str, float], ...] = ()
    if session.task.opponents.classical:
        card, grid = _classical_card(session, judging, train, asked)
        cards.append(card)
        cards += _embedded_cards(session, judging, train, asked)
        if judging.none_of_these is None:  # neighbours have no scores to set a threshold on
            cards.append(_neighbours_card(judging, train, asked))
    return cards, grid


def _enough_test_rows(finalists: Sequence[Scorecard], judging: Judging, asked: Questions) -> dict[str, int]:
    from tunesmith.evaluation.judging import goal_value, is_behind

    answers = {
        card.candidate.id: [prediction.answer for prediction in card.predictions]
        for card in finalists
        if card.stopped_after_rows is None
    }
    leader = max(answers.values(), key=lambda one: goal_value(judging, asked, one))
    return {
        card.candidate.id: TEST_ROWS_OF_THE_BEHIND
        for card in finalists
        if card.stopped_after_rows is not None
        or is_behind(judging, asked, answers[card.candidate.id], leader, RACE_ALPHA)
    }


def _finalists(cards: Sequence[Scorecard], judging: Judging, base: str) -> tuple[str, ...]:
    """The best of each family: without a model, prompts on the task's base, on other bases, endpoints.

    One that was stopped, as it was clearly behind, stands for its family only where all of it were.
    """
    best: dict[Family, Scorecard] = {}

    def reached(card: Scorecard) -> tuple[bool, float]:
        return card.stopped_after_rows is None, judging.sign * card.metrics[judging.metric].value

    for card in cards:
        family = family_of(card.candidate, base)
        if family not in best or reached(card) > reached(best[family]):
            best[family] = card
    families: tuple[Family, ...] = ("classical", "prompt", "other base", "endpoint")
    chosen = [best[family] for family in families if family in best] or [best["constant"]]
    return tuple(card.candidate.id for card in chosen)


def family_of(candidate: Candidate, base: str) -> Family:
    """Among whom a candidate is compared on validation; ``base`` is the name of the task's."""
    if candidate.kind == "prompt" and candidate.base != base:
        return "other base"
    return candidate.kind


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


def _embedded_cards(
    session: Session, judging: Judging, train: list[Row], asked: Questions
) -> list[Scorecard]:
    """A linear model on embeddings; none where the task names no embedding model."""
    from tunesmith.candidates.embedded import answer_embedded, tune_embedded
    from tunesmith.evaluation.judging import judged, scoping_of, value_of_labels

    embedder = embedder_of(session)
    if embedder is None:
        return []
    reset_peak()
    started = time.perf_counter()
    value, scoping = value_of_labels(judging), scoping_of(judging)
    with session.bar("opponents", f"linear models on embeddings of {embedder.base.name}") as report:
        several = session.task.kind == "tag"
        model, _ = tune_embedded(embedder, train, asked.rows, several, value, scoping, report)
    answers = answer_embedded(model, asked.rows)
    cost = Cost(time.perf_counter() - started, len(asked), 0, peak_mb())
    return [judged(judging, model.candidate, "validation", asked, answers, cost)]


def _neighbours_card(judging: Judging, train: list[Row], asked: Questions) -> Scorecard:
    from tunesmith.candidates.neighbours import tune_neighbours
    from tunesmith.evaluation.judging import judged, value_of_labels

    reset_peak()
    started = time.perf_counter()
    candidate, answers = tune_neighbours(train, asked.rows, value_of_labels(judging))
    cost = Cost(time.perf_counter() - started, len(asked), 0, peak_mb())
    return judged(judging, candidate, "validation", asked, answers, cost)


def _label_models_card(
    session: Session, judging: Judging, train: list[Row], asked: Questions
) -> tuple[Scorecard, tuple[tuple[str, float], ...]]:
    from tunesmith.candidates.one_vs_rest import answer_label_models, tune_label_models
    from tunesmith.evaluation.judging import judged, value_of_labels

    reset_peak()
    started = time.perf_counter()
    value, text = value_of_labels(judging), classical_text(session, train)
    with session.bar("opponents", "classical models, one for each label") as report:
        models, grid = tune_label_models(train, asked.rows, value, text, report)
    answers = answer_label_models(models, asked.rows)
    cost = Cost(time.perf_counter() - started, len(asked), 0, peak_mb())
    return judged(judging, models.candidate, "validation", asked, answers, cost), tuple(grid)


def classical_seconds(kind: Kind, train: list[Row]) -> float:
    """About how long the classical models of a task of labels take to tune; of texts there are none."""
    from tunesmith.candidates.classical import estimate_tuning_seconds
    from tunesmith.candidates.one_vs_rest import estimate_label_models_seconds

    if kind == "tag":
        return estimate_label_models_seconds(train)
    return estimate_tuning_seconds(train) if kind == "classify" else 0.0


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
