"""What a check of the data is given, and what it answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from tunesmith.data.parsed import BadRecord
from tunesmith.records import Answer, AuditAnswer, Row, SplitName
from tunesmith.task.audit_settings import AuditSettings
from tunesmith.task.kinds import Kind

Severity = Literal["note", "warning", "error"]
Repair = Literal["keep", "fix", "drop", "set_aside", "ask"]
# Of what these find, plans and reports quote nothing: they are handed on.
PRIVATE_CHECKS = ("private data", "secrets", "names of people")


@dataclass(frozen=True)
class LengthLimit:
    """The base's context. ``count_tokens`` gives a row's tokens as rendered for it, answer included.

    ``beside_tokens`` and ``turn_tokens`` are what a row can have at most beside the bytes of its texts: once,
    and for each turn and the answer.
    """

    count_tokens: Callable[[Row], int]
    context_tokens: int
    beside_tokens: int = 256
    turn_tokens: int = 64


def _no_base() -> str:
    return "No base model is named, so there is no context to fit into."


@dataclass(frozen=True)
class AuditData:
    """Rows to be checked. ``splits`` and every column of ``fields`` have one entry a row, in order.

    ``splits`` is None for a row that was not given to a split. ``tested`` are the indices of the rows that
    will be tested on, given or drawn: no check learns from their targets what to say of other rows.
    ``fields`` are the source's other columns
    (dates, customers, annotators), as text. ``benchmarks`` are rows by the name of their file, of which the
    data should hold none. ``description`` says what the task is about, ``similarity`` and
    ``shingle_words`` what a near-duplicate is. ``kept_together``: the groups of the rows are more than
    near-duplicates, such as one document. ``kind`` is what the task asks: labels, fields or texts.
    ``asked`` are the task's settings for its audit. ``length_limit`` gives the context of its base, or says
    why that is not known. ``unusable`` are the records that are no rows; ``leaves_out`` says whether the task
    leaves them out or refuses them.
    """

    rows: tuple[Row, ...]
    splits: tuple[SplitName | None, ...]
    fields: dict[str, tuple[str | None, ...]] = field(default_factory=dict)
    benchmarks: dict[str, tuple[Row, ...]] = field(default_factory=dict)
    description: str = ""
    similarity: float = 0.8
    shingle_words: int = 3
    kept_together: bool = False
    kind: Kind = "classify"
    asked: AuditSettings = field(default_factory=AuditSettings)
    length_limit: Callable[[], LengthLimit | str] = _no_base
    unusable: tuple[BadRecord, ...] = ()
    leaves_out: bool = False
    tested: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Finding:
    """One thing wrong with some rows.

    ``rows`` are indices into the data, the most certain first. ``evidence`` is a sentence with its
    numbers. ``fixed`` holds, for a ``fix``, the text that each row would get, in the order of ``rows``;
    ``field`` says which ("input", "target", "rejected" of a preference pair, or "column": one that is kept
    beside the row, named by ``column``). A fix of the input replaces the content of one message: ``turn``
    counts from the end of the input, -1 is the last message before the answer.
    """

    kind: str
    severity: Severity
    rows: tuple[int, ...]
    evidence: str
    repair: Repair
    field: Literal["input", "target", "rejected", "column"] | None = None
    fixed: tuple[str, ...] | None = None
    turn: int = -1
    column: str | None = None


@dataclass(frozen=True)
class CheckResult:
    """One check's answer: ``passed`` without findings, ``failed`` with some, or ``unmeasured``.

    ``summary`` is one sentence for people, whatever the answer; ``sampled_rows`` is None when every row
    was looked at.
    """

    check: str
    answer: Answer
    summary: str
    findings: tuple[Finding, ...] = ()
    sampled_rows: int | None = None


def answered(
    check: str, summary: str, findings: list[Finding], sampled_rows: int | None = None
) -> CheckResult:
    """``failed`` where there are findings above a note, else ``passed``."""
    failed = any(finding.severity != "note" for finding in findings)
    return CheckResult(check, "failed" if failed else "passed", summary, tuple(findings), sampled_rows)


def recorded(results: Sequence[CheckResult]) -> tuple[AuditAnswer, ...]:
    """What a manifest keeps of an audit: each answer with its number of findings and of different rows."""
    return tuple(
        AuditAnswer(
            result.check,
            result.answer,
            len(result.findings),
            len({row for finding in result.findings for row in finding.rows}),
        )
        for result in results
    )
