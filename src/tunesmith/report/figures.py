"""The figures of the report, each a function from records to inline SVG at a given pixel width."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib

from tunesmith.records import Forgetting, Manifest, Scorecard
from tunesmith.report import numbers
from tunesmith.report.drawing import (
    ACCENT,
    INK,
    LINE,
    MUTED,
    SMALL_SIZE,
    WIDE,
    canvas,
    png_font,
    save_png,
    style,
    to_svg,
    wrap,
    write,
)
from tunesmith.report.intervals import (
    ONE_LINE_WIDTH,
    Mark,
    Reference,
    Section,
    draw_intervals,
    interval_plot_height,
)
from tunesmith.run_records import RunSummary
from tunesmith.task.kinds import SMALLER_IS_BETTER, is_share, metric_title


def forest_plot(summary: RunSummary, width: int = WIDE) -> str:
    """The goal's metric of every candidate on validation (hollow) and of the contest on the test (filled)."""
    metric = summary.verdict.metric
    with style():
        sections = _forest_sections(summary)
        figure, axes = canvas(width, interval_plot_height(sections, (), width))
        draw_intervals(axes, sections, (), _metric_axis(summary), 0, width, _scale(metric))
        title = (
            f"{metric_title(metric)} of every candidate on validation, and of the contest on the sealed test"
        )
        return to_svg(figure, title, f"forest{width}")


def gain_plot(summary: RunSummary, width: int = WIDE) -> str:
    """The paired gain of the tuned model over each finalist, against no gain and the goal."""
    with style():
        sections, references = _gain_sections(summary), _gain_references(summary)
        figure, axes = canvas(width, interval_plot_height(sections, references, width))
        draw_intervals(
            axes,
            sections,
            references,
            _gain_axis(summary.verdict.metric),
            0,
            width,
            _scale(summary.verdict.metric),
        )
        title = "Paired gain of the tuned model over each finalist on the sealed test"
        return to_svg(figure, title, f"gain{width}")


def forest_plot_png(summary: RunSummary, path: Path) -> None:
    """Write the forest and gain plots as one PNG at double resolution (1440 pixels wide)."""
    with style(), matplotlib.rc_context({"font.family": [png_font()]}):
        forest, gains, references = (
            _forest_sections(summary), _gain_sections(summary), _gain_references(summary),
        )  # fmt: skip
        margin, inner = 20, WIDE - 40
        first = interval_plot_height(forest, (), inner)
        second = interval_plot_height(gains, references, inner)
        figure, axes = canvas(WIDE, first + second + 3 * margin)
        axes.set_xlim(-margin, WIDE - margin)
        axes.set_ylim(first + second + 2 * margin, -margin)
        scale = _scale(summary.verdict.metric)
        draw_intervals(axes, forest, (), _metric_axis(summary), 0, inner, scale)
        draw_intervals(
            axes,
            gains,
            references,
            _gain_axis(summary.verdict.metric),
            first + margin,
            inner,
            scale,
        )
        save_png(figure, path)


def rows_plot(manifest: Manifest, width: int = WIDE) -> str:
    """Where every row that was read ended: in a split, or set aside and why."""
    with style():
        kept = [
            (title, manifest.splits[name].rows, manifest.splits[name].groups, True)
            for name, title in numbers.SPLIT_TITLES.items()
            if name in manifest.splits
        ]
        entries = [
            *kept,
            *((f"set aside: {item.reason}", item.rows, item.groups, False) for item in manifest.set_aside),
        ]
        one_line = width >= ONE_LINE_WIDTH
        label_width = 0.42 * width if one_line else width
        wrapped = [wrap(label, label_width - 14, lines=3) for label, *_ in entries]
        heights = [15 * len(lines) + (12 if one_line else 32) for lines in wrapped]
        figure, axes = canvas(width, sum(heights) + 6)
        left, longest = (label_width, 0.30 * width) if one_line else (0.0, width - 195.0)
        most = max((rows for _, rows, _, _ in entries), default=0) or 1
        top = 2.0
        for (_, rows, groups, in_split), lines, height in zip(entries, wrapped, heights, strict=True):
            middle = top + (height / 2 if one_line else height - 17)
            first = middle + 4.5 - 7.5 * (len(lines) - 1) if one_line else top + 14
            for index, line in enumerate(lines):
                write(axes, 0, first + 15 * index, line, colour=INK if in_split else MUTED, bold=in_split)
            length = longest * rows / most
            axes.fill_between(
                [left, left + max(length, 1)], middle - 6, middle + 6,
                color=ACCENT if in_split else LINE, linewidth=0,
            )  # fmt: skip
            note, colour = numbers.sample(rows, groups), INK if in_split else MUTED
            write(axes, left + length + 8, middle + 4.5, note, colour=colour, size=SMALL_SIZE)
            top += height
        return to_svg(figure, "Where every row that was read ended", f"rows{width}")


def forgetting_plot(forgetting: Sequence[Forgetting], width: int = WIDE) -> str:
    """Change in bits per byte by text domain, against its margin."""
    with style():
        texts = [item for item in forgetting if item.kind == "text"]
        sections = (Section("General text", _forgetting_detail(texts), tuple(map(_forgetting_mark, texts))),)
        references = (Reference(0.0, "no change"), *_margins(texts, 1))
        figure, axes = canvas(width, interval_plot_height(sections, references, width))
        draw_intervals(axes, sections, references, "more bits per byte than the base, in %", 0, width)
        return to_svg(figure, "Change in bits per byte against the base model", f"text{width}")


