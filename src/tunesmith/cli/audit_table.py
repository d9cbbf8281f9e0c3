"""The audit on a terminal: one row a check, shown as soon as the check has ended."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from tunesmith.data.audit.findings import CheckResult, Finding

FINDINGS_SHOWN = 4
STYLES = {"passed": "green", "failed": "bold red", "unmeasured": "yellow"}
MARKS = {"error": "[red]✗[/]", "warning": "[yellow]![/]", "note": "[dim]·[/]"}


class AuditTable:
    """Shows results as they come: growing in place on a terminal, whole at the end elsewhere."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.results: list[CheckResult] = []
        self.live: Live | None = None

    def add(self, result: CheckResult) -> None:
        """Show one more check."""
        self.results.append(result)
        if self.live is not None:
            self.live.update(self.table(), refresh=True)

    def table(self) -> RenderableType:
        """All checks so far: answer, what was found, suggested repair."""
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
        table.add_column("check", no_wrap=True)
        table.add_column("answer", no_wrap=True)
        table.add_column("found", ratio=1)
        table.add_column("repair", no_wrap=True)
        for result in self.results:
            summary = escape(result.summary)
            answer = f"[{STYLES[result.answer]}]{result.answer}[/]"
            table.add_row(f"[bold]{escape(result.check)}[/]", answer, summary, "")
            for finding in result.findings[:FINDINGS_SHOWN]:
                table.add_row("", "", _found(finding), _repair(finding))
            if len(result.findings) > FINDINGS_SHOWN:
                table.add_row("", "", f"[dim]… {len(result.findings) - FINDINGS_SHOWN} more kinds[/]", "")
        return Group(table)

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self.live = Live(console=self.console, auto_refresh=False, vertical_overflow="visible")
            self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.live is not None:
            self.live.update(self.table(), refresh=True)
            self.live.stop()
        elif self.results:
            self.console.print(self.table())


def _found(finding: Finding) -> str:
    return f"{MARKS[finding.severity]} [bold]{escape(finding.kind)}[/]: {escape(finding.evidence)}"


def _repair(finding: Finding) -> str:
    return f"{finding.repair.replace('_', ' ')} {len(finding.rows):,}" if finding.rows else "-"
