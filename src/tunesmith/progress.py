"""Progress of long work: a bar with rate and time left on a terminal, else one line a minute."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

SECONDS_BETWEEN_LINES = 60.0


class Report(Protocol):
    """Told how far the work is: ``done`` of ``total`` units, and a short note such as a rate."""

    def __call__(self, done: int, total: int, note: str = "") -> None: ...


def silent(done: int, total: int, note: str = "") -> None:
    """Progress nobody wants to see."""


@contextmanager
def progress_bar(console: Console, stage: str, what: str) -> Iterator[Report]:
    """Show the progress of ``what`` under the heading ``stage`` until the block ends."""
    if console.is_terminal:
        columns = (
            TextColumn(f"[bold]{stage:<10}[/] {{task.description}}"),
            BarColumn(bar_width=28),
            TaskProgressColumn(),
            TextColumn("{task.fields[note]}"),
            TimeRemainingColumn(compact=True),
        )
        with Progress(*columns, console=console, transient=True) as bars:
            bar = bars.add_task(what, total=None, note="")

            def show(done: int, total: int, note: str = "") -> None:
                bars.update(bar, completed=done, total=total, note=note)

            yield show
        return
    started = last = time.monotonic()

    def say(done: int, total: int, note: str = "") -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < SECONDS_BETWEEN_LINES or not done:
            return
        last = now
        left = (now - started) / done * (total - done)
        told = f"{left:.0f} s" if left < 120 else f"{left / 60:,.0f} min"
        console.print(
            f"{stage:<10} {what}: {done:,} of {total:,}, {note + ', ' if note else ''}about {told} left"
        )

    yield say
