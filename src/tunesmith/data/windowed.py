"""Rows of long documents as rows of windows, which stay together in one group."""

from __future__ import annotations

import json
from dataclasses import replace

from tunesmith.data.windows import Span, Window, cut_windows
from tunesmith.files import canonical_json
from tunesmith.records import Message, Row

# The field of a window's row that names the row it was cut from: the split keeps its rows together.
WINDOW_OF = "window_of"


def windows_of(row: Row, window_words: int, overlap_words: int) -> tuple[Row, ...]:
    """One row for each window of the last message; the row itself where it fits into one.

    Every window gets the row's answer. A target that is a list of spans (as exports of Label Studio and
    Prodigy give) is cut with the text: each window has the spans in it, counted from its own start.
    """
    text = row.messages[-1].content
    spans = _spans(row.target, text)
    windows = cut_windows(text, window_words, overlap_words, spans or ())
    if len(windows) == 1:
        return (row,)
    return tuple(
        replace(
            row,
            source=f"{row.source}#{number}",
            messages=(*row.messages[:-1], Message(row.messages[-1].role, window.text)),
            target=row.target if spans is None else _target(window),
            fields=tuple(sorted((*row.fields, (WINDOW_OF, row.source)))),
        )
        for number, window in enumerate(windows, start=1)
        if window.text.strip()
    )


def _spans(target: str, text: str) -> list[Span] | None:
    """The spans that a target lists; None where it is anything else."""
    if not target.startswith("["):
        return None
    try:
        listed = json.loads(target)
        spans = [Span(int(one["start"]), int(one["end"]), str(one["label"])) for one in listed]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    fits = all(0 <= span.start < span.end <= len(text) for span in spans)
    return spans if fits else None


def _target(window: Window) -> str:
    return canonical_json(
        [
            {
                "start": span.start,
                "end": span.end,
                "label": span.label,
                "text": window.text[span.start : span.end],
            }
            for span in window.spans
        ]
    )
