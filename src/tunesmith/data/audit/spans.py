"""Private values in a text, and the placeholders that take their place."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

_PLACEHOLDER = re.compile(r"\[([A-Z][A-Z_]*)_(\d+)\]")


@dataclass(frozen=True)
class Span:
    """A value found in a text: ``text[start:end]`` is ``value``; ``kind`` names it in the placeholder."""

    kind: str
    start: int
    end: int
    value: str


@dataclass
class Placeholders:
    """Which placeholder a value has. One object serves a whole data set: the same value, the same one."""

    numbers: dict[tuple[str, str], int] = field(default_factory=dict)
    used: dict[str, int] = field(default_factory=dict)

    def reserve(self, text: str) -> None:
        """Leave out the placeholders that ``text`` already has, so that none stands for two values."""
        if "[" in text:
            for match in _PLACEHOLDER.finditer(text):
                self.used[match[1]] = max(self.used.get(match[1], 0), int(match[2]))

    def of(self, span: Span) -> str:
        """The placeholder of a value: "[EMAIL_3]". Case, spaces and hyphens do not tell values apart."""
        key = span.kind, _bare(span)
        if key not in self.numbers:
            self.used[span.kind] = self.used.get(span.kind, 0) + 1
            self.numbers[key] = self.used[span.kind]
        return f"[{span.kind}_{self.numbers[key]}]"


def _bare(span: Span) -> str:
    if span.kind in ("SECRET", "PRIVATE_KEY"):
        return span.value
    bare = span.value.casefold()
    return bare if span.kind in ("EMAIL", "IP") else re.sub(r"[\W_]", "", bare)


def apart(spans: Iterable[Span]) -> list[Span]:
    """Spans that do not overlap, in order: of two that do, the longer one stays."""
    kept: list[Span] = []
    for span in sorted(spans, key=lambda span: span.start):
        if not kept or span.start >= kept[-1].end:
            kept.append(span)
        elif span.end - span.start > kept[-1].end - kept[-1].start:
            kept[-1] = span
    return kept


def redacted(text: str, find: Callable[[str], list[Span]], placeholders: Placeholders) -> str:
    """``text`` with every value that ``find`` finds replaced by its placeholder; the rest stays as it is.

    A value found by the words around it is replaced wherever else it stands in the text. Repeated until
    nothing is found, so that redacting twice changes nothing.
    """
    while spans := find(text):
        parts, end = [], 0
        for span in spans:
            parts += [text[end : span.start], placeholders.of(span)]
            end = span.end
        parts.append(text[end:])
        text = "".join(parts)
        for span in spans:
            if span.value in text:
                alone = rf"(?<![\w]){re.escape(span.value)}(?![\w])"
                placeholder = placeholders.of(span).replace("\\", r"\\")
                text = re.sub(alone, placeholder, text)
    return text
