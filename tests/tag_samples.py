"""Rows with several labels that show in telling words, and a task on them."""

from __future__ import annotations

import io
import json
import random
from pathlib import Path

from rich.console import Console

from tunesmith.data.label_sets import label_set_text
from tunesmith.records import Message, Row
from tunesmith.stages.session import Session
from tunesmith.task import load_task
from tunesmith.workspace import Workspace

TELLING = {"billing": "charge", "delivery": "parcel", "garden": "green", "travel": "hotel"}
FILLERS = """
about account after again answer because before between bring calendar chair coffee could different door
early every family first found friend give good hand head help here home house idea keep kind large last
later learn letter light little long look made matter minute moment month morning
""".strip().replace("\n", " ")
TASK = """\
name: {name}
kind: tag
instruction: List the topics.
data: {{path: {data}, input: text, target: topics, near_duplicate_similarity: 1.0}}
split: {{train: 120, validation: 60, test: 80, seed: 1}}
goal: {{gain: 0.02}}
base: {base}
opponents: {{classical: true, zero_shot: true, few_shot: []}}
train: {{rank: 4, alpha: 8, learning_rate: 0.01, epochs: 1, batch_size: 16, validations_per_epoch: 1}}
guards: {{robustness: {{margin: 0.1, rows: 0}}}}
"""


def tagged(count: int, seed: int = 3) -> list[tuple[str, list[str]]]:
    """Inputs and the labels whose words they hold, from none to three, in no order."""
    draw = random.Random(seed)
    rows = []
    for _ in range(count):
        labels = draw.sample(sorted(TELLING), draw.choice([0, 1, 1, 2, 2, 3]))
        words = draw.sample(FILLERS.split(" "), 8) + [TELLING[label] for label in labels]
        draw.shuffle(words)
        rows.append((" ".join(words), labels))
    return rows


def tagged_rows(count: int, seed: int = 3) -> list[Row]:
    """The same as rows, each a group of its own."""
    return [
        Row(f"{seed}-{n}", f"t:{n}", (Message("user", text),), label_set_text(labels), f"g{seed}-{n}")
        for n, (text, labels) in enumerate(tagged(count, seed))
    ]


def write_tagged(path: Path, count: int = 280) -> None:
    lines = [json.dumps({"text": text, "topics": labels}) for text, labels in tagged(count)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def tag_session(home: Path, name: str = "topics") -> Session:
    """A session of a task on ``home/rows.jsonl`` and ``home/base``."""
    path = home / f"{name}.yaml"
    path.write_text(TASK.format(name=name, data=home / "rows.jsonl", base=home / "base"), encoding="utf-8")
    folder = Workspace(home / "runs").task(name)
    folder.path.mkdir(parents=True, exist_ok=True)
    folder.keep_task_file(path)
    return Session(load_task(path), folder, Console(file=io.StringIO(), width=150), home / "cache")
