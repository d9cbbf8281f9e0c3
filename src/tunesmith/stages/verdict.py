"""Stage 5: the sealed test is opened once, and the verdict is reached from its checks."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tunesmith import ledger
from tunesmith.files import content_hash, read_record, write_json
from tunesmith.guard_records import GuardEvidence, SliceScore
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
from tunesmith.run_records import Crossfit
from tunesmith.stages.answerers import answerer
from tunesmith.stages.answering import cutting_of, judging_identity, judging_of
from tunesmith.stages.forgotten import forgetting_of, general_scores, own_probe_scores_of
from tunesmith.stages.harness import task_scores_of, tasks_sha256
from tunesmith.stages.memory import peak_mb, reset_peak
from tunesmith.stages.opponents import OpponentsResult
from tunesmith.stages.session import Session
from tunesmith.stages.train import TrainResult
from tunesmith.stages.verdict_line import note_verdict
from tunesmith.stats.levels import alpha_for_opening
from tunesmith.stats.paired import FEWEST_GROUPS
from tunesmith.task import Task
from tunesmith.workspace import cached, stage_key

if TYPE_CHECKING:  # torch takes seconds to import
    from tunesmith.data.questions import Questions
    from tunesmith.evaluation.judging import Judging

PACKAGES = (
    "tunesmith.candidates",
    "tunesmith.engine",
    "tunesmith.evaluation",
    "tunesmith.models",
    "tunesmith.stats",
    "tunesmith.stages.forgotten",
    "tunesmith.data.leaks",
    "tunesmith.data.questions",
    "tunesmith.data.windowed",
    "tunesmith.data.windows",
    "tunesmith.task.kinds",
    "tunesmith.stages.answering",
    "tunesmith.stages.bases",
    "tunesmith.stages.endpoints",
    "tunesmith.stages.verdict",
    "tunesmith.stages.general",
    "tunesmith.stages.harness",
    "tunesmith.stages.harness_model",
    "tunesmith.stages.answerers",
    "tunesmith.guard_records",
    "tunesmith.records",
)


@dataclass(frozen=True)
class VerdictResult:
    """The verdict and what it rests on; from the test, aggregates only.

    ``guards_sha256`` names the task's guards as they were judged; ``crossfit`` tells of the folds, where
    there is no test of its own.
    """

    verdict: Verdict
    scorecards: tuple[Scorecard, ...]
    forgetting: tuple[Forgetting, ...]
    seconds: float
    slices: tuple[SliceScore, ...] = ()
    guards_sha256: str = ""
    crossfit: Crossfit | None = None


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
    session: Session,
    dataset: Dataset,
    plan: Plan,
    opponents: OpponentsResult,
    train: TrainResult,
    evidence: GuardEvidence | None = None,
) -> VerdictResult:
    """Open the sealed test for this contest, measure gains and forgetting, and decide.

    The ledger line is written before a test row is read. The same contest again is free; another one on
    the same test is judged at a stricter level. ``evidence`` is what the guards stage measured on validation;
    without it those guards are unmeasured.
    """
    task = session.task
    contest = contest_id(train.validation.candidate, opponents.finalist_candidates(), task)
    inputs = {
        "dataset": dataset.manifest.version,
        "contest": contest,
        "seeds": [run.adapter_sha256 for run in train.training.seeds.runs] if train.training.seeds else [],
        "goal": task.goal.model_dump(),
        "judging": judging_identity(task),
        "guards": task.guards.model_dump(),
        "base": session.base().sha256,
        "precision": plan.precision,
        "strong_opponents": plan.strong_opponents,
        "own_probes": own_probes_sha256(session),
        "lm_eval": tasks_sha256(session.task),
        "evidence": evidence and replace(evidence, latencies=()),
    }
    folder = session.folder.stage("verdict", stage_key("verdict", inputs, PACKAGES))
    result = cached(
        folder, VerdictResult, lambda path: _decide(session, dataset, plan, opponents, train, evidence, path)
    )[0]
    note_verdict(session, dataset, contest, train, result, folder)
    return result


def _decide(
    session: Session,
    dataset: Dataset,
    plan: Plan,
    opponents: OpponentsResult,
    train: TrainResult,
    evidence: GuardEvidence | None,
    folder: Path,
) -> VerdictResult:
    from tunesmith.candidates.answers import Answers
    from tunesmith.data.curation.originals import before_review, changed_by_review, dropped_by_review
    from tunesmith.data.sealed import open_test
    from tunesmith.data.versions import read_repairs, read_split
    from tunesmith.evaluation.guards import evidence_checks
    from tunesmith.evaluation.judging import goal_gain, judged, learned_rows, questions
    from tunesmith.evaluation.scorecards import with_metrics_before_review
    from tunesmith.evaluation.seeds import seed_check
    from tunesmith.evaluation.slices import make_slicer, score_slices, slice_checks
    from tunesmith.evaluation.verdict import decide

    started = time.perf_counter()
    goal = session.task.goal
    tuned, finalists = train.validation.candidate, opponents.finalist_candidates()
    general = general_scores(session, plan, train)
    own, tasks = own_probe_scores_of(session, plan, train), task_scores_of(session, plan, train)
    contest = contest_id(tuned, finalists, session.task)
    names = [candidate.name for candidate in (tuned, *finalists)]
    rows, opening = open_test(dataset, session.folder.ledger, contest, names)
    alpha = alpha_for_opening(opening, goal.alpha)
    margins = session.task.guards
    forgetting, forgotten = forgetting_of(session, general, own, tasks, opening)
    judging = judging_of(session.task, dataset.manifest.labels)
    asked, changes = questions(judging, rows), read_repairs(dataset)
    labelled = session.task.kind == "classify"
    cards: dict[str, Scorecard] = {}
    given: dict[str, tuple[str, ...]] = {}
    chosen: dict[str, list[int]] = {}
    for candidate in (tuned, *finalists):
        enough = opponents.test_rows.get(candidate.id)
        chosen[candidate.id] = fair_draw(asked.rows, enough)
        some = asked.take(chosen[candidate.id])
        below = max(row.id for row in some.rows) if len(some) < len(asked) else None
        dropped = dropped_by_review(changes, "test", below=below) if labelled else ()
        sealed = sealed_answers(session, dataset, plan, train, candidate, [*some.rows, *dropped])
        answers = Answers(list(sealed.answers[: len(some)]), None, 0)
        card = judged(judging, candidate, "test", some, answers, sealed.cost)
        if labelled and changed_by_review(changes, "test"):
            before = [*before_review(some.rows, changes), *dropped]
            card = with_metrics_before_review(card, before, sealed.answers, judging.labels)
        cards[candidate.id] = replace(card, stopped_after_rows=len(some) if len(some) < len(asked) else None)
        given[candidate.id] = tuple(answers.labels)
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
    leader = opponents.leader(judging.metric, judging.sign)
    some = asked.take(chosen[leader.id])
    of_tuned = [given[tuned.id][index] for index in chosen[leader.id]]
    slices = score_slices(
        make_slicer(
            learned_rows(judging, read_split(dataset, "train")),
            margins.slices,
            turns=session.task.kind == "chat",
        ).masks(some.rows),
        [row.group for row in some.rows],
        row_scores_of(judging, some, of_tuned),
        row_scores_of(judging, some, given[leader.id]),
        leader.name,
        {one.name: one.margin for one in margins.slices},
        alpha_for_opening(opening),
    )
    guards = (
        leak_check(leaking_rows(session, dataset, rows)),
        *forgotten,
        *slice_checks(slices, margins.slices),
        *evidence_checks(evidence, margins, alpha_for_opening(opening), session.task.kind),
        *seed_check(train.training.seeds, gains),
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
    guarded = guards_sha256(session.task)
    return VerdictResult(verdict, ordered, forgetting, time.perf_counter() - started, slices, guarded)


def check_test(session: Session, dataset: Dataset, trained: bool = True) -> None:
    """UserError before hours of work where a person was shown the test before any verdict on it.

    With no model ``trained`` yet no earlier verdict can be the one that is asked for.
    """
    from tunesmith.data.sealed import check_unspent

    verdicts = [line.data for line in ledger.read(session.folder.ledger) if line.event == "verdict"]
    judged = any(said.get("test_sha256") == dataset.manifest.test_sha256 for said in verdicts)
    if not (judged and trained):
        check_unspent(dataset, session.folder.ledger)


def row_scores_of(judging: Judging, asked: Questions, answers: Sequence[str]) -> Sequence[float]:
    """1 for right and 0 for wrong with labels, else each text's score."""
    from tunesmith.evaluation.row_scores import unit_scores
    from tunesmith.evaluation.scorecards import correctness

    if judging.kind == "classify":
        return list(map(float, correctness(asked.rows, answers)))
    return unit_scores(judging, asked, answers)


