"""The result files as one picture and one table: our rate over each peer's, run by run.

    python benchmarks/chart.py        # writes docs/speed.png, prints the table of docs/speed.md

Whatever benchmarks/results/ does not hold is left out.
"""

from __future__ import annotations

import json
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

RESULTS = Path(__file__).parent / "results"
PICTURE = Path(__file__).parent.parent / "docs" / "speed.png"
INK, QUIET, MARK, AIM = "#1b1f24", "#6b7280", "#0b6e99", "#c2410c"
TRAINING = {
    "licence-notices": ("LoRA", {"trl defaults": 10.0, "trl bf16 eager": 6.0}),
    "shared-prompt": ("LoRA, shared prompt", {"trl bf16 eager": 20.0}),
    "full": ("full fine-tuning", {"trl bf16 eager": 4.0}),
}
GENERATION = {
    "transformers bf16, one by one": 25.0,
    "transformers fp32, one by one": 25.0,
    "transformers bf16": 1.5,
    "transformers fp32": 1.5,
    # The best CPU engine that wheels install: whichever of these it is.
    "ctranslate2": 1.2,
    "openvino-genai": 1.2,
    "xllamacpp": 1.2,
}
LABELS = {"each option separately": 15.0, "lm-eval": 8.0}


@dataclass(frozen=True)
class Comparison:
    """Our rate over a peer's, of paired runs, and the ratio that was aimed at."""

    work: str
    peer: str
    ours: float
    theirs: float
    unit: str
    ratios: tuple[float, ...]
    aim: float | None

    @property
    def ratio(self) -> float:
        return statistics.median(self.ratios)


def comparisons() -> list[Comparison]:
    """All that was measured, in the order of the table."""
    found: list[Comparison] = []
    for work, (title, aims) in TRAINING.items():
        result = _read(f"training-{work}.json")
        if result is not None:
            rates = result["median_tokens_per_second"]
            for peer, values in result["ratios_to_tunesmith"].items():
                if peer == "ceiling":
                    continue
                aim, ours = aims.get(peer), rates["tunesmith"]
                found.append(
                    Comparison(title, _peer(peer), ours, rates[peer], "tokens/s", tuple(values), aim)
                )
    result = _read("documents.json")
    if result is not None:
        rates, values = result["median_tokens_per_second"], tuple(result["shared_over_apart"])
        work, peer = "LoRA, 17 rows a document", "the same loop, rows apart"
        found.append(Comparison(work, peer, rates["shared"], rates["apart"], "tokens/s", values, 5.0))
    seen = set[str]()
    # The last holds the peers that were far behind when all were measured together.
    for name in ("generation.json", "generation-openvino.json", "generation-others.json"):
        result = _read(name)
        if result is None:
            continue
        for peer, values in result["ours_over_theirs"].items():
            if peer in seen:
                continue
            seen.add(peer)
            aim = next((aim for known, aim in GENERATION.items() if peer.startswith(known)), None)
            ours, theirs = result["runs"]["tunesmith bf16"]["median"], result["runs"][peer]["median"]
            paired = tuple(ratio for ratio in values["runs"] if ratio is not None)
            found.append(Comparison("generation", peer, ours, theirs, "tokens/s", paired, aim))
    result = _read("label_scoring.json")
    if result is not None:
        rates = result["median_prompts_per_second"]
        for peer, values in result["ratios_to_tunesmith"].items():
            pair = rates["tunesmith"], rates[peer]
            found.append(
                Comparison("scoring 30 options", peer, *pair, "prompts/s", tuple(values), LABELS[peer])
            )
    return found


def draw(found: list[Comparison]) -> None:
    """Dots (medians) on lines (least to most of the runs), and a tick where the aim was."""
    figure = Figure(figsize=(8.4, 0.42 * len(found) + 1.1), dpi=160)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.43, 0.75 / figure.get_figheight(), 0.53, 1 - 1.0 / figure.get_figheight()))
    axes.set_xscale("log")
    for place, one in enumerate(reversed(found)):
        axes.plot([min(one.ratios), max(one.ratios)], [place, place], color=MARK, linewidth=2.4)
        axes.plot([one.ratio], [place], "o", color=MARK, markersize=6.5)
        axes.text(one.ratio, place + 0.22, f"{one.ratio:.1f}×", ha="center", fontsize=7.5, color=INK)
        if one.aim is not None:
            axes.plot([one.aim], [place], "|", color=AIM, markersize=13, markeredgewidth=1.8)
    axes.axvline(1, color=QUIET, linewidth=0.8)
    axes.set_ylim(-0.6, len(found) - 0.2)
    axes.set_yticks(range(len(found)))
    axes.set_yticklabels([f"{one.work}\nover {one.peer}" for one in reversed(found)], fontsize=7.5)
    ticks = [1, 2, 5, 10, 20, 50]
    axes.set_xticks(ticks)
    axes.set_xticklabels([f"{tick}×" for tick in ticks], fontsize=8)
    axes.minorticks_off()
    axes.set_xlabel(
        "times the peer's rate: median and range of paired runs; orange: aimed at", fontsize=8, color=QUIET
    )
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(axis="y", length=0)
    figure.savefig(PICTURE)


def table(found: list[Comparison]) -> str:
    """The same in Markdown."""
    lines = ["| work | peer | ours | peer's | ratio (range) | aimed at |", "|---|---|---|---|---|---|"]
    for one in found:
        digits = 0 if one.theirs >= 10 else 2
        aim = "" if one.aim is None else f"{one.aim:g}×{'' if one.ratio >= one.aim else ' (missed)'}"
        span = f"{min(one.ratios):.1f} to {max(one.ratios):.1f}, n = {len(one.ratios)}"
        lines.append(
            f"| {one.work} | {one.peer} | {one.ours:,.{digits}f} {one.unit} | {one.theirs:,.{digits}f} | "
            f"{one.ratio:.1f}× ({span}) | {aim} |"
        )
    return "\n".join(lines)


def _peer(name: str) -> str:
    return {"trl defaults": "TRL, its defaults", "trl bf16 eager": "TRL, best tuned"}.get(name, name)


def _read(name: str) -> dict[str, Any] | None:
    path = RESULTS / name
    result: dict[str, Any] | None = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    return result


if __name__ == "__main__":
    measured = comparisons()
    draw(measured)
    sys.stdout.write(table(measured) + "\n")
