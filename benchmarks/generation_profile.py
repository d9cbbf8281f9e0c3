"""Where the time of generating goes: by phase, and operator by operator.

    OMP_NUM_THREADS=2 python benchmarks/generation_profile.py

The prompts and the settings of benchmarks/generation.py. Phases are timed in a run without a profiler; times
of operators, of a second run with half the prompts, are their own, without those they call. Writes
benchmarks/results/generation-profile.json.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

from generation import BASE, demo_prompts, machine, our_rate, print_line, versions
from step_profile import KINDS, OTHER, kind_of
from torch.profiler import ProfilerActivity, profile

from tunesmith.engine import attention, generation
from tunesmith.engine.decoding import SlotReader
from tunesmith.engine.precision import DTYPES, tune_process
from tunesmith.files import write_json
from tunesmith.models.catalog import resolve_base
from tunesmith.models.loading import load_base
from tunesmith.wheels import cache_folder

OUTPUT = Path("benchmarks/results/generation-profile.json")
PROMPTS, CHARACTERS, NEW_TOKENS = 256, 300, 64
# A profiler's records of all of them take minutes to sort.
PROFILED_PROMPTS = 128


def main() -> None:
    """Measure, print, and write the results."""
    tune_process()
    attention.register()
    base = resolve_base(BASE, Path.cwd(), cache_folder(), say=print_line)
    loaded = load_base(base, DTYPES["bf16"], attention.ATTENTION_NAME)
    prompts = demo_prompts(loaded, PROMPTS, CHARACTERS)
    our_rate(loaded, prompts, 2)  # first use of its memory
    phases: dict[str, float] = {}
    with (
        patch.object(SlotReader, "admit", _timed(SlotReader.admit, "reading prompts", phases)),
        patch.object(SlotReader, "step", _timed(SlotReader.step, "layers of new tokens", phases)),
        patch.object(SlotReader, "logits", _timed(SlotReader.logits, "output head", phases)),
        patch.object(generation, "_answer", _timed(generation._answer, "choosing tokens", phases)),
    ):
        rate = our_rate(loaded, prompts, NEW_TOKENS)
    seconds = PROMPTS * NEW_TOKENS / rate
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        started = time.perf_counter()
        our_rate(loaded, prompts[:PROFILED_PROMPTS], NEW_TOKENS)
        profiled = time.perf_counter() - started
    operators = {event.key: event.self_cpu_time_total / 1e6 for event in profiler.key_averages()}
    kinds = dict.fromkeys((*KINDS, OTHER), 0.0)
    for name, own in operators.items():
        kinds[kind_of(name)] += own
    kinds["Python"] = max(0.0, profiled - sum(kinds.values()))
    result = {
        "what": f"{PROMPTS} prompts, {NEW_TOKENS} new tokens each",
        "profiled_prompts": PROFILED_PROMPTS,
        "prompt_tokens": sum(map(len, prompts)),
        "machine": machine(),
        "versions": versions(),
        "tokens_per_second": round(rate, 1),
        "share_by_phase": {name: round(spent / seconds, 3) for name, spent in phases.items()},
        "share_by_kind": {kind: round(own / profiled, 3) for kind, own in kinds.items()},
        "seconds_by_operator": dict(sorted(operators.items(), key=lambda item: -item[1])[:20]),
    }
    write_json(OUTPUT, result)
    print_line(str(result))


def _timed(method: Callable[..., Any], name: str, phases: dict[str, float]) -> Callable[..., Any]:
    def timed(*arguments: Any) -> Any:
        started = time.perf_counter()
        done = method(*arguments)
        phases[name] = phases.get(name, 0.0) + time.perf_counter() - started
        return done

    return timed


if __name__ == "__main__":
    main()
