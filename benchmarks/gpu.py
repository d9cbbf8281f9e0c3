"""Training, generation and label scoring on one GPU: rates, memory, share of the ceiling. Random weights.

    python benchmarks/gpu.py                    # Qwen3-0.6B- and Llama-3-8B-like models, under 8 minutes
    python benchmarks/gpu.py --device cpu       # the same script on toy sizes: does it run?

The ceiling is what large bf16 matrix products reach on this machine, measured here. The share of it counts
the products of a step: the layers forward, and backward to their inputs (and to their weights where all are
trained), attention, adapters, and the head at supervised positions. Nothing is padded. Writes
benchmarks/results/gpu.json (not with --device cpu).
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, Qwen3Config, Qwen3ForCausalLM

from tunesmith.engine.adapters import make_trainable
from tunesmith.engine.attention import ATTENTION_NAME, register
from tunesmith.engine.devices import find_device
from tunesmith.engine.forward import Batch, make_batch, summed_loss
from tunesmith.engine.full import masters_to_weights
from tunesmith.engine.generation import Decoding, generate
from tunesmith.engine.lora import trainable_parameters
from tunesmith.engine.recompute import recomputing
from tunesmith.engine.scoring import score_labels
from tunesmith.engine.selfcheck import choose_loss
from tunesmith.engine.trees import label_tree
from tunesmith.task.train_settings import TrainSettings
from tunesmith.training.optimisers import make_optimiser

RESULTS = Path(__file__).parent / "results" / "gpu.json"
PACK_TOKENS, ANSWER_TOKENS, STEPS, RANK = 4096, 64, 6, 16
SECONDS = 8 * 60
SIZES: dict[str, dict[str, Any]] = {
    # By the published configs of Qwen3-0.6B and Llama-3-8B.
    "qwen3-0.6b-like": {
        "vocab_size": 151936, "hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28,
        "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128, "tie_word_embeddings": True,
    },
    "llama-0.6b-like": {
        "vocab_size": 128256, "hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28,
        "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 64, "tie_word_embeddings": True,
    },
    "llama-3-8b-like": {
        "vocab_size": 128256, "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128,
    },
}  # fmt: skip
TOY = {
    "vocab_size": 320, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
}  # fmt: skip
# Model, method, how the pack is made of rows, and whether layers are recomputed.
TRAININGS = (
    ("qwen3-0.6b-like", "lora", 512, False),
    ("llama-0.6b-like", "lora", 512, False),
    ("llama-0.6b-like", "full", 512, False),
    ("llama-3-8b-like", "lora", 512, False),
    ("llama-3-8b-like", "lora", 4096, False),
    ("llama-3-8b-like", "lora", 512, True),
)


def build(name: str, device: torch.device, toy: bool) -> PreTrainedModel:
    """A model of the named shape with random bf16 weights, frozen, on ``device``."""
    register()
    kinds: dict[str, Any] = {"qwen3": (Qwen3Config, Qwen3ForCausalLM)}
    config_of, model_of = kinds.get(name.partition("-")[0], (LlamaConfig, LlamaForCausalLM))
    config = config_of(**(TOY if toy else SIZES[name]), max_position_embeddings=8192, eos_token_id=1)
    config.dtype = torch.bfloat16
    torch.manual_seed(0)
    with torch.device(device):
        before = torch.get_default_dtype()
        torch.set_default_dtype(torch.bfloat16)
        try:
            model: PreTrainedModel = model_of(config)
        finally:
            torch.set_default_dtype(before)
    model.requires_grad_(False)
    model.train(False)
    model.set_attn_implementation(ATTENTION_NAME)
    return model


def pack(model: PreTrainedModel, tokens: int, row_tokens: int, seed: int) -> Batch:
    """Rows of ``row_tokens`` random tokens, ``tokens`` in all; the last of each row are learned."""
    generator = torch.Generator().manual_seed(seed)
    answer = min(ANSWER_TOKENS, row_tokens // 4)
    ids = torch.randint(3, model.config.vocab_size, (tokens // row_tokens, row_tokens), generator=generator)
    learn = [[place >= row_tokens - answer for place in range(row_tokens)] for _ in ids]
    return make_batch(ids.tolist(), learn, 0, 0)


def step_flops(model: PreTrainedModel, batch: Batch, full: bool) -> float:
    """Floating-point operations of the matrix products of one step, nothing counted twice."""
    config: Any = model.config
    heads, groups = config.num_attention_heads * config.head_dim, config.num_key_value_heads * config.head_dim
    shapes = [
        (config.hidden_size, heads), (config.hidden_size, groups), (config.hidden_size, groups),
        (heads, config.hidden_size), (config.hidden_size, config.intermediate_size),
        (config.hidden_size, config.intermediate_size), (config.intermediate_size, config.hidden_size),
    ]  # fmt: skip
    tokens = batch.useful_tokens
    linear = sum(rows * columns for rows, columns in shapes) * config.num_hidden_layers
    low = 0 if full else RANK * sum(rows + columns for rows, columns in shapes) * config.num_hidden_layers
    # A causal query sees half of the keys; two products forward, five backward.
    seen = sum(length * length / 2 for length in batch.lengths.tolist())
    attention = 2 * heads * seen * config.num_hidden_layers * (2 + 5)
    head = 2 * len(batch.targets) * config.hidden_size * config.vocab_size * (3 if full else 2)
    return float(2 * tokens * (linear * (3 if full else 2) + low * 3) + attention + head)


def measure_ceiling(device: torch.device, toy: bool) -> float:
    """FLOP/s of bf16 products at the shapes of an 8B model's layers; the fastest of several."""
    shapes = [(4096, 4096, 4096), (4096, 4096, 14336), (8192, 8192, 8192)] if not toy else [(64, 64, 64)]
    fastest = 0.0
    for rows, inner, columns in shapes:
        left = torch.randn(rows, inner, device=device, dtype=torch.bfloat16)
        right = torch.randn(inner, columns, device=device, dtype=torch.bfloat16)
        seconds = timed(partial(torch.matmul, left, right), device, 20)
        fastest = max(fastest, 2 * rows * inner * columns / min(seconds))
    return fastest


