"""Stage 5: the sealed test is opened once, and the verdict is reached from its checks."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tunesmith import ledger
from tunesmith.candidates.answers import Answers
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
from tunesmith.stages.memory import peak_mb, reset_peak
from tunesmith.stages.opponents import OpponentsResult
from tunesmith.stages.session import Session
from tunesmith.stages.train import TrainResult
from tunesmith.stats.levels import alpha_for_opening
from tunesmith.workspace import cached, stage_key

PACKAGES = (
    "tunesmith.candidates",
    "tunesmith.engine",
    "tunesmith.evaluation",
    "tunesmith.models",
    "tunesmith.stats",
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


def contest_id(tuned: Candidate, finalists: Sequence[Candidate]) -> str:
    """Names a contest on the test: another tuned model, or other opponents, is another one."""
    return content_hash([tuned.id, sorted(candidate.id for candidate in finalists)])


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
        "contest": contest_id(train.validation.candidate, opponents.finalist_candidates()),
        "goal": task.goal.model_dump(),
        "guards": task.guards.model_dump(),
        "base": session.base().sha256,
        "precision": plan.precision,
    }
    folder = session.folder.stage("verdict", stage_key("verdict", inputs, PACKAGES))
    return cached(folder, VerdictResult, lambda _: _decide(session, dataset, plan, opponents, train))[0]


def _decide(
    session: Session, dataset: Dataset, plan: Plan, opponents: OpponentsResult, train: TrainResult
) -> VerdictResult:
    from tunesmith.data.sealed import open_test
    from tunesmith.evaluation.forgetting import guard_checks
    from tunesmith.evaluation.scorecards import correctness, scorecard
    from tunesmith.evaluation.verdict import decide
    from tunesmith.stats.paired import paired_gain

    started = time.perf_counter()
    goal = session.task.goal
    tuned, finalists = train.validation.candidate, opponents.finalist_candidates()
    forgetting = _forgetting(session, plan, train)
    contest = contest_id(tuned, finalists)
    names = [candidate.name for candidate in (tuned, *finalists)]
    rows, opening = open_test(dataset, session.folder.ledger, contest, names)
    alpha = alpha_for_opening(opening, goal.alpha)
    labels = dataset.manifest.labels
    answers = {
        candidate.id: _sealed_answers(session, dataset, plan, train, candidate, rows)
        for candidate in (tuned, *finalists)
    }
    cards = {
        candidate.id: scorecard(
            candidate,
            "test",
            rows,
            Answers(list(answers[candidate.id].answers), None, 0),
            labels,
            answers[candidate.id].cost,
        )
        for candidate in (tuned, *finalists)
    }
    right = {key: correctness(rows, sealed.answers) for key, sealed in answers.items()}
    groups = [row.group for row in rows]
    gains: list[PairedGain] = [
        paired_gain(right[tuned.id], right[finalist.id], groups, finalist.name, alpha)
        for finalist in finalists
    ]
    guards = (
        _leak_check(dataset),
        *guard_checks(
            forgetting, session.task.guards.general_text.blocking, session.task.guards.probes.blocking
        ),
    )
    verdict = decide(
        gains,
        guards,
        goal_gain=goal.gain,
        rule=goal.rule,
        alpha_one_sided=alpha,
        opening=opening,
        tuned=cards[tuned.id].metrics["accuracy"],
        opponents=[cards[finalist.id] for finalist in finalists],
    )
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
        },
    )
    ordered = (cards[tuned.id], *(cards[finalist.id] for finalist in finalists))
    return VerdictResult(verdict, ordered, forgetting, time.perf_counter() - started)


def _leak_check(dataset: Dataset) -> Check:
    leaks = dataset.manifest.leaks
    return Check(
        name="no leak between splits",
        question="Is any test or validation row a duplicate or near-duplicate of a row in another split?",
        answer="passed" if leaks == 0 else "failed",
        evidence=f"{leaks:,} leaking pairs found in the frozen version",
        blocking=True,
    )


def _forgetting(session: Session, plan: Plan, train: TrainResult) -> tuple[Forgetting, ...]:
    from tunesmith.candidates.tuned import put_adapter
    from tunesmith.engine.lora import lora_disabled
    from tunesmith.evaluation.forgetting import measure_forgetting
    from tunesmith.stages.general import base_general_scores, tuned_general_scores

    guards = session.task.guards
    loaded = session.loaded(plan.precision)
    tuned_model = put_adapter(loaded, Path(train.training.adapter_folder))
    with session.bar("verdict", "general ability of the base") as report, lora_disabled(loaded.model):
        base = base_general_scores(loaded, plan.precision, session.cache, report)
    with session.bar("verdict", "general ability of the tuned model") as report:
        tuned = tuned_general_scores(tuned_model, base, report)
    return measure_forgetting(base, tuned, guards.general_text.margin, guards.probes.margin)


def _sealed_answers(
    session: Session, dataset: Dataset, plan: Plan, train: TrainResult, candidate: Candidate, rows: list[Row]
) -> SealedAnswers:
    path = session.folder.sealed / f"{dataset.manifest.test_sha256[:16]}-{candidate.id[:16]}.json"
    if path.is_file():
        try:
            return read_record(path, SealedAnswers)
        except ValueError:  # half a file: the candidate is scored again, in the same contest
            path.unlink()
    reset_peak()
    started = time.perf_counter()
    answers = _answers(session, dataset, plan, train, candidate, rows)
    cost = Cost(time.perf_counter() - started, len(rows), answers.tokens, peak_mb())
    sealed = SealedAnswers(candidate.id, tuple(answers.labels), cost)
    write_json(path, sealed)
    return sealed


def _answers(
    session: Session, dataset: Dataset, plan: Plan, train: TrainResult, candidate: Candidate, rows: list[Row]
) -> Answers:
    from tunesmith.candidates.classical import answer_classical, answer_majority, fit_classical
    from tunesmith.candidates.prompts import Prompting, answer_prompt, candidate_rules, score_prompt
    from tunesmith.candidates.tuned import TunedModel, answer_tuned, put_adapter, score_tuned
    from tunesmith.data.versions import read_split
    from tunesmith.engine.lora import lora_disabled

    task, labels = session.task, dataset.manifest.labels
    if candidate.kind == "constant":
        return answer_majority(candidate, rows)
    if candidate.kind == "classical":
        return answer_classical(fit_classical(candidate, read_split(dataset, "train")), rows)
    loaded = session.loaded(plan.precision)
    with session.bar("verdict", f"{candidate.name} on the sealed test") as report:
        if candidate.kind == "prompt":
            prompting = Prompting(loaded, task.instruction, labels, read_split(dataset, "train"))
            examples = int(str(candidate.settings["examples"]))
            with lora_disabled(loaded.model):
                rules = candidate_rules(prompting, candidate)
                scores = score_prompt(prompting, examples, rows, rules, report)
            return answer_prompt(prompting, candidate, scores)
        tuned_model = put_adapter(loaded, Path(train.training.adapter_folder))
        scores = score_tuned(TunedModel(tuned_model, task.instruction, labels), rows, None, report)
        return answer_tuned(candidate, labels, scores)
