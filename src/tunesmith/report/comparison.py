"""The shortlist of bases as a table for the terminal."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tunesmith.evaluation.shortlist import ComparedBase, Comparison
from tunesmith.report import numbers
from tunesmith.task.kinds import metric_title

SECONDS_PER_HOUR = 3600


def comparison_table(comparison: Comparison, hourly_price: float | None = None) -> RenderableType:
    """One line for each base, the best first; ``hourly_price`` of this machine makes it tell a price too."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("base")
    for column in ("parameters", metric_title(comparison.metric), "context", "memory", "a row"):
        table.add_column(column, justify="right", no_wrap=True)
    if hourly_price is not None:
        table.add_column("1,000 answers", justify="right", no_wrap=True)
    table.add_column("licence")
    for base in comparison.bases:
        table.add_row(*(Text(cell.replace("\u00a0", " ")) for cell in _cells(base, comparison, hourly_price)))
    sample = numbers.sample(comparison.rows, comparison.groups)
    notes = [f"{metric_title(comparison.metric)} on validation rows: {sample}; {comparison.precision}."]
    notes += [f"{base.name}: {_told(base, comparison.metric)}" for base in comparison.bases]
    return Group(table, Text(""), *(Text(note.replace("\u00a0", " ")) for note in notes))


def _cells(base: ComparedBase, comparison: Comparison, hourly_price: float | None) -> list[str]:
    context = "–"
    if base.context_tokens is not None and base.longest_row_tokens is not None:
        context = f"{numbers.number(base.longest_row_tokens)} of {numbers.number(base.context_tokens)}"
    seconds = base.seconds_per_row
    cells = [
        base.name,
        f"{numbers.number(base.parameters / 1e6)} M",
        numbers.estimate(base.quality, comparison.metric) if base.quality else "–",
        context,
        numbers.memory(base.peak_memory_mb) if base.peak_memory_mb is not None else "–",
        numbers.milliseconds(seconds) if seconds is not None else "–",
    ]
    if hourly_price is not None:
        cells.append(
            f"{1000 * seconds * hourly_price / SECONDS_PER_HOUR:.4f}" if seconds is not None else "–"
        )
    return [*cells, base.licence]


def _told(base: ComparedBase, metric: str) -> str:
    prompt = f" ({base.prompt})" if base.prompt else ""
    if base.dropped is not None:
        return f"dropped, {base.dropped}{prompt}"
    if base.gain is None:
        return f"the best here{prompt}"
    return f"kept, {numbers.gain(base.gain, metric)} against {base.gain.opponent}{prompt}"
