"""Which kind of task a file of inputs and targets looks like, and why."""

from __future__ import annotations

import json
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence

from tunesmith.data.attributes import read_attributes
from tunesmith.data.look import Pair
from tunesmith.task.kinds import Kind

NEARLY_ALL = 0.95
LABEL_WORDS = 6
ROWS_A_TARGET = 2  # labels come again: on average a target serves this many rows or more
SHORTER = 0.5  # a summary has at most this share of its input's words, by the median
LONG_INPUT = 60  # words: of a shorter input there is little to summarise
PASSAGE_WORDS = 30
_LOOKED_AT = 2000


def guess_kind(pairs: Sequence[Pair], input_columns: Sequence[str], conversation: bool) -> tuple[Kind, str]:
    """The kind, and a sentence that says what it was taken for.

    ``input_columns`` are the columns that make the input; ``conversation``: the input is a list of turns.
    Labels are short and come again; everything else is told by the shape of target and input.
    """
    some = pairs[:_LOOKED_AT]
    if not some:
        return "classify", "nothing was seen that is no label"
    if _share(_is_object(pair.target) for pair in some) >= NEARLY_ALL:
        return "extract", "nearly all targets are JSON objects"
    targets = Counter(pair.target for pair in some)
    short = _share(len(pair.target.split()) <= LABEL_WORDS for pair in some)
    if short >= NEARLY_ALL and len(targets) * ROWS_A_TARGET <= len(some):
        return "classify", "the targets are short and come again"
    if conversation:
        return "chat", "the targets are texts, and the inputs are conversations"
    if mostly_attributes(some):
        return "generate", "the targets are texts, and nearly all inputs are attributes with values"
    ends_asking = _share(pair.input.rstrip().endswith("?") for pair in some) >= SHORTER
    input_words = statistics.median(len(pair.input.split()) for pair in some)
    if ends_asking and len(input_columns) > 1 and input_words >= PASSAGE_WORDS:
        return "answer", "the targets are texts, and most inputs are a passage and a question"
    target_words = statistics.median(len(pair.target.split()) for pair in some)
    if input_words >= LONG_INPUT and target_words <= SHORTER * input_words:
        return "summarise", "the targets are texts, much shorter than the inputs"
    if short >= NEARLY_ALL:
        return "classify", "the targets are short"
    return "generate", "the targets are texts"


def mostly_attributes(pairs: Sequence[Pair]) -> bool:
    """Whether nearly all inputs are attributes with values."""
    some = pairs[:_LOOKED_AT]
    return bool(some) and _share(read_attributes(pair.input) is not None for pair in some) >= NEARLY_ALL


def json_fields(pairs: Sequence[Pair], most: int = 20) -> list[str]:
    """The fields that the targets name, the most frequent first."""
    counts: Counter[str] = Counter()
    for pair in pairs[:_LOOKED_AT]:
        value = _object(pair.target)
        counts.update(list(value) if value is not None else ())
    return sorted(counts, key=lambda name: (-counts[name], name))[:most]


def _is_object(text: str) -> bool:
    return _object(text) is not None


def _object(text: str) -> dict[str, object] | None:
    if not text.lstrip().startswith("{"):
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _share(answers: Iterable[bool]) -> float:
    found = list(answers)
    return sum(found) / len(found)
