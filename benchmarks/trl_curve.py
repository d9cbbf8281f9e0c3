"""The same loss curve as TRL: same rows, order, seed and adapter; the noise of TRL against itself beside it.

    python benchmarks/trl_curve.py

50 steps on licence notices in fp32, batch 4, LoRA r=16 on all linear layers, constant learning rate. Each of
the three runs is a process: Tunesmith, TRL's SFTTrainer, and TRL with its sums in another order (eager
attention instead of SDPA). Writes benchmarks/results/trl_curve.json.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest.mock import patch

RESULTS = Path(__file__).parent / "results"
TASK = Path(__file__).parent.parent / "examples" / "licence-notices" / "task.yaml"
STEPS, BATCH_SIZE, RANK, ALPHA, LEARNING_RATE, SEED = 50, 4, 16, 32.0, 1e-3, 0
# Short rows, so that three fp32 runs on one thread take minutes.
LONGEST_ROW = 48
PEERS = {"tunesmith": "", "trl": "sdpa", "trl, other order of sums": "eager"}


def rows_and_base() -> tuple[Any, list[Any]]:
    """The loaded base in fp32, and the rendered rows in the order of the steps."""
    from rich.console import Console

    from tunesmith.data.versions import read_split
    from tunesmith.models.rendering import instructed, render_row
    from tunesmith.stages.data import make_dataset
    from tunesmith.stages.session import Session
    from tunesmith.task import load_task
    from tunesmith.workspace import TaskFolder

    task = load_task(TASK)
    folder = Path(tempfile.gettempdir()) / "tunesmith-benchmark" / task.name
    session = Session(task, TaskFolder(folder), Console(stderr=True, quiet=True))
    dataset, _ = make_dataset(session)
    loaded = session.load_again("fp32")
    rendered = [
        render_row(loaded, instructed(task.instruction, row), row.target)
        for row in read_split(dataset, "train")
    ]
    short = [row for row in rendered if len(row.ids) <= LONGEST_ROW]
    return loaded, short[: STEPS * BATCH_SIZE]


def train_ours() -> list[dict[str, float]]:
    """Loss and gradient norm of every step of Tunesmith's loop."""
    from tunesmith.engine.lora import attach_lora
    from tunesmith.task.train_settings import TrainSettings
    from tunesmith.training import fit as loop

    loaded, rows = rows_and_base()
    attach_lora(loaded.model, RANK, ALPHA, seed=SEED)
    settings = TrainSettings(
        rank=RANK, alpha=ALPHA, learning_rate=LEARNING_RATE, epochs=1, batch_size=BATCH_SIZE,
        schedule="constant", warmup_share=0.0, validations_per_epoch=1, seed=SEED,
    )  # fmt: skip
    order = [list(range(at, at + BATCH_SIZE)) for at in range(0, len(rows), BATCH_SIZE)]
    given = patch.object(loop, "epoch_batches", lambda *_: order)  # the very batches that TRL is given
    with given, tempfile.TemporaryDirectory() as folder:
        fitted = loop.fit(loaded, rows, rows[:2], settings, Path(folder) / "checkpoints")
    return [{"loss": point.loss, "gradient_norm": point.gradient_norm} for point in fitted.train]


