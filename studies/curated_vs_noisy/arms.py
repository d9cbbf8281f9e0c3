"""The five arms of the study: which rows each trains on, and one training of each with the same tokens."""

from __future__ import annotations

import random
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from planting import KINDS
from sets import DataSet, Draw, Sizes, pool_session, row_names
from tunesmith.data.curation.subset import select_rows
from tunesmith.data.splits import split_rows
from tunesmith.engine.precision import Precision
from tunesmith.records import Message, Row
from tunesmith.stages.curate import repair_split, write_plan
from tunesmith.stages.data import read_grouped
from tunesmith.stages.session import Session
from tunesmith.task.train_settings import TrainSettings

ARMS = ("raw", "curated", "random", "longest", "clean")
PLAN = "repair-plan.yaml"


@dataclass(frozen=True)
class Fate:
    """What became of the pool's rows of one kind of noise ("none": rows without any).

    ``removed`` from train, ``mended`` to the text and label they had before, ``changed`` otherwise,
    ``asked``: left as they are until a person answers, which nobody does here. All others were missed (or,
    of kind "none", rightly left alone).
    """

    planted: str
    rows: int
    removed: int
    mended: int
    changed: int
    asked: int


@dataclass(frozen=True)
class Curation:
    """What audit and plan did to one seed's pool. ``repairs`` counts rows by "check: finding: action"."""

    dataset: str
    seed: int
    pool_rows: int
    curated_rows: int
    wrong_labels_before: int
    wrong_labels_after: int
    fates: tuple[Fate, ...]
    repairs: dict[str, int]
    test_rows: tuple[str, ...]
    processor_seconds: float
    setup: str


@dataclass(frozen=True)
class ArmRows:
    """The rows of every arm."""

    arms: dict[str, tuple[Row, ...]]
    wrong: dict[str, int]
    session: Session


@dataclass(frozen=True)
class Trained:
    """One arm of one seed, trained and scored. ``right`` has a 1 or 0 for each test row, in their order.

    ``passes`` is how often a row was seen on average, ``wrong_labels`` counts rows, ``setup`` names the
    sizes, settings and data that the result belongs to.
    """

    dataset: str
    seed: int
    arm: str
    rows: int
    wrong_labels: int
    passes: float
    steps: int
    trained_tokens: int
    last_loss: float
    accuracy: float
    right: str
    setup: str
    precision: str
    threads: int
    processor_seconds: float
    machine: dict[str, str]
    versions: dict[str, str]


def curate(data: DataSet, drawn: Draw, folder: Path) -> tuple[ArmRows, Curation]:
    """Audit the noisy pool, write the plan that the checks propose, apply it unedited: the rows of every arm.

    As in every task, rows whose group contradicts itself are not trained on; the raw rows hold them.
    """
    started = time.process_time()
    session = pool_session(data, drawn, folder)
    plan = folder / PLAN
    plan.unlink(missing_ok=True)
    write_plan(session, plan)
    read = read_grouped(session)
    raw = tuple(row for row in read.rows if _line(row) < len(drawn.noisy))
    repaired = repair_split(session, read, split_rows(read.rows, read.spec), plan)
    curated = repaired.split.train
    kept = {_line(row): row for row in curated}
    asked = {int(item.source.rpartition(":")[2]) - 1 for item in repaired.queue if item.split == "train"}
    clean = tuple(_row(number, example) for number, example in enumerate(drawn.clean))
    arms = {
        "raw": raw,
        "curated": curated,
        "random": select_rows(raw, len(curated), "random", drawn.seed),
        "longest": select_rows(raw, len(curated), "longest", drawn.seed),
        "clean": clean,
    }
    true = [row.true_label for row in drawn.noisy]
    wrong = {
        name: sum(row.target != true[_line(row)] for row in rows)
        for name, rows in arms.items()
        if name != "clean"
    }
    repairs = Counter(f"{change.check}: {change.finding}: {change.action}" for change in repaired.changes)
    touched = {change.row for change in repaired.changes}
    repairs["split: rows of a group contradict each other: left out"] = sum(
        _line(row) not in kept and row.id not in touched for row in raw
    )
    fates = tuple(_fate(kind, drawn, kept, asked) for kind in (*KINDS, None))
    curation = Curation(
        data.name, drawn.seed, len(raw), len(curated), wrong["raw"], wrong["curated"], fates, dict(repairs),
        row_names(drawn), time.process_time() - started, "",
    )  # fmt: skip
    return ArmRows(arms, wrong | {"clean": 0}, session), curation


