"""Texts that a page or a limit left its marks on: lines repeated across documents, and texts cut off."""

from __future__ import annotations

import re
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from tunesmith.data.audit.findings import AuditData, CheckResult, Finding, answered
from tunesmith.data.audit.texts import Side, count, excerpt, label_counts, last_user_text, share

# A line is boilerplate when this share of the documents, and this many, have it.
REPEATED_SHARE = 0.01
REPEATED_DOCUMENTS = 10
# A line that nearly every document has is the task's own template.
TEMPLATE_SHARE = 0.9
LINE_WORDS = 4
# Short lines (a greeting, a usual question) are shared by chance, so more documents must have them.
LONG_LINE_WORDS = 8
REPEATED_SHARE_OF_SHORT_LINES = 0.05
EDGE_SHARE = 0.8

ENDING_SHARE = 0.8
CUT_WORD_CHARACTERS = 4
PILE_ROWS = 5
PILE_FACTOR = 5

_BUCKETS = 1 << 22
_SENTENCE = re.compile(r"[^\n]+?(?:[.!?](?=\s)|(?=\n)|\Z)")
_DIGITS = re.compile(r"\d+")
_WORD = re.compile(r"\w+")
# Closed: a sentence ends so. Open: no sentence ends so.
_CLOSED = re.compile(r"""[.!?…:;。！？।]["'”’»)\]*_]*\s*\Z""")
_OPEN = re.compile(
    r"(?:[,(\[{&–—]|\b(?:the|an|and|but|because|than|my|your|our|their|whose|der|und|les|et))\s*\Z", re.I
)


def check_boilerplate(data: AuditData) -> CheckResult:
    """Headers, footers, disclaimers and citations: lines or sentences that many different texts share.

    Digits count as equal, so that "Page 3 of 12" is one line. A text that is nothing but the line is not
    counted, nor are duplicates (rows of one group count once). Lines at an edge of their text are taken out
    by the repair, others are only noted. Texts written from attributes (``kind: generate``) say one thing
    again and again, and rightly so: of them only the inputs are looked at.
    """
    findings = []
    inputs = [last_user_text(data, index) for index in range(len(data.rows))]
    findings += _repeated(data, "input", inputs)
    if label_counts(data) is None and data.kind != "generate":
        findings += _repeated(data, "target", [row.target for row in data.rows])
    bad = len({row for finding in findings if finding.severity != "note" for row in finding.rows})
    summary = f"{share(bad, len(data.rows))} rows with a header, footer or phrase that many documents repeat"
    return answered("boilerplate", summary, findings)


def _repeated(data: AuditData, field: Side, documents: Sequence[str]) -> list[Finding]:
    first_of: dict[str, int] = {}
    for index, text in enumerate(documents):
        first_of.setdefault(data.rows[index].group or text, index)
    distinct = sorted(first_of.values())
    needed = max(REPEATED_DOCUMENTS, REPEATED_SHARE * len(distinct))

    # One pass with a small table of counts, so that only lines that may be frequent are kept as text.
    table = np.zeros(_BUCKETS, dtype=np.int32)
    for index in distinct:
        for unit in set(_units(documents[index])):
            table[zlib.crc32(unit.encode()) % _BUCKETS] += 1
    frequent = Counter(
        unit
        for index in distinct
        for unit in set(_units(documents[index]))
        if table[zlib.crc32(unit.encode()) % _BUCKETS] >= needed
    )
    needed_short = max(REPEATED_DOCUMENTS, REPEATED_SHARE_OF_SHORT_LINES * len(distinct))
    repeated = {
        unit
        for unit, times in frequent.items()
        if times >= (needed if unit.count(" ") >= LONG_LINE_WORDS - 1 else needed_short)
    }
    if not repeated:
        return []
    rows_of: defaultdict[str, list[int]] = defaultdict(list)
    edges: Counter[str] = Counter()
    for index, text in enumerate(documents):
        units = _units(text)
        for unit in repeated.intersection(units):
            rows_of[unit].append(index)
            edges[unit] += unit in (units[0], units[-1]) or _between_repeated(units, unit, repeated)
    kept: list[str] = []
    cut: list[str] = []
    for unit, rows in sorted(rows_of.items(), key=lambda item: -len(item[1])):
        everywhere = frequent[unit] >= TEMPLATE_SHARE * len(distinct)
        (kept if everywhere or edges[unit] < EDGE_SHARE * len(rows) else cut).append(unit)
    findings = []
    if cut:
        findings.append(_cut_finding(documents, field, set(cut), rows_of, len(distinct), frequent))
    for unit in kept[:5]:
        where = (
            "the task's template" if frequent[unit] >= TEMPLATE_SHARE * len(distinct) else "inside the texts"
        )
        evidence = (
            f"{excerpt(unit)} stands in {share(frequent[unit], len(distinct))} different {field}s, {where}"
        )
        findings.append(Finding("repeated phrase", "note", tuple(rows_of[unit]), evidence, "keep"))
    return findings


def _cut_finding(
    documents: Sequence[str],
    field: Side,
    cut: set[str],
    rows_of: dict[str, list[int]],
    distinct: int,
    frequent: Counter[str],
) -> Finding:
    rows = sorted({index for unit in cut for index in rows_of[unit]})
    listed = sorted(cut, key=lambda unit: -frequent[unit])[:3]
    named = "; ".join(f"{excerpt(unit)} in {frequent[unit]:,}" for unit in listed)
    evidence = (
        f"{count(len(cut), 'line or sentence', 'lines or sentences')} at the edge of many of "
        f"{distinct:,} different {field}s: {named}"
    )
    fixed = tuple(_without(documents[index], cut) for index in rows)
    return Finding("boilerplate", "warning", tuple(rows), evidence, "fix", field, fixed)


