"""Characters that do not belong: wrong decoding, control characters, remains of HTML."""

from __future__ import annotations

import html
import re
import unicodedata
from html.entities import html5

from tunesmith.data.audit.findings import AuditData, CheckResult, Finding, answered
from tunesmith.data.audit.texts import Change, changes, count, difference, fix_findings, share, texts

# More rows with tags than this, and HTML is what the task is about.
HTML_TASK_SHARE = 0.5

# C0 and C1 without tab, line feed and carriage return; then characters that nobody sees and no language
# needs: soft hyphen, zero-width space, word joiner, byte order mark, and overrides of the writing direction.
# Zero-width joiners stay: Persian, Indic scripts and emoji are written with them.
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\xad\u200b\u2060\ufeff\u202a-\u202e\u2066-\u2069]")
_C0 = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_REPLACEMENT = "\ufffd"

_BLOCK = "p|div|br|hr|ul|ol|li|table|thead|tbody|tr|td|th|h[1-6]|pre|blockquote|section|article|header|footer"
_INLINE = "a|b|i|u|em|strong|span|font|small|sub|sup|img|code|center|strike|del|ins|html|head|body|title|meta"
_TAG = re.compile(
    rf"</?(?P<name>{_BLOCK}|{_INLINE}|link|nav|form|input|button|iframe)(?:\s[^<>]{{0,500}})?/?>", re.I
)
_UNSEEN = re.compile(r"<(script|style)\b[^<>]{0,500}>.{0,20000}?</\1\s*>|<!--.{0,5000}?-->", re.I | re.S)
_BLOCK_TAG = re.compile(rf"</?(?:{_BLOCK})(?:\s[^<>]{{0,500}})?/?>", re.I)
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,30});")
_SPACE_RUNS = re.compile(r"[ \t]{2,}")
_LINE_RUNS = re.compile(r"[ \t]*\n\s*")


def decoded(text: str) -> str:
    """``text`` with mojibake undone ("donâ€™t" -> "don’t"), by ftfy (Speer 2019)."""
    if text.isascii():
        return text
    from ftfy import fix_encoding
    from ftfy.badness import is_bad

    return fix_encoding(text) if is_bad(text) else text


def without_controls(text: str) -> str:
    """``text`` without control characters and invisible ones; a line end stays a line end."""
    if text.isascii():
        if text.isprintable():
            return text
        return _C0.sub("", text)
    if _CONTROL.search(text) is None:
        return text
    from ftfy.fixes import fix_c1_controls

    return _CONTROL.sub("", fix_c1_controls(text))


def without_html(text: str) -> str:
    """``text`` without HTML tags, scripts, comments and entities; block elements become line ends.

    Text in a code fence is left as it is, and so is everything that only looks like a tag ("a < b").
    """
    if ("<" not in text and "&" not in text) or "```" in text:
        return text
    had_tags = _TAG.search(text) is not None
    if not had_tags and not _has_entity(text):
        return text
    if had_tags:
        text = _UNSEEN.sub(" ", text)
        text = _BLOCK_TAG.sub("\n", text)
        text = _TAG.sub("", text)
    text = _ENTITY.sub(_character, text).replace("\xa0", " ")
    if had_tags:
        text = _LINE_RUNS.sub("\n", _SPACE_RUNS.sub(" ", text)).strip()
    return text


def check_encoding(data: AuditData) -> CheckResult:
    """Mojibake, characters lost in decoding, and texts in another Unicode normal form than the rest."""
    check = "encoding"
    foreign = sum(not text.isascii() for _, _, text in texts(data))
    found = changes(data, decoded)
    findings = fix_findings("mojibake", "error", found, lambda here: _decoding_evidence(here, foreign))
    lost = sorted({row for row, _, text in texts(data) if not text.isascii() and _REPLACEMENT in text})
    if lost:
        findings.append(
            Finding(
                "lost characters",
                "warning",
                tuple(lost),
                f"{count(len(lost), 'row')} with the replacement character U+FFFD: what stood there was lost "
                f"when the file was decoded, so read the original again (first: {data.rows[lost[0]].source})",
                "ask",
            )
        )
    findings += _normal_forms(data, foreign)
    bad = len({row for finding in findings for row in finding.rows})
    summary = f"{share(bad, len(data.rows))} rows with broken or mixed encodings"
    return answered(check, summary, findings)


def _decoding_evidence(here: list[Change], foreign: int) -> str:
    first = here[0]
    return (
        f"{count(len(here), 'text')} decoded with the wrong encoding, of {foreign:,} with characters outside "
        f"ASCII; {difference(first.before, first.after)}"
    )


def _normal_forms(data: AuditData, foreign: int) -> list[Finding]:
    found = changes(data, composed)
    # All texts decomposed is a choice; some of them is a mixture, and the same word twice in the vocabulary.
    if not found or len(found) > foreign / 2:
        return []
    return fix_findings(
        "mixed normal forms",
        "warning",
        found,
        lambda here: (
            f"{count(len(here), 'text')} not in Unicode normal form NFC, which most of the {foreign:,} with "
            f"characters outside ASCII are in: the same word has two spellings"
        ),
    )


def composed(text: str) -> str:
    """``text`` in Unicode normal form NFC."""
    if text.isascii() or unicodedata.is_normalized("NFC", text):
        return text
    return unicodedata.normalize("NFC", text)


def check_control_characters(data: AuditData) -> CheckResult:
    """Control characters and invisible ones (zero-width space, soft hyphen, direction overrides)."""
    found = changes(data, without_controls)

    def evidence(here: list[Change]) -> str:
        codes = sorted({f"U+{ord(c):04X}" for change in here for c in _CONTROL.findall(change.before)})
        named = ", ".join(codes[:8]) + (", ..." if len(codes) > 8 else "")
        return f"{count(len(here), 'text')} with control or invisible characters ({named})"

    rows = len({change.row for change in found})
    summary = f"{share(rows, len(data.rows))} rows with control or invisible characters"
    return answered(
        "control characters", summary, fix_findings("control characters", "warning", found, evidence)
    )


def check_html(data: AuditData) -> CheckResult:
    """Tags, comments, scripts and entities left over from web pages; a note where most rows have them."""
    found = changes(data, without_html)
    rows = len({change.row for change in found})
    summary = f"{share(rows, len(data.rows))} rows with remains of HTML"
    if rows > HTML_TASK_SHARE * len(data.rows):
        evidence = f"{summary}: so many that HTML seems to be what the task is about"
        kept = tuple(sorted({change.row for change in found}))
        return answered("HTML", summary, [Finding("HTML", "note", kept, evidence, "keep")])

    def evidence_of(here: list[Change]) -> str:
        first = here[0]
        return (
            f"{count(len(here), 'text')} with HTML tags or entities; {difference(first.before, first.after)}"
        )

    return answered("HTML", summary, fix_findings("HTML", "warning", found, evidence_of))


def _has_entity(text: str) -> bool:
    return any(_character(match) != match[0] for match in _ENTITY.finditer(text))


def _character(entity: re.Match[str]) -> str:
    """What an entity stands for; itself when no entity has exactly this name."""
    if entity[0].startswith("&#"):
        return html.unescape(entity[0])
    return html5.get(entity[0][1:], entity[0])
