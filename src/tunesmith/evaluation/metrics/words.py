"""Words, numbers and n-grams of a text, for metrics that count them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")


def words(text: str) -> list[str]:
    """Runs of letters and digits of any script, in lower case; an apostrophe within stays."""
    return _WORD.findall(text.casefold())


def ngrams(tokens: Sequence[str], size: int) -> Counter[tuple[str, ...]]:
    """How often each run of ``size`` tokens occurs."""
    return Counter(tuple(tokens[start : start + size]) for start in range(len(tokens) - size + 1))
