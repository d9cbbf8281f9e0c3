"""The log-probabilities of 30 answers to prompts of about 200 tokens, beside two usual ways, in one run.

    OMP_NUM_THREADS=2 python benchmarks/label_scoring.py

The labels are the demo's licences, the prompts licence notices in the base's chat template, their instruction
the same. Beside it: every answer with its whole prompt as a row of its own through Transformers (rows sorted
by length, each batch size tried, logits of the answer's tokens only), and lm-eval's Hugging Face backend with
its own batching (``pip install lm-eval``; left out where it is not installed). All in bf16 on the same
weights. The slow ways get fewer prompts; rates are prompts a second. Every way's numbers are compared with
fp32 sums of the model's own forward. Writes benchmarks/results/label_scoring.json.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

RESULT = Path(__file__).parent / "results" / "label_scoring.json"
TASK = Path(__file__).parent.parent / "examples" / "licence-notices" / "task.yaml"
TOKENS, LABELS = 200, 30
FloatArray = NDArray[np.float64]
Scorer = Callable[[Any, Sequence[Sequence[int]], Sequence[Sequence[int]]], FloatArray]


def prompts_and_labels(count: int) -> tuple[Any, list[list[int]], list[list[int]]]:
    """The loaded base in bf16, prompts of about ``TOKENS`` tokens, and the answers with their end token."""
    from rich.console import Console

    from tunesmith.candidates.answers import task_tree
    from tunesmith.data.versions import read_split
    from tunesmith.models.rendering import instructed, render_prompt
    from tunesmith.stages.data import make_dataset
    from tunesmith.stages.session import Session
    from tunesmith.task import load_task
    from tunesmith.workspace import TaskFolder

    task = load_task(TASK)
    folder = Path(tempfile.gettempdir()) / "tunesmith-benchmark" / task.name
    session = Session(task, TaskFolder(folder), Console(stderr=True, quiet=True))
    dataset, _ = make_dataset(session)
    loaded = session.load_again("bf16")
    prompts = [
        render_prompt(loaded, instructed(task.instruction, row))
        for split in ("train", "validation")
        for row in read_split(dataset, split)
    ]
    prompts.sort(key=lambda prompt: abs(len(prompt) - TOKENS))
    labels = list(dataset.manifest.labels)[:LABELS]
    return loaded, prompts[:count], task_tree(loaded, labels).sequences()


def ours(loaded: Any, prompts: Sequence[Sequence[int]], labels: Sequence[Sequence[int]]) -> FloatArray:
    """As every candidate that chooses among labels is scored, without leaving any label out."""
    from tunesmith.engine.scoring import score_labels
    from tunesmith.engine.trees import answer_tree

    return score_labels(loaded.model, prompts, answer_tree(labels), loaded.pad_token, None).log_probabilities


def separately(batch_size: int, model: Any = None) -> Scorer:
    """Every answer with its prompt as a row of its own."""

    def score(loaded: Any, prompts: Sequence[Sequence[int]], labels: Sequence[Sequence[int]]) -> FloatArray:
        scores = np.zeros((len(prompts), len(labels)))
        pairs = [(row, label) for row in range(len(prompts)) for label in range(len(labels))]
        pairs.sort(key=lambda pair: len(prompts[pair[0]]) + len(labels[pair[1]]))
        own = model or loaded.plain
        with torch.no_grad():
            for start in range(0, len(pairs), batch_size):
                batch = pairs[start : start + batch_size]
                rows = [[*prompts[row], *labels[label][:-1]] for row, label in batch]
                longest = max(map(len, rows))
                most = max(len(labels[label]) for _, label in batch)
                ids = torch.full((len(rows), longest), loaded.pad_token)
                mask = torch.zeros((len(rows), longest), dtype=torch.long)
                for place, tokens in enumerate(rows):  # padded on the left: the answers' logits come last
                    ids[place, longest - len(tokens) :] = torch.tensor(tokens)
                    mask[place, longest - len(tokens) :] = 1
                positions = (mask.cumsum(1) - 1).clamp(min=0)
                logits = own(
                    input_ids=ids, attention_mask=mask, position_ids=positions, logits_to_keep=most
                ).logits
                log_p = torch.log_softmax(logits.float(), -1)
                for place, (row, label) in enumerate(batch):
                    answer = torch.tensor(labels[label])
                    own_log_p = log_p[place, -len(answer) :]
                    scores[row, label] = own_log_p.gather(1, answer[:, None]).double().sum().item()
        return scores

    return score


def lm_eval(batch_size: int) -> Scorer:
    """lm-evaluation-harness, its Hugging Face backend, on the loaded model."""
    hflm: Any = importlib.import_module("lm_eval.models.huggingface").HFLM  # need not be installed

    kept: dict[int, Any] = {}

    def score(loaded: Any, prompts: Sequence[Sequence[int]], labels: Sequence[Sequence[int]]) -> FloatArray:
        if id(loaded) not in kept:
            kept[id(loaded)] = hflm(
                pretrained=loaded.plain, tokenizer=loaded.tokenizer, batch_size=batch_size, device="cpu"
            )
        requests = [(("", ""), list(prompt), list(label)) for prompt in prompts for label in labels]
        found = kept[id(loaded)]._loglikelihood_tokens(requests, disable_tqdm=True)
        return np.array([total for total, _ in found]).reshape(len(prompts), len(labels))

    return score


class Loaded:
    """What the ways need: our model, Transformers' own on the same weights, its tokenizer and padding."""

    def __init__(self, loaded: Any) -> None:
        from transformers import AutoModelForCausalLM

        causal: Any = AutoModelForCausalLM
        self.model, self.tokenizer, self.pad_token = loaded.model, loaded.tokenizer, loaded.pad_token
        self.plain = causal.from_pretrained(loaded.base.folder, dtype=torch.bfloat16).eval()
        self.exact = causal.from_pretrained(loaded.base.folder, dtype=torch.float32).eval()


