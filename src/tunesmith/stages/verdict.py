"""Stage 5: the sealed test is opened once, and the verdict is reached from its checks."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith import ledger
from tunesmith.files import content_hash, read_record, write_json
from tunesmith.records import (
    Candidate,
    Check,
    Cost,
    Dataset,
    Forgetting,
    PairedGain,
    Plan,
    Row,
    Scorecard,
    Verdict,
)
from tunesmith.stages.answering import judging_identity, judging_of
from tunesmith.stages.candidate_answers import candidate_answers
from tunesmith.stages.memory import peak_mb, reset_peak
from tunesmith.stages.opponents import OpponentsResult
from tunesmith.stages.session import Session
from tunesmith.stages.train import TrainResult
from tunesmith.stats.levels import alpha_for_opening, guard_level
from tunesmith.task import Task
from tunesmith.workspace import cached, stage_key

if TYPE_CHECKING:  # torch takes seconds to import
    from tunesmith.evaluation.forgetting import GeneralScores

PACKAGES = (
    "tunesmith.candidates",
    "tunesmith.engine",
    "tunesmith.evaluation",
    "tunesmith.models",
    "tunesmith.stats",
    "tunesmith.data.questions",
    "tunesmith.task.kinds",
    "tunesmith.stages.answering",
    "tunesmith.stages.bases",
    "tunesmith.stages.candidate_answers",
    "tunesmith.stages.endpoints",
    "tunesmith.stages.verdict",
    "tunesmith.stages.general",
    "tunesmith.records",
)


@dataclass(frozen=True)
class VerdictResult:
    """The verdict and what it rests on; from the test, aggregates only."""

    verdict: Verdict
    scorecards: tuple[Scorecard, ...]
    forgetting: tuple[Forgetting, ...]
    seconds: float


@dataclass(frozen=True)
class SealedAnswers:
    """One candidate's answers to the sealed test, kept so that no candidate is ever scored on it twice."""

    candidate: str
    answers: tuple[str, ...]
    cost: Cost


def contest_id(tuned: Candidate, finalists: Sequence[Candidate], task: Task) -> str:
    """Names a contest on the test: another tuned model, opponent or metric makes another one."""
    who = [tuned.id, sorted(candidate.id for candidate in finalists)]
    return content_hash(who if task.metric == "accuracy" else [*who, judging_identity(task)])


def reach_verdict(
    session: Session, dataset: Dataset, plan: Plan, opponents: OpponentsResult, train: TrainResult
) -> VerdictResult:
    """Open the sealed test for this contest, measure gains and forgetting, and decide.

    The ledger line is written before a test row is read. The same contest again is free; another one on
    the same test is judged at a stricter level.
    """
    task = session.task
    inputs = {
        "dataset": dataset.manifest.version,
        "contest": contest_id(train.validation.candidate, opponents.finalist_candidates(), task),
        "goal": task.goal.model_dump(),
        "judging": judging_identity(task),
        "guards": task.guards.model_dump(),
        "base": session.base().sha256,
        "precision": plan.precision,
        "strong_opponents": plan.strong_opponents,
    }
    folder = session.folder.stage("verdict", stage_key("verdict", inputs, PACKAGES))
    return cached(
        folder, VerdictResult, lambda path: _decide(session, dataset, plan, opponents, train, path)
    )[0]