def timed(work: Callable[[], object], device: torch.device, repeats: int) -> list[float]:
    """Seconds of each repetition, after one that warms up."""
    taken = []
    for repeat in range(repeats + 1):
        synchronise(device)
        started = time.perf_counter()
        work()
        synchronise(device)
        if repeat:
            taken.append(time.perf_counter() - started)
    return taken


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def start_measuring(device: torch.device) -> None:
    """Let :func:`peak_gib` begin anew, without what earlier work has left: models lie in cycles."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def peak_gib(device: torch.device) -> float | None:
    return torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else None


def train(
    name: str, method: str, row_tokens: int, recompute: bool, device: torch.device, ceiling: float, toy: bool
) -> list[dict[str, Any]]:
    """Whole optimiser steps on one pack each: forward, backward, clipping, AdamW."""
    start_measuring(device)
    model = build(name, device, toy)
    settings = TrainSettings.model_validate({"method": method, "rank": RANK, "alpha": 2.0 * RANK})
    make_trainable(model, settings)
    tokens, rows = (128, row_tokens // 32) if toy else (PACK_TOKENS, row_tokens)
    batch = pack(model, tokens, rows, seed=0)
    loss_of, message = choose_loss(model, pack(model, 2 * min(rows, 64), min(rows, 64), seed=1))
    parameters = trainable_parameters(model)
    optimiser = make_optimiser(parameters, settings)
    losses: list[float] = []

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        with recomputing(model, recompute):
            loss = loss_of(model, batch) / len(batch.targets)
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        masters_to_weights(model)
        losses.append(float(loss.detach()))

    seconds = timed(step, device, STEPS)
    median = statistics.median(seconds)
    measured = {
        "work": "training", "model": name, "method": method, "row_tokens": rows, "recompute": recompute,
        "pack_tokens": batch.useful_tokens, "tokens_per_second": batch.useful_tokens / median,
        "step_seconds": seconds,
        "share_of_ceiling": step_flops(model, batch, method == "full") / median / ceiling,
        "peak_memory_gib": peak_gib(device), "losses": losses, "fast_path": loss_of is summed_loss,
        "message": message,
    }  # fmt: skip
    return [measured]


def read(name: str, device: torch.device, toy: bool) -> list[dict[str, Any]]:
    """Generation of 256 prompts, and scoring of 30 labels after 200-token prompts."""
    start_measuring(device)
    model = build(name, device, toy)
    generator = torch.Generator().manual_seed(2)
    rows, prompt, new = (8, 12, 8) if toy else (256, 128, 64)
    prompts = torch.randint(3, model.config.vocab_size, (rows, prompt), generator=generator).tolist()
    decoding = Decoding(new, end_token=1)
    answers = []
    (seconds,) = timed(lambda: answers.append(generate(model, prompts, decoding)), device, 1)
    written = sum(len(answer.tokens) for answer in answers[-1])
    found = [
        {
            "work": "generation", "model": name, "prompts": rows, "new_tokens": written,
            "tokens_per_second": written / seconds, "peak_memory_gib": peak_gib(device),
        }
    ]  # fmt: skip
    labels = torch.randint(3, model.config.vocab_size, (30, 4), generator=generator).tolist()
    asked = torch.randint(3, model.config.vocab_size, (8 if toy else 200, 12 if toy else 200)).tolist()
    tree = label_tree(labels, 1)
    start_measuring(device)
    (seconds,) = timed(lambda: score_labels(model, asked, tree, 0, None), device, 1)
    found.append(
        {
            "work": "label scoring", "model": name, "prompts": len(asked), "labels": len(labels),
            "prompts_per_second": len(asked) / seconds, "peak_memory_gib": peak_gib(device),
        }
    )  # fmt: skip
    return found


def main() -> None:
    """Measure everything, as long as the time lasts; what fails is recorded with its error."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="cuda")
    asked = parser.parse_args()
    device = find_device(asked.device)
    toy = device.type == "cpu"
    started = time.perf_counter()
    ceiling = measure_ceiling(device, toy)
    print(f"ceiling {ceiling / 1e12:.2f} TFLOP/s", flush=True)
    results: list[dict[str, Any]] = []
    works: list[tuple[str, Callable[[], list[dict[str, Any]]]]] = [
        (f"{name} {method} rows of {rows}{' recomputed' if again else ''}",
         partial(train, name, method, rows, again, device, ceiling, toy))
        for name, method, rows, again in TRAININGS
    ]  # fmt: skip
    works.append(("llama-0.6b-like reading", lambda: read("llama-0.6b-like", device, toy)))
    for what, work in works:
        if time.perf_counter() - started > SECONDS - 60:
            results.append({"work": what, "skipped": "the eight minutes were over"})
            continue
        try:
            results += work()
        except (RuntimeError, AssertionError, ValueError) as error:
            results.append({"work": what, "error": f"{type(error).__name__}: {error}"})
        brief = {key: value for key, value in results[-1].items() if key not in ("losses", "step_seconds")}
        print(json.dumps(brief), flush=True)
    if toy:
        if any("error" in result for result in results):
            raise SystemExit("something failed: see above")
        return
    properties = torch.cuda.get_device_properties(device)
    described = {
        "machine": {"gpu": properties.name, "memory_gib": properties.total_memory / 2**30},
        "versions": {name: version(name) for name in ("torch", "transformers")},
        "cuda": torch.version.cuda,
        "ceiling_tflops": ceiling / 1e12,
        "seconds": time.perf_counter() - started,
        "runs": results,
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(described, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
