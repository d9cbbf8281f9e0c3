"""Targets and inputs that do not have the shape of the others: JSON, wrappings, templates."""

from __future__ import annotations

import ast
import json
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from tunesmith.data.audit.findings import AuditData, CheckResult, Finding, answered
from tunesmith.data.audit.texts import count, excerpt, label_counts, last_user_text, share

# A shape that this share of the targets has is the rule, and what differs is worth a look.
RULE_SHARE = 0.9
JSON_SHARE = 0.5
KEY_SHARE = 0.95
OPENING_SHARE = 0.8
OPENING_WORDS = 3

_FENCE = re.compile(r"\A\s*```[A-Za-z0-9]*\s*\n(.*?)\n?\s*```\s*\Z", re.S)
_TRAILING_COMMA = re.compile(r",(?=\s*[}\]])")
_QUOTED = re.compile(r"""\A(?:"([^"]+)"|'([^']+)'|“([^”]+)”|`([^`]+)`)\Z""", re.S)
_PREFIX = re.compile(r"\A(?:answer|label|output|response|result|category|class)\s*[:=]\s*(?=\S)", re.I)
_UNFILLED = re.compile(
    r"\{\{\s*[A-Za-z_][\w .-]{0,40}\}\}|(?<![{$\\\w])\{[a-z_][a-z0-9_]{1,40}\}(?!\})"
    r"|\[(?:INSERT|YOUR|ENTER|ADD)\b[^\]\n]{0,60}\]|<(?:INSERT|YOUR)\b[^>\n]{0,60}>"
)


def check_output_shapes(data: AuditData) -> CheckResult:
    """Targets unlike the rest: JSON that does not parse or lacks keys, code fences, quotes, "Answer:"."""
    targets = [row.target for row in data.rows]
    parsed = [_parsed(target) for target in targets]
    structured = [index for index, value in enumerate(parsed) if isinstance(value, (dict, list))]
    if targets and len(structured) >= JSON_SHARE * len(targets):
        findings = _json_findings(data, parsed, structured)
    else:
        findings = _wrapped(data, structured)
    bad = len({row for finding in findings if finding.severity != "note" for row in finding.rows})
    summary = f"{share(bad, len(targets))} targets do not have the shape of the others"
    return answered("output shapes", summary, findings)


def _parsed(target: str) -> Any:
    """The JSON value of ``target`` when it is an object or an array, else None."""
    if target.lstrip()[:1] not in ("{", "["):
        return None
    try:
        return json.loads(target)
    except (ValueError, RecursionError):
        return None


def _json_findings(data: AuditData, parsed: Sequence[Any], structured: Sequence[int]) -> list[Finding]:
    broken = [
        index for index, value in enumerate(parsed) if value is None and data.rows[index].target.strip()
    ]
    findings: list[Finding] = []
    repaired = {
        index: fixed for index in broken if (fixed := repaired_json(data.rows[index].target)) is not None
    }
    if repaired:
        first = next(iter(repaired))
        evidence = (
            f"{count(len(repaired), 'target')} not JSON where {share(len(structured), len(parsed))} are, but "
            f"only by a code fence, a trailing comma or Python's quotes: {excerpt(data.rows[first].target)}"
        )
        texts = tuple(repaired.values())
        findings.append(
            Finding("JSON does not parse", "error", tuple(repaired), evidence, "fix", "target", texts)
        )
    beyond = tuple(index for index in broken if index not in repaired)
    if beyond:
        target = data.rows[beyond[0]].target
        evidence = (
            f"{count(len(beyond), 'target')} not JSON where {share(len(structured), len(parsed))} are: "
            f"{excerpt(target)} ({_json_error(target)})"
        )
        findings.append(Finding("JSON beyond repair", "error", beyond, evidence, "set_aside"))
    objects = [(index, parsed[index]) for index in structured if isinstance(parsed[index], dict)]
    arrays = [index for index in structured if isinstance(parsed[index], list)]
    if arrays and len(objects) >= RULE_SHARE * len(structured):
        most = share(len(objects), len(structured))
        evidence = f"{count(len(arrays), 'target')} an array where {most} are objects"
        findings.append(Finding("another JSON shape", "warning", tuple(arrays), evidence, "ask"))
    if len(objects) >= 20:
        findings += _key_findings(objects)
    return findings


def repaired_json(target: str) -> str | None:
    """``target`` as JSON where only a fence, a trailing comma or Python quoting is wrong, else None."""
    fence = _FENCE.match(target)
    text = fence[1] if fence else target.strip()
    for candidate in (text, _TRAILING_COMMA.sub("", text)):
        if isinstance(_parsed(candidate), (dict, list)):
            return candidate
    if len(text) > 100_000 or text[:1] not in ("{", "["):
        return None
    try:
        value = ast.literal_eval(text)
        written = json.dumps(value, ensure_ascii=False)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return None
    return written if isinstance(value, (dict, list)) else None


def _json_error(target: str) -> str:
    try:
        json.loads(target)
    except json.JSONDecodeError as error:
        return f"{error.msg} at character {error.pos + 1}"
    except RecursionError:
        return "nested too deeply"
    return "a bare value"


