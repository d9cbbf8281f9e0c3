"""Personal data and secrets in rows: where they are, and texts with placeholders instead of them."""

from __future__ import annotations

import ipaddress
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain

from tunesmith.data.audit.findings import AuditData, CheckResult, Finding, answered
from tunesmith.data.audit.national_ids import national_id_spans
from tunesmith.data.audit.secrets import secret_spans
from tunesmith.data.audit.spans import Placeholders, Span, apart, redacted
from tunesmith.data.audit.texts import REJECTED, answers_last, kept_columns, share, side_of, texts


@dataclass(frozen=True)
class PrivacySettings:
    """``phone_regions``: countries (ISO 3166) whose phone numbers may be written without a country code."""

    phone_regions: tuple[str, ...] = ("US", "GB")


_NAMES = {
    "EMAIL": "e-mail addresses",
    "PHONE": "phone numbers",
    "CARD": "card numbers (Luhn)",
    "IBAN": "IBANs (mod 97)",
    "NATIONAL_ID": "national identity numbers",
    "IP": "IP addresses",
    "SECRET": "keys, tokens or passwords",
    "PRIVATE_KEY": "private keys",
}

SECRET_KINDS = ("SECRET", "PRIVATE_KEY")

_EMAIL = re.compile(r"(?<![\w.%+-])[\w.%+-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.){1,6}[A-Za-z]{2,24}(?![\w@])")
_PHONE_LIKE = re.compile(r"(?:\d[\s().\-/]{0,3}){6}\d")
_PHONE_WORD = re.compile(
    r"(?<![a-z])(?:phone|telephone|tel|mobile|cell|call|text|fax|facsimile|whatsapp|ring|reach|dial)(?![a-z])",
    re.I,
)
_DIGITS = re.compile(r"\d")
# What the shapes above and below need at least: most texts have fewer, and are spared the search.
FEWEST_PHONE_DIGITS = 7
FEWEST_CARD_DIGITS = 13
_CARD = re.compile(
    r"(?<![\w.-])(?:\d{4}([ -]?)\d{4}\1\d{4}\1\d{1,4}(?:\1\d{1,3})?"
    r"|\d{4}([ -]?)\d{6}\2\d{4,5})(?![\w-])(?!\.\d)"
)
# Ranges in use: Visa, Mastercard, American Express, Discover, JCB, Diners, UnionPay, Maestro.
_CARD_ISSUER = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})\Z|5[1-5]\d{14}\Z|2(?:22[1-9]|2[3-9]\d|[3-6]\d\d|7[01]\d|720)\d{12}\Z|3[47]\d{13}\Z"
    r"|6(?:011|5\d\d|4[4-9]\d)\d{12}\Z|35(?:2[89]|[3-8]\d)\d{12}\Z|3(?:0[0-5]|[689]\d)\d{11}\Z|62\d{14,17}\Z"
    r"|(?:50|5[6-8]|6[37])\d{10,17}\Z"
)
_IBAN = re.compile(
    r"(?<![A-Za-z0-9])[A-Z]{2}\d{2}(?:[ -]?[A-Z0-9]{4}){2,7}(?:[ -]?[A-Z0-9]{1,4})?(?![A-Za-z0-9])"
)
_IPV4 = re.compile(r"(?<![\w.])\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}(?![\w]|\.\d)")
_IPV6 = re.compile(
    r"(?<![\w:])(?=[0-9A-Fa-f:]{8,39}(?![\w:]))[0-9A-Fa-f]{1,4}(?::{1,2}[0-9A-Fa-f]{1,4}){2,7}(?![\w:])"
)
_VERSION_WORD = re.compile(r"(?:version|release|build|firmware|section|clause|v|ver|no)\.?\s*\Z", re.I)


