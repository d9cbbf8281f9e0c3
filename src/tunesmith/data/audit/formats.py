"""Rows whose parts are missing, in the wrong order, or too long for the base model."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise
from typing import get_args

from tunesmith.data.audit.findings import (
    AuditData,
    CheckResult,
    Finding,
    LengthLimit,
    Repair,
    Severity,
    answered,
)
from tunesmith.data.audit.texts import count, excerpt, share
from tunesmith.data.parsed import BadRecord, lines_of
from tunesmith.records import Role, Row

# What tables write where a value is missing.
MISSING_WORDS = frozenset(
    [
        "nan",
        "null",
        "none",
        "nil",
        "n/a",
        "#n/a",
        "na",
        "#value!",
        "#ref!",
        "undefined",
        "tbd",
        "todo",
        "<na>",
        "-",
        "--",
        "?",
    ]
)
# A target "none" in more rows than this is a label, not a gap.
MISSING_WORD_SHARE = 0.01

# Of defects of records, the most frequent.
KINDS_SHOWN = 10
_NUMBER = re.compile(r"\d+")

_GREETING = "the assistant speaks first"


def check_unusable(data: AuditData) -> CheckResult:
    """Records that are no rows: broken, without an input or an answer, with roles nobody knows.

    Failed where the task refuses them, with one finding for each kind of defect; they have no place among the
    rows. Passed where it leaves them out.
    """
    check = "unusable rows"
    of_kind: defaultdict[str, list[BadRecord]] = defaultdict(list)
    for bad in data.unusable:
        of_kind[_NUMBER.sub("0", bad.what)].append(bad)
    summary = f"{share(len(data.unusable), len(data.rows) + len(data.unusable))} records cannot be used"
    if data.leaves_out:
        return answered(check, f"{summary}, and are left out" if data.unusable else summary, [])
    findings = []
    for alike in sorted(of_kind.values(), key=len, reverse=True)[:KINDS_SHOWN]:
        evidence = f"{count(len(alike), 'record')}: {alike[0].what}: {lines_of(alike)}"
        findings.append(Finding("unusable", "error", (), evidence, "keep"))
    if findings:
        summary += "; correct them, or leave them out with data.unusable: set_aside"
    return answered(check, summary, findings)


def check_empty_fields(data: AuditData) -> CheckResult:
    """Rows without an input or a target, with a word such as "NaN" in its place, and columns with gaps."""
    rows = len(data.rows)
    no_input, no_target = [], []
    input_words, target_words = [], []
    for index, row in enumerate(data.rows):
        asked = row.text.strip()
        wanted = row.target.strip()
        if not asked:
            no_input.append(index)
        elif len(asked) <= 10 and asked.casefold() in MISSING_WORDS:
            input_words.append(index)
        if not wanted:
            no_target.append(index)
        elif len(wanted) <= 10 and wanted.casefold() in MISSING_WORDS:
            target_words.append(index)
    findings = []
    for field, found in (("input", no_input), ("target", no_target)):
        if found:
            first = data.rows[found[0]].source
            evidence = f"{share(len(found), rows)} rows with an empty {field} (first: {first})"
            findings.append(Finding(f"empty {field}", "error", tuple(found), evidence, "drop"))
    for field, found in (("input", input_words), ("target", target_words)):
        if found:
            findings.append(_missing_words(data, field, found))
    for column, values in data.fields.items():
        gaps = tuple(index for index, value in enumerate(values) if value is None or not value.strip())
        if 0 < len(gaps) < rows:
            evidence = f"column '{column}': {share(len(gaps), rows)} rows have no value"
            findings.append(Finding("gaps in a column", "note", gaps, evidence, "keep"))
    bad = len({*no_input, *no_target, *input_words, *target_words})
    summary = f"{share(bad, rows)} rows with an empty or missing input or target"
    return answered("empty fields", summary, findings)


def _missing_words(data: AuditData, field: str, found: list[int]) -> Finding:
    row = data.rows[found[0]]
    word = (row.text if field == "input" else row.target).strip()
    rare = field == "input" or len(found) <= max(1, MISSING_WORD_SHARE * len(data.rows))
    evidence = (
        f"{share(len(found), len(data.rows))} rows have a word for 'missing' as {field}, such as '{word}'"
    )
    severity: Severity = "warning" if rare else "note"
    if not rare:
        evidence += ": often enough to be a label"
    return Finding(f"word for a missing {field}", severity, tuple(found), evidence, "ask" if rare else "keep")


def check_turns(data: AuditData) -> CheckResult:
    """Conversations with unknown roles, a system turn in the middle, or turns that do not alternate.

    The input ends where the answer follows: its last turn must not be the assistant's.
    """
    found: defaultdict[str, list[int]] = defaultdict(list)
    for index, row in enumerate(data.rows):
        problem = _turn_problem([message.role for message in row.messages])
        if problem is not None:
            found[problem].append(index)
    findings = []
    for problem, rows in sorted(found.items(), key=lambda item: -len(item[1])):
        evidence = f"{count(len(rows), 'row')}: {problem} (first: {data.rows[rows[0]].source})"
        severity: Severity = "note" if problem == _GREETING else "error"
        repair: Repair = "keep" if problem == _GREETING else "set_aside"
        kind = "opening turn" if problem == _GREETING else "turn order"
        findings.append(Finding(kind, severity, tuple(rows), evidence, repair))
    bad = sum(len(rows) for rows in found.values())
    summary = f"{share(bad, len(data.rows))} rows with wrong roles or turns out of order"
    return answered("turns", summary, findings)


def _turn_problem(roles: list[Role]) -> str | None:
    known = get_args(Role)
    unknown = next((role for role in roles if role not in known), None)
    if unknown is not None:
        return f"the role '{unknown}' is not one of {', '.join(known)}"
    if "system" in roles[1:]:
        return "a system turn that is not the first"
    said = roles[1:] if roles[:1] == ["system"] else roles
    if "user" not in said:
        return "no turn of the user: nothing is asked"
    if said[-1] == "assistant":
        return "the last turn before the answer is the assistant's"
    if said[0] == "assistant":
        return _GREETING
    if any(first == second for first, second in pairwise(said)):
        return "two turns of the same role in a row"
    return None


def check_lengths(data: AuditData) -> CheckResult:
    """Rows that do not fit into the base's context; unmeasured where that is not known.

    Tokens are counted only for rows that could be too long: no tokeniser makes more tokens than bytes, and
    the limit says what is allowed for instruction and chat template.
    """
    check = "lengths"
    limit = data.length_limit()
    if isinstance(limit, str):
        return CheckResult(check, "unmeasured", limit)
    counted = count_where_long(data.rows, limit)
    too_long = [(tokens, index) for tokens, index in counted if tokens > limit.context_tokens]
    if not too_long:
        known = f"the longest has {counted[0][0]:,}" if counted else "none is near it"
        return answered(check, f"Every row fits into {limit.context_tokens:,} tokens; {known}.", [])
    rows = tuple(index for _, index in too_long)
    who = share(len(rows), len(data.rows))
    summary = f"{who} rows are longer than the context of {limit.context_tokens:,} tokens"
    first = data.rows[rows[0]]
    evidence = f"{summary}; the longest has {too_long[0][0]:,} ({first.source}: {excerpt(first.text)})"
    return answered(check, summary, [Finding("too long", "error", rows, evidence, "set_aside")])


def count_where_long(rows: Sequence[Row], limit: LengthLimit) -> list[tuple[int, int]]:
    """(tokens, index) of the rows that could be too long, the longest first."""
    counted = [
        (limit.count_tokens(row), index)
        for index, row in enumerate(rows)
        if _most_tokens(row, limit) > limit.context_tokens
    ]
    return sorted(counted, key=lambda item: (-item[0], item[1]))


def _most_tokens(row: Row, limit: LengthLimit) -> int:
    characters = sum(len(message.content) for message in row.messages) + len(row.target)
    if row.target.isascii() and all(message.content.isascii() for message in row.messages):
        size = characters
    else:
        size = 4 * characters
    return size + limit.beside_tokens + limit.turn_tokens * (len(row.messages) + 1)