def _decide(
    session: Session,
    dataset: Dataset,
    plan: Plan,
    opponents: OpponentsResult,
    train: TrainResult,
    folder: Path,
) -> VerdictResult:
    from tunesmith.candidates.answers import Answers
    from tunesmith.data.sealed import open_test
    from tunesmith.evaluation.forgetting import guard_checks, measure_forgetting
    from tunesmith.evaluation.judging import goal_gain, judged, questions
    from tunesmith.evaluation.verdict import decide

    started = time.perf_counter()
    goal = session.task.goal
    tuned, finalists = train.validation.candidate, opponents.finalist_candidates()
    general = _general_scores(session, plan, train)
    contest = contest_id(tuned, finalists, session.task)
    names = [candidate.name for candidate in (tuned, *finalists)]
    rows, opening = open_test(dataset, session.folder.ledger, contest, names)
    alpha = alpha_for_opening(opening, goal.alpha)
    margins = session.task.guards
    forgetting = measure_forgetting(
        *general, margins.general_text.margin, margins.probes.margin, guard_level(opening)
    )
    judging = judging_of(session.task, dataset.manifest.labels)
    asked = questions(judging, rows)
    cards: dict[str, Scorecard] = {}
    given: dict[str, tuple[str, ...]] = {}
    chosen: dict[str, list[int]] = {}
    for candidate in (tuned, *finalists):
        enough = opponents.test_rows.get(candidate.id)
        chosen[candidate.id] = _fair_draw(asked.rows, enough)
        some = asked.take(chosen[candidate.id])
        sealed = sealed_answers(session, dataset, plan, train, candidate, some.rows)
        answers = Answers(list(sealed.answers), None, 0)
        card = judged(judging, candidate, "test", some, answers, sealed.cost)
        cards[candidate.id] = replace(card, stopped_after_rows=len(some) if len(some) < len(asked) else None)
        given[candidate.id] = sealed.answers
    gains: list[PairedGain] = [
        goal_gain(
            judging,
            asked.take(chosen[finalist.id]),
            [given[tuned.id][index] for index in chosen[finalist.id]],
            given[finalist.id],
            finalist.name,
            alpha,
        )
        for finalist in finalists
    ]
    guards = (
        _leak_check(dataset),
        *guard_checks(forgetting, margins.general_text.blocking, margins.probes.blocking),
    )
    verdict = decide(
        gains,
        guards,
        goal_gain=goal.gain,
        rule=goal.rule,
        alpha_one_sided=alpha,
        opening=opening,
        tuned=cards[tuned.id].metrics[judging.metric],
        opponents=[cards[finalist.id] for finalist in finalists],
        metric=judging.metric,
        strong_opponents=plan.strong_opponents,
    )
    ordered = (cards[tuned.id], *(cards[finalist.id] for finalist in finalists))
    result = VerdictResult(verdict, ordered, forgetting, time.perf_counter() - started)
    ledger.append(
        session.folder.ledger,
        "verdict",
        {
            "test_sha256": dataset.manifest.test_sha256,
            "contest_id": contest,
            "decision": verdict.decision,
            "sentence": verdict.sentence,
            "goal_gain": goal.gain,
            "rule": goal.rule,
            "candidate": tuned.id,
            "adapter_sha256": train.training.adapter_sha256,
            "result": folder.name,
            "result_sha256": content_hash(result),
            "result_names": free_names(result),
        },
    )
    return result


def free_names(record: Any, where: str = "") -> list[str]:
    """The keys in a record that its type does not know: those of metrics and settings, each with its path.

    The ledger keeps them, so that one that is lost from the stored result is missed.
    """
    names: list[str] = []
    if is_dataclass(record):
        for field in fields(record):
            names += free_names(getattr(record, field.name), f"{where}.{field.name}" if where else field.name)
    elif isinstance(record, dict):
        for key, value in record.items():
            names += [f"{where}.{key}", *free_names(value, f"{where}.{key}")]
    elif isinstance(record, (list, tuple)):
        for index, value in enumerate(record):
            names += free_names(value, f"{where}[{index}]")
    return names


def _fair_draw(rows: Sequence[Row], count: int | None) -> list[int]:
    """Indices, in order, of ``count`` rows drawn by the hash of their content; of all rows where None."""
    drawn = sorted(range(len(rows)), key=lambda index: rows[index].id)
    return sorted(drawn[:count])


def _leak_check(dataset: Dataset) -> Check:
    leaks = dataset.manifest.leaks
    return Check(
        name="no leak between splits",
        question="Is any test or validation row a duplicate or near-duplicate of a row in another split?",
        answer="passed" if leaks == 0 else "failed",
        evidence=f"{leaks:,} leaking pairs found in the frozen version",
        blocking=True,
    )


def _general_scores(session: Session, plan: Plan, train: TrainResult) -> tuple[GeneralScores, GeneralScores]:
    """General texts and probes as scored by the base and by the tuned model."""
    from tunesmith.candidates.tuned import put_adapter
    from tunesmith.engine.lora import lora_disabled
    from tunesmith.stages.general import base_general_scores, tuned_general_scores

    loaded = session.loaded(plan.precision)
    tuned_model = put_adapter(loaded, Path(train.training.adapter_folder))
    with session.bar("verdict", "general ability of the base") as report, lora_disabled(loaded.model):
        base = base_general_scores(loaded, plan.precision, session.cache, report)
    with session.bar("verdict", "general ability of the tuned model") as report:
        return base, tuned_general_scores(tuned_model, base, report)


def sealed_answers(
    session: Session,
    dataset: Dataset,
    plan: Plan,
    train: TrainResult,
    candidate: Candidate,
    rows: Sequence[Row],
) -> SealedAnswers:
    """A candidate's answers to opened test rows: those that are kept, else given now, and kept."""
    path = session.folder.sealed / f"{dataset.manifest.test_sha256[:16]}-{candidate.id[:16]}.json"
    if path.is_file():
        try:
            sealed = read_record(path, SealedAnswers)
            if len(sealed.answers) == len(rows):
                return sealed
        except ValueError:  # half a file: the candidate is scored again, in the same contest
            path.unlink()
    reset_peak()
    started = time.perf_counter()
    answers = candidate_answers(session, dataset, plan, train, candidate, rows)
    cost = Cost(time.perf_counter() - started, len(rows), answers.tokens, peak_mb(), answers.spend)
    sealed = SealedAnswers(candidate.id, tuple(answers.labels), cost)
    write_json(path, sealed)
    return sealed
