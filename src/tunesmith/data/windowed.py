"""Rows of long documents cut into rows of windows, and what was found in the windows merged again.

A document is one row wherever rows are kept, split, grouped and judged. It is cut where a model reads it:
in training, where each window is a row, and in answering, where the windows' answers become one.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunesmith.data.duplicates import group_rows
from tunesmith.data.windows import Span, Window, cut_windows, merge_windows
from tunesmith.records import Candidate, Message, Row, Settings

# The field of a window's row that names the row it was cut from.
WINDOW_OF = "window_of"


@dataclass(frozen=True)
class Cutting:
    """Inputs of more than ``window_words`` are cut; each window shares ``overlap_words`` with the next."""

    window_words: int
    overlap_words: int


@dataclass(frozen=True)
class Windowed:
    """``rows[i]`` is a window of the document of number ``documents[i]``, beginning at its ``starts[i]``.

    Windows of one document follow each other.
    """

    rows: list[Row]
    documents: list[int]
    starts: list[int]

    @property
    def cut(self) -> bool:
        """Whether any document has more than one window."""
        return len(set(self.documents)) < len(self.documents)


def in_windows(rows: Sequence[Row], cutting: Cutting | None) -> Windowed:
    """A row for each window of each row's last message; rows that fit into one window stay as they are.

    Every window gets the row's answer. A target that is a list of spans (as exports of Label Studio and
    Prodigy give) is cut with the text: each window has the spans in it, counted from its own start.
    """
    if cutting is None:
        return Windowed(list(rows), list(range(len(rows))), [0] * len(rows))
    found = Windowed([], [], [])
    for document, row in enumerate(rows):
        text = row.messages[-1].content
        listed = _listed(row.target, text)
        spans = None if listed is None else [_span(one) for one in listed]
        windows = cut_windows(text, cutting.window_words, cutting.overlap_words, spans or ())
        for number, window in enumerate(windows, start=1):
            found.documents.append(document)
            found.starts.append(window.start)
            found.rows.append(row if len(windows) == 1 else _row(row, number, window, listed))
    return found


def group_documents(
    rows: Sequence[Row],
    cutting: Cutting | None,
    similarity: float,
    shingle_words: int,
    keep_together: Sequence[str] = (),
) -> list[str]:
    """Group ids as of :func:`group_rows`, where documents with a window in common are of one group, too."""
    parts = in_windows(rows, cutting)
    columns = (*keep_together, WINDOW_OF) if parts.cut else keep_together
    groups = group_rows(parts.rows, similarity, shingle_words, columns)
    of_document = dict(zip(parts.documents, groups, strict=True))
    return [of_document[document] for document in range(len(rows))]


def mean_scores(parts: Windowed, scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scores [windows, labels] as means over each document's windows [documents, labels].

    Of log-probabilities this is the logarithm of their geometric mean: every window has one voice.
    """
    if not parts.cut:
        return scores
    firsts = np.flatnonzero(np.diff(parts.documents, prepend=-1))
    counts = np.bincount(parts.documents)
    means: NDArray[np.float64] = np.add.reduceat(scores, firsts, axis=0) / counts[:, None]
    return means


def merged_answers(parts: Windowed, answers: Sequence[str]) -> list[str]:
    """One answer for each document out of those of its windows.

    Lists of spans: all spans, in places of the document, and what overlapping windows saw twice once. JSON
    objects: each field has the value that most windows found (on a tie the earlier), where empty values
    count as not found, and lists all of their items. Anything else: the answer of most windows.
    """
    if not parts.cut:
        return list(answers)
    by_document: dict[int, list[int]] = {}
    for place, document in enumerate(parts.documents):
        by_document.setdefault(document, []).append(place)
    merged = []
    for places in by_document.values():
        own = [answers[place] for place in places]
        windows = [(parts.starts[place], parts.rows[place].messages[-1].content) for place in places]
        merged.append(own[0] if len(own) == 1 else _merged(windows, own))
    return merged


