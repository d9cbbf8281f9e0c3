"""The study's page: tables in Markdown and the picture, from the result files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter

from arms import ARMS, Curation, Trained
from planting import KINDS
from tunesmith.errors import UserError
from tunesmith.files import read_record, write_text
from tunesmith.records import Estimate, PairedGain
from tunesmith.report.drawing import (
    ACCENT,
    FAINT,
    INK,
    LINE,
    MUTED,
    SMALL_SIZE,
    WIDE,
    canvas,
    png_font,
    save_png,
    style,
    write,
)
from tunesmith.stats.intervals import proportion_interval
from tunesmith.stats.paired import paired_gain
from tunesmith.stats.seeds import mean_over_seeds

PAGE = "curated-vs-noisy.md"
PICTURE = "curated-vs-noisy.png"
HEIGHT = 210
# What is compared: the first minus the second.
PAIRS = (
    ("curated", "raw"),
    ("random", "raw"),
    ("longest", "raw"),
    ("clean", "raw"),
    ("curated", "random"),
    ("curated", "longest"),
    ("curated", "clean"),
)
TITLES = {
    "raw": "raw: the noisy pool",
    "curated": "curated: audit, plan, apply",
    "random": "random rows of the pool",
    "longest": "longest rows of the pool",
    "clean": "clean: the pool before the noise",
}


@dataclass(frozen=True)
class Gain:
    """One arm minus another: over seeds, and over the rows of all seeds' tests."""

    arm: str
    other: str
    by_seed: tuple[float, ...]
    over_seeds: Estimate
    over_rows: PairedGain


@dataclass(frozen=True)
class Findings:
    """All complete seeds of one data set, by seed and arm, and what curation did to each pool."""

    dataset: str
    trained: tuple[dict[str, Trained], ...]
    curations: tuple[Curation, ...]
    gains: tuple[Gain, ...]


def write_page(results: Path, docs: Path) -> None:
    """Write ``curated-vs-noisy.md`` and its picture from the seeds of which every arm is there.

    Raises UserError where a data set has fewer than two such seeds.
    """
    found = [_findings(folder) for folder in sorted(results.iterdir()) if folder.is_dir()]
    template = Template((Path(__file__).parent / "comparison.md").read_text(encoding="utf-8"))
    one = found[0].trained[0]["raw"]
    page = template.substitute(
        result="\n".join(f"- **{each.dataset}**: {_told(each)}" for each in found),
        accuracies=_accuracies(found),
        gains=_gains(found),
        fates=_fates(found),
        removals=_removals(found),
        tokens=f"{max(run.trained_tokens for each in found for run in each.trained[0].values()):,}",
        seeds=", ".join(f"{each.dataset} {len(each.trained)}" for each in found),
        test_rows=f"{len(one.right):,}",
        precision=one.precision,
        machine=f"{one.machine['processor']}, {one.threads} thread",
        versions=", ".join(f"{name} {version}" for name, version in one.versions.items()),
        minutes=f"{sum(r.processor_seconds for e in found for s in e.trained for r in s.values()) / 60:.0f}",
    )
    write_text(docs / PAGE, page)
    with style(), matplotlib.rc_context({"font.family": [png_font()]}):
        save_png(_picture(found), docs / PICTURE)


def _findings(folder: Path) -> Findings:
    trained, curations = [], []
    for path in sorted(folder.glob("seed-*-curation.json")):
        arms = {arm: path.with_name(path.name.replace("curation", arm)) for arm in ARMS}
        if all(file.is_file() for file in arms.values()):
            trained.append({arm: read_record(file, Trained) for arm, file in arms.items()})
            curations.append(read_record(path, Curation))
    if len(trained) < 2:
        raise UserError(f"{folder.name}: {len(trained)} seeds are complete", "run two seeds or more")
    gains = tuple(_gain(arm, other, trained, curations) for arm, other in PAIRS)
    return Findings(folder.name, tuple(trained), tuple(curations), gains)


