"""A task on a tiny base that the tests of whole runs share, with every guard asked for."""

from __future__ import annotations

import json
import random
from pathlib import Path

from rich.console import Console

from tiny import toy_rows
from tunesmith.stages.session import Session
from tunesmith.task import load_task
from tunesmith.workspace import Workspace

LABELS = ("billing", "delivery", "refund", "greeting")
TASK = """\
name: toy
kind: classify
instruction: Name the team.
data:
  path: {data}
  input: text
  target: label
  fields: [region]
split: {{train: 160, validation: 60, test: 120, seed: 1}}
goal: {{gain: 0.02}}
base: {base}
opponents: {{classical: true, zero_shot: true, few_shot: [1]}}
train: {{rank: 4, alpha: 8, learning_rate: {learning_rate}, epochs: 2, batch_size: 16, seed: {seed}}}
cost: {{machine_per_hour: 1.5, requests_per_day: 100}}
guards:
  own_probes: probes.jsonl
  canaries: 6
  refusals: {{margin: 0.1}}
  forgetting_curve: true
  fairness: {{margin: 0.05, fields: [region]}}
  slices:
    - {{name: north, pattern: "^north$", field: region, margin: 0.4}}
    - {{name: nobody, pattern: no such words at all, margin: 0.1}}
"""


def toy_session(
    home: Path,
    runs: Path,
    data: str = "rows.jsonl",
    seed: int = 0,
    guarded: bool = True,
    prompted: bool = True,
) -> Session:
    task_file = toy_task_file(home, data=data, seed=seed, guarded=guarded, prompted=prompted)
    task = load_task(task_file)
    folder = Workspace(runs).task(task.name)
    folder.keep_task_file(task_file)
    with (home / "console.log").open("a", encoding="utf-8") as log:
        return Session(task, folder, Console(file=log, quiet=True), home / "cache")


def toy_task_file(
    home: Path,
    data: str = "rows.jsonl",
    seed: int = 0,
    learning_rate: float = 3e-3,
    epochs: int = 2,
    patience: int = 3,
    name: str | None = None,
    guarded: bool = True,
    prompted: bool = True,
) -> Path:
    """The task file; not ``guarded`` or ``prompted`` for a run about something else, which is over sooner."""
    text = (
        TASK
        if guarded
        else TASK.partition("guards:\n")[0] + "guards: {{robustness: {{margin: 0.1, rows: 0}}}}\n"
    )
    text = text.format(data=data, base="base", learning_rate=learning_rate, seed=seed)
    if not prompted:
        text = text.replace("zero_shot: true, few_shot: [1]", "zero_shot: false, few_shot: []")
    text = text.replace("epochs: 2", f"epochs: {epochs}, patience: {patience}")
    path = home / f"task-{name or (seed if data == 'rows.jsonl' else data)}.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def write_toy_rows(path: Path, shuffled: bool) -> None:
    rows = toy_rows(360, LABELS, seed=3)
    targets = [row.target for row in rows]
    if shuffled:
        random.Random(0).shuffle(targets)
    lines = [
        json.dumps({"text": row.text, "label": target, "region": ("north", "south")[place % 2]})
        for place, (row, target) in enumerate(zip(rows, targets, strict=True))
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_toy_probes(path: Path) -> None:
    """Sixty questions of a user's own."""
    lines = [
        json.dumps({"prompt": f"Say {word}.", "options": [word, "nothing"], "right": word, "group": place})
        for place, word in enumerate(LABELS * 15)
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
