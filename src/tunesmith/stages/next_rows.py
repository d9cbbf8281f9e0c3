"""What to label, and what to write, next: a queue out of a pool, and the gaps of the labelled rows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tunesmith.errors import UserError
from tunesmith.stages.data import read_grouped, source_spec
from tunesmith.stages.session import Session

if TYPE_CHECKING:
    from tunesmith.data.labelling.export import QueueFormat


@dataclass(frozen=True)
class QueuedRow:
    """A row to label. ``proposed`` is the committee's label, with its probability."""

    source: str
    text: str
    proposed: str
    probability: float
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class CoverageGap:
    """What the training rows hardly cover: how many rows have it, and how many would by chance."""

    kind: str
    sentence: str
    rows: int
    expected: float


@dataclass(frozen=True)
class NextRows:
    """The queue (empty without a pool), and the gaps. ``known`` rows of the pool are in the data already."""

    file: str | None
    pool_rows: int
    known: int
    looked_at: int
    queue: tuple[QueuedRow, ...]
    gaps: tuple[CoverageGap, ...]


def next_rows(
    session: Session,
    pool: Path | None = None,
    number: int = 100,
    out: Path | None = None,
    format: QueueFormat = "jsonl",
) -> NextRows:
    """Rank the rows of ``pool`` by what they would teach, write the first ``number`` of them to ``out``, and
    list the gaps of the training rows.

    Validation and test rows only keep what is like them out of the queue. Raises UserError for files that
    cannot be used, and a queue for a task whose answers are free text.
    """
    from tunesmith.data.labelling.export import export_queue
    from tunesmith.data.labelling.gaps import coverage_gaps
    from tunesmith.data.labelling.queue import Queue, rows_to_label
    from tunesmith.data.pool import read_pool
    from tunesmith.data.sources import columns_of
    from tunesmith.data.splits import split_rows

    if pool is None and out is not None:
        raise UserError("a queue needs rows to choose from", "name unlabelled rows with --pool")
    read = read_grouped(session)
    split = split_rows(read.rows, read.spec, read.test_rows)
    queue, pool_rows = Queue((), (), 0, 0), 0
    if pool is not None:
        if len(split.labels) > max(20, len(split.train) / 5):
            raise UserError(
                "the answers of this task are free text: no committee can doubt between labels",
                "leave --pool out; the coverage gaps are listed without one",
            )
        columns = columns_of(source_spec(session))
        rows = read_pool(pool, columns, session.cache, session.say)
        pool_rows = len(rows)
        others = (*split.validation, *split.test)
        spec = read.spec
        queue = rows_to_label(
            split.train, rows, number, others, spec.near_duplicate_similarity, spec.shingle_words
        )
        if out is not None:
            export_queue(out, queue.suggestions, split.labels, columns, format)
    gaps = coverage_gaps(split.train, queue.clusters)
    return NextRows(
        file=None if out is None else str(out),
        pool_rows=pool_rows,
        known=queue.known,
        looked_at=queue.looked_at,
        queue=tuple(
            QueuedRow(one.row.source, one.row.text, one.proposed, one.probability, one.reasons)
            for one in queue.suggestions
        ),
        gaps=tuple(CoverageGap(gap.kind, gap.sentence, gap.rows, gap.expected) for gap in gaps),
    )
