"""Other methods beside the chosen one, for the terminal."""

from __future__ import annotations

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from tunesmith.method_records import MethodComparison, MethodLine
from tunesmith.records import Estimate
from tunesmith.report import numbers
from tunesmith.report.terminal import stage_block
from tunesmith.task.kinds import metric_title


def method_lines(comparison: MethodComparison) -> RenderableType:
    """One line of figures for each method, and what they mean."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="")
    table.add_column("method", overflow="fold")
    titles = ("to train", "memory", "a request", metric_title(comparison.metric), "gain over the chosen")
    for title in (*titles, "general text", "loss gap"):
        table.add_column(title, justify="right", overflow="fold")
    for line in comparison.lines:
        table.add_row(*map(_plain, _cells(line, comparison.metric)))
    return stage_block("methods", [table, numbers.methods_compared(comparison)])


def _cells(line: MethodLine, metric: str) -> tuple[str, ...]:
    chosen = ", chosen" if line.chosen else ""
    return (
        f"{line.method} (learning rate {line.learning_rate:g}){chosen}",
        numbers.duration(line.train_seconds),
        numbers.memory(line.memory_mb),
        _request(line.latency) if line.latency else "unmeasured",
        numbers.estimate(line.score, metric),
        numbers.gain(line.gain, metric) if line.gain else "–",
        numbers.forgotten(line.forgetting) if line.forgetting else "unmeasured",
        numbers.loss_gap(line.loss_gap) if line.loss_gap else "unmeasured",
    )


def _request(latency: Estimate) -> str:
    low, high = (numbers.number(1000 * bound) for bound in (latency.low, latency.high))
    return f"{numbers.number(1000 * latency.value)} ms [{low}, {high}]"


def _plain(text: str) -> Text:
    """Text that is never read as markup, with ordinary spaces."""
    return Text(text.replace("\u00a0", " "))
