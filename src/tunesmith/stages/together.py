"""Several tasks in one training: the other tasks' rows, and what training together did to each task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tunesmith.errors import UserError
from tunesmith.records import Dataset, Plan, Row, Scorecard
from tunesmith.run_records import Interference, TaskPart
from tunesmith.stages.answering import cutting_of
from tunesmith.stages.data import make_dataset, read_grouped
from tunesmith.stages.session import Session
from tunesmith.task import load_task
from tunesmith.workspace import Workspace

if TYPE_CHECKING:  # torch takes seconds to import
    from tunesmith.models.loading import LoadedModel
    from tunesmith.models.rendering import Renderer, Tokens
    from tunesmith.training.long_rows import TrainingRows
    from tunesmith.training.mixing import Mixture

ALPHA = 0.025  # changes are told with two-sided 95 % intervals


@dataclass(frozen=True)
class OtherTask:
    """A task that is trained along. ``left_out`` counts its rows that are like rows of the run's own task."""

    session: Session
    dataset: Dataset
    train: list[Row]
    validation: list[Row]
    left_out: int


@dataclass(frozen=True)
class Gathered:
    """The training rows of all tasks, the run's own first, and how they are mixed (None with one task)."""

    trained_on: TrainingRows
    others: list[OtherTask]
    mixture: Mixture | None


def other_datasets(session: Session) -> list[tuple[Session, Dataset]]:
    """The tasks of ``train.also`` and their frozen data, on the run's own base.

    Raises UserError where a file is no such task, or two have one name.
    """
    found = []
    names = {session.task.name}
    for path in session.task.train.also:
        task = load_task(session.task.resolve(path))
        if task.name in names:
            raise UserError(
                f"train.also: {path} is another task named {task.name!r}",
                fix="give every task a name of its own",
            )
        names.add(task.name)
        folder = Workspace(session.folder.path.parent).task(task.name)
        other = session.beside(task, folder)
        with folder.lock():
            found.append((other, make_dataset(other)[0]))
    return found


def gather(loaded: Renderer, session: Session, dataset: Dataset, own: TrainingRows) -> Gathered:
    """``own`` training rows and those of ``train.also``, freed of what would leak between tasks.

    Left out are other tasks' training rows that equal, or nearly equal, a held-out row of this task, and
    their validation rows that do so with a training row of it. Raises UserError where nothing is left, and
    for a base with a classification head, which knows the classes of one task only.
    """
    from tunesmith.data.windowed import in_windows
    from tunesmith.models.rendering import check_rendering, instructed, render_row
    from tunesmith.training.long_rows import TrainingRows, training_rows
    from tunesmith.training.mixing import Mixture, mixing_shares

    settings = session.task.train
    if not settings.also:
        return Gathered(own, [], None)
    if loaded.family == "encoder":
        raise UserError(
            f"train.also: {loaded.base.name} answers by a classification head, which "
            "knows the classes of one task only",
            fix="leave train.also out, or choose a decoder-only or encoder–decoder base",
        )
    others = _without_leaks(session, dataset)
    rows, tokens, long = list(own.rows), list(own.tokens), list(own.long)
    sizes, validation = [len(own.rows)], []
    for other in others:
        instruction, name = other.session.task.instruction, other.session.task.name
        cutting = cutting_of(other.session.task)
        theirs = training_rows(loaded, instruction, other.train, settings, cutting)
        check_rendering(loaded, theirs.tokens, theirs.rows)
        # Groups of two tasks may have one name.
        rows += [replace(row, group=f"{name}/{row.group}") for row in theirs.rows]
        tokens += theirs.tokens
        long += theirs.long
        sizes.append(len(theirs.rows))
        rendered: list[Tokens] = [
            render_row(loaded, instructed(instruction, row), row.target)
            for row in in_windows(other.validation, cutting).rows
        ]
        validation.append(rendered)
    names = (session.task.name, *(other.session.task.name for other in others))
    shares = mixing_shares(sizes, settings.mixing, settings.mixing_temperature)
    mixture = Mixture(names, tuple(sizes), shares, tuple(validation))
    return Gathered(TrainingRows(rows, tokens, tuple(long)), others, mixture)