def _key_findings(objects: Sequence[tuple[int, dict[str, Any]]]) -> list[Finding]:
    present = Counter(key for _, value in objects for key in value)
    required = {key for key, rows in present.items() if rows >= KEY_SHARE * len(objects)}
    known = {key for key, rows in present.items() if rows > (1 - KEY_SHARE) * len(objects)}
    types: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for _, value in objects:
        for key in required & value.keys():
            types[key][_json_type(value[key])] += 1
    usual = {
        key: kind
        for key, kinds in types.items()
        for kind, rows in kinds.most_common(1)
        if rows >= KEY_SHARE * kinds.total()
    }
    missing: defaultdict[str, list[int]] = defaultdict(list)
    unknown: defaultdict[str, list[int]] = defaultdict(list)
    other: defaultdict[str, list[int]] = defaultdict(list)
    for index, value in objects:
        for key in required - value.keys():
            missing[key].append(index)
        for key in value.keys() - known:
            unknown[key].append(index)
        for key in usual.keys() & value.keys():
            if _json_type(value[key]) != usual[key]:
                other[key].append(index)
    findings = []
    total = len(objects)
    for key, rows in sorted(missing.items()):
        evidence = f"key '{key}' is missing in {share(len(rows), total)} objects"
        findings.append(Finding("missing key", "warning", tuple(rows), evidence, "ask"))
    for key, rows in sorted(unknown.items()):
        evidence = f"key {excerpt(key)} occurs in {share(len(rows), total)} objects only"
        findings.append(Finding("rare key", "warning", tuple(rows), evidence, "ask"))
    for key, rows in sorted(other.items()):
        evidence = f"key '{key}' is not a {usual[key]} in {share(len(rows), total)} objects"
        findings.append(Finding("another JSON type", "warning", tuple(rows), evidence, "ask"))
    return findings


def _json_type(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, (int, float)):
        return "number"
    return {str: "string", list: "array", dict: "object", type(None): "null"}[type(value)]


def _wrapped(data: AuditData, structured: Sequence[int]) -> list[Finding]:
    """What a minority of the targets is wrapped in, when targets are not JSON."""
    total = len(data.rows)
    fixes: defaultdict[str, list[tuple[int, str]]] = defaultdict(list)
    for index, row in enumerate(data.rows):
        target = row.target.strip()
        if match := _FENCE.match(target):
            fixes["in a code fence"].append((index, match[1]))
        elif match := _QUOTED.match(target):
            fixes["in quotes"].append((index, next(text for text in match.groups() if text)))
        elif match := _PREFIX.match(target):
            fixes[f"after '{match[0].strip().lower()}'"].append((index, target[match.end() :]))
    findings = []
    for kind, found in sorted(fixes.items()):
        if len(found) <= (1 - RULE_SHARE) * total:
            rows, fixed = zip(*found, strict=True)
            evidence = (
                f"{share(len(rows), total)} targets stand {kind}, the others do not: {excerpt(fixed[0])}"
            )
            # A sentence of free text may be a quotation; a label never is.
            quotation = kind == "in quotes" and label_counts(data) is None
            findings.append(
                Finding("quoted target", "note", rows, evidence, "keep")
                if quotation
                else Finding("wrapped target", "warning", rows, evidence, "fix", "target", fixed)
            )
    if structured and len(structured) <= (1 - RULE_SHARE) * total:
        evidence = f"{share(len(structured), total)} targets are JSON, the others are not"
        findings.append(Finding("JSON among others", "warning", tuple(structured), evidence, "ask"))
    return findings


def check_templates(data: AuditData) -> CheckResult:
    """Inputs without the opening that the others share, and placeholders that nobody filled in."""
    total = len(data.rows)
    findings = []
    inputs = [last_user_text(data, index) for index in range(total)]
    opening = _common_opening(inputs)
    if opening:
        without = tuple(
            index for index, text in enumerate(inputs) if text.strip() and not text.startswith(opening)
        )
        if without:
            evidence = (
                f"{share(total - len(without), total)} inputs open with {excerpt(opening)}; "
                f"{count(len(without), 'row')} not: {excerpt(inputs[without[0]])}"
            )
            findings.append(Finding("other template", "warning", without, evidence, "ask"))
    found = tuple(
        index
        for index, row in enumerate(data.rows)
        if ("{" in row.text or "{" in row.target or "[" in row.text or "[" in row.target or "<" in row.target)
        and (_UNFILLED.search(row.text) or _UNFILLED.search(row.target))
    )
    if found:
        row = data.rows[found[0]]
        match = _UNFILLED.search(row.text) or _UNFILLED.search(row.target)
        evidence = (
            f"{share(len(found), total)} rows hold a placeholder such as {excerpt(match[0] if match else '')}"
        )
        rare = len(found) <= total / 2
        evidence += "" if rare else ": in so many rows they seem meant"
        findings.append(
            Finding(
                "unfilled placeholder",
                "warning" if rare else "note",
                found,
                evidence,
                "ask" if rare else "keep",
            )
        )
    bad = len({row for finding in findings for row in finding.rows if finding.severity != "note"})
    return answered(
        "templates", f"{share(bad, total)} rows deviate from the template of the others", findings
    )


def _common_opening(inputs: Sequence[str]) -> str:
    """The words that at least 80 % of the distinct inputs open with: three or more, or ending in a colon."""
    alive = [text for text in dict.fromkeys(inputs) if text.strip()]
    needed = OPENING_SHARE * len(alive)
    opening = ""
    while len(opening) < 2000:
        nexts: Counter[str] = Counter()
        for text in alive:
            if match := _NEXT_WORD.match(text, len(opening)):
                nexts[match[0]] += 1
        word, rows = nexts.most_common(1)[0] if nexts else ("", 0)
        if rows < max(2, needed):
            break
        opening += word
        alive = [text for text in alive if text.startswith(opening)]
    opening = opening.rstrip()
    return opening if len(opening.split()) >= OPENING_WORDS or opening.endswith(":") else ""


_NEXT_WORD = re.compile(r"\s*\S+(?=\s)")
