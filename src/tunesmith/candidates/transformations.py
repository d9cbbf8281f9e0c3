"""What may be done to a text before a classical model counts its words: stop words, spelling, case.

Language models get none of it: they were trained on text as people write it, so that case, small words and
mistakes carry meaning for them, and in use they are asked with unchanged text.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

from tunesmith.errors import UserError
from tunesmith.files import content_hash

_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?")
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
SHORTEST_CORRECTED = 4  # letters: of shorter words too many are one letter from another
KNOWN_ROWS = 3  # a word in so many training rows is no mistake
MORE_FREQUENT = 10  # how much more frequent a word must be to replace a rarer one


@dataclass(frozen=True)
class Transformations:
    """``stop_words`` are left out; ``dictionary`` (word -> frequency) says which words are known: an unknown
    one becomes the most frequent known word one letter away. With ``lower_case`` False case is kept."""

    lower_case: bool = True
    stop_words: frozenset[str] = frozenset()
    dictionary: Mapping[str, int] = field(default_factory=dict)

    @property
    def identity(self) -> str | None:
        """Hash of everything that changes texts; None where nothing does beyond lower-casing."""
        if self == Transformations():
            return None
        return content_hash([self.lower_case, sorted(self.stop_words), sorted(self.dictionary.items())])


UNCHANGED = Transformations()


def transformed(texts: Sequence[str], rules: Transformations) -> list[str]:
    """The texts with spelling mended first and stop words removed then; all else stays in its place."""
    if not rules.stop_words and not rules.dictionary:
        return list(texts)
    corrected = lru_cache(maxsize=100_000)(lambda word: correct(word, rules.dictionary))

    def replaced(found: re.Match[str]) -> str:
        word = corrected(found[0]) if rules.dictionary else found[0]
        return "" if word.casefold() in rules.stop_words else word

    return [_WORD.sub(replaced, text) for text in texts]


def correct(word: str, dictionary: Mapping[str, int]) -> str:
    """The known word one edit away that is most frequent (Norvig 2007, "How to Write a Spelling Corrector").

    The word itself where it is known (in at least 3 rows), short, or nothing known is near; of a word that
    occurs once or twice only one ten times as frequent takes its place. Case is that of the word.
    """
    plain = word.casefold()
    own = dictionary.get(plain, 0)
    if own >= KNOWN_ROWS or len(plain) < SHORTEST_CORRECTED:
        return word
    least = max(KNOWN_ROWS, MORE_FREQUENT * own)
    near = [other for other in _one_edit_away(plain) if dictionary.get(other, 0) >= least]
    if not near:
        return word
    best = min(near, key=lambda other: (-dictionary[other], other))
    return best.capitalize() if word[0].isupper() else best


def training_dictionary(texts: Sequence[str]) -> dict[str, int]:
    """In how many of the training texts each word occurs, case folded."""
    return dict(Counter(word for text in texts for word in {one.casefold() for one in _WORD.findall(text)}))


def for_classical(
    texts: Sequence[str], lower_case: bool, stop_words: str | None, spelling: str | None, folder: Path
) -> Transformations:
    """What the task asks for: ``stop_words`` is "english" or a file, ``spelling`` "train" (the words of
    ``texts``, the training rows) or a file. Files start at ``folder``."""
    dictionary: Mapping[str, int] = {}
    if spelling is not None:
        dictionary = training_dictionary(texts) if spelling == "train" else file_dictionary(folder / spelling)
    stop: frozenset[str] = frozenset()
    if stop_words is not None:
        stop = frozenset(ENGLISH_STOP_WORDS) if stop_words == "english" else read_words(folder / stop_words)
    return Transformations(lower_case, stop, dictionary)


def file_dictionary(path: Path) -> dict[str, int]:
    """Every word of a file, one a line, as known and equally frequent."""
    return dict.fromkeys(read_words(path), KNOWN_ROWS)


def read_words(path: Path) -> frozenset[str]:
    """The words in a file, one a line, case folded. Raises UserError when there are none."""
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"{path}: cannot be read: {error}", "give a UTF-8 file with one word a line"
        ) from None
    found = frozenset(line.strip().casefold() for line in lines if line.strip())
    if not found:
        raise UserError(f"{path}: no words in it", "write one word a line")
    return found


def _one_edit_away(word: str) -> set[str]:
    splits = [(word[:place], word[place:]) for place in range(len(word) + 1)]
    deletes = [left + right[1:] for left, right in splits if right]
    swaps = [left + right[1] + right[0] + right[2:] for left, right in splits if len(right) > 1]
    replaces = [left + letter + right[1:] for left, right in splits if right for letter in _LETTERS]
    inserts = [left + letter + right for left, right in splits for letter in _LETTERS]
    return {*deletes, *swaps, *replaces, *inserts}