def _gain(arm: str, other: str, trained: Sequence[dict[str, Trained]], curations: Sequence[Curation]) -> Gain:
    by_seed = tuple(runs[arm].accuracy - runs[other].accuracy for runs in trained)
    rows = paired_gain(
        [mark == "1" for runs in trained for mark in runs[arm].right],
        [mark == "1" for runs in trained for mark in runs[other].right],
        [row for curation in curations for row in curation.test_rows],
        other,
        0.025,
    )
    return Gain(arm, other, by_seed, mean_over_seeds(by_seed), rows)


def _told(found: Findings) -> str:
    gains = {(gain.arm, gain.other): gain for gain in found.gains}
    told = []
    for pair, what in (
        (("curated", "raw"), "the raw pool"),
        (("curated", "random"), "as many random rows"),
        (("curated", "longest"), "as many of the longest rows"),
    ):
        told.append(f"{_points(gains[pair].over_seeds)} points against {what} ({_judged(gains[pair])})")
    most = gains["clean", "raw"]
    return (
        f"curated data gave {'; '.join(told)}. Without any noise the gain over the raw pool is "
        f"{_points(most.over_seeds)} ({_judged(most)})."
    )


def _judged(gain: Gain) -> str:
    """What both intervals say together; the wider one decides."""
    rows = gain.over_rows
    assert rows.low is not None
    assert rows.high is not None
    low, high = min(gain.over_seeds.low, rows.low), max(gain.over_seeds.high, rows.high)
    return "better" if low > 0 else "worse" if high < 0 else "no difference is shown"


def _accuracies(found: Sequence[Findings]) -> str:
    lines = [
        "| data set | arm | accuracy, mean over seeds | by seed | rows | wrong labels | passes |",
        "|---|---|---:|---|---:|---:|---:|",
    ]
    for each in found:
        for arm in ARMS:
            runs = [seed[arm] for seed in each.trained]
            scores = [run.accuracy for run in runs]
            mean = mean_over_seeds(scores)
            rows = _range([run.rows for run in runs])
            wrong = _range([run.wrong_labels for run in runs])
            passes = _range([round(run.passes, 1) for run in runs])
            lines.append(
                f"| {each.dataset} | {arm} | {_percent(mean)} | "
                f"{' '.join(f'{100 * score:.1f}' for score in scores)} | {rows} | {wrong} | {passes} |"
            )
    return "\n".join(lines)


def _gains(found: Sequence[Findings]) -> str:
    lines = [
        "| data set | difference | points, t over seeds | points, over rows | rows won, lost | by seed |",
        "|---|---|---:|---:|---:|---|",
    ]
    for each in found:
        for gain in each.gains:
            rows, by_seed = gain.over_rows, " ".join(_signed(value) for value in gain.by_seed)
            lines.append(
                f"| {each.dataset} | {gain.arm} − {gain.other} | {_points(gain.over_seeds)} | "
                f"{_points(rows)} | {rows.wins}, {rows.losses} | {by_seed} |"
            )
    return "\n".join(lines)


