"""Words as numbers: many texts in two flat arrays, read once and never held as lists of words."""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class NumberedWords:
    """``numbers``, shape (words,): the words of all texts, one text after the other, as places in ``words``.

    ``lengths``, shape (texts,): how many words each text has. ``words`` stand in the order in which
    they were met.
    """

    numbers: NDArray[np.int32]
    lengths: Indices
    words: tuple[str, ...]

    @property
    def owners(self) -> Indices:
        """The text of each word, shape (words,)."""
        return np.repeat(np.arange(len(self.lengths)), self.lengths)


def numbered_words(texts: Iterable[Sequence[str]]) -> NumberedWords:
    """Number the words of ``texts``; each text is asked for once and then let go."""
    # Looking a word up costs no Python call, whether it is new or not.
    vocabulary: defaultdict[str, int] = defaultdict(count().__next__)
    numbers, lengths = array("i"), array("q")
    for text in texts:
        lengths.append(len(text))
        numbers.extend(map(vocabulary.__getitem__, text))
    return NumberedWords(
        np.frombuffer(numbers, np.int32), np.frombuffer(lengths, np.int64), tuple(vocabulary)
    )