def private_spans(text: str, phone_regions: tuple[str, ...] = PrivacySettings.phone_regions) -> list[Span]:
    """Personal data in ``text``, in order, not overlapping.

    E-mail addresses, phone numbers (libphonenumber's validity), payment cards (issuer range and Luhn), IBANs
    (length of the country, mod 97), national numbers (check digits and a word that names them), and IP
    addresses that belong to a machine (not loopback, not unspecified).
    """
    found: list[Span] = []
    if "@" in text:
        found += (Span("EMAIL", *match.span(), match[0]) for match in _EMAIL.finditer(text))
    digits = len(_DIGITS.findall(text))
    if not digits:
        return found
    if digits >= FEWEST_CARD_DIGITS:
        found += _card_spans(text)
    found += _iban_spans(text)
    found += _ip_spans(text)
    found += national_id_spans(text, digits)
    if digits >= FEWEST_PHONE_DIGITS:
        found += _phone_spans(text, phone_regions)
    return apart(found)


def all_spans(text: str, phone_regions: tuple[str, ...] = PrivacySettings.phone_regions) -> list[Span]:
    """Personal data and secrets together; where they overlap (an address after a password), the secret."""
    secrets = apart(secret_spans(text))
    private = private_spans(text, phone_regions)
    if not secrets:
        return private
    free = [
        span
        for span in private
        if all(span.end <= secret.start or span.start >= secret.end for secret in secrets)
    ]
    return apart([*secrets, *free])


def _card_spans(text: str) -> Iterator[Span]:
    from stdnum import luhn

    for match in _CARD.finditer(text):
        digits = match[0].replace(" ", "").replace("-", "")
        if _CARD_ISSUER.match(digits) and len(set(digits)) > 1 and luhn.is_valid(digits):
            yield Span("CARD", match.start(), match.end(), match[0])


def _iban_spans(text: str) -> Iterator[Span]:
    for match in _IBAN.finditer(text):
        value = _iban_in(match[0])
        if value is not None:
            yield Span("IBAN", match.start(), match.start() + len(value), value)


def _iban_in(candidate: str) -> str | None:
    """The longest beginning of ``candidate`` that is an IBAN and ends with a block: words may follow it."""
    from stdnum import iban

    while len(candidate) >= 15:
        if iban.is_valid(candidate, check_country=False):
            return candidate
        end = max(candidate.rfind(" "), candidate.rfind("-"))
        if end < 0:
            return None
        candidate = candidate[:end]
    return None


def _ip_spans(text: str) -> Iterator[Span]:
    candidates = list(_IPV4.finditer(text)) if text.count(".") >= 3 else []
    if text.count(":") >= 2:
        candidates += _IPV6.finditer(text)
    for match in candidates:
        try:
            address = ipaddress.ip_address(match[0])
        except ValueError:
            continue
        nobody = address.is_loopback or address.is_unspecified or address.is_multicast
        if nobody or match[0] == "255.255.255.255" or (address.version == 4 and match[0].startswith("0.")):
            continue
        if address.version == 6 and match[0].count(":") < 4 and "::" not in match[0]:
            continue
        if _VERSION_WORD.search(text[max(0, match.start() - 12) : match.start()]) is None:
            yield Span("IP", match.start(), match.end(), match[0])


def _phone_spans(text: str, regions: tuple[str, ...]) -> Iterator[Span]:
    """With a country code: valid. Without one: valid, and grouped as the country does or named as a phone."""
    if _PHONE_LIKE.search(text) is None:
        return
    from phonenumbers import Leniency, PhoneNumberMatcher

    # libphonenumber's strict grouping also takes ungrouped digits, which may be any number.
    named = _PHONE_WORD.search(text) is not None
    leniency = Leniency.VALID if named else Leniency.STRICT_GROUPING
    for region in regions or (None,):
        for match in PhoneNumberMatcher(text, region, leniency=leniency):
            written = match.raw_string
            if named or written.startswith("+") or any(character in " -.()/" for character in written):
                yield Span("PHONE", match.start, match.end, written)


def redact(text: str, placeholders: Placeholders, settings: PrivacySettings = PrivacySettings()) -> str:
    """``text`` with personal data and secrets replaced by placeholders such as "[EMAIL_3]".

    ``placeholders`` remembers which value got which number: pass the same one for a whole data set. Redacting
    a redacted text changes nothing, and no value that was found is left.
    """
    return redacted(text, lambda part: all_spans(part, settings.phone_regions), placeholders)