def for_tokens(lengths: Sequence[int], tokens: int, seed: int) -> list[int]:
    """Row numbers to train on: whole passes in random order, the last one cut before ``tokens`` is exceeded.

    ``lengths`` are tokens a row. The sum falls short of ``tokens`` by less than the longest row.
    """
    chance = random.Random(seed)
    chosen: list[int] = []
    left = tokens
    while True:
        for index in chance.sample(range(len(lengths)), len(lengths)):
            if lengths[index] > left:
                return chosen
            chosen.append(index)
            left -= lengths[index]


def train_arm(
    data: DataSet, drawn: Draw, arm_rows: ArmRows, arm: str, sizes: Sizes, settings: TrainSettings,
    precision: Precision,
) -> Trained:  # fmt: skip
    """Train the base on the arm's rows for ``sizes.tokens`` tokens and answer the test by label scoring."""
    import torch

    from tunesmith.candidates.tuned import TunedModel, score_tuned
    from tunesmith.engine.adapters import make_trainable
    from tunesmith.models.rendering import instructed, render_row
    from tunesmith.training.fit import fit

    started = time.process_time()
    rows, session = arm_rows.arms[arm], arm_rows.session
    settings = settings.model_copy(update={"seed": drawn.seed, "epochs": 1.0, "validations_per_epoch": 1})
    loaded = session.load_again(precision)
    make_trainable(loaded.model, settings, loaded.head, len(loaded.tokenizer))
    rendered = [render_row(loaded, instructed(data.instruction, row), row.target) for row in rows]
    chosen = for_tokens([len(row.ids) for row in rendered], sizes.tokens, drawn.seed)
    # The loop wants rows to validate on. Its one validation is after the last step, so it chooses nothing.
    beside = [_row(number, example) for number, example in enumerate(drawn.beside[:8])]
    validation = [render_row(loaded, instructed(data.instruction, row), row.target) for row in beside]
    with tempfile.TemporaryDirectory() as folder:
        fitted = fit(
            loaded, [rendered[i] for i in chosen], validation, settings, Path(folder) / "checkpoints"
        )
    test = [_row(number, example) for number, example in enumerate(drawn.test)]
    scores = score_tuned(TunedModel(loaded, data.instruction, data.labels), test, None)
    best = scores.log_probabilities.argmax(axis=1)
    right = [data.labels[label] == row.target for label, row in zip(best.tolist(), test, strict=True)]
    return Trained(
        dataset=data.name,
        seed=drawn.seed,
        arm=arm,
        rows=len(rows),
        wrong_labels=arm_rows.wrong[arm],
        passes=len(chosen) / len(rows),
        steps=fitted.steps,
        trained_tokens=fitted.trained_tokens,
        last_loss=fitted.train[-1].loss,
        accuracy=sum(right) / len(right),
        right="".join("01"[one] for one in right),
        setup="",
        precision=precision,
        threads=torch.get_num_threads(),
        processor_seconds=time.process_time() - started,
        machine={},
        versions={},
    )


def _fate(kind: str | None, drawn: Draw, kept: dict[int, Row], asked: set[int]) -> Fate:
    fate = Fate(kind or "none", 0, 0, 0, 0, 0)
    for line, planted in enumerate(drawn.noisy):
        if planted.planted != kind:
            continue
        row = kept.get(line)
        now = None if row is None else (row.text, row.target)
        mended = kind is not None and now == (planted.true_text, planted.true_label)
        fate = replace(
            fate,
            rows=fate.rows + 1,
            removed=fate.removed + (now is None),
            mended=fate.mended + mended,
            changed=fate.changed + (now is not None and not mended and now != (planted.text, planted.label)),
            asked=fate.asked + (now is not None and line in asked),
        )
    return fate


def _line(row: Row) -> int:
    """Which row of the pool this is (from 0); repairs change texts and labels, never the source."""
    return int(row.source.rpartition(":")[2]) - 1


def _row(number: int, example: tuple[str, str]) -> Row:
    text, label = example
    return Row(f"{number}", f"row {number + 1}", (Message("user", text),), label)
