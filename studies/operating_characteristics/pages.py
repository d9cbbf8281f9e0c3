"""The study's table in Markdown and its picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from string import Template

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from coverage import Coverage
from projects import GOAL, MOST_OPENINGS, RULES, GuardOutcome, Outcome
from tunesmith.files import write_text
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
from tunesmith.stats.answers import Rule
from tunesmith.stats.intervals import wilson

PICTURE = "operating-characteristics.png"
HEIGHT = 640


@dataclass(frozen=True)
class Findings:
    """Everything that was simulated, and which rates missed their targets (none, it is hoped)."""

    projects: tuple[Outcome, ...]
    guards: tuple[GuardOutcome, ...]
    coverage: tuple[Coverage, ...]
    missed: tuple[str, ...]


def write_pages(found: Findings, docs: Path) -> None:
    """Write ``operating-characteristics.md`` and its picture."""
    write_text(docs / "operating-characteristics.md", _page(found))
    with style(), matplotlib.rc_context({"font.family": [png_font()]}):
        save_png(_picture(found), docs / PICTURE)


def _page(found: Findings) -> str:
    worst = max(
        (
            (outcome.shipped_by[rule][-1] / outcome.projects, outcome, rule)
            for outcome in found.projects
            for rule in outcome.shipped_by
        ),
        key=lambda entry: entry[0],
    )
    _, outcome, rule = worst
    template = Template((Path(__file__).parent / "page.md").read_text(encoding="utf-8"))
    return template.substitute(
        projects=f"{outcome.projects:,}",
        repetitions=f"{found.coverage[0].repetitions:,}",
        worst=_rate(outcome.shipped_by[rule][-1], outcome.projects),
        worst_setting=f"true gain {100 * outcome.setting.true_gain:.0f}, n = {outcome.setting.groups:,}, "
        f"{_rows(outcome.setting.clustered)} rows, rule `{rule}`",
        false_ships=_false_ships(found.projects),
        guards=_guards(found.guards),
        missed_gains=_missed_gains(found.projects),
        coverage=_coverages(found.coverage),
        result="; ".join(found.missed) or "none of the rates misses its target",
    )


def _false_ships(projects: Sequence[Outcome]) -> str:
    lines = [
        "| true gain | n (groups) | rows are | openings | ships, rule `estimate` | ships, rule `margin` |"
    ]
    lines.append("|---:|---:|---|---:|---:|---:|")
    for outcome in (outcome for outcome in projects if outcome.shipped_by):
        for opening in (1, 3, MOST_OPENINGS) if outcome.setting.true_gain == 0 else (MOST_OPENINGS,):
            shares = [_rate(outcome.shipped_by[rule][opening - 1], outcome.projects) for rule in RULES]
            lines.append(f"| {_setting(outcome)} | {opening} | {' | '.join(shares)} |")
    return "\n".join(lines)


def _guards(guards: Sequence[GuardOutcome]) -> str:
    names = {"text": "bits per byte of general text", "probe": "accuracy on probes"}
    lines = ["| guard at its margin | 1 opening | 3 openings | 10 openings |", "|---|---:|---:|---:|"]
    for guard in guards:
        shares = [_rate(guard.shipped_by[opening - 1], guard.projects) for opening in (1, 3, MOST_OPENINGS)]
        lines.append(f"| {names[guard.guard]} | {' | '.join(shares)} |")
    return "\n".join(lines)


def _missed_gains(projects: Sequence[Outcome]) -> str:
    lines = [
        "| true gain | n (groups) | rows are | `estimate`, 1st | `estimate`, 10th | `margin`, 1st | "
        "`margin`, 10th | DON'T, 1st |",
        "|---:|---:|---|---:|---:|---:|---:|---:|",
    ]
    for outcome in (outcome for outcome in projects if outcome.setting.true_gain > 0):
        cells = []
        for rule in RULES:
            first = outcome.projects - outcome.decisions[rule]["TRAIN"]
            tenth = outcome.projects - outcome.trained_at_ten[rule]
            cells += [_rate(first, outcome.projects), _rate(tenth, outcome.projects)]
        cells.append(_rate(outcome.decisions["estimate"]["DON'T"], outcome.projects))
        lines.append(f"| {_setting(outcome)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _coverages(coverage: Sequence[Coverage]) -> str:
    sizes = sorted({item.groups for item in coverage})
    lines = [f"| interval | rows are | {' | '.join(f'{size:,} groups' for size in sizes)} |"]
    lines.append("|---|---|" + "---:|" * len(sizes))
    for name in dict.fromkeys(item.interval for item in coverage):
        for clustered in (False, True):
            found = {i.groups: i for i in coverage if i.interval == name and i.clustered == clustered}
            shares = [_rate(found[size].covered, found[size].repetitions) for size in sizes]
            lines.append(f"| {name} | {_rows(clustered)} | {' | '.join(shares)} |")
    return "\n".join(lines)


def _setting(outcome: Outcome) -> str:
    setting = outcome.setting
    gain = f"{100 * setting.true_gain:+.0f}".replace("-", "−") if setting.true_gain else "0"
    return f"{gain} | {setting.groups:,} | {_rows(setting.clustered)}"


def _rows(clustered: bool) -> str:
    return "grouped" if clustered else "single"


def _rate(count: int, of: int) -> str:
    low, high = wilson(count / of, of, NormalDist().inv_cdf(0.975))
    return f"{100 * count / of:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"


def _picture(found: Findings) -> Figure:
    figure, page = canvas(WIDE, HEIGHT)
    write(page, 0, 16, "Chance of TRAIN at the first opening", bold=True)
    write(page, 0, 32, "grouped rows, rule estimate, by true gain in points", size=SMALL_SIZE, colour=MUTED)
    _chances(_axes(figure, (48, 44, 270, 220)), found.projects)
    write(page, 385, 16, "Chance that any of ten equal candidates ships", bold=True)
    write(page, 385, 32, "judged one after another; allowed: 5 %", size=SMALL_SIZE, colour=MUTED)
    _ships(_axes(figure, (425, 44, 250, 220)), found.projects)
    for x in (175, 550):
        write(page, x, 300, "groups in the sealed test", size=SMALL_SIZE, colour=MUTED, align="center")
    write(page, 0, 336, "Coverage of 95 % intervals", bold=True)
    detail = "each dot one setting, from 100 to 2,000 groups; hollow: grouped rows; wanted: 93.5 % or more"
    write(page, 0, 352, detail, size=SMALL_SIZE, colour=MUTED)
    _covered(_axes(figure, (220, 362, 440, 242)), found.coverage)
    return figure


def _chances(axes: Axes, projects: Sequence[Outcome]) -> None:
    grouped = [outcome for outcome in projects if outcome.setting.clustered]
    gains = sorted({outcome.setting.true_gain for outcome in grouped})
    for gain in gains:
        line = [outcome for outcome in grouped if outcome.setting.true_gain == gain]
        shares = [outcome.decisions["estimate"]["TRAIN"] / outcome.projects for outcome in line]
        colour = ACCENT if gain >= GOAL else MUTED
        groups = [outcome.setting.groups for outcome in line]
        axes.plot(groups, shares, color=colour, marker="o", markersize=3.5)
        if gain > -GOAL:
            # Where the curves are furthest apart.
            label, at = (f"{100 * gain:+.0f}", 1 if gain >= 0.1 else 2) if gain else ("0 or less", 5)
            axes.annotate(
                label, (groups[at], shares[at]), xytext=(-6, 6), textcoords="offset points",
                fontsize=SMALL_SIZE, color=colour, ha="right",
            )  # fmt: skip
    _group_axis(axes, [outcome.setting.groups for outcome in grouped])
    axes.set_ylim(-0.02, 1.02)
    _percent_axis(axes, [0, 0.25, 0.5, 0.75, 1])


def _ships(axes: Axes, projects: Sequence[Outcome]) -> None:
    equal = [outcome for outcome in projects if outcome.setting.true_gain == 0]
    styles: dict[Rule, str] = {"estimate": ACCENT, "margin": INK}
    for rule, colour in styles.items():
        for clustered in (False, True):
            line = [outcome for outcome in equal if outcome.setting.clustered == clustered]
            groups = [outcome.setting.groups for outcome in line]
            shares = [outcome.shipped_by[rule][-1] / outcome.projects for outcome in line]
            axes.plot(groups, shares, color=colour, marker="o", markersize=5,
                      markerfacecolor="white" if clustered else colour)  # fmt: skip
    axes.axhline(0.05, color=MUTED, linewidth=1.1, linestyle=(0, (4, 3)))
    _group_axis(axes, [outcome.setting.groups for outcome in equal])
    axes.set_ylim(-0.001, 0.07)
    _percent_axis(axes, [0, 0.01, 0.02, 0.03, 0.04, 0.05, 0.06])
    axes.text(2000, 0.064, "rule estimate", fontsize=SMALL_SIZE, color=ACCENT, ha="right")
    axes.text(2000, 0.058, "rule margin; hollow: grouped rows", fontsize=SMALL_SIZE, color=INK, ha="right")


def _covered(axes: Axes, coverage: Sequence[Coverage]) -> None:
    names = list(dict.fromkeys(item.interval for item in coverage))
    for item in coverage:
        share = item.covered / item.repetitions
        axes.plot(
            share, names.index(item.interval), marker="o", markersize=5.5, color=INK, linestyle="",
            markerfacecolor="white" if item.clustered else INK,
        )  # fmt: skip
    axes.axvline(0.935, color=ACCENT, linewidth=1.1, linestyle=(0, (4, 3)))
    axes.axvline(0.95, color=LINE, linewidth=1.1)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.yaxis.set_major_locator(FixedLocator(range(len(names))))
    axes.set_yticklabels(names, fontsize=SMALL_SIZE, color=INK)
    axes.set_xlim(0.92, 1.0)
    axes.xaxis.set_major_locator(FixedLocator([0.92, 0.935, 0.95, 0.965, 0.98, 0.995]))
    axes.xaxis.set_major_formatter(_percents(1))


def _axes(figure: Figure, box: tuple[float, float, float, float]) -> Axes:
    left, top, width, height = box
    axes = figure.add_axes((left / WIDE, 1 - (top + height) / HEIGHT, width / WIDE, height / HEIGHT))
    axes.tick_params(length=3, color=LINE, labelsize=SMALL_SIZE, labelcolor=MUTED)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(LINE)
    axes.set_facecolor("none")
    return axes


def _group_axis(axes: Axes, groups: Sequence[int]) -> None:
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(sorted(set(groups))))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))


def _percent_axis(axes: Axes, ticks: Sequence[float]) -> None:
    axes.yaxis.set_major_locator(FixedLocator(list(ticks)))
    axes.yaxis.set_major_formatter(_percents(0))
    axes.grid(axis="y", color=FAINT, linewidth=0.8)
    axes.set_axisbelow(True)


def _percents(digits: int) -> FuncFormatter:
    def show(value: float, _: int) -> str:
        return f"{100 * value:.{digits}f} %"

    return FuncFormatter(show)