def _spans(text: str) -> Iterator[tuple[int, int, str]]:
    """Lines, cut into sentences, with their places; normalised; only statements of four words or more."""
    for match in _SENTENCE.finditer(text):
        unit = _DIGITS.sub("0", " ".join(match[0].split())).casefold()
        if unit.count(" ") >= LINE_WORDS - 1 and not unit.endswith("?"):
            yield match.start(), match.end(), unit


def _units(text: str) -> list[str]:
    """The lines and sentences of a text that has more than one; none for a single one."""
    if "\n" not in text and ". " not in text and "! " not in text and "? " not in text:
        return []
    units = [unit for _, _, unit in _spans(text)]
    whole = sum(1 for match in _SENTENCE.finditer(text) if match[0].strip())
    return units if whole > 1 else []


def _between_repeated(units: Sequence[str], unit: str, repeated: set[str]) -> bool:
    """Whether nothing but repeated lines lies between ``unit`` and an edge (a footer of several lines)."""
    place = units.index(unit)
    return all(other in repeated for other in units[:place]) or all(
        other in repeated for other in units[place + 1 :]
    )


def _without(text: str, cut: set[str]) -> str:
    kept, end = [], 0
    for start, stop, unit in _spans(text):
        if unit in cut:
            kept.append(text[end:start])
            end = stop
    kept.append(text[end:])
    return re.sub(r"\n{3,}", "\n\n", "".join(kept)).strip()


def check_truncation(data: AuditData) -> CheckResult:
    """Texts that were cut off: they end inside a word or a sentence, or pile up at a maximal length.

    A word is cut when it has four characters or more, occurs nowhere else and begins a longer word of the
    data. An end is judged only in texts of eight words or more, and only where at least 80 % of such texts
    end with a sentence's end. A length is a pile when it is the longest, five distinct texts or more have it
    exactly, and that is five times as many as the lengths just below it have on average.
    """
    findings = []
    inputs = [last_user_text(data, index) for index in range(len(data.rows))]
    findings += _cut_off("input", inputs)
    if label_counts(data) is None:
        findings += _cut_off("target", [row.target for row in data.rows])
    bad = len({row for finding in findings for row in finding.rows})
    return answered("truncation", f"{share(bad, len(data.rows))} rows with a text that was cut off", findings)


def _cut_off(field: Side, documents: Sequence[str]) -> list[Finding]:
    findings = []
    piled: set[int] = set()
    for unit, length_of in (("characters", _characters), ("words", _words)):
        pile = _pile(documents, length_of)
        if pile is None:
            continue
        longest, rows, usual = pile
        if piled.issuperset(rows):
            continue
        evidence = (
            f"{share(len(rows), len(documents))} {field}s are exactly {longest:,} {unit} long, none is "
            f"longer; the lengths just below have {usual:.1f} each"
        )
        findings.append(Finding("cut at a limit", "warning", tuple(rows), evidence, "ask", field))
        piled.update(rows)
    long = [index for index, text in enumerate(documents) if text.count(" ") >= 7]
    closed = sum(_CLOSED.search(documents[index][-12:]) is not None for index in long)
    if len(long) >= 20 and closed >= ENDING_SHARE * len(long):
        rows = _open_ended(documents, long)
        if rows:
            evidence = (
                f"{count(len(rows), field)} cut off inside a word or sentence, where "
                f"{share(closed, len(long))} end properly: {excerpt(documents[rows[0]][-50:])}"
            )
            findings.append(Finding("ends mid-sentence", "warning", tuple(rows), evidence, "ask", field))
    return findings


def _open_ended(documents: Sequence[str], long: Iterable[int]) -> list[int]:
    unclosed = [index for index in long if _CLOSED.search(documents[index][-12:]) is None]
    open_ends = [index for index in unclosed if _OPEN.search(documents[index][-12:])]
    vocabulary: Counter[str] = Counter()
    for text in dict.fromkeys(documents):
        vocabulary.update(_WORD.findall(text.casefold()))
    known = sorted(vocabulary)
    certain = set(open_ends)
    cut_words = [
        index
        for index in unclosed
        if index not in certain and _is_cut_word(documents[index], vocabulary, known)
    ]
    return open_ends + cut_words


def _is_cut_word(text: str, vocabulary: Counter[str], known: Sequence[str]) -> bool:
    """Whether the last word occurs once only and begins a word that occurs more often."""
    import bisect

    match = re.search(r"(\w+)\s*\Z", text[-80:])
    if match is None or text[-1:].isspace():
        return False
    word = match[1].casefold()
    if len(word) < CUT_WORD_CHARACTERS or word.isdigit() or vocabulary[word] > 1:
        return False
    place = bisect.bisect_right(known, word)
    return any(longer.startswith(word) and vocabulary[longer] >= 3 for longer in known[place : place + 50])


def _characters(text: str) -> int:
    return len(text)


def _words(text: str) -> int:
    return len(text.split())


def _pile(documents: Sequence[str], length_of: Callable[[str], int]) -> tuple[int, list[int], float] | None:
    """The longest length, the rows that have it, and how many texts each length just below it has."""
    lengths = Counter(length_of(text) for text in dict.fromkeys(documents))
    longest = max(lengths, default=0)
    window = range(max(1, longest - max(5, longest // 10)), longest)
    usual = sum(lengths[length] for length in window) / max(1, len(window))
    if longest < 20 or lengths[longest] < max(PILE_ROWS, PILE_FACTOR * usual):
        return None
    return longest, [index for index, text in enumerate(documents) if length_of(text) == longest], usual
