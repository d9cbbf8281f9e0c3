"""What a report tells about the care of the data: the audit's answers, and what the repair plan did."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tunesmith.data.audit.findings import PRIVATE_CHECKS
from tunesmith.data_records import AuditCheck, AuditFinding, DataCare, RepairCount
from tunesmith.records import Dataset, Row
from tunesmith.stages.audit import stored_audit
from tunesmith.stages.data import source_spec
from tunesmith.stages.session import Session
from tunesmith.workspace import cached, stage_key

if TYPE_CHECKING:
    from tunesmith.data.audit.findings import CheckResult, Finding

PACKAGES = ("tunesmith.data", "tunesmith.stages.data_care", "tunesmith.stages.audit")
EXAMPLES = 3
EXCERPT_CHARACTERS = 140


def care_of_data(session: Session, dataset: Dataset) -> DataCare | None:
    """The audit of the task's present data as far as it was run, and the repairs of the frozen version.

    Nothing is run for it. None where there was neither an audit nor a repair. Examples are training rows of
    the version, never rows of validation or test.
    """
    from tunesmith.data.versions import read_repairs

    results = stored_audit(session)
    repairs = Counter((one.split, one.check, one.action) for one in read_repairs(dataset))
    if not results and not repairs:
        return None
    inputs = {"version": dataset.manifest.version, "results": results, "plan": session.task.data.plan}
    folder = session.folder.stage("data-care", stage_key("data-care", inputs, PACKAGES))

    def gathered(_: Path) -> DataCare:
        rows = _read(session, results)
        trained = _trained(dataset) if rows else {}
        return DataCare(
            tuple(_check(result, rows, trained) for result in results),
            None if session.task.data.plan is None else Path(session.task.data.plan).name,
            tuple(RepairCount(*what, number) for what, number in sorted(repairs.items())),
        )

    return cached(folder, DataCare, gathered)[0]


def private_rows(session: Session) -> frozenset[str]:
    """The ids of rows in which the audit, as far as it was run, found private data, secrets or names."""
    private = [result for result in stored_audit(session) if result.check in PRIVATE_CHECKS]
    rows = _read(session, private)
    return frozenset(
        rows[index].id for result in private for finding in result.findings for index in finding.rows
    )


def _read(session: Session, results: Sequence[CheckResult]) -> Sequence[Row]:
    """The rows that findings count, in their order; none where there is no finding to show."""
    from tunesmith.data.sources import read_source

    if not any(result.findings for result in results):
        return ()
    source = read_source(source_spec(session), session.cache, session.say)
    return (*source.rows, *source.test_rows)


def _trained(dataset: Dataset) -> Mapping[str, Row]:
    from tunesmith.data.versions import read_split

    return {row.id: row for row in read_split(dataset, "train")}


def _check(result: CheckResult, rows: Sequence[Row], trained: Mapping[str, Row]) -> AuditCheck:
    findings = tuple(
        AuditFinding(
            finding.kind,
            finding.severity,
            len(finding.rows),
            finding.evidence,
            finding.repair,
            _examples(result.check, finding, rows, trained),
        )
        for finding in result.findings
    )
    return AuditCheck(result.check, result.answer, result.summary, findings, result.sampled_rows)


def _examples(
    check: str, finding: Finding, rows: Sequence[Row], trained: Mapping[str, Row]
) -> tuple[tuple[str, str], ...]:
    """A report is handed on: of private data and secrets only the places are told."""
    found = [rows[index] for index in finding.rows if rows[index].id in trained][:EXAMPLES]
    if check in PRIVATE_CHECKS:
        return tuple((row.source, "") for row in found)
    return tuple((row.source, f"{excerpt(row.text)} → {excerpt(row.target)}") for row in found)


def excerpt(text: str) -> str:
    """The beginning of a text, on one line."""
    line = " ".join(text.split())
    return line if len(line) <= EXCERPT_CHARACTERS else line[: EXCERPT_CHARACTERS - 1] + "…"