def guards_sha256(task: Task) -> str:
    """Names what a task asks of its guards."""
    return content_hash(task.guards.model_dump())


def own_probes_sha256(session: Session) -> str | None:
    """Names the file of the user's own probes; UserError where it cannot be read."""
    from tunesmith.evaluation.own_probes import read_own_probes

    file = session.task.guards.own_probes
    return None if file is None else content_hash(read_own_probes(session.task.resolve(file)))


def fair_draw(rows: Sequence[Row], count: int | None) -> list[int]:
    """Indices, in order, of ``count`` rows drawn by the hash of their content; of all rows where None, and
    where so few would leave too few groups for an interval."""
    drawn = sorted(range(len(rows)), key=lambda index: rows[index].id)[:count]
    groups = {rows[index].group or rows[index].id for index in drawn}
    return sorted(drawn) if len(groups) >= FEWEST_GROUPS else list(range(len(rows)))


def leaking_rows(session: Session, dataset: Dataset, test: Sequence[Row]) -> int:
    """Rows of a version that are in two splits, ``test`` being what was opened: looked for once more, in what
    was trained on as it lies on disk, whatever its manifest says."""
    from tunesmith.data.leaks import leaks_between
    from tunesmith.data.versions import read_split
    from tunesmith.data.windowed import in_windows

    task, cutting = session.task, cutting_of(session.task)
    splits = (read_split(dataset, "train"), read_split(dataset, "validation"), test)
    train, validation, opened = (in_windows(rows, cutting).rows for rows in splits)
    similarity, words = task.data.near_duplicate_similarity, task.data.shingle_words
    together = task.split.keep_together or ()
    return len(leaks_between(train, validation, opened, similarity, words, together))


def leak_check(leaks: int) -> Check:
    """Whether so many rows were found in two splits."""
    return Check(
        name="no leak between splits",
        question="Is any test or validation row a duplicate or near-duplicate of a row in another split?",
        answer="passed" if leaks == 0 else "failed",
        evidence=f"{leaks:,} leaking pairs found in the frozen version",
        blocking=True,
    )


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
    answer = answerer(session, dataset, plan, train.training, candidate)
    with session.bar("verdict", f"{candidate.name} on the sealed test") as report:
        answers = answer(rows, report)
    cost = Cost(time.perf_counter() - started, len(rows), answers.tokens, peak_mb(), answers.spend)
    sealed = SealedAnswers(candidate.id, tuple(answers.labels), cost)
    write_json(path, sealed)
    return sealed