def check_private_data(data: AuditData, settings: PrivacySettings = PrivacySettings()) -> CheckResult:
    """Personal data other than names, in texts and in kept columns. The evidence gives counts, never values.

    The repaired texts have placeholders for all personal data and secrets of the row, whichever kind the
    finding is about: applying several findings to one text gives the same text.
    """
    return _checked(data, settings, "private data", secret=False)


def check_secrets(data: AuditData, settings: PrivacySettings = PrivacySettings()) -> CheckResult:
    """Keys, tokens and passwords, in texts and in kept columns.

    The evidence gives counts, never the values; repairs as in private data.
    """
    return _checked(data, settings, "secrets", secret=True)


def _checked(data: AuditData, settings: PrivacySettings, check: str, secret: bool) -> CheckResult:
    placeholders = Placeholders()
    for _, _, text in chain(texts(data), kept_columns(data)):
        placeholders.reserve(text)
    look = lru_cache(4096)(lambda text: all_spans(text, settings.phone_regions))
    places: defaultdict[tuple[str, int | None], list[tuple[int, str]]] = defaultdict(list)
    values: defaultdict[tuple[str, int | None], Counter[str]] = defaultdict(Counter)
    for row, turn, text in texts(data):
        spans = look(text)
        for span in spans:
            placeholders.of(span)
            if (span.kind in SECRET_KINDS) is secret:
                values[span.kind, turn][span.value] += 1
        for kind in {span.kind for span in spans}:
            if (kind in SECRET_KINDS) is secret:
                places[kind, turn].append((row, text))
    order = list(_NAMES)
    findings = []
    for (kind, turn), found in sorted(
        places.items(), key=lambda item: (order.index(item[0][0]), answers_last(item[0][1]))
    ):
        seen = values[kind, turn]
        side = "rejected answer" if turn == REJECTED else side_of(turn)
        evidence = (
            f"{share(len(found), len(data.rows))} {side}s hold {_NAMES[kind]}: {seen.total():,}, of which "
            f"{len(seen):,} different"
        )
        findings.append(
            Finding(
                kind=_NAMES[kind],
                severity="error" if secret else "warning",
                rows=tuple(row for row, _ in found),
                evidence=evidence,
                repair="fix",
                field=side_of(turn),
                fixed=tuple(redact(text, placeholders, settings) for _, text in found),
                turn=-1 if turn is None else turn,
            )
        )
    findings += _in_columns(data, settings, placeholders, secret)
    rows = len({row for finding in findings for row in finding.rows})
    return answered(check, f"{share(rows, len(data.rows))} rows with {check}", findings)


def _in_columns(
    data: AuditData, settings: PrivacySettings, placeholders: Placeholders, secret: bool
) -> list[Finding]:
    """The findings of the columns that are kept beside the rows, one for each kind and column."""
    look = lru_cache(4096)(lambda text: all_spans(text, settings.phone_regions))
    places: defaultdict[tuple[str, str], list[tuple[int, str]]] = defaultdict(list)
    for row, column, text in kept_columns(data):
        spans = look(text)
        for span in spans:
            placeholders.of(span)
        for kind in {span.kind for span in spans if (span.kind in SECRET_KINDS) is secret}:
            places[column, kind].append((row, text))
    order = list(_NAMES)
    findings = []
    for (column, kind), found in sorted(
        places.items(), key=lambda item: (item[0][0], order.index(item[0][1]))
    ):
        evidence = (
            f"column '{column}', kept with the rows: {share(len(found), len(data.rows))} rows hold "
            f"{_NAMES[kind]} (first: {data.rows[found[0][0]].source})"
        )
        findings.append(
            Finding(
                kind=f"{_NAMES[kind]} in column '{column}'",
                severity="error" if secret else "warning",
                rows=tuple(row for row, _ in found),
                evidence=evidence,
                repair="fix",
                field="column",
                fixed=tuple(redact(text, placeholders, settings) for _, text in found),
                column=column,
            )
        )
    return findings
