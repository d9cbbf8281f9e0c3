"""How well the memory plan predicts: before loading, after one probe step, and what was measured.

    python benchmarks/memory.py               # every configuration, a process each
    python benchmarks/memory.py lora-long     # one of them

Bytes are those above the process after its imports (resident on a CPU, allocated on CUDA). A run trains a few
steps on real rows, the largest micro-batch among them, validates, keeps the best weights and writes a
checkpoint. Writes benchmarks/results/memory.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
TASK = Path(__file__).parent.parent / "examples" / "licence-notices" / "task.yaml"
# Settings of a run, which rows it sees (the shortest, the middle or the longest), and how many.
CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "lora-short": {"rows": "middle", "settings": {"batch_size": 16}},
    "lora-long": {"rows": "longest", "settings": {"batch_size": 4}},
    "lora-large-batch": {"rows": "middle", "settings": {"batch_size": 64}, "count": 128},
    "lora-fp32": {"rows": "middle", "settings": {"batch_size": 16}, "precision": "fp32"},
    "lora-long-recompute": {"rows": "longest", "settings": {"batch_size": 4}, "recompute": True},
    "dora-short": {"rows": "middle", "settings": {"batch_size": 16, "method": "dora"}},
    "full-short": {"rows": "middle", "settings": {"batch_size": 16, "method": "full"}},
    "full-long": {"rows": "longest", "settings": {"batch_size": 2, "method": "full"}, "count": 6},
    "qlora-short": {"rows": "middle", "settings": {"batch_size": 16, "method": "qlora"}},
    "qlora-long": {"rows": "longest", "settings": {"batch_size": 4, "method": "qlora"}},
    "label-scoring": {"rows": "middle", "settings": {}, "count": 128, "scoring": True},
}
ROWS = 48


def measure(name: str) -> dict[str, Any]:
    """One configuration in this process: MiB predicted before loading, after a probe step, and measured."""
    import torch
    from rich.console import Console

    from tunesmith.candidates.answers import task_tree
    from tunesmith.data.versions import read_split
    from tunesmith.engine.adapters import make_trainable
    from tunesmith.engine.precision import tune_process
    from tunesmith.engine.scoring import TOKENS_PER_BATCH, score_labels
    from tunesmith.models.rendering import instructed, render_prompt, render_row
    from tunesmith.models.tokenizing import load_tokenizer
    from tunesmith.stages.data import make_dataset
    from tunesmith.stages.memory import peak_mb, reset_peak, resident_mb
    from tunesmith.stages.session import Session
    from tunesmith.task import load_task
    from tunesmith.task.train_settings import TrainSettings
    from tunesmith.training.batches import sharing_of
    from tunesmith.training.fit import TOKENS_PER_MICRO_BATCH, fit
    from tunesmith.training.measure import checked_rows, largest_micro_batches, probe_step
    from tunesmith.training.memory import Work, after_probe, plan_memory, read_shape
    from tunesmith.workspace import TaskFolder

    chosen = CONFIGURATIONS[name]
    precision = chosen.get("precision", "bf16")
    # A validation in the middle, so that steps are taken beside the best copy.
    settings = TrainSettings(epochs=1, validations_per_epoch=2, **chosen["settings"])
    task = load_task(TASK)
    folder = Path(tempfile.gettempdir()) / "tunesmith-benchmark" / task.name
    session = Session(task, TaskFolder(folder), Console(stderr=True, quiet=True))
    dataset, _ = make_dataset(session)
    tokenizer = load_tokenizer(session.base())
    rendered = sorted(
        (
            (render_row(tokenizer, instructed(task.instruction, row), row.target), row)
            for row in read_split(dataset, "train")
        ),
        key=lambda pair: len(pair[0].ids),
    )
    count = chosen.get("count", 12 if chosen["rows"] == "longest" else ROWS)
    start = len(rendered) - count if chosen["rows"] == "longest" else len(rendered) // 2
    pairs = rendered[start : start + count]
    rows = [pair[0] for pair in pairs]
    tune_process()
    # oneDNN, PyTorch's threads and the like come with the first product, not with a model.
    torch.ones(64, 64) @ torch.ones(64, 64)
    before = resident_mb()
    reset_peak()

    shape = read_shape(Path(session.base().folder))
    width = 2 if precision == "bf16" else 4
    sharing = sharing_of(rows)
    batches = largest_micro_batches(rows, settings, sharing, TOKENS_PER_MICRO_BATCH)
    recompute = chosen.get("recompute", False)
    validated = min(TOKENS_PER_BATCH, sum(len(row.ids) for row in rows[:16]))
    work = Work(tuple(batch.size for batch in batches), checked_rows(rows), validated, "scoring" in chosen)
    plan = plan_memory(shape, settings, width, work, recompute=recompute)
    loaded = session.load_again(precision)
    result: dict[str, Any] = {"configuration": name, **chosen, "precision": precision}
    if "scoring" in chosen:
        plan = replace(plan, trained=0, step=0, check=0)
        predicted = plan.peak
        prompts = [render_prompt(loaded, instructed(task.instruction, row)) for _, row in pairs]
        tree = task_tree(loaded, dataset.manifest.labels)
        half = len(prompts) // 4
        score_labels(loaded.model, prompts[:half], tree, loaded.pad_token, None)
        probed = peak_mb() - before
        score_labels(loaded.model, prompts, tree, loaded.pad_token, None)
        result |= {"predicted_mb": predicted / 2**20, "after_probe_mb": probed}
    else:
        make_trainable(loaded.model, settings)
        largest = max(batches, key=lambda batch: batch.size.tokens)
        probe_step(loaded, rows, largest.rows, sharing, recompute)
        probed = round((peak_mb() - before) * 2**20)
        result |= {
            "largest_micro_batch_tokens": largest.size.tokens,
            "predicted_mb": plan.peak / 2**20,
            "after_probe_mb": after_probe(plan, probed) / 2**20,
        }
        with tempfile.TemporaryDirectory() as checkpoints:
            fitted = fit(loaded, rows, rows[:16], settings, Path(checkpoints), recompute=recompute)
        result["steps"] = fitted.steps
    measured = peak_mb() - before
    return result | {
        "measured_mb": measured,
        "predicted_off_by": result["predicted_mb"] / measured - 1,
        "after_probe_off_by": result["after_probe_mb"] / measured - 1,
        "terms_mb": {key: round(value / 2**20) for key, value in vars(plan).items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("configuration", nargs="*", choices=[*CONFIGURATIONS, []])
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.here:
        print(json.dumps(measure(given.configuration[0])))
        return
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / "memory.json"
    known = json.loads(path.read_text(encoding="utf-8"))["runs"] if path.is_file() else []
    runs: list[dict[str, Any]] = []
    for name in given.configuration or CONFIGURATIONS:
        done = subprocess.run(
            [sys.executable, __file__, "--here", name], capture_output=True, text=True, check=False
        )
        if done.returncode:
            sys.exit(done.stderr)
        runs.append(json.loads(done.stdout.splitlines()[-1]))
        print(
            f"{name:20} predicted {runs[-1]['predicted_mb']:6.0f} ({runs[-1]['predicted_off_by']:+.0%})  "
            f"after probe {runs[-1]['after_probe_mb']:6.0f} ({runs[-1]['after_probe_off_by']:+.0%})  "
            f"measured {runs[-1]['measured_mb']:6.0f} MiB  {runs[-1]['terms_mb']}",
            flush=True,
        )
        # One that is measured again takes the place of what was measured before.
        known = [run for run in known if run["configuration"] != name] + runs[-1:]
        path.write_text(json.dumps({"runs": known, "machine": machine()}, indent=1) + "\n", encoding="utf-8")


def machine() -> dict[str, Any]:
    from tunesmith.stages.session import machine as described

    return {
        **described(),
        "threads": os.environ.get("OMP_NUM_THREADS", "all"),
        "platform": platform.platform(),
        "versions": {name: version(name) for name in ("torch", "transformers", "bitsandbytes")},
    }


if __name__ == "__main__":
    main()
