"""Rows that say the same: copies, near-duplicates, and the same input with different targets."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence

from tunesmith.data.audit.findings import AuditData, CheckResult, Finding, answered
from tunesmith.data.duplicates import compared_text, group_rows, words
from tunesmith.task.kinds import LABELLED, SEVERAL_REFERENCES

CHECK = "duplicates"


def check_duplicates(data: AuditData) -> CheckResult:
    """Copies (equal after normalisation), near-duplicates and conflicts, over all rows.

    Rows that carry a group of near-duplicates are not grouped again. Of copies with one target every row but
    one is a finding; of copies with several targets, every row is. Where a kind of task has many right
    answers, several targets of one input are references: a note, and no conflict. Fields of near-duplicates
    (``kind: extract``) rightly differ, so there only equal inputs contradict each other.
    """
    rows = data.rows
    groups = [row.group for row in rows]
    if data.kept_together or not all(groups):
        groups = group_rows(rows, data.similarity, data.shingle_words)
    members: defaultdict[str, list[int]] = defaultdict(list)
    for index, group in enumerate(groups):
        members[group].append(index)
    # Most rows are alone in their group: nothing else says what they say.
    texts: defaultdict[tuple[str, tuple[str, ...]], list[int]] = defaultdict(list)
    for index, row in enumerate(rows):
        if len(members[groups[index]]) > 1:
            texts[(groups[index], words(compared_text(row)))].append(index)
    versions = Counter(group for group, _ in texts)

    targets = [row.target for row in rows]
    several = [same for same in texts.values() if len({targets[index] for index in same}) > 1]
    references = data.kind in SEVERAL_REFERENCES
    conflicts = [] if references else several
    # The row that stays is the one that a limit on rows per group would keep, too: the one with the first id.
    copies = [
        index
        for same in (_by_target(texts.values(), targets) if references else texts.values())
        if len(same) > 1 and len({targets[index] for index in same}) == 1
        for index in sorted(same, key=lambda index: rows[index].id)[1:]
    ]
    near = [members[group] for group in members if versions[group] > 1]
    # Questions about one document are near-duplicates with different answers, and rightly so.
    near_conflicts = [
        group
        for group in near
        if data.kind in LABELLED and not data.kept_together and len({targets[i] for i in group}) > 1
    ]
    findings = []
    if references and several:
        findings.append(_references(several, targets))
    if conflicts:
        findings.append(_conflict("same input, different targets", "error", conflicts, targets))
    if near_conflicts:
        findings.append(_conflict("near-duplicates, different targets", "warning", near_conflicts, targets))
    if copies:
        findings.append(
            Finding(
                "copies",
                "warning",
                tuple(sorted(copies)),
                f"{len(copies):,} of {len(rows):,} rows repeat another one with the same target "
                f"({len(copies) / len(rows):.1%})",
                "drop",
            )
        )
    if near:
        near_rows = sum(len(group) for group in near)
        findings.append(
            Finding(
                "near-duplicates",
                "note",
                tuple(index for group in near for index in group),
                f"{near_rows:,} rows in {len(near):,} groups share {data.similarity:.0%} or more of their "
                f"{data.shingle_words}-word shingles; a group is never split between train and test",
                "keep",
            )
        )
    summary = (
        f"{len(rows):,} rows in {len(members):,} groups: {len(copies):,} copies, "
        f"{len(near):,} groups of near-duplicates, {len(several):,} inputs with "
        f"{'several references' if references else 'different targets'}"
    )
    return answered(CHECK, summary, findings)


def _by_target(texts: Iterable[Sequence[int]], targets: Sequence[str]) -> Iterator[list[int]]:
    """Rows of one input, parted by their target."""
    for same in texts:
        parts: defaultdict[str, list[int]] = defaultdict(list)
        for index in same:
            parts[targets[index]].append(index)
        yield from parts.values()


def _references(inputs: Sequence[Sequence[int]], targets: Sequence[str]) -> Finding:
    rows = tuple(index for same in inputs for index in same)
    different = sum(len({targets[index] for index in same}) for same in inputs)
    evidence = (
        f"{len(inputs):,} inputs have {different / len(inputs):.1f} different targets on average: they are "
        "references of one question, asked once and scored against all of them"
    )
    return Finding("several references", "note", rows, evidence, "keep")


def _conflict(kind: str, severity: str, groups: Sequence[Sequence[int]], targets: Sequence[str]) -> Finding:
    pairs = Counter(tuple(sorted({targets[index] for index in group}))[:2] for group in groups)
    (one, other), times = max(pairs.items(), key=lambda item: (item[1], item[0]))
    rows = tuple(index for group in groups for index in group)
    return Finding(
        kind,
        "error" if severity == "error" else "warning",
        rows,
        f"{len(rows):,} rows in {len(groups):,} groups; most often '{one}' against '{other}' "
        f"({times:,} {'group' if times == 1 else 'groups'})",
        "ask",
    )