def _fates(found: Sequence[Findings]) -> str:
    lines = [
        "| data set | planted | rows | removed | mended | waiting for a person | recall: removed or mended |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for each in found:
        for kind in (*KINDS, "none"):
            fates = [fate for curation in each.curations for fate in curation.fates if fate.planted == kind]
            rows, removed = sum(fate.rows for fate in fates), sum(fate.removed for fate in fates)
            mended, asked = sum(fate.mended for fate in fates), sum(fate.asked for fate in fates)
            recall = "" if kind == "none" else _share(removed + mended, rows)
            lines.append(f"| {each.dataset} | {kind} | {rows} | {removed} | {mended} | {asked} | {recall} |")
    return "\n".join(lines)


def _removals(found: Sequence[Findings]) -> str:
    lines = [
        "| data set | rows removed | with noise (precision) | with a wrong label | noise in the pool |",
        "|---|---:|---:|---:|---:|",
    ]
    for each in found:
        fates = [fate for curation in each.curations for fate in curation.fates]
        removed = sum(fate.removed for fate in fates)
        noisy = sum(fate.removed for fate in fates if fate.planted != "none")
        labels = sum(fate.removed for fate in fates if fate.planted in ("wrong label", "contradicting copy"))
        planted = sum(fate.rows for fate in fates if fate.planted != "none")
        rows = sum(fate.rows for fate in fates)
        lines.append(
            f"| {each.dataset} | {removed} | {_share(noisy, removed)} | {_share(labels, removed)} | "
            f"{100 * planted / rows:.1f} % |"
        )
    return "\n".join(lines)


def _share(count: int, of: int) -> str:
    if not of:
        return "none"
    found = proportion_interval([True] * count + [False] * (of - count), [str(row) for row in range(of)])
    return _percent(found)


def _percent(found: Estimate) -> str:
    return f"{100 * found.value:.1f} % [{100 * found.low:.1f}, {100 * found.high:.1f}]"


def _points(found: Estimate | PairedGain) -> str:
    assert found.low is not None
    assert found.high is not None
    return f"{_signed(found.value)} [{_signed(found.low)}, {_signed(found.high)}]"


def _signed(share: float, digits: int = 1) -> str:
    return f"{100 * share:+.{digits}f}".replace("-", "−")


def _range(numbers: Sequence[float]) -> str:
    low, high = min(numbers), max(numbers)
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


def _picture(found: Sequence[Findings]) -> Figure:
    figure, page = canvas(WIDE, HEIGHT)
    write(page, 0, 16, "Accuracy on the test, in points above the raw noisy pool", bold=True)
    detail = "equal training tokens; dots: seeds; bars: 95 % intervals of the mean (Student's t over seeds)"
    write(page, 0, 32, detail, size=SMALL_SIZE, colour=MUTED)
    arms = [arm for arm, other in PAIRS if other == "raw"]
    shown = [gain for each in found for gain in each.gains if gain.other == "raw"]
    values = [(*gain.by_seed, gain.over_seeds.low, gain.over_seeds.high) for gain in shown]
    most = max(0.01, 1.05 * max(abs(value) for of_gain in values for value in of_gain))
    left, gap = 188, 24
    width = (WIDE - left - gap * (len(found) - 1) - 8) / len(found)
    for number, each in enumerate(found):
        start = left + number * (width + gap)
        write(page, start + width / 2, 56, each.dataset, size=SMALL_SIZE, align="center")
        axes = figure.add_axes((start / WIDE, 1 - 176 / HEIGHT, width / WIDE, 112 / HEIGHT))
        _panel(axes, each, arms, most)
    for place, arm in enumerate(arms):
        y = 64 + 112 * (place + 0.5) / len(arms) + 4
        write(page, 0, y, TITLES[arm], size=SMALL_SIZE)
    return figure


def _panel(axes: Axes, each: Findings, arms: Sequence[str], most: float) -> None:
    gains = {gain.arm: gain for gain in each.gains if gain.other == "raw"}
    for place, arm in enumerate(arms):
        gain = gains[arm]
        colour = ACCENT if arm == "curated" else INK
        axes.plot([gain.over_seeds.low, gain.over_seeds.high], [place, place], color=colour, linewidth=1.8)
        axes.plot(gain.over_seeds.value, place, marker="o", markersize=7, color=colour)
        axes.plot(gain.by_seed, [place + 0.26] * len(gain.by_seed), "o", markersize=3, color=MUTED, alpha=0.8)
    axes.axvline(0, color=LINE, linewidth=1.1)
    axes.set_xlim(-most, most)
    axes.set_ylim(len(arms) - 0.5, -0.5)
    axes.yaxis.set_major_locator(FixedLocator([]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _signed(value, 0) if value else "0"))
    axes.tick_params(length=3, color=LINE, labelsize=SMALL_SIZE, labelcolor=MUTED)
    axes.grid(axis="x", color=FAINT, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_facecolor("none")
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(LINE)
