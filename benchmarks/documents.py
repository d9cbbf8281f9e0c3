"""Training on rows that share a document, with and without reading it once, in one run.

    TUNESMITH_DATA=… python benchmarks/documents.py    # the folder that holds contract-nli

ContractNLI: 17 statements about each contract of about 2,000 tokens. Both ways are the loop of `tunesmith
train`, LoRA of rank 16, each measurement a process of its own, the two in turn; only what rows share is
changed. With sharing a step is the 17 rows of one contract; without, 2 of them, as rows of one contract are
of one length and pass one by one. Rates count tokens as rendered. Writes benchmarks/results/documents.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest.mock import patch

RESULT = Path(__file__).parent / "results" / "documents.json"
WAYS = {"shared": 17, "apart": 2}  # rows a step
TOKENS = 2000
STEPS = 3


def rows_of(contracts: int, rows_each: int) -> tuple[Any, list[Any]]:
    """The loaded base, and rendered rows of the contracts nearest to ``TOKENS`` tokens."""
    from rich.console import Console

    from tunesmith.models.rendering import instructed, render_row
    from tunesmith.records import Message, Row
    from tunesmith.stages.session import Session
    from tunesmith.task import load_task
    from tunesmith.workspace import TaskFolder

    data = Path(os.environ["TUNESMITH_DATA"]) / "contract-nli"
    documents = _lines(data / "test_documents.jsonl")
    pairs = _lines(data / "test_pairs.jsonl")
    task = load_task(Path(__file__).parent.parent / "examples" / "licence-notices" / "task.yaml")
    session = Session(task, TaskFolder(Path(tempfile.gettempdir())), Console(stderr=True, quiet=True))
    loaded = session.load_again("bf16")
    tokens = {one["id"]: len(loaded.tokenizer(one["text"])["input_ids"]) for one in documents}
    texts = {one["id"]: one["text"] for one in documents}
    chosen = sorted(tokens, key=lambda name: abs(tokens[name] - TOKENS))[:contracts]
    rendered = []
    for name in chosen:
        for pair in [pair for pair in pairs if pair["doc_id"] == name][:rows_each]:
            said = (Message("user", f"{texts[name]}\n\n{pair['hypothesis']}"),)
            row = Row(id="", source="", messages=said, target=pair["label"], group=name)
            rendered.append(render_row(loaded, instructed("Does the contract say so?", row), row.target))
    return loaded, rendered


def train(way: str) -> dict[str, Any]:
    """``STEPS`` steps, a contract each."""
    from tunesmith.engine.lora import attach_lora
    from tunesmith.stages.memory import peak_mb, reset_peak
    from tunesmith.task.train_settings import TrainSettings
    from tunesmith.training import fit as loop
    from tunesmith.training.batches import Sharing, sharing_of

    loaded, rows = rows_of(STEPS, WAYS[way])
    attach_lora(loaded.model, 16, 32.0, seed=0)
    settings = TrainSettings(
        rank=16, alpha=32, learning_rate=1e-3, epochs=1, batch_size=WAYS[way], validations_per_epoch=1
    )
    shared = sharing_of(rows)
    assert shared.documents is not None or way == "apart"
    given = shared if way == "shared" else Sharing(shared.prefix, None)
    order = [list(range(at, at + WAYS[way])) for at in range(0, len(rows), WAYS[way])]
    reset_peak()
    with (
        tempfile.TemporaryDirectory() as folder,
        patch.object(loop, "sharing_of", lambda *_: given),
        patch.object(loop, "epoch_batches", lambda *_: order),
    ):
        fitted = loop.fit(loaded, rows, rows[:1], settings, Path(folder) / "checkpoints")
    return {
        "tokens_per_second": [point.tokens_per_second for point in fitted.train],
        "losses": [point.loss for point in fitted.train],
        "gradient_norms": [point.gradient_norm for point in fitted.train],
        "peak_memory_mb": peak_mb(),
    }


def measure(way: str) -> dict[str, Any]:
    """One measurement in a process of its own; the first step warms up and is left out of the rate."""
    command = [sys.executable, __file__, "--way", way]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    found["rate"] = statistics.median(found["tokens_per_second"][1:])
    print(f"{way}: {found['rate']:.0f} tokens/s", file=sys.stderr, flush=True)
    return found


def main() -> None:
    """Measure one way (with --way, for the driver itself), or both in turn."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--way", choices=WAYS)
    parser.add_argument("--runs", type=int, default=5)
    asked = parser.parse_args()
    if asked.way:
        print(json.dumps(train(asked.way)))
        return
    runs = [{way: measure(way) for way in WAYS} for _ in range(asked.runs)]
    result = {
        "work": f"LoRA r=16 on ContractNLI, contracts of about {TOKENS} tokens, SmolLM2-135M",
        "machine": {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()},
        "versions": {name: version(name) for name in ("torch", "transformers")},
        "median_tokens_per_second": {
            way: statistics.median(run[way]["rate"] for run in runs) for way in WAYS
        },
        "shared_over_apart": sorted(run["shared"]["rate"] / run["apart"]["rate"] for run in runs),
        "runs": runs,
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(
        json.dumps({key: result[key] for key in ("median_tokens_per_second", "shared_over_apart")}, indent=1)
    )


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


if __name__ == "__main__":
    main()
