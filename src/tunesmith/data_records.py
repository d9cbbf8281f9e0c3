"""The records of what a report tells about its data: the audit, the repairs, and the frozen version."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tunesmith.records import Answer, SplitName

HowEarlier = Literal["frozen before this one", "the same data before its repair"]


@dataclass(frozen=True)
class AuditFinding:
    """One thing wrong with some rows. ``examples`` are training rows: (source, beginning of its text)."""

    kind: str
    severity: str
    rows: int
    evidence: str
    repair: str
    examples: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class AuditCheck:
    """One check of the data audit and its answer; ``sampled_rows`` is None when every row was looked at."""

    check: str
    answer: Answer
    summary: str
    findings: tuple[AuditFinding, ...]
    sampled_rows: int | None


@dataclass(frozen=True)
class RepairCount:
    """How many rows of one split a repair plan, or a person's answer, changed in one way."""

    split: str
    check: str
    action: str
    rows: int


@dataclass(frozen=True)
class DataCare:
    """What the audit of the data found, and what the repair plan did. ``plan`` is the name of its file."""

    checks: tuple[AuditCheck, ...]
    plan: str | None
    repairs: tuple[RepairCount, ...]


@dataclass(frozen=True)
class RowExample:
    """A row that differs between two versions. Both texts are None where they may hold private data."""

    source: str
    before: str | None
    after: str | None


@dataclass(frozen=True)
class RowChanges:
    """How many rows of one split came, went, changed or moved for one reason, and some of them."""

    what: str
    split: str
    why: str
    rows: int
    examples: tuple[RowExample, ...]


@dataclass(frozen=True)
class SinceVersion:
    """What became of the data since an earlier ``version``; the most frequent changes first.

    ``rows`` counts all that differ by what became of them, and ``other_rows`` those whose reasons are not
    among ``changes``. ``unmeasured`` says why the versions could not be compared; nothing else is known then.
    """

    version: str
    how: HowEarlier
    same_test: bool | None
    rows: dict[str, int]
    changes: tuple[RowChanges, ...]
    other_rows: int
    unmeasured: str | None = None


@dataclass(frozen=True)
class Part:
    """Neighbouring tokens as text, all of them learned or none."""

    text: str
    learned: bool


@dataclass(frozen=True)
class MaskedRow:
    """One row as the model sees it, control tokens and all; ``note`` says where it is too long to train."""

    source: str
    tokens: int
    learned_tokens: int
    parts: tuple[Part, ...]
    note: str = ""


@dataclass(frozen=True)
class ExportedFile:
    """A file of rows that was written for other tools: ``file`` as it was named, in ``folder``.

    ``chosen`` says which rows of the split were taken; ``time`` is UTC.
    """

    time: str
    version: str
    split: SplitName
    format: str
    rows: int
    chosen: str
    file: str
    folder: str
    sha256: str


@dataclass(frozen=True)
class VersionStory:
    """What a report tells about a frozen version. ``since`` is None of a first one.

    ``masked`` are some training rows as the model is given them; ``unmasked`` says why there are none.
    """

    since: SinceVersion | None
    masked: tuple[MaskedRow, ...]
    unmasked: str | None
    exports: tuple[ExportedFile, ...]
    export_formats: tuple[str, ...]
