"""Keys, tokens and passwords in texts: by the prefixes their issuers give them, and by entropy."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator

from tunesmith.data.audit.spans import Span

# Bits per character; random base 64 of 20 characters has about 4.1, hexadecimal 3.4, English words 3 or less.
TOKEN_ENTROPY = 3.0
SHORTEST_TOKEN = 15  # characters, of those that are known by their prefix
ASSIGNED_ENTROPY = 3.5

# Prefixes that the issuers document and that secret scanners look for (gitleaks, detect-secrets).
_TOKENS = re.compile(
    r"(?<![A-Za-z0-9])(?:"
    r"(?:AKIA|ASIA)[0-9A-Z]{16}"  # Amazon
    r"|gh[pousr]_[A-Za-z0-9]{36,255}|github_pat_[A-Za-z0-9_]{22,255}"
    r"|glpat-[A-Za-z0-9_-]{20,64}"
    r"|xox[abeoprs]-[A-Za-z0-9-]{10,250}"  # Slack
    r"|(?:sk|rk|pk)_(?:live|test)_[A-Za-z0-9]{16,250}"  # Stripe
    r"|sk-(?:proj-|ant-[a-z0-9]{2,8}-|or-v1-)?[A-Za-z0-9_-]{20,250}"  # OpenAI, Anthropic, OpenRouter
    r"|AIza[0-9A-Za-z_-]{35}|ya29\.[0-9A-Za-z_-]{20,500}"  # Google
    r"|hf_[A-Za-z0-9]{30,64}"
    r"|npm_[A-Za-z0-9]{36}|pypi-[A-Za-z0-9_-]{50,500}"
    r"|SG\.[A-Za-z0-9_-]{16,32}\.[A-Za-z0-9_-]{16,64}"  # SendGrid
    r"|eyJ[A-Za-z0-9_-]{8,2000}\.eyJ[A-Za-z0-9_-]{8,8000}\.[A-Za-z0-9_-]{8,2000}"  # JSON web token
    r")(?![A-Za-z0-9])"
)
_TOKEN_HINTS = re.compile(
    r"AKIA|ASIA|gh[pousr]_|github_pat|glpat-|xox[abeoprs]-|[srp]k_|sk-|AIza|ya29|hf_|npm_|pypi-|SG\.|eyJ"
)
# Begins no word: of 28 keys of Amazon's one has no digit.
_UNMISTAKABLE = ("AKIA", "ghp_", "gho_", "ghu_", "ghs_", "ghr_")
_KEY_BLOCK = re.compile(
    r"-----BEGIN (?P<kind>[A-Z ]{0,30}PRIVATE KEY(?: BLOCK)?)-----.{0,20000}?(?:-----END (?P=kind)-----|\Z)",
    re.S,
)
_URL_PASSWORD = re.compile(r"(?<=://)(?P<user>[^\s:/@]{1,64}):(?P<value>[^\s:/@\[\]]{1,128})(?=@[\w.-])")
_ASSIGNED = re.compile(
    r"(?<![A-Za-z])(?P<name>pass(?:word|wd|phrase)?|pwd|secret|token|api[_ -]?key|access[_ -]?key"
    r"|auth[_ -]?token|client[_ -]?secret|bearer|credentials?)\b[\"']?"
    r"(?:\s{0,3}(?:[:=]|:=|=>)\s{0,3}|\s+is\s*:\s+)[\"'`]?"
    r"(?P<value>[^\s\"'`,;<>\[\]]{6,256})",
    re.I,
)
_BEARER = re.compile(r"(?<![A-Za-z])[Bb]earer\s+(?P<value>[A-Za-z0-9_.~+/-]{20,2000}=*)")
_PASSWORD_NAMES = ("pass", "pwd")


def entropy_bits(value: str) -> float:
    """Shannon entropy of the characters of ``value``, in bits per character."""
    length = len(value)
    return -sum(times / length * math.log2(times / length) for times in Counter(value).values())


def secret_spans(text: str) -> Iterator[Span]:
    """Keys, tokens and passwords in ``text``; spans may overlap."""
    if "-----BEGIN" in text:
        for match in _KEY_BLOCK.finditer(text):
            yield Span("PRIVATE_KEY", match.start(), match.end(), match[0])
    # Splitting a text takes less than searching it for all the hints.
    if len(max(text.split(), key=len, default="")) >= SHORTEST_TOKEN and _TOKEN_HINTS.search(text):
        for match in _TOKENS.finditer(text):
            sure = match[0].startswith(_UNMISTAKABLE) or any(map(str.isdigit, match[0]))
            if sure and entropy_bits(match[0]) >= TOKEN_ENTROPY:
                yield Span("SECRET", match.start(), match.end(), match[0])
    if "://" in text and "@" in text:
        for match in _URL_PASSWORD.finditer(text):
            yield Span("SECRET", *match.span("value"), match["value"])
    if ":" in text or "=" in text:
        for match in _ASSIGNED.finditer(text):
            value = match["value"].rstrip(".!?)")
            if _looks_secret(match["name"].lower(), value):
                start = match.start("value")
                yield Span("SECRET", start, start + len(value), value)
    if "earer " in text:
        for match in _BEARER.finditer(text):
            if entropy_bits(match["value"]) >= ASSIGNED_ENTROPY:
                yield Span("SECRET", *match.span("value"), match["value"])


def _looks_secret(name: str, value: str) -> bool:
    """A password mixes kinds of characters, a key is long with high entropy."""
    kinds = (
        any(map(str.islower, value)),
        any(map(str.isupper, value)),
        any(map(str.isdigit, value)),
        any(not character.isalnum() for character in value),
    )
    if name.startswith(_PASSWORD_NAMES):
        return len(value) >= 6 and any(map(str.isalpha, value)) and (kinds[2] or sum(kinds) >= 3)
    return len(value) >= 16 and kinds[2] and entropy_bits(value) >= ASSIGNED_ENTROPY