def main() -> None:
    """Choose the peers' batch sizes, measure all in turn, compare what they found, write the result."""
    from tunesmith.engine.precision import tune_process

    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--prompts", type=int, default=64, help="for us; the other ways get the first 4")
    parser.add_argument("--batch-sizes", type=int, nargs="*", default=[1, 8, 30, 64])
    asked = parser.parse_args()
    tune_process()
    base, prompts, labels = prompts_and_labels(asked.prompts)
    loaded, few = Loaded(base), prompts[:4]

    def rate(way: Scorer, given: Sequence[Sequence[int]]) -> float:
        started = time.perf_counter()
        way(loaded, given, labels)
        found = len(given) / (time.perf_counter() - started)
        print(f"{found:.2f} prompts/s", file=sys.stderr, flush=True)
        return found

    peers: dict[str, Callable[[int], Scorer]] = {"each option separately": separately}
    if importlib.util.find_spec("lm_eval") is not None:
        peers["lm-eval"] = lm_eval
    tuning = {
        name: {size: rate(make(size), few[:2]) for size in asked.batch_sizes} for name, make in peers.items()
    }
    best = {name: max(rates, key=lambda size: rates[size]) for name, rates in tuning.items()}
    ways: dict[str, Scorer] = {"tunesmith": ours}
    ways |= {name: make(best[name]) for name, make in peers.items()}
    given = {name: prompts if name == "tunesmith" else few for name in ways}
    for name, way in ways.items():  # warm
        way(loaded, given[name][:2], labels)
    runs = [{name: rate(way, given[name]) for name, way in ways.items()} for _ in range(asked.runs)]
    exact = separately(8, loaded.exact)(loaded, few, labels)
    result = {
        "options": len(labels),
        "prompt_tokens": [min(map(len, prompts)), max(map(len, prompts))],
        "prompts": {name: len(some) for name, some in given.items()},
        "machine": {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()},
        "threads": torch.get_num_threads(),
        "versions": {
            name: version(name)
            for name in ("torch", "transformers", *(["lm_eval"] if "lm-eval" in peers else []))
        },
        "prompts_per_second_by_batch_size": tuning,
        "median_prompts_per_second": {n: statistics.median(run[n] for run in runs) for n in ways},
        "ratios_to_tunesmith": {name: sorted(run["tunesmith"] / run[name] for run in runs) for name in peers},
        "mean_distance_from_fp32_nats": {
            name: float(np.abs(way(loaded, few, labels) - exact).mean()) for name, way in ways.items()
        },
        "runs": runs,
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps({key: value for key, value in result.items() if key != "runs"}, indent=1))


if __name__ == "__main__":
    main()