def score_parts(
    loaded: LoadedModel, session: Session, gathered: Gathered, own: Scorecard
) -> tuple[TaskPart, ...]:
    """The model trained together, on the validation rows of every task; ``own`` is the first one's."""
    from tunesmith.candidates.answers import answers_from_scores
    from tunesmith.candidates.tuned import TunedModel, score_tuned
    from tunesmith.evaluation.scorecards import scorecard
    from tunesmith.records import Cost

    if gathered.mixture is None:
        return ()
    cards = [own]
    for other in gathered.others:
        labels = other.dataset.manifest.labels
        task = other.session.task
        tuned = TunedModel(loaded, task.instruction, labels, cutting=cutting_of(task))
        with session.bar("train", f"tuned model on {other.session.task.name}") as report:
            scores = score_tuned(tuned, other.validation, None, report)
        answers = answers_from_scores(scores.log_probabilities, labels, scores.tokens)
        cost = Cost(0.0, len(other.validation), scores.tokens, 0.0)
        cards.append(scorecard(own.candidate, "validation", other.validation, answers, labels, cost))
    mixture = gathered.mixture
    left_out = [0, *(other.left_out for other in gathered.others)]
    return tuple(
        TaskPart(*part)
        for part in zip(mixture.names, mixture.sizes, mixture.shares, left_out, cards, strict=True)
    )


def interference(
    session: Session, dataset: Dataset, plan: Plan, parts: Sequence[TaskPart]
) -> tuple[Interference, ...]:
    """For each task of a training of several: its accuracy together, and alone where that was trained before.

    Both on validation, paired by row. Alone is the task's own file without ``train.also``, on the same data,
    base and precision; where no such training is stored, that is said.
    """
    from tunesmith.data.versions import read_split
    from tunesmith.stages.train import stored_training

    found = []
    if parts:
        for (asked, data), part in zip([(session, dataset), *other_datasets(session)], parts, strict=True):
            alone = stored_training(_alone(asked), data, plan)
            groups = {row.id: row.group for row in read_split(data, "validation")}
            found.append(_compared(part, None if alone is None else alone.validation, groups))
    return tuple(found)


def _alone(session: Session) -> Session:
    settings = session.task.train
    seed = settings.seeds[0] if settings.seeds else settings.seed
    untold = {"also": (), "mixing": "proportional", "mixing_temperature": 2.0, "seeds": None, "seed": seed}
    train = settings.model_copy(update=untold)
    return session.beside(session.task.model_copy(update={"train": train}), session.folder)


def _compared(part: TaskPart, alone: Scorecard | None, groups: dict[str, str]) -> Interference:
    from tunesmith.stats.intervals import proportion_interval
    from tunesmith.stats.paired import paired_gain

    together = part.card.metrics["accuracy"]
    if alone is None:
        reason = "its task file was not trained without train.also, on this base"
        return Interference(part.task, part.rows, part.share, part.left_out, together, None, None, reason)
    by_id = {prediction.row_id: prediction.correct for prediction in alone.predictions}
    right = [by_id[prediction.row_id] for prediction in part.card.predictions]
    units = [groups[prediction.row_id] for prediction in part.card.predictions]
    ours = [prediction.correct for prediction in part.card.predictions]
    change = paired_gain(ours, right, units, "alone", ALPHA)
    alone_estimate = proportion_interval(right, units)
    known = (together, alone_estimate, change, None)
    return Interference(part.task, part.rows, part.share, part.left_out, *known)


def _without_leaks(session: Session, dataset: Dataset) -> list[OtherTask]:
    from tunesmith.data.versions import read_split

    own_train = read_split(dataset, "train")
    trained = {row.id for row in own_train}
    # Out of the source, not of the sealed test: which of these rows are tested is not looked at.
    grouped = read_grouped(session)
    held_out = [row for row in (*grouped.rows, *grouped.test_rows) if row.id not in trained]
    found = []
    for other, frozen in other_datasets(session):
        train, validation = read_split(frozen, "train"), read_split(frozen, "validation")
        kept = _unlike(session, train, held_out)
        asked = _unlike(session, validation, own_train)
        if not kept or not asked:
            raise UserError(
                f"train.also: {other.task.name} has no rows left that are unlike {session.task.name}'s",
                fix="leave it out of train.also",
            )
        left_out = len(train) - len(kept) + len(validation) - len(asked)
        found.append(OtherTask(other, frozen, kept, asked, left_out))
    return found


def _unlike(session: Session, rows: Sequence[Row], others: Sequence[Row]) -> list[Row]:
    """Those of ``rows`` that neither equal nor nearly equal one of ``others``, which are of another task."""
    from tunesmith.data.leaks import leak_partners

    data = session.task.data
    # Groups and sources of two tasks have nothing to do with each other.
    apart = [replace(row, group="", source=f"{place}") for place, row in enumerate((*others, *rows))]
    splits = ["test"] * len(others) + ["train"] * len(rows)
    like = leak_partners(apart, splits, data.near_duplicate_similarity, data.shingle_words)
    return [row for place, row in enumerate(rows, start=len(others)) if place not in like]
