"""Weak labels: what labelling functions say about unlabelled rows, weighed, measured and written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tunesmith.errors import UserError
from tunesmith.records import Estimate, Row
from tunesmith.stages.data import GroupedRows, read_grouped, source_spec
from tunesmith.stages.session import Session
from tunesmith.stats.intervals import proportion_interval
from tunesmith.stats.label_model import (
    ABSTAINED,
    LabelModel,
    fit_label_model,
    majority_votes,
    voted_answers,
)

if TYPE_CHECKING:
    from tunesmith.stats.clusters import Codes

LEAST_GOLD_ROWS = 20


@dataclass(frozen=True)
class FunctionReport:
    """One labelling function on the pool (counts of rows), its accuracy as the label model estimates it
    without any label, and on the gold set where it voted there."""

    name: str
    labels: tuple[str, ...]
    voted: int
    overlaps: int
    conflicts: int
    estimated_accuracy: float
    gold_accuracy: Estimate | None


@dataclass(frozen=True)
class GoldQuality:
    """Weak labels against people's: how many gold rows get one that is sure enough (``covered``), and on
    those the accuracy of the label model and of the plain majority vote (a tie counts as wrong), and whether
    probabilities mean what they say (``overconfidence`` above 0: surer than right; ``ece``: expected
    calibration error)."""

    name: str
    covered: Estimate
    accuracy: Estimate
    majority_accuracy: Estimate
    overconfidence: Estimate
    ece: Estimate


@dataclass(frozen=True)
class WeakLabels:
    """What was written. ``gold`` is None where it could not be measured; ``why_unmeasured`` says why."""

    file: str
    pool_rows: int
    voted_rows: int
    written_rows: int
    least_probability: float
    labels: dict[str, int]
    functions: tuple[FunctionReport, ...]
    gold: GoldQuality | None
    why_unmeasured: str


def label_weakly(
    session: Session,
    functions: Sequence[Path],
    pool: Path,
    out: Path,
    gold: Path | None = None,
    least_probability: float = 0.5,
) -> WeakLabels:
    """Label the rows of ``pool`` by the labelling functions in files, and write those that are sure enough.

    How frequent the labels are is taken from the task's training rows. Quality is measured on ``gold`` (a
    file with the task's columns), by default on the task's validation rows, which are read and not frozen;
    the test is never used. The file goes into the task as ``data.train_extra``.

    Raises UserError for files that cannot be used, where no function votes on any row, and for a task whose
    answers are free text.
    """
    from tunesmith.data.labelling.functions import cast_votes, describe_votes, load_functions
    from tunesmith.data.made import MadeRow, write_made
    from tunesmith.data.pool import read_pool
    from tunesmith.data.sources import columns_of

    if session.task.kind == "tag":
        raise UserError(
            "a labelling function votes for one label a row, and with kind: tag a row has several",
            "make rows with `tunesmith data augment`, or label the rows that `tunesmith data next` names",
        )
    loaded = load_functions(functions)
    read = read_grouped(session)
    train, gold_rows, gold_name = _train_and_gold(session, read, gold)
    labels = tuple(sorted({row.target for row in train}))
    if len(labels) > max(20, len(train) / 5):
        raise UserError(
            f"{len(labels):,} different answers in {len(train):,} training rows: free text, not labels",
            "weak labels are for tasks with a set of labels; for others see `tunesmith data augment`",
        )
    rows = read_pool(pool, columns_of(source_spec(session)), session.cache, session.say)
    votes, _ = cast_votes(loaded, rows, labels)
    voted = (votes != ABSTAINED).any(axis=1)
    if not voted.any():
        raise UserError(
            f"{pool}: no labelling function has anything to say about its {len(rows):,} rows",
            "widen the patterns, or check that the pool is about the task",
        )
    counts = Counter(row.target for row in train)
    model = fit_label_model(votes, len(labels), np.array([counts[label] + 1.0 for label in labels]))
    best, sure = voted_answers(votes, model.probabilities(votes))
    kept = np.flatnonzero(voted & (sure >= least_probability)).tolist()
    made = [
        MadeRow("weak label", rows[index].source, rows[index].messages, labels[best[index]], None,
                round(float(sure[index]), 4))
        for index in kept
    ]  # fmt: skip
    write_made(out, made)
    accuracy = model.accuracy()
    gold_votes, _ = cast_votes(loaded, gold_rows, labels)
    quality, why = _quality(gold_name, gold_rows, gold_votes, model, labels, least_probability)
    told = describe_votes(loaded, votes, labels)
    return WeakLabels(
        file=str(out),
        pool_rows=len(rows),
        voted_rows=int(voted.sum()),
        written_rows=len(made),
        least_probability=least_probability,
        labels=dict(Counter(row.target for row in made).most_common()),
        functions=tuple(
            FunctionReport(
                one.name,
                one.labels,
                one.voted,
                one.overlaps,
                one.conflicts,
                float(accuracy[place]),
                _function_accuracy(gold_rows, gold_votes[:, place], labels),
            )
            for place, one in enumerate(told)
        ),
        gold=quality,
        why_unmeasured=why,
    )


def _train_and_gold(
    session: Session, read: GroupedRows, gold: Path | None
) -> tuple[Sequence[Row], Sequence[Row], str]:
    from tunesmith.data.audit.reading import benchmark_rows
    from tunesmith.data.splits import split_rows

    split = split_rows(read.rows, read.spec, read.test_rows)
    if gold is None:
        return split.train, split.validation, "the task's validation rows"
    return split.train, benchmark_rows(gold, source_spec(session)), gold.name


def _quality(
    name: str,
    rows: Sequence[Row],
    votes: Codes,
    model: LabelModel,
    labels: Sequence[str],
    least_probability: float,
) -> tuple[GoldQuality | None, str]:
    from tunesmith.evaluation.metrics.answered import Answered
    from tunesmith.evaluation.metrics.measure import measure

    best, sure = voted_answers(votes, model.probabilities(votes))
    covered = (best != ABSTAINED) & (sure >= least_probability)
    about = [row for row, one in zip(rows, covered, strict=True) if one]
    if len({_group(row) for row in about}) < LEAST_GOLD_ROWS:
        return None, (
            f"the functions label {len(about):,} of {len(rows):,} gold rows ({name}); at least "
            f"{LEAST_GOLD_ROWS} different ones are needed"
        )
    answers = [labels[place] for place in best[covered].tolist()]
    answered = Answered(about, answers, labels=labels, confidences=sure[covered])
    measured = measure(("accuracy", "overconfidence", "ece"), answered)
    plain = majority_votes(votes[covered], len(labels))
    right = [
        place != ABSTAINED and labels[place] == row.target
        for place, row in zip(plain.tolist(), about, strict=True)
    ]
    return GoldQuality(
        name,
        proportion_interval(covered, [_group(row) for row in rows]),
        measured["accuracy"],
        proportion_interval(right, [_group(row) for row in about]),
        measured["overconfidence"],
        measured["ece"],
    ), ""


def _function_accuracy(rows: Sequence[Row], votes: Codes, labels: Sequence[str]) -> Estimate | None:
    given = [(row, labels[vote]) for row, vote in zip(rows, votes.tolist(), strict=True) if vote != ABSTAINED]
    if not given:
        return None
    return proportion_interval(
        [row.target == label for row, label in given], [_group(row) for row, _ in given]
    )


def _group(row: Row) -> str:
    return row.group or row.source
