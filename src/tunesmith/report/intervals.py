"""Rows of label, interval and numbers: the form shared by forest, gain and forgetting plots."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from tunesmith.report.drawing import ACCENT, FAINT, INK, LINE, MUTED, PAPER, SMALL_SIZE, wrap, write

# From this width on, label, interval and numbers share a line.
ONE_LINE_WIDTH = 560
_SECTION_GAP = 16


@dataclass(frozen=True)
class Mark:
    """One row of an interval plot. ``value`` None draws nothing: the note says why."""

    label: str
    note: str
    value: float | None
    low: float | None = None
    high: float | None = None
    accent: bool = False
    bold: bool = False
    filled: bool = True


@dataclass(frozen=True)
class Section:
    """Rows of an interval plot under one heading."""

    title: str
    detail: str
    marks: tuple[Mark, ...]


@dataclass(frozen=True)
class Reference:
    """A vertical line that the intervals are read against, with its own label."""

    value: float
    label: str
    accent: bool = False


@dataclass(frozen=True)
class Scale:
    """Data values to horizontal pixels."""

    low: float
    high: float
    left: float
    right: float

    def __call__(self, value: float) -> float:
        return self.left + (value - self.low) / (self.high - self.low) * (self.right - self.left)

    def ticks(self) -> list[float]:
        steps = MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10]).tick_values(self.low, self.high)
        return [float(step) for step in steps if self.low <= step <= self.high]


def data_range(sections: Sequence[Section], references: Sequence[Reference] = ()) -> tuple[float, float]:
    """The smallest range, with some air, that holds all values, intervals and reference lines."""
    values = [reference.value for reference in references]
    for section in sections:
        for mark in section.marks:
            values += [value for value in (mark.value, mark.low, mark.high) if value is not None]
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    air = (high - low) * 0.06 or 0.01
    return low - air, high + air


def interval_plot_height(sections: Sequence[Section], references: Sequence[Reference], width: float) -> float:
    """The pixels that :func:`draw_intervals` will use."""
    rows = sum(_row_height(mark, width) for section in sections for mark in section.marks)
    heads = sum(_head_height(section, width) for section in sections)
    return rows + heads + 18 * len(references) + _SECTION_GAP * (len(sections) - 1) + 44


def draw_intervals(
    axes: Axes,
    sections: Sequence[Section],
    references: Sequence[Reference],
    axis_label: str,
    top: float,
    width: float,
    unit: float = 100.0,
) -> None:
    """Rows of label, interval and numbers; on narrow figures the label stands above its interval.

    Ticks show values times ``unit``: 100 for per cent.
    """
    left, right = (0.36 * width, 0.70 * width) if width >= ONE_LINE_WIDTH else (4.0, width - 4.0)
    scale = Scale(*data_range(sections, references), left, right)
    y = top
    for index, section in enumerate(sections):
        y += _SECTION_GAP if index else 0
        write(axes, 0, y + 14, section.title, bold=True)
        for number, line in enumerate(_detail_lines(section, width), start=1):
            write(axes, 0, y + 14 + 16 * number, line, size=SMALL_SIZE, colour=MUTED)
        y += _head_height(section, width)
        for reference in references if index == 0 else ():
            _name_reference(axes, reference, scale, y)
            y += 18
        for mark in section.marks:
            height = _row_height(mark, width)
            _draw_row(axes, mark, references, scale, y, height, width)
            y += height
    axes.plot([left, right], [y + 4, y + 4], color=LINE, linewidth=0.8)
    for tick in scale.ticks():
        x = scale(tick)
        axes.plot([x, x], [y + 4, y + 8], color=LINE, linewidth=0.8)
        text = f"{unit * tick:.10g}".replace("-", "−")
        write(axes, x, y + 21, text, size=SMALL_SIZE, colour=MUTED, align="center")
    write(axes, (left + right) / 2, y + 38, axis_label, size=SMALL_SIZE, colour=MUTED, align="center")


def _draw_row(
    axes: Axes,
    mark: Mark,
    references: Sequence[Reference],
    scale: Scale,
    top: float,
    height: float,
    width: float,
) -> None:
    colour = ACCENT if mark.accent else INK
    lines = _label_lines(mark, width)
    if width >= ONE_LINE_WIDTH:
        middle, lane = top + height / 2, (top, top + height)
        first = middle + 4.5 - 7.5 * (len(lines) - 1)
        note_y = middle + 4.5
    else:
        middle, lane = top + height - 15, (top + height - 23, top + height - 7)
        first = note_y = top + 13
    for index, line in enumerate(lines):
        write(axes, 0, first + 15 * index, line, bold=mark.bold, colour=colour if mark.bold else INK)
    note_colour = colour if mark.bold else INK
    write(axes, width, note_y, mark.note, align="right", bold=mark.bold, colour=note_colour)
    for tick in scale.ticks():
        axes.plot([scale(tick)] * 2, lane, color=FAINT, linewidth=0.8, zorder=1)
    for reference in references:
        axes.plot([scale(reference.value)] * 2, lane, **_line_style(reference), zorder=1.5)
    if mark.low is not None and mark.high is not None:
        ends = [scale(mark.low), scale(mark.high)]
        axes.plot(ends, [middle, middle], color=colour, linewidth=2.2 if mark.accent else 1.6, zorder=3)
    if mark.value is not None:
        axes.plot(
            scale(mark.value),
            middle,
            marker="D" if mark.accent else "o",
            markersize=7,
            markeredgewidth=1.6,
            markeredgecolor=colour,
            markerfacecolor=colour if mark.filled else PAPER,
            zorder=4,
        )


def _name_reference(axes: Axes, reference: Reference, scale: Scale, top: float) -> None:
    x = scale(reference.value)
    on_left_half = x < (scale.left + scale.right) / 2
    axes.plot([x, x], [top + 2, top + 18], **_line_style(reference), zorder=1.5)
    write(
        axes,
        x + (5 if on_left_half else -5),
        top + 13,
        reference.label,
        size=SMALL_SIZE,
        colour=ACCENT if reference.accent else MUTED,
        align="left" if on_left_half else "right",
    )


def _line_style(reference: Reference) -> dict[str, Any]:
    colour, dashes = (ACCENT, (0, (4, 3))) if reference.accent else (MUTED, "solid")
    return {"color": colour, "linewidth": 1.1, "linestyle": dashes}


def _label_lines(mark: Mark, width: float) -> list[str]:
    return wrap(mark.label, 0.34 * width if width >= ONE_LINE_WIDTH else width - 165, lines=3)


def _detail_lines(section: Section, width: float) -> list[str]:
    return wrap(section.detail, width, SMALL_SIZE, lines=3)


def _row_height(mark: Mark, width: float) -> float:
    return (12 if width >= ONE_LINE_WIDTH else 27) + 15 * len(_label_lines(mark, width))


def _head_height(section: Section, width: float) -> float:
    return 24 + 16 * len(_detail_lines(section, width))