def cut_settings(cutting: Cutting | None) -> Settings:
    """The cutting as settings of a candidate, which it decides the answers of; empty without."""
    return {} if cutting is None else {"windows": [cutting.window_words, cutting.overlap_words]}


def cutting_of_candidate(candidate: Candidate) -> Cutting | None:
    """What :func:`cut_settings` wrote."""
    windows = candidate.settings.get("windows")
    return Cutting(int(windows[0]), int(windows[1])) if isinstance(windows, list) else None


def _row(row: Row, number: int, window: Window, listed: list[dict[str, Any]] | None) -> Row:
    return replace(
        row,
        id=f"{row.id}#{number}",
        source=f"{row.source}#{number}",
        messages=(*row.messages[:-1], Message(row.messages[-1].role, window.text)),
        target=row.target if listed is None else _written(window.spans, window.text, listed),
        fields=tuple(sorted((*row.fields, (WINDOW_OF, row.source)))),
    )


def _merged(windows: Sequence[tuple[int, str]], answers: Sequence[str]) -> str:
    lists = [_listed(answer, text) for answer, (_, text) in zip(answers, windows, strict=True)]
    items = [_items(answer) for answer in answers]
    # A window without spans and one without any other thing both say [].
    others = [some for some, spans in zip(items, lists, strict=True) if some and spans is None]
    if others and not any(lists):
        distinct = {json.dumps(item, sort_keys=True): item for some in others for item in some}
        return json.dumps(list(distinct.values()), ensure_ascii=False)
    if any(one is not None for one in lists):
        seen = [
            Window(start, text, tuple(map(_span, one or ())))
            for one, (start, text) in zip(lists, windows, strict=True)
        ]
        whole = merge_windows(seen)
        return _written(whole.spans, whole.text, [one for listed in lists for one in listed or ()])
    objects = [_object(answer) for answer in answers]
    found = [one for one in objects if one is not None]
    if found:
        return json.dumps(_merged_fields(found), ensure_ascii=False)
    return Counter(answers).most_common(1)[0][0]


def _merged_fields(objects: Sequence[dict[str, Any]]) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for name in dict.fromkeys(name for one in objects for name in one):
        values = [one[name] for one in objects if name in one]
        told = [value for value in values if value not in (None, "", [], {})]
        if not told:
            merged[name] = values[0]
        elif all(isinstance(value, dict) for value in told):
            merged[name] = _merged_fields(told)
        elif all(isinstance(value, list) for value in told):
            items = {json.dumps(item, sort_keys=True): item for value in told for item in value}
            merged[name] = list(items.values())
        else:
            counts = Counter(json.dumps(value, sort_keys=True) for value in told)
            most = counts.most_common(1)[0][0]
            merged[name] = next(value for value in told if json.dumps(value, sort_keys=True) == most)
    return merged


def _items(answer: str) -> list[Any]:
    """What a JSON array holds; nothing where the answer is none."""
    try:
        value = json.loads(answer)
    except (ValueError, RecursionError):
        return []
    return value if isinstance(value, list) else []


def _object(answer: str) -> dict[str, Any] | None:
    try:
        value = json.loads(answer)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _listed(answer: str, text: str) -> list[dict[str, Any]] | None:
    """The spans that an answer lists, none of them outside the text; None where it is anything else."""
    if not answer.startswith("["):
        return None
    try:
        listed = json.loads(answer)
        spans = [_span(one) for one in listed]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return listed if all(0 <= span.start < span.end <= len(text) for span in spans) else None


def _span(one: dict[str, Any]) -> Span:
    return Span(int(one["start"]), int(one["end"]), str(one["label"]))


def _written(spans: Sequence[Span], text: str, listed: Sequence[dict[str, Any]]) -> str:
    """Spans as JSON, with the keys, and in the order, of those they were made from."""
    keys = list(listed[0]) if listed else ["start", "end", "label"]
    written = []
    for span in spans:
        named = {
            "start": span.start,
            "end": span.end,
            "label": span.label,
            "text": text[span.start : span.end],
        }
        written.append({key: named[key] for key in keys if key in named})
    return json.dumps(written, ensure_ascii=False)
