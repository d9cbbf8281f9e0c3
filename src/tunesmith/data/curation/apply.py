"""Applying a repair plan: training rows change, the source never does, and every change is on record."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import pyarrow as pa
from pyarrow import parquet

from tunesmith.data.audit.characters import composed, decoded, without_controls, without_html
from tunesmith.data.audit.findings import AuditData, CheckResult, recorded
from tunesmith.data.audit.texts import text_of
from tunesmith.data.curation.plan import RepairPlan
from tunesmith.data.curation.review import QueueItem, ReviewAnswer
from tunesmith.data.duplicates import conflicting_rows
from tunesmith.data.label_sets import target_labels
from tunesmith.data.leaks import leak_partners
from tunesmith.data.splits import Split
from tunesmith.errors import UserError
from tunesmith.files import atomic_path, canonical_json
from tunesmith.records import AuditAnswer, Row, SetAside, SplitName

Action = Literal["fix", "drop", "set_aside"]
SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")
# By finding: repairs that look at nothing but a text, so that one can follow another.
TEXT_REPAIRS: dict[str, Callable[[str], str]] = {
    "mojibake": decoded,
    "mixed normal forms": composed,
    "control characters": without_controls,
    "HTML": without_html,
}
REVIEW = "review"  # stands for a check where a person decided

SCHEMA = pa.schema(
    [
        pa.field("row", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("check", pa.string(), nullable=False),
        pa.field("finding", pa.string(), nullable=False),
        pa.field("action", pa.string(), nullable=False),
        pa.field("field", pa.string()),
        pa.field("before", pa.string(), nullable=False),
        pa.field("after", pa.string()),
        pa.field("group", pa.string(), nullable=False),
        pa.field("turn", pa.int32()),
        pa.field("column", pa.string()),
    ]
)


@dataclass(frozen=True)
class Change:
    """One change of one row. ``row`` is its id, which it keeps.

    ``field`` is "input", "target", "rejected" or "column" of a ``fix``; ``before`` and ``after`` are its
    texts, and ``column`` names the column that is kept beside the row. Of an
    input that is the content of one message, and ``turn`` counts it from the end: -1 is the last. Of a row
    that was removed ``field`` and ``after`` are None, and ``before`` is the JSON of its messages and target.
    ``group`` is empty, ``turn`` and ``column`` None, in versions that were frozen before they were recorded.
    """

    row: str
    source: str
    split: SplitName
    check: str
    finding: str
    action: Action
    field: Literal["input", "target", "rejected", "column"] | None
    before: str
    after: str | None
    group: str = ""
    turn: int | None = None
    column: str | None = None


@dataclass(frozen=True)
class Repaired:
    """What a plan made of a split. ``unapplied`` names repairs that had to be left out, and why.

    ``checks`` are the answers of the audit that the plan was applied to.
    """

    split: Split
    changes: tuple[Change, ...]
    set_aside: tuple[Row, ...]
    queue: tuple[QueueItem, ...]
    unapplied: tuple[str, ...]
    checks: tuple[AuditAnswer, ...] = ()


@dataclass(frozen=True)
class _Proposal:
    check: str
    finding: str
    repair: Literal["fix", "drop", "set_aside", "ask"]
    field: Literal["input", "target", "rejected", "column"] | None
    fixed: str | None
    turn: int
    column: str | None


def apply_plan(
    split: Split,
    data: AuditData,
    results: Sequence[CheckResult],
    plan: RepairPlan,
    answers: Mapping[str, ReviewAnswer],
    similarity: float = 0.8,
    shingle_words: int = 3,
    conflicts_by_input: bool = False,
) -> Repaired:
    """Repair the training rows of ``split`` as the plan says; ``answers`` are people's, by row id.

    A person's answer goes before every proposal, and is the only thing that changes a row of validation or
    test. Of several repairs of one row removal wins. Of two for one text (a message, or the target) the
    second begins with what the first one left where it can (``TEXT_REPAIRS``), else it is left out. A
    training row that its repair made a copy of a validation or test row, or gave another target than the
    rest of its group, is removed. With ``conflicts_by_input`` only rows of one input
    contradict each other (see ``conflicting_rows``). The result depends on nothing but the arguments.

    Raises UserError when fewer than two labels are left to train on.
    """
    proposals = _proposals(data, results, plan)
    changes: list[Change] = []
    set_aside: list[Row] = []
    queue: list[QueueItem] = []
    skipped: Counter[str] = Counter()
    kept: dict[SplitName, list[Row]] = {"train": [], "validation": [], "test": []}
    members: list[tuple[SplitName, Sequence[Row]]] = [
        ("train", split.train),
        ("validation", split.validation),
        ("test", split.test),
    ]
    for name, rows in members:
        for row in rows:
            proposed = proposals.get(row.id, [])
            answer = answers.get(row.id)
            if answer is not None:
                made = _answered(row, name, answer)
            elif name == "train":
                made = _repaired(row, proposed, skipped)
                if any(proposal.repair == "ask" for proposal in proposed) and not _removes(made):
                    queue.append(_queued(row, name, proposed))
            else:
                made = []
                if proposed:
                    queue.append(_queued(row, name, proposed))
            changes += made
            if not _removes(made):
                kept[name].append(_changed(row, made))
            elif made[0].action == "set_aside":
                set_aside.append(row)
    by_input = conflicts_by_input if split.labels else None
    kept["train"], undone = _without_new_trouble(kept, changes, similarity, shingle_words, by_input)
    changes += undone
    conflicts = _conflicts(kept, by_input)
    unapplied = tuple(f"{rows:,} rows: {reason}" for reason, rows in sorted(skipped.items()))
    return Repaired(
        _new_split(split, kept, changes, conflicts),
        tuple(changes),
        tuple(set_aside),
        tuple(queue),
        unapplied,
        recorded(results),
    )


def write_changes(path: Path, changes: Sequence[Change]) -> None:
    """Write the changes in order; equal changes give equal bytes with the same pyarrow."""
    records = [{name: getattr(change, name) for name in SCHEMA.names} for change in changes]
    table = pa.Table.from_pylist(records, schema=SCHEMA)
    with atomic_path(path) as temporary:
        parquet.write_table(
            table, temporary, compression="zstd", row_group_size=max(1, len(changes)), version="2.6"
        )


def read_changes(path: Path) -> list[Change]:
    """The changes that :func:`write_changes` wrote, in order."""
    return [Change(**record) for record in parquet.read_table(path, partitioning=None).to_pylist()]


def _proposals(
    data: AuditData, results: Sequence[CheckResult], plan: RepairPlan
) -> dict[str, list[_Proposal]]:
    """By row id what the plan wants done, in the order of checks and findings."""
    found: defaultdict[str, list[_Proposal]] = defaultdict(list)
    for result in results:
        for finding in result.findings:
            repair = plan.repair(result.check, finding.kind)
            if repair == "keep":
                continue
            fixed = finding.fixed or (None,) * len(finding.rows)
            for index, text in zip(finding.rows, fixed, strict=True):
                proposal = _Proposal(
                    result.check, finding.kind, repair, finding.field, text, finding.turn, finding.column
                )
                found[data.rows[index].id].append(proposal)
    return found


def _repaired(row: Row, proposed: Sequence[_Proposal], skipped: Counter[str]) -> list[Change]:
    for proposal in proposed:
        if proposal.repair in ("drop", "set_aside"):
            return [_removal(row, "train", proposal.check, proposal.finding, proposal.repair)]
    made: list[Change] = []
    for proposal in proposed:
        if proposal.repair != "fix" or proposal.fixed is None or proposal.field is None:
            continue
        turn = proposal.turn if proposal.field == "input" else None
        place = proposal.field, turn, proposal.column
        earlier = [
            change.after or "" for change in made if (change.field, change.turn, change.column) == place
        ]
        before = text_of(row, proposal.field, proposal.turn, proposal.column)
        before = earlier[-1] if earlier else before
        after = proposal.fixed
        if earlier and after not in earlier:
            again = TEXT_REPAIRS.get(proposal.finding)
            if again is None:
                skipped[f"{proposal.check}: an earlier repair changed the same {proposal.field}"] += 1
                continue
            after = again(before)
        if after not in (before, *earlier):
            change = Change(
                row.id, row.source, "train", proposal.check, proposal.finding, "fix", proposal.field,
                before, after, row.group, turn, proposal.column,
            )  # fmt: skip
            made.append(change)
    return made


def _answered(row: Row, split: SplitName, answer: ReviewAnswer) -> list[Change]:
    if answer.decision == "drop":
        return [_removal(row, split, REVIEW, "a person's answer", "drop")]
    if answer.decision == "relabel" and answer.target and answer.target != row.target:
        return [
            Change(
                row.id,
                row.source,
                split,
                REVIEW,
                "a person's answer",
                "fix",
                "target",
                row.target,
                answer.target,
                row.group,
            )
        ]
    return []


def _removal(row: Row, split: SplitName, check: str, finding: str, action: Action) -> Change:
    before = canonical_json({"messages": row.messages, "target": row.target})
    return Change(row.id, row.source, split, check, finding, action, None, before, None, row.group)


def _removes(made: Sequence[Change]) -> bool:
    return any(change.action != "fix" for change in made)


def _changed(row: Row, made: Sequence[Change]) -> Row:
    messages = list(row.messages)
    for change in made:
        if change.field == "target":
            row = replace(row, target=change.after or "")
        elif change.field == "rejected":
            row = replace(row, rejected=change.after)
        elif change.field == "column":
            kept = dict(row.fields) | {change.column or "": change.after or ""}
            row = replace(row, fields=tuple(sorted(kept.items())))
        elif change.turn is not None:
            messages[change.turn] = replace(messages[change.turn], content=change.after or "")
    return replace(row, messages=tuple(messages))


def _queued(row: Row, split: SplitName, proposed: Sequence[_Proposal]) -> QueueItem:
    labels = [proposal.fixed for proposal in proposed if proposal.field == "target" and proposal.fixed]
    reasons = tuple(dict.fromkeys(f"{proposal.check}: {proposal.finding}" for proposal in proposed))
    return QueueItem(row.id, row.source, split, row.text, row.target, labels[0] if labels else None, reasons)


def _without_new_trouble(
    kept: Mapping[SplitName, Sequence[Row]],
    changes: Sequence[Change],
    similarity: float,
    shingle_words: int,
    conflicts_by_input: bool | None,
) -> tuple[list[Row], list[Change]]:
    """The training rows without those that a repair made a leak or a conflict, and their removals."""
    touched = {change.row for change in changes if change.action == "fix" and change.field != "column"}
    removed: dict[str, Change] = {}
    if any(change.field == "input" for change in changes):
        order = [(name, row) for name in reversed(SPLITS) for row in kept[name]]
        rows = [replace(row, group="", source=f"{number}") for number, (_, row) in enumerate(order)]
        for index in leak_partners(rows, [name for name, _ in order], similarity, shingle_words):
            name, row = order[index]
            if name == "train":
                finding = "its repair made it a copy of a validation or test row"
                removed[row.id] = _removal(row, "train", "leaks", finding, "drop")
    conflicts = _conflicts(kept, conflicts_by_input)
    for row in kept["train"]:
        if row.id in touched and row.id in conflicts and row.id not in removed:
            finding = "its repair gave it another target than the rest of its group"
            removed[row.id] = _removal(row, "train", "duplicates", finding, "drop")
    return [row for row in kept["train"] if row.id not in removed], list(removed.values())


def _conflicts(kept: Mapping[SplitName, Sequence[Row]], by_input: bool | None) -> set[str]:
    """Rows that contradict others; none where targets are free texts (None)."""
    rows = [row for name in SPLITS for row in kept[name]]
    return set() if by_input is None else conflicting_rows(rows, by_input)


def _new_split(
    split: Split, kept: Mapping[SplitName, Sequence[Row]], changes: Sequence[Change], conflicts: set[str]
) -> Split:
    flagged = {
        name: tuple(replace(row, conflict=row.conflict or row.id in conflicts) for row in rows)
        for name, rows in kept.items()
    }
    trained = set(target_labels(flagged["train"], split.label_sets))
    if len(trained) < 2:
        raise UserError(
            f"the repair plan leaves {len(flagged['train']):,} training rows with {len(trained)} labels",
            "let the plan keep more rows",
        )
    tested = set(target_labels((row for row in flagged["test"] if not row.conflict), split.label_sets))
    groups = {row.id: row.group for row in (*split.train, *split.validation, *split.test)}
    gone: defaultdict[str, list[str]] = defaultdict(list)
    for change in changes:
        if change.action != "fix":
            gone[f"repair plan: {change.action}, {change.check}"].append(groups[change.row])
    return replace(
        split,
        train=flagged["train"],
        validation=flagged["validation"],
        test=flagged["test"],
        labels=tuple(sorted(trained)) if split.labels else (),
        unmeasured_labels=tuple(sorted(trained - tested)) if split.labels else (),
        set_aside=split.set_aside
        + tuple(
            SetAside(reason, len(of_rows), len(set(of_rows))) for reason, of_rows in sorted(gone.items())
        ),
    )
