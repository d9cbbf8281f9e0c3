"""The training figure: loss, gradient norm and speed by step."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator

from tunesmith.report import numbers
from tunesmith.report.drawing import (
    ACCENT,
    FAINT,
    INK,
    LINE,
    MUTED,
    PAPER,
    SMALL_SIZE,
    WIDE,
    canvas,
    style,
    to_svg,
    write,
)
from tunesmith.report.intervals import ONE_LINE_WIDTH
from tunesmith.run_records import Training

Box = tuple[float, float, float, float]  # left, top, width, height in page pixels


def training_plot(training: Training, width: int = WIDE) -> str:
    """Loss with validation and best checkpoint; gradient norm and useful tokens/s as small multiples."""
    with style():
        side_by_side = width >= ONE_LINE_WIDTH
        figure, page = canvas(width, 426 if side_by_side else 570)
        small = (width - 60) / 2 - 44 if side_by_side else width - 44
        _loss_axes(figure, page, training, (44, 34, width - 118, 210))
        steps = [point.step for point in training.train]
        lower = [
            ("gradient norm", [point.gradient_norm for point in training.train], (44, 324)),
            (
                "useful tokens per second", [point.tokens_per_second for point in training.train],
                (44 + small + 60, 324) if side_by_side else (44, 466),
            ),
        ]  # fmt: skip
        for title, values, (left, top) in lower:
            axes = _axes(figure, page, (left, top, small, 78), title)
            axes.plot(steps, values, color=LINE, linewidth=0.9)
            axes.plot(steps, smoothed(values), color=INK, linewidth=1.5)
            axes.set_ylim(0, max(values) * 1.08 or 1)
        title = "Training and validation loss by step, gradient norm and tokens per second"
        return to_svg(figure, title, f"training{width}")


def smoothed(values: Sequence[float]) -> list[float]:
    """Exponential moving average, bias-corrected, over about a fifteenth of the run (5 steps at least)."""
    keep = 1 - 2 / (max(5, len(values) / 15) + 1)
    total, weight, result = 0.0, 0.0, []
    for value in values:
        total, weight = keep * total + value, keep * weight + 1
        result.append(total / weight)
    return result


def _axes(figure: Figure, page: Axes, box: Box, title: str) -> Axes:
    """Axes at ``(left, top, width, height)`` in page pixels, with a title above."""
    page_width, page_height = page.get_xlim()[1], page.get_ylim()[0]
    left, top, width, height = box
    axes = figure.add_axes(
        (left / page_width, 1 - (top + height) / page_height, width / page_width, height / page_height),
        facecolor="none",
    )
    write(page, max(0, left - 44), top - 14, title, bold=True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(LINE)
    axes.tick_params(color=LINE, labelcolor=MUTED, labelsize=SMALL_SIZE, length=3)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=4))
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: numbers.number(value)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.4g}".replace("-", "−")))
    axes.grid(axis="y", color=FAINT, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.margins(x=0.015)
    return axes


def _loss_axes(
    figure: Figure, page: Axes, training: Training, box: tuple[float, float, float, float]
) -> None:
    steps, losses = [p.step for p in training.train], [p.loss for p in training.train]
    validation_steps = [p.step for p in training.validation]
    validation_losses = [p.loss for p in training.validation]
    watched = [(p.step, p.train_loss) for p in training.validation if p.train_loss is not None]
    shown = [*losses, *validation_losses, *(loss for _, loss in watched)]
    values = [value for value in shown if value > 0]
    logarithmic = len(values) == len(shown) and max(values) > 15 * min(values)
    scale = ", logarithmic scale" if logarithmic else ""
    axes = _axes(figure, page, box, f"loss per supervised token, nats{scale}")
    if logarithmic:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_locator(LogLocator(subs=()))
    line = smoothed(losses)
    axes.plot(steps, losses, color=LINE, linewidth=0.9)
    axes.plot(steps, line, color=INK, linewidth=1.5)
    if watched:
        watched_steps, watched_losses = zip(*watched, strict=True)
        axes.plot(watched_steps, watched_losses, color=INK, linewidth=1.2, linestyle=(0, (3, 2)))
    axes.plot(
        validation_steps, validation_losses, color=ACCENT, linewidth=1.8, marker="o", markersize=5,
        markerfacecolor=PAPER, markeredgecolor=ACCENT, markeredgewidth=1.4, clip_on=False,
    )  # fmt: skip
    best = next((p for p in training.validation if p.step == training.best_step), None)
    if best is not None:
        axes.axvline(best.step, color=ACCENT, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
        axes.plot(best.step, best.loss, marker="D", markersize=8, color=ACCENT, clip_on=False, zorder=5)
        name = "best checkpoint" if box[2] > 400 else "best"
        text = f"{name}: step {numbers.number(best.step)}, loss {best.loss:.3f}"
        late = best.step > (steps[0] + steps[-1]) / 2
        axes.annotate(
            text, (best.step, 1), xycoords=("data", "axes fraction"), xytext=(-6 if late else 6, -11),
            textcoords="offset points", ha="right" if late else "left", fontsize=SMALL_SIZE, color=ACCENT,
        )  # fmt: skip
    ends = [("training", steps[-1], line[-1], INK)]
    if training.validation:
        ends.append(("validation", validation_steps[-1], validation_losses[-1], ACCENT))
    _name_ends(axes, ends)
    axes.set_xlabel("step", fontsize=SMALL_SIZE, color=MUTED)


def _name_ends(axes: Axes, ends: list[tuple[str, int, float, str]]) -> None:
    """Write each curve's name at its last point, at least a line apart."""
    axes.autoscale_view()
    placed = sorted(
        (float(axes.transData.transform((x, y))[1]), name, x, y, colour) for name, x, y, colour in ends
    )
    below = -1e9
    for pixel, name, x, y, colour in placed:
        shift = max(0.0, below + 15 - pixel)
        below = pixel + shift
        axes.annotate(
            name, (x, y), xytext=(9, shift - 4), textcoords="offset points", color=colour,
            fontsize=SMALL_SIZE, annotation_clip=False,
        )  # fmt: skip
