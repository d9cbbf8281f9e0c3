"""One label written in several ways: case, spaces, punctuation, one letter slipped."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict

from tunesmith.data.audit.findings import AuditData, CheckResult, Finding, answered
from tunesmith.data.audit.texts import count, label_counts, share

# A label seldom enough to be a slip of the pen, next to one that is this many times as frequent.
SLIP_RATIO = 10
SLIP_CHARACTERS = 5
# Among more labels than this, many are one character apart on purpose.
MOST_LABELS = 20_000

_SPELLING = re.compile(r"[\s_\-‐-―]+")
_EDGES = " .,;:!?\"'`“”‘’«»()[]*"


def check_label_spelling(data: AuditData) -> CheckResult:
    """Labels that differ only in case, spaces, hyphens or a slip: the most frequent spelling is suggested."""
    check = "label spelling"
    counts = label_counts(data)
    if counts is None:
        return CheckResult(check, "unmeasured", "Targets are free text: there are no labels to be spelled.")
    rows_of: defaultdict[str, list[int]] = defaultdict(list)
    for index, row in enumerate(data.rows):
        rows_of[row.target].append(index)
    spellings: defaultdict[str, list[str]] = defaultdict(list)
    for label in counts:
        spellings[spelling_key(label)].append(label)
    findings = []
    chosen: Counter[str] = Counter()
    for group in spellings.values():
        best = min(group, key=lambda label: (-counts[label], label))
        chosen[best] = sum(counts[label] for label in group)
        others = sorted(
            (label for label in group if label != best), key=lambda label: (-counts[label], label)
        )
        if not others:
            continue
        rows = tuple(index for label in others for index in rows_of[label])
        listed = ", ".join(f"{label!r} {counts[label]:,}" for label in others[:6])
        more = ", ..." if len(others) > 6 else ""
        evidence = f"{best!r} ({counts[best]:,} rows) is also spelled {listed}{more}"
        fixed = (best,) * len(rows)
        findings.append(Finding("label spelling", "error", rows, evidence, "fix", "target", fixed))
    for slip, meant in sorted(_slips(chosen).items()):
        rows = tuple(rows_of[slip])
        evidence = (
            f"{slip!r} ({counts[slip]:,} rows) is one character away from {meant!r} ({chosen[meant]:,} rows)"
        )
        findings.append(
            Finding("label slip", "warning", rows, evidence, "ask", "target", (meant,) * len(rows))
        )
    bad = sum(len(finding.rows) for finding in findings)
    summary = (
        f"{share(bad, len(data.rows))} rows with a label in another spelling; {count(len(chosen), 'label')}"
    )
    return answered(check, summary, findings)


def spelling_key(label: str) -> str:
    """What two spellings of one label share: NFKC, case folded, spaces and hyphens alike, bare of quotes."""
    folded = unicodedata.normalize("NFKC", label).casefold()
    return _SPELLING.sub(" ", folded).strip(_EDGES) or folded.strip()


def _slips(chosen: Counter[str]) -> dict[str, str]:
    """Rare labels at edit distance 1 (or two neighbours swapped) from a label ten times as frequent.

    Both leave a common text when one character is taken out (symmetric deletes, Garbe 2012), which needs no
    comparison of all pairs. Labels that differ in a digit are different things, and so are
    abbreviations in capitals.
    """
    if len(chosen) > MOST_LABELS:
        return {}
    near: defaultdict[str, list[str]] = defaultdict(list)
    names = [label for label in chosen if len(label) >= SLIP_CHARACTERS and not label.isupper()]
    for label in names:
        for part in _deletes(label):
            near[part].append(label)
    found = {}
    for label in names:
        others = {
            other
            for part in _deletes(label)
            for other in near[part]
            if chosen[other] >= SLIP_RATIO * chosen[label] and _digits(other) == _digits(label)
        }
        if others:
            found[label] = min(others, key=lambda other: (-chosen[other], other))
    return found


def _deletes(label: str) -> set[str]:
    return {label, *(label[:place] + label[place + 1 :] for place in range(len(label)))}


def _digits(label: str) -> str:
    return "".join(character for character in label if character.isdigit())
