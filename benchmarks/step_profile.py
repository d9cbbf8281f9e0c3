"""Where the time of a training step goes, operator by operator.

    python benchmarks/step_profile.py licence-notices      # or shared-prompt, or full

The loop of `tunesmith train` on the batches of benchmarks/training.py; the first step warms up and is not
counted. Times are of the operators themselves, without those they call; what no operator accounts for is
Python. Writes benchmarks/results/step-profile-<work>.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest.mock import patch

from training import BATCH_SIZE, WORKS, rendered_batches, train_settings

RESULTS = Path(__file__).parent / "results"
STEPS = 4
# The first kind whose part of a name is in an operator's name.
KINDS = {
    "matrix products": ("mm", "linear", "addmv", "mkldnn"),
    "softmax and log-softmax": ("softmax",),
    "copies and gathers": ("copy", "cat", "index", "gather", "clone", "contiguous", "fill", "zero"),
    "normalisation": ("rms_norm", "layer_norm"),
    "optimiser": ("adam", "foreach"),
}
OTHER = "other element-wise work"


def profile(work: str) -> dict[str, Any]:
    """Seconds by kind of operator and by operator, over all steps but the first."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    from tunesmith.engine.adapters import make_trainable
    from tunesmith.training import fit as loop

    loaded, batches = rendered_batches(work, STEPS)
    settings = train_settings(work)
    make_trainable(loaded.model, settings)
    rows = [row for batch in batches for row in batch]
    order = [list(range(at, at + BATCH_SIZE)) for at in range(0, len(rows), BATCH_SIZE)]
    profiler = profile(activities=[ProfilerActivity.CPU])
    plain_step, steps, seconds = loop._step, 0, 0.0

    def step(*arguments: Any, **named: Any) -> Any:
        nonlocal steps, seconds
        steps += 1
        if steps == 1:
            return plain_step(*arguments, **named)
        if steps == 2:
            profiler.start()
        started = time.perf_counter()
        done = plain_step(*arguments, **named)
        seconds += time.perf_counter() - started
        if steps == STEPS:
            profiler.stop()
        return done

    with (
        tempfile.TemporaryDirectory() as folder,
        patch.object(loop, "epoch_batches", lambda *_: order),
        patch.object(loop, "_step", step),
    ):
        loop.fit(loaded, rows, rows[:2], settings, Path(folder) / "checkpoints")
    operators = {event.key: event.self_cpu_time_total / 1e6 for event in profiler.key_averages()}
    kinds = dict.fromkeys((*KINDS, OTHER), 0.0)
    for name, own in operators.items():
        kinds[kind_of(name)] += own
    kinds["Python"] = max(0.0, seconds - sum(kinds.values()))
    most = sorted(operators.items(), key=lambda item: -item[1])[:20]
    return {
        "work": work,
        "steps": STEPS - 1,
        "machine": {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()},
        "threads": torch.get_num_threads(),
        "versions": {"torch": version("torch")},
        "seconds": seconds,
        "share_by_kind": {kind: own / seconds for kind, own in kinds.items()},
        "seconds_by_operator": dict(most),
    }


def kind_of(operator: str) -> str:
    """The kind an operator's name tells."""
    return next((kind for kind, parts in KINDS.items() if any(part in operator for part in parts)), OTHER)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("work", choices=WORKS)
    work = parser.parse_args().work
    result = profile(work)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"step-profile-{work}.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
