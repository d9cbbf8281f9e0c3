"""Whole runs of the kinds that write texts, on a tiny real model; what is judged, shown, asked and gated."""

from __future__ import annotations

import io
import json
import random
from pathlib import Path

import pytest
from rich.console import Console

from tiny import make_tiny_base
from tunesmith import ledger
from tunesmith.errors import UserError
from tunesmith.files import read_record
from tunesmith.pipeline import Run, run_stages
from tunesmith.report.terminal import print_summary
from tunesmith.run_records import RunSummary
from tunesmith.stages.ask import ask
from tunesmith.stages.gate import check_gate
from tunesmith.stages.session import Session
from tunesmith.task import load_task
from tunesmith.workspace import Workspace

NAMES = ("coffee", "garden", "river", "hotel", "piano", "engine", "kitten", "school", "street", "letter")
COLOURS = ("green", "yellow", "light", "large", "small", "young")
PLACES = ("river road", "paper street", "old town", "white house", "green garden", "night market")
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 12}, "colour": {"enum": [*COLOURS, None]}},
}
TASK = """\
name: {name}
kind: {kind}
instruction: {instruction}
data: {{path: {data}, input: input, target: target, near_duplicate_similarity: 1.0}}
split: {{train: 90, validation: 70, test: 80, seed: 1}}
goal: {{gain: 0.02{metric}}}
base: {base}
opponents: {{classical: true, zero_shot: {zero_shot}, few_shot: [1]}}
max_new_tokens: 24
train: {{rank: 4, alpha: 8, learning_rate: 0.005, epochs: {epochs}, batch_size: 16}}
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny base, data of two kinds, and a cache that the module's runs share."""
    folder = tmp_path_factory.mktemp("texts")
    make_tiny_base(folder / "base")
    draw = random.Random(3)
    attributes = [(name, colour, place) for name in NAMES for colour in COLOURS for place in PLACES]
    draw.shuffle(attributes)
    generate, extract = [], []
    for name, colour, place in attributes[:250]:
        given = f"name[{name}], colour[{colour}], near[{place}]"
        generate.append((given, f"The {colour} {name} is near {place}."))
        if draw.random() < 0.5:
            generate.append((given, f"Near {place} there is a {colour} {name}."))
        stated = {"name": name} | ({"colour": colour} if draw.random() < 0.8 else {})
        text = " ".join(["the", *([colour] if "colour" in stated else []), name, "stands near the", place])
        extract.append((text, json.dumps(stated)))
    for file, rows in (("generate.jsonl", generate), ("extract.jsonl", extract)):
        lines = [json.dumps({"input": given, "target": target}) for given, target in rows]
        (folder / file).write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "schema.json").write_text(json.dumps(SCHEMA), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def generated(home: Path) -> tuple[Session, Run]:
    """One finished run that writes texts from attributes."""
    session = _session(home, "generate", "Write a sentence.", epochs=3)
    return session, run_stages(session, "report")


@pytest.fixture(scope="module")
def extracted(home: Path) -> tuple[Session, Run]:
    """One finished run that extracts fields under a schema."""
    session = _session(home, "extract", "Name it.", extra="json_schema: schema.json\n", zero_shot=False)
    return session, run_stages(session, "report")


def _session(
    home: Path,
    kind: str,
    instruction: str,
    epochs: int = 1,
    metric: str = "",
    extra: str = "",
    zero_shot: bool = True,
) -> Session:
    text = TASK.format(
        name=kind,
        kind=kind,
        instruction=instruction,
        data=home / f"{kind}.jsonl",
        base=home / "base",
        epochs=epochs,
        metric=metric,
        zero_shot=str(zero_shot).lower(),
    )
    path = home / f"{kind}.yaml"
    path.write_text(text + extra, encoding="utf-8")
    folder = Workspace(home / "runs").task(kind)
    folder.path.mkdir(parents=True, exist_ok=True)
    folder.keep_task_file(path)
    console = Console(file=io.StringIO(), width=150)
    return Session(load_task(path), folder, console, home / "cache")


def _told(session: Session) -> str:
    stream = session.console.file
    assert isinstance(stream, io.StringIO)
    return stream.getvalue()


def test_a_run_that_writes_texts_ends_with_a_verdict_in_its_own_metric(generated: tuple[Session, Run]) -> None:
    session, run = generated
    assert run.summary is not None
    verdict = run.summary.verdict
    assert verdict.metric == "chrf"
    assert "chrF" in verdict.sentence
    assert "accuracy" not in _told(session).lower().replace("points of accuracy", "")
    assert [line.event for line in ledger.read(session.folder.ledger)] == ["frozen", "test_opened", "verdict"]
    for card in run.summary.test_scorecards:
        assert {"chrf", "bleu", "rouge_l", "length_ratio"} <= set(card.metrics)
        assert card.predictions == ()
    assert read_record(session.folder.summary, RunSummary) == run.summary
