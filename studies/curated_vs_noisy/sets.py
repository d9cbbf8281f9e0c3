"""The data sets of the study, and what one seed draws from them: pool, rows beside it, and test."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml
from rich.console import Console

from planting import PoolRow, plant
from tunesmith.errors import UserError
from tunesmith.files import content_hash, write_text
from tunesmith.stages.data import read_grouped
from tunesmith.stages.session import Session
from tunesmith.task import Task, load_task
from tunesmith.workspace import TaskFolder

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
Example = tuple[str, str]  # text and label


@dataclass(frozen=True)
class DataSet:
    """Clean rows, no two of them near-duplicates, and how they are asked. ``base`` is the model tuned."""

    name: str
    instruction: str
    description: str
    base: str
    rows: tuple[Example, ...]

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(sorted({label for _, label in self.rows}))


@dataclass(frozen=True)
class Sizes:
    """Rows of a pool before noise is planted, rows of the test, and tokens to train on.

    ``beside`` rows are given to the audited task, half as its validation and half as its test, because it
    needs them; none of them is in a pool or in the study's test.
    """

    pool: int = 320
    beside: int = 120
    test: int = 240
    tokens: int = 24_000


@dataclass(frozen=True)
class Draw:
    """The rows of one seed. ``test`` is what every arm is scored on; no tool sees it before."""

    seed: int
    clean: tuple[Example, ...]
    noisy: tuple[PoolRow, ...]
    beside: tuple[Example, ...]
    test: tuple[Example, ...]


def draw(data: DataSet, sizes: Sizes, seed: int) -> Draw:
    """Draw the rows of a seed at random and plant its noise.

    Raises UserError when the data set has too few rows.
    """
    needed = sizes.pool + sizes.beside + sizes.test
    if needed > len(data.rows):
        raise UserError(
            f"{data.name}: {len(data.rows):,} rows without near-duplicates, {needed:,} asked for",
            "ask for fewer",
        )
    chosen = random.Random(seed).sample(data.rows, needed)
    clean = tuple(chosen[: sizes.pool])
    beside = tuple(chosen[sizes.pool : sizes.pool + sizes.beside])
    return Draw(seed, clean, tuple(plant(clean, seed)), beside, tuple(chosen[-sizes.test :]))


def licence_notices(work: Path) -> DataSet:
    """Notices of 6 to 50 words with one of the 8 most frequent licences."""
    settings = {"most_frequent_labels": 8, "max_words": 50}
    return _of_example("licence-notices", settings, work)


def banking77(work: Path) -> DataSet:
    """Questions with one of the 8 most frequent of 77 intents; the folder is in ``$TUNESMITH_DATA``."""
    folder = Path(os.environ.get("TUNESMITH_DATA", "")) / "banking77"
    if not (folder / "train.jsonl").is_file():
        raise UserError(
            "TUNESMITH_DATA names no folder that holds banking77/train.jsonl",
            "set it, or run with --dataset licence-notices; see examples/banking77/task.yaml",
        )
    files = {"path": str(folder / "train.jsonl"), "test_path": str(folder / "test.jsonl")}
    return _of_example("banking77", {**files, "most_frequent_labels": 8}, work)


DATA_SETS = {"licence-notices": licence_notices, "banking77": banking77}


def _of_example(name: str, data: Mapping[str, str | int], work: Path) -> DataSet:
    """The clean rows of an example's task: one of each group of near-duplicates, no contradictions."""
    task = load_task(EXAMPLES / name / "task.yaml")
    task = task.model_copy(update={"data": task.data.model_copy(update=data)})
    read = read_grouped(quiet_session(task, work / name))
    groups: dict[str, list[Example]] = {}
    for row in sorted((*read.rows, *read.test_rows), key=lambda row: row.id):
        groups.setdefault(row.group, []).append((row.text, row.target))
    rows = [members[0] for members in groups.values() if len({label for _, label in members}) == 1]
    return DataSet(name, task.instruction, task.description, task.base, tuple(sorted(rows)))


def pool_session(data: DataSet, drawn: Draw, folder: Path) -> Session:
    """A task over the noisy pool as a person would write it: the rows in one file, with their splits.

    Row n of the pool is line n + 1 of the file.
    """
    half = len(drawn.beside) // 2
    lines = [{"text": row.text, "label": row.label, "split": "train"} for row in drawn.noisy]
    for split, rows in (("validation", drawn.beside[:half]), ("test", drawn.beside[half:])):
        lines += [{"text": text, "label": label, "split": split} for text, label in rows]
    write_text(folder / "rows.jsonl", "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    task = {
        "name": f"{data.name}-{drawn.seed}",
        "kind": "classify",
        "description": data.description,
        "instruction": data.instruction,
        "data": {"path": "rows.jsonl", "input": "text", "target": "label"},
        "split": {"given": "split"},
        "goal": {"gain": 0.02},
        "base": data.base,
    }
    write_text(folder / "task.yaml", yaml.safe_dump(task, sort_keys=False, allow_unicode=True))
    return quiet_session(load_task(folder / "task.yaml"), folder / "runs")


def quiet_session(task: Task, folder: Path) -> Session:
    """A session that shows nothing."""
    return Session(task, TaskFolder(folder), Console(quiet=True))


def row_names(drawn: Draw) -> tuple[str, ...]:
    """Short names of the test rows, equal for equal rows of other seeds."""
    return tuple(content_hash(example)[:12] for example in drawn.test)
