"""Training speed and memory beside TRL, on the same rows in the same order, in one run.

    python benchmarks/training.py licence-notices          # no shared prompt
    python benchmarks/training.py shared-prompt            # a 250-token instruction before every row
    python benchmarks/training.py full                     # all weights instead of an adapter
    python benchmarks/training.py licence-notices --tune   # which settings serve TRL best

Every measurement is a process of its own, ours and the peers' in turn, so that a change of the machine's
speed meets all of them alike. Rates count tokens as rendered, without padding. Gradient norms are logged, so
that nobody trains on nothing. The ceiling is the time of a step's matrix products alone, at their real
shapes. Writes benchmarks/results/training-<work>.json.
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
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal
from unittest.mock import patch

RESULTS = Path(__file__).parent / "results"
TASK = Path(__file__).parent.parent / "examples" / "licence-notices" / "task.yaml"
BATCH_SIZE, RANK, ALPHA = 16, 16, 32.0
LEARNING_RATE = {"lora": 1e-3, "full": 2e-5}
WORKS: dict[str, Literal["lora", "full"]] = {
    "licence-notices": "lora",
    "shared-prompt": "lora",
    "full": "full",
}
# As TRL comes, and what its tuning (--tune) found best on this kind of machine.
TRL_SETTINGS: dict[str, dict[str, Any]] = {
    "trl defaults": {},
    "trl bf16 eager": {"dtype": "bfloat16", "attention": "eager", "checkpointing": False},
    "trl bf16 sdpa": {"dtype": "bfloat16", "attention": "sdpa", "checkpointing": False},
    "trl fp32 eager": {"dtype": "float32", "attention": "eager", "checkpointing": False},
    "trl bf16 autocast eager": {
        "dtype": "float32",
        "attention": "eager",
        "checkpointing": False,
        "autocast": True,
    },
}
TUNED = "trl bf16 eager"


def rendered_batches(work: str, steps: int) -> tuple[Any, list[list[Any]]]:
    """The loaded base, and ``steps`` batches of rendered rows in the order that training visits them."""
    from rich.console import Console

    from tunesmith.data.versions import read_split
    from tunesmith.engine.forward import common_prefix
    from tunesmith.models.rendering import Tokens, instructed, render_row
    from tunesmith.stages.data import make_dataset
    from tunesmith.stages.session import Session
    from tunesmith.task import load_task
    from tunesmith.training.batches import epoch_batches
    from tunesmith.workspace import TaskFolder

    task = load_task(TASK)
    folder = Path(tempfile.gettempdir()) / "tunesmith-benchmark" / task.name
    session = Session(task, TaskFolder(folder), Console(stderr=True, quiet=True))
    dataset, _ = make_dataset(session)
    loaded = session.load_again("bf16")
    instruction = task.instruction
    if work == "shared-prompt":
        instruction += f"\nAnswer with exactly one of: {', '.join(dataset.manifest.labels)}"
    rows = [
        render_row(loaded, instructed(instruction, row), row.target) for row in read_split(dataset, "train")
    ]
    if work != "shared-prompt":  # what the rows share is cut off, for the peers too
        shared = common_prefix([row.ids for row in rows])
        rows = [Tokens(row.ids[shared:], row.learn[shared:]) for row in rows]
    batches = epoch_batches([len(row.ids) for row in rows], BATCH_SIZE, 0, 0)[:steps]
    return loaded, [[rows[index] for index in batch] for batch in batches]


def train_settings(work: str) -> Any:
    """The settings of our loop for a work."""
    from tunesmith.task.train_settings import TrainSettings

    method = WORKS[work]
    return TrainSettings(
        method=method, rank=RANK, alpha=ALPHA, learning_rate=LEARNING_RATE[method], epochs=1,
        batch_size=BATCH_SIZE, validations_per_epoch=1,
    )  # fmt: skip


def train_ours(work: str, steps: int) -> dict[str, Any]:
    """``steps`` steps of the loop that `tunesmith train` runs."""
    from tunesmith.engine.adapters import make_trainable
    from tunesmith.stages.memory import peak_mb, reset_peak
    from tunesmith.training import fit as loop

    loaded, batches = rendered_batches(work, steps)
    settings = train_settings(work)
    make_trainable(loaded.model, settings)
    rows = [row for batch in batches for row in batch]
    reset_peak()
    # The very batches that the peers are given.
    order = [list(range(at, at + BATCH_SIZE)) for at in range(0, len(rows), BATCH_SIZE)]
    given = patch.object(loop, "epoch_batches", lambda *_: order)
    with given, tempfile.TemporaryDirectory() as folder:
        fitted = loop.fit(loaded, rows, rows[:2], settings, Path(folder) / "checkpoints")
    return {
        "tokens_per_second": [point.tokens_per_second for point in fitted.train],
        "losses": [point.loss for point in fitted.train],
        "gradient_norms": [point.gradient_norm for point in fitted.train],
        "peak_memory_mb": peak_mb(),
    }


def train_trl(work: str, steps: int, settings: dict[str, Any]) -> dict[str, Any]:
    """The same steps by TRL's SFTTrainer, with PEFT's LoRA or on all weights."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from torch.utils.data import Sampler, SequentialSampler
    from transformers import AutoModelForCausalLM, TrainerCallback
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    from tunesmith.stages.memory import peak_mb, reset_peak

    loaded, batches = rendered_batches(work, steps)
    folder, tokenizer = loaded.base.folder, loaded.tokenizer
    del loaded
    rows = [row for batch in batches for row in batch]
    useful = [sum(len(row.ids) for row in batch) for batch in batches]
    reset_peak()
    options = {"attn_implementation": settings["attention"]} if "attention" in settings else {}
    dtype = getattr(torch, settings.get("dtype", "float32"))
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, **options)
    given = {} if "checkpointing" not in settings else {"gradient_checkpointing": settings["checkpointing"]}
    times: list[float] = []
    logs: list[dict[str, float]] = []

    class Watch(TrainerCallback):
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            times.append(time.perf_counter())

        def on_step_end(self, *_: Any, **__: Any) -> None:
            times[-1] = time.perf_counter() - times[-1]

        def on_log(self, *_: Any, logs: dict[str, float] | None = None, **__: Any) -> None:
            if logs and "grad_norm" in logs:
                seen.append(logs)

    seen = logs

    class InOrder(SFTTrainer):
        def _get_train_sampler(self, *_: Any, **__: Any) -> Sampler[int]:
            return SequentialSampler(rows)

    with tempfile.TemporaryDirectory() as output:
        trainer = InOrder(
            model=model,
            args=SFTConfig(
                output_dir=output, use_cpu=True, bf16=settings.get("autocast", False),
                per_device_train_batch_size=BATCH_SIZE, max_steps=steps,
                learning_rate=LEARNING_RATE[WORKS[work]],
                lr_scheduler_type="linear", warmup_steps=max(1, steps // 10), completion_only_loss=True,
                logging_steps=1, report_to=[], save_strategy="no", disable_tqdm=True, max_length=None,
                **given,
            ),
            train_dataset=Dataset.from_dict(
                {
                    "input_ids": [list(row.ids) for row in rows],
                    "completion_mask": [[int(learned) for learned in row.learn] for row in rows],
                }
            ),
            processing_class=tokenizer,
            peft_config=None
            if WORKS[work] == "full"
            else LoraConfig(
                r=RANK, lora_alpha=int(ALPHA), target_modules="all-linear", task_type="CAUSAL_LM"
            ),
            callbacks=[Watch()],
        )  # fmt: skip
        trainer.train()
    return {
        "tokens_per_second": [tokens / seconds for tokens, seconds in zip(useful, times, strict=True)],
        "losses": [entry["loss"] for entry in logs],
        "gradient_norms": [entry["grad_norm"] for entry in logs],
        "peak_memory_mb": peak_mb(),
    }


def time_matrix_products(work: str, steps: int) -> dict[str, Any]:
    """Useful tokens a second if a step were nothing but its matrix products, one after the other."""
    import torch

    from tunesmith.engine.forward import common_prefix

    loaded, batches = rendered_batches(work, steps)
    config = loaded.model.config
    width, inner, layers = config.hidden_size, config.intermediate_size, config.num_hidden_layers
    heads, groups, size = config.num_attention_heads, config.num_key_value_heads, config.head_dim
    linears = [
        (width, heads * size), (width, groups * size), (width, groups * size), (heads * size, width),
        (width, inner), (width, inner), (inner, width),
    ]  # fmt: skip
    rates = []
    for batch in batches:
        shared = common_prefix([row.ids for row in batch]) if work == "shared-prompt" else 0
        longest = max(len(row.ids) for row in batch)
        tokens = sum(len(row.ids) - shared for row in batch) + shared
        targets = sum(sum(row.learn) for row in batch)
        seconds = 0.0
        for inputs, outputs in linears:
            if WORKS[work] == "full":
                once = _product(tokens, inputs, outputs) + _product(tokens, outputs, inputs)
                seconds += layers * (once + _product(outputs, tokens, inputs))
                continue
            forward = _product(tokens, inputs, outputs) + _product(tokens, inputs, RANK)
            forward += _product(tokens, RANK, outputs)
            back = _product(tokens, outputs, inputs) + _product(tokens, outputs, RANK)
            back += _product(tokens, RANK, inputs)
            seconds += layers * (
                forward + back + _product(RANK, tokens, inputs) + _product(RANK, tokens, outputs)
            )
        queries = len(batch) * groups, heads // groups * (longest - shared)
        q, k = torch.randn(*queries, size).bfloat16(), torch.randn(queries[0], size, longest).bfloat16()
        scores = torch.randn(*queries, longest).bfloat16()
        once = _fastest(lambda q=q, k=k: torch.bmm(q, k))
        other = _fastest(lambda s=scores, k=k: torch.bmm(s, k.transpose(1, 2)))
        seconds += layers * 3 * (once + other)
        seconds += _product(targets, width, config.vocab_size) + _product(targets, config.vocab_size, width)
        if WORKS[work] == "full":
            seconds += _product(config.vocab_size, targets, width)
        rates.append(sum(len(row.ids) for row in batch) / seconds)
    return {"tokens_per_second": rates}


def _product(rows: int, inner: int, columns: int) -> float:
    import torch

    left, right = torch.randn(rows, inner).bfloat16(), torch.randn(columns, inner).bfloat16().T
    return _fastest(lambda: left @ right)


def _fastest(work: Any, repeats: int = 7) -> float:
    """The median time of a product already warm."""
    taken = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


def measure(peer: str, work: str, steps: int) -> dict[str, Any]:
    """One measurement in a process of its own; the first step warms up and is left out of the rate."""
    command = [sys.executable, __file__, work, "--peer", peer, "--steps", str(steps)]
    done = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, text=True, env={**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    found["rate"] = statistics.median(found["tokens_per_second"][1:])
    print(f"{peer}: {found['rate']:.0f} tokens/s", file=sys.stderr, flush=True)
    return found


def main() -> None:
    """Measure one peer (with --peer, for the driver itself), or all of them in turn."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("work", choices=WORKS)
    parser.add_argument("--peer")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--tune", action="store_true")
    asked = parser.parse_args()
    if asked.peer:
        if asked.peer == "tunesmith":
            found = train_ours(asked.work, asked.steps)
        elif asked.peer == "ceiling":
            found = time_matrix_products(asked.work, asked.steps)
        else:
            found = train_trl(asked.work, asked.steps, TRL_SETTINGS[asked.peer])
        print(json.dumps(found))
        return
    peers = list(TRL_SETTINGS) if asked.tune else ["tunesmith", "ceiling", "trl defaults", TUNED]
    if asked.work == "shared-prompt":  # minutes a step; the aim is set by the best
        peers.remove("trl defaults")
    runs = [{peer: measure(peer, asked.work, asked.steps) for peer in peers} for _ in range(asked.runs)]
    result = {
        "work": asked.work,
        "steps_per_run": asked.steps,
        "machine": {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()},
        "versions": {name: version(name) for name in ("torch", "transformers", "trl", "peft")},
        "median_tokens_per_second": {p: statistics.median(run[p]["rate"] for run in runs) for p in peers},
        "ratios_to_tunesmith": {
            peer: sorted(run["tunesmith"]["rate"] / run[peer]["rate"] for run in runs)
            for peer in peers
            if "tunesmith" in peers and peer != "tunesmith"
        },
        "median_peak_memory_mb": {
            p: statistics.median(run[p]["peak_memory_mb"] for run in runs) for p in peers if p != "ceiling"
        },
        "settings": TRL_SETTINGS,
        "runs": runs,
    }
    name = f"training-{asked.work}{'-tuning' if asked.tune else ''}.json"
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / name).write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(
        json.dumps(
            {key: result[key] for key in ("median_tokens_per_second", "ratios_to_tunesmith")}, indent=1
        )
    )


if __name__ == "__main__":
    main()