def probe_plot(forgetting: Sequence[Forgetting], width: int = WIDE) -> str:
    """Change in accuracy by probe; a probe whose base is at chance has no interval to show."""
    with style():
        probes = [item for item in forgetting if item.kind == "probe"]
        sections = (Section("Probes", _forgetting_detail(probes), tuple(map(_forgetting_mark, probes))),)
        references = (Reference(0.0, "no change"), *_margins(probes, -1))
        figure, axes = canvas(width, interval_plot_height(sections, references, width))
        draw_intervals(axes, sections, references, "change in accuracy, percentage points", 0, width)
        return to_svg(figure, "Change in probe accuracy against the base model", f"probe{width}")


def _forest_sections(summary: RunSummary) -> tuple[Section, ...]:
    validation = (*summary.opponents, summary.tuned_validation)
    metric, tested = summary.verdict.metric, summary.test_scorecards
    return (
        Section(
            "Validation", f"{_sample(validation, metric)}, used to choose",
            _forest_marks(validation, metric, False),
        ),
        Section(
            "Sealed test", f"{_sample(tested, metric)}, finalists and tuned model only",
            _forest_marks(tested, metric, True),
        ),
    )  # fmt: skip


def _forest_marks(cards: Sequence[Scorecard], metric: str, filled: bool) -> tuple[Mark, ...]:
    sign = 1 if metric in SMALLER_IS_BETTER else -1
    measured = [card for card in cards if metric in card.metrics]
    ranked = sorted(measured, key=lambda card: sign * card.metrics[metric].value)
    ranked += [card for card in cards if metric not in card.metrics]
    marks = []
    for card in ranked:
        tuned, name = card.candidate.kind == "tuned", card.candidate.name
        if card.stopped_after_rows is not None:
            name += f", {card.stopped_after_rows} rows"
        value = card.metrics.get(metric)
        if value is None:
            marks.append(Mark(name, "unmeasured", None, accent=tuned, bold=tuned))
            continue
        note = numbers.estimate(value, metric)
        marks.append(Mark(name, note, value.value, value.low, value.high, tuned, tuned, filled))
    return tuple(marks)


def _sample(cards: Sequence[Scorecard], metric: str) -> str:
    whole = [card for card in cards if card.stopped_after_rows is None]
    sizes = {(e.rows, e.groups) for card in whole if (e := card.metrics.get(metric)) is not None}
    return " or ".join(numbers.sample(rows, groups) for rows, groups in sorted(sizes)) or "unmeasured"


def _metric_axis(summary: RunSummary) -> str:
    metric = summary.verdict.metric
    cards = (*summary.opponents, summary.tuned_validation, *summary.test_scorecards)
    levels = sorted({e.level for card in cards if (e := card.metrics.get(metric)) is not None})
    named = "accuracy" if metric == "accuracy" else metric_title(metric)
    unit = " in %" if is_share(metric) else ""
    return f"{named}{unit}, with {' or '.join(map(numbers.level, levels))} intervals"


def _gain_axis(metric: str) -> str:
    if metric == "accuracy":
        return "gain in percentage points"
    return f"gain in {metric_title(metric)}{', percentage points' if is_share(metric) else ''}"


def _scale(metric: str) -> float:
    return 100.0 if is_share(metric) else 1.0


def _gain_sections(summary: RunSummary) -> tuple[Section, ...]:
    gains = summary.verdict.gains
    levels = " or ".join(map(numbers.level, sorted({gain.level for gain in gains})))
    sizes = " or ".join(numbers.sample(*size) for size in sorted({(g.rows, g.groups) for g in gains}))
    names = names_by_id(summary)
    marks = tuple(
        Mark(
            f"over {names.get(gain.opponent, gain.opponent)}",
            numbers.gain(gain, summary.verdict.metric).replace(" points", ""),
            gain.value, gain.low, gain.high, accent=True,
        )
        for gain in gains
    )  # fmt: skip
    return (Section("Paired gain", f"sealed test, {sizes}, {levels} intervals", marks),)


def _gain_references(summary: RunSummary) -> tuple[Reference, ...]:
    goal = summary.verdict.goal_gain
    return (
        Reference(0.0, "no gain"),
        Reference(goal, f"goal {numbers.points(goal, summary.verdict.metric)}", accent=True),
    )


def names_by_id(summary: RunSummary) -> dict[str, str]:
    """Candidate names by candidate id."""
    cards = (*summary.opponents, summary.tuned_validation, *summary.test_scorecards)
    return {card.candidate.id: card.candidate.name for card in cards}


def _forgetting_mark(item: Forgetting) -> Mark:
    label = f"{item.domain} ({numbers.number(item.items)} items)"
    reason = numbers.unmeasured_because(item)
    if reason is not None:
        return Mark(label, f"unmeasured: {reason}", None)
    unit = " %" if item.kind == "text" else " points"
    note = (
        f"{numbers.signed(100 * item.change.value)}{unit} {numbers.bounds(item.change.low, item.change.high)}"
    )
    return Mark(label, note, item.change.value, item.change.low, item.change.high)


def _margins(items: Sequence[Forgetting], worse: int) -> list[Reference]:
    margins = sorted({item.margin for item in items if item.margin is not None})
    unit = "%" if worse > 0 else "points"
    return [Reference(worse * m, f"margin {numbers.number(100 * m, 1)} {unit}", accent=True) for m in margins]


def _forgetting_detail(items: Sequence[Forgetting]) -> str:
    levels = " or ".join(map(numbers.level, sorted({item.change.level for item in items})))
    direction = "right is worse" if items and items[0].kind == "text" else "left is worse"
    return f"tuned against base, {levels} intervals; {direction}"