def train_trl(attention: str) -> list[dict[str, float]]:
    """The same steps by TRL's SFTTrainer, from the very adapter that Tunesmith starts from."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from torch.utils.data import Sampler, SequentialSampler
    from transformers import AutoModelForCausalLM, TrainerCallback
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    from tunesmith.engine.lora import attach_lora, lora_layers

    loaded, rows = rows_and_base()
    attach_lora(loaded.model, RANK, ALPHA, seed=SEED)
    layers = lora_layers(loaded.model)
    model = AutoModelForCausalLM.from_pretrained(
        loaded.base.folder, dtype=torch.float32, attn_implementation=attention
    )
    seen: list[dict[str, float]] = []

    class Watch(TrainerCallback):
        def on_log(self, *_: Any, logs: dict[str, float] | None = None, **__: Any) -> None:
            if logs and "grad_norm" in logs:
                seen.append({"loss": float(logs["loss"]), "gradient_norm": float(logs["grad_norm"])})

    class InOrder(SFTTrainer):
        def _get_train_sampler(self, *_: Any, **__: Any) -> Sampler[int]:
            return SequentialSampler(rows)

    with tempfile.TemporaryDirectory() as output:
        trainer = InOrder(
            model=model,
            args=SFTConfig(
                output_dir=output, use_cpu=True, bf16=False, per_device_train_batch_size=BATCH_SIZE,
                max_steps=STEPS, learning_rate=LEARNING_RATE, lr_scheduler_type="constant", warmup_steps=0,
                completion_only_loss=True, gradient_checkpointing=False, logging_steps=1, report_to=[],
                save_strategy="no", disable_tqdm=True, max_length=None, seed=SEED,
            ),
            train_dataset=Dataset.from_dict(
                {
                    "input_ids": [list(row.ids) for row in rows],
                    "completion_mask": [[int(learned) for learned in row.learn] for row in rows],
                }
            ),
            processing_class=loaded.tokenizer,
            peft_config=LoraConfig(
                r=RANK, lora_alpha=int(ALPHA), target_modules=sorted(layers), task_type="CAUSAL_LM"
            ),
            callbacks=[Watch()],
        )  # fmt: skip
        adapted: Any = trainer.model
        theirs = dict(adapted.named_modules())
        with torch.no_grad():
            for name, layer in layers.items():
                theirs[f"base_model.model.{name}"].lora_A["default"].weight.copy_(layer.lora_a)
        trainer.train()
    return seen


def apart(left: list[dict[str, float]], right: list[dict[str, float]]) -> dict[str, float]:
    """How far two curves lie apart, in nats per token and as a share of the gradient norm."""
    losses = [abs(one["loss"] - other["loss"]) for one, other in zip(left, right, strict=True)]
    norms = [
        abs(one["gradient_norm"] / other["gradient_norm"] - 1) for one, other in zip(left, right, strict=True)
    ]
    return {
        "loss_mean_difference": statistics.mean(losses),
        "loss_largest_difference": max(losses),
        "loss_difference_at_step_1": losses[0],
        "gradient_norm_largest_relative_difference": max(norms),
    }


def main() -> None:
    """Run the three, one process each, and write how far they lie apart."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--peer", choices=PEERS)
    asked = parser.parse_args()
    if asked.peer:
        print(json.dumps(train_trl(PEERS[asked.peer]) if PEERS[asked.peer] else train_ours()))
        return
    curves: dict[str, list[dict[str, float]]] = {}
    for peer in PEERS:
        done = subprocess.run(
            [sys.executable, __file__, "--peer", peer], check=True, stdout=subprocess.PIPE, text=True
        )
        curves[peer] = json.loads(done.stdout.splitlines()[-1])
        print(f"{peer}: loss {curves[peer][0]['loss']:.4f} -> {curves[peer][-1]['loss']:.4f}", flush=True)
    result = {
        "work": f"licence notices of at most {LONGEST_ROW} tokens, fp32, batch {BATCH_SIZE}, LoRA r={RANK}",
        "steps": STEPS,
        "tunesmith_and_trl": apart(curves["tunesmith"], curves["trl"]),
        "trl_and_trl_with_other_order_of_sums": apart(curves["trl, other order of sums"], curves["trl"]),
        "machine": machine(),
        "versions": {name: version(name) for name in ("torch", "transformers", "trl", "peft")},
        "curves": curves,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "trl_curve.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps({name: result[name] for name in result if "trl" in name}, indent=1))


def machine() -> dict[str, str]:
    """What it ran on."""
    from tunesmith.stages.session import machine as described

    return {**described(), "platform": platform.platform()}


if __name__ == "__main__":
    main()
