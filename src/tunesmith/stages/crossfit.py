"""Few rows: opponents and training repeated for each fold on the other folds, and one verdict on all rows.

Each fold is a frozen version of its own, whose test are the fold's rows, so every stage runs on it as on any
version, and is kept and resumed by itself. What is judged is the recipe. The model to be used learned from
all rows; the guards are measured on it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from tunesmith.files import content_hash
from tunesmith.guard_records import GuardEvidence
from tunesmith.records import Dataset, PairedGain, Plan
from tunesmith.run_records import Crossfit
from tunesmith.stages.answering import judging_identity, judging_of
from tunesmith.stages.forgotten import forgetting_of, general_scores, own_probe_scores_of
from tunesmith.stages.harness import task_scores_of, tasks_sha256
from tunesmith.stages.opponents import Family, OpponentsResult, family_of, measure_opponents
from tunesmith.stages.recipes import (
    FoldModels,
    Opened,
    answer_folds,
    joined_card,
    joined_gain,
    recipes_of,
    told_folds,
)
from tunesmith.stages.seeds import train_seeds
from tunesmith.stages.session import Session
from tunesmith.stages.train import TrainResult
from tunesmith.stages.verdict import (
    PACKAGES,
    VerdictResult,
    contest_id,
    guards_sha256,
    leak_check,
    leaking_rows,
    own_probes_sha256,
    row_scores_of,
)
from tunesmith.stages.verdict_line import note_verdict
from tunesmith.stats.crossfit import inflation, raised_gain
from tunesmith.stats.levels import alpha_for_opening
from tunesmith.workspace import cached, stage_key


def make_folds(session: Session, dataset: Dataset, plan: Plan) -> Iterator[FoldModels]:
    """Measure opponents and train for each fold of a cross-fitted version; nothing for another version.

    Everything is chosen on validation rows out of the other folds. Errors as in ``train_seeds``.
    """
    from tunesmith.data.versions import load_folds

    for fold in load_folds(dataset):
        yield FoldModels(fold, measure_opponents(session, fold, plan), train_seeds(session, fold, plan))


def judge_folds(
    session: Session,
    dataset: Dataset,
    plan: Plan,
    folds: Sequence[FoldModels],
    opponents: OpponentsResult,
    train: TrainResult,
    evidence: GuardEvidence | None = None,
) -> VerdictResult:
    """Open all folds for this contest, judge each row by the models of its fold, and decide on the recipe.

    As ``reach_verdict``; ``opponents`` and ``train`` are those of all rows: guards are judged on that model,
    against that leader. Bounds of gains, and intervals of scores, are those of cross-fitting
    (``stats/crossfit.py``).
    """
    judging = judging_of(session.task, dataset.manifest.labels)
    leading = family_of(opponents.leader(judging.metric, judging.sign), session.base().name)
    inputs = {
        "dataset": dataset.manifest.version,
        "contest": _contest(session, folds, train),
        "seeds": [run.adapter_sha256 for run in train.training.seeds.runs] if train.training.seeds else [],
        "goal": session.task.goal.model_dump(),
        "judging": judging_identity(session.task),
        "guards": session.task.guards.model_dump(),
        "base": session.base().sha256,
        "precision": plan.precision,
        "strong_opponents": plan.strong_opponents,
        "own_probes": own_probes_sha256(session),
        "lm_eval": tasks_sha256(session.task),
        "evidence": evidence and replace(evidence, latencies=()),
        "leader": leading,
    }
    packages = (*PACKAGES, "tunesmith.stages.crossfit", "tunesmith.stages.recipes", "tunesmith.run_records")
    folder = session.folder.stage("verdict", stage_key("verdict", inputs, packages))
    result = cached(
        folder,
        VerdictResult,
        lambda path: _decide(session, dataset, plan, folds, leading, train, evidence, path),
    )[0]
    note_verdict(session, dataset, _contest(session, folds, train), train, result, folder)
    return result


def gains_by_finalist(gains: Sequence[PairedGain], opponents: OpponentsResult) -> tuple[PairedGain, ...]:
    """The gains over recipes, each named by the finalist that its recipe chose with all rows."""
    finalists = opponents.finalist_candidates()
    return tuple(
        replace(gain, opponent=finalist.name) for gain, finalist in zip(gains, finalists, strict=True)
    )


def _contest(session: Session, folds: Sequence[FoldModels], train: TrainResult) -> str:
    contests = []
    for fold in folds:
        tuned, *finalists = fold.candidates()
        contests.append(contest_id(tuned, finalists, session.task))
    return content_hash(["crossfit", contests, train.validation.candidate.id])


def _decide(
    session: Session,
    dataset: Dataset,
    plan: Plan,
    folds: Sequence[FoldModels],
    family: Family,
    train: TrainResult,
    evidence: GuardEvidence | None,
    folder: Path,
) -> VerdictResult:
    from tunesmith.data.sealed import open_folds
    from tunesmith.data.versions import read_split
    from tunesmith.evaluation.guards import evidence_checks
    from tunesmith.evaluation.judging import learned_rows, questions
    from tunesmith.evaluation.seeds import seed_check
    from tunesmith.evaluation.slices import make_slicer, score_slices, slice_checks
    from tunesmith.evaluation.verdict import decide

    started = time.perf_counter()
    task, goal, margins = session.task, session.task.goal, session.task.guards
    general, own = general_scores(session, plan, train), own_probe_scores_of(session, plan, train)
    tasks = task_scores_of(session, plan, train)
    contest = _contest(session, folds, train)
    versions = [fold.dataset for fold in folds]
    recipes = recipes_of(folds, train, session.base().name, task.kind == "classify")
    names = [recipe.candidate.name for recipe in recipes]
    test_rows, opening = open_folds(dataset, versions, session.folder.ledger, contest, names)
    alpha = alpha_for_opening(opening, goal.alpha)
    forgetting, forgotten = forgetting_of(session, general, own, tasks, opening)

    judging = judging_of(task, dataset.manifest.labels)
    opened = Opened(tuple(questions(judging, rows) for rows in test_rows))
    answered = [answer_folds(session, plan, folds, recipe, opened) for recipe in recipes]
    cards = [joined_card(judging, one, opened) for one in answered]
    tuned, *opponents = answered
    gains = [joined_gain(judging, tuned, one, opened, alpha) for one in opponents]
    # Chosen on validation, as for the model to be used.
    leader = next(one for one in opponents if one.recipe.family == family)
    asked = opened.joined()
    train_rows = learned_rows(judging, read_split(dataset, "train"))
    slicer = make_slicer(train_rows, margins.slices, turns=task.kind == "chat")
    slices = score_slices(
        slicer.masks(asked.rows),
        [row.group for row in asked.rows],
        row_scores_of(judging, asked, tuned.joined()),
        row_scores_of(judging, asked, leader.joined()),
        leader.recipe.candidate.name,
        {one.name: one.margin for one in margins.slices},
        alpha_for_opening(opening),
    )
    slices = tuple(
        replace(one, gain=raised_gain(one.gain, len(folds), one.gain.groups + 1, 1.0)) for one in slices
    )
    parts = zip((dataset, *versions), ([], *test_rows), strict=True)
    guards = (
        leak_check(sum(leaking_rows(session, version, members) for version, members in parts)),
        *forgotten,
        *slice_checks(slices, margins.slices),
        *evidence_checks(evidence, margins, alpha_for_opening(opening), task.kind),
        *seed_check(train.training.seeds, gains),
    )
    verdict = decide(
        gains,
        guards,
        goal_gain=goal.gain,
        rule=goal.rule,
        alpha_one_sided=alpha,
        opening=opening,
        tuned=cards[0].metrics[judging.metric],
        opponents=cards[1:],
        metric=judging.metric,
        strong_opponents=plan.strong_opponents,
        rows_called="rows",
    )
    sentence = f"{verdict.sentence} {_how(len(folds), sum(map(len, test_rows)))}"
    crossfit = Crossfit(told_folds(judging, folds, answered, opened), inflation(len(folds)))
    return VerdictResult(
        replace(verdict, sentence=sentence),
        tuple(cards),
        forgetting,
        time.perf_counter() - started,
        slices,
        guards_sha256(task),
        crossfit,
    )


def _how(folds: int, rows: int) -> str:
    return (
        f"What was judged is the recipe, by {folds}-fold cross-fitting: each of {rows:,} rows once, by a "
        "model that neither learned from its group nor was chosen on it. Intervals are "
        f"{inflation(folds):.2f} times as wide as those of one model on as many rows. The model to be used "
        "learned from all rows by the same recipe, and was not tested itself."
    )
