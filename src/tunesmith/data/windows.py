"""Long documents cut into overlapping windows, and what was found in the windows merged again."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class Span:
    """A labelled stretch of text, in characters; ``end`` is behind the last one."""

    start: int
    end: int
    label: str


@dataclass(frozen=True)
class Window:
    """A stretch of a document. ``spans`` count from its ``start``; ``answer`` is what was said about it."""

    start: int
    text: str
    spans: tuple[Span, ...] = ()
    answer: str | None = None

    @property
    def end(self) -> int:
        """The character of the document behind the window's last."""
        return self.start + len(self.text)


@dataclass(frozen=True)
class Merged:
    """A document put together again. ``answers`` are (answer, windows that gave it), most windows first."""

    text: str
    spans: tuple[Span, ...]
    answers: tuple[tuple[str, int], ...]


def cut_windows(
    text: str, window_words: int, overlap_words: int, spans: Sequence[Span] = (), answer: str | None = None
) -> tuple[Window, ...]:
    """Windows of at most ``window_words`` words that share ``overlap_words`` with the next.

    A span that a window cuts is in it as far as it reaches. Every window gets ``answer``. A text that fits
    is one window.

    Raises:
        ValueError: 1 ≤ overlap_words < window_words does not hold, or a span is empty or not in the text.
    """
    if not 1 <= overlap_words < window_words:
        raise ValueError(f"overlap_words {overlap_words} must be at least 1 and below {window_words}")
    for span in spans:
        if not 0 <= span.start < span.end <= len(text):
            raise ValueError(f"{span} is empty or not inside the text of {len(text)} characters")
    starts = [word.start() for word in re.finditer(r"\S+", text)]
    edges: list[tuple[int, int]] = []
    first = 0
    while True:
        last = first + window_words
        begin = 0 if first == 0 else starts[first]
        if last >= len(starts):
            edges.append((begin, len(text)))
            break
        edges.append((begin, starts[last]))
        first = last - overlap_words
    return tuple(Window(begin, text[begin:end], _inside(spans, begin, end), answer) for begin, end in edges)


def merge_windows(windows: Sequence[Window]) -> Merged:
    """The document that ``windows`` were cut from, with its spans and answers.

    Spans of one label that overlap are pieces of one span, as overlapping windows see a span twice; a span
    seen in one window only is kept. So this is the inverse of :func:`cut_windows` for spans that do not
    overlap another of their own label.

    Raises:
        ValueError: no windows, or the windows leave a gap.
    """
    ordered = sorted(windows, key=lambda window: window.start)
    if not ordered or ordered[0].start != 0:
        raise ValueError("the windows do not begin where the document does")
    text = ""
    for window in ordered:
        if window.start > len(text):
            raise ValueError(f"the windows leave a gap at character {len(text):,}")
        text += window.text[len(text) - window.start :]
    pieces = sorted(
        Span(window.start + span.start, window.start + span.end, span.label)
        for window in ordered
        for span in window.spans
    )
    answers = Counter(window.answer for window in ordered if window.answer is not None)
    return Merged(text, _joined(pieces), tuple(answers.most_common()))


def _inside(spans: Sequence[Span], begin: int, end: int) -> tuple[Span, ...]:
    return tuple(
        sorted(
            Span(max(span.start, begin) - begin, min(span.end, end) - begin, span.label)
            for span in spans
            if span.start < end and span.end > begin
        )
    )


def _joined(pieces: Sequence[Span]) -> tuple[Span, ...]:
    by_label: dict[str, list[Span]] = {}
    for piece in pieces:
        known = by_label.setdefault(piece.label, [])
        if known and piece.start < known[-1].end:
            known[-1] = Span(known[-1].start, max(known[-1].end, piece.end), piece.label)
        else:
            known.append(piece)
    return tuple(sorted(span for spans in by_label.values() for span in spans))
