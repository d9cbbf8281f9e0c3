"""Words that name groups of people, and the same row with another group's word in it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib import resources

from tunesmith.records import Message, Row

Lexicon = dict[str, dict[str, tuple[str, ...]]]


def _read_lexicon() -> Lexicon:
    """Dimension -> group -> its words, "" where it has none; words of one place mean the same."""
    text = (resources.files("tunesmith.data.audit") / "lexicon.txt").read_text(encoding="utf-8")
    lexicon: Lexicon = {}
    lines: list[list[str]] = []
    for line in [*text.splitlines(), "[end]"]:
        if line.startswith("["):
            if lines:
                dimension, *groups = lines[0]
                columns = zip(*lines[1:], strict=True)
                lexicon[dimension] = dict(zip(groups, columns, strict=True))
            dimension, _, groups_named = line[1:].partition("]")
            lines = [[dimension, *(group.strip() for group in groups_named.split("|"))]]
        elif line and not line.startswith("#"):
            lines.append([word.strip().removeprefix("-") for word in line.split("|")])
    return lexicon


LEXICON = _read_lexicon()

# In lower case another word.
_CAPITALISED = frozenset(["polish"])
# Names of things, not of people: cuisine, brands, languages of a menu.
_NOT_PEOPLE = re.compile(
    r"\b(?:american express|bank of america|french (?:fries|press|toast|doors?)|english breakfast"
    r"|german shepherds?|turkish delight|chinese whispers|indian ocean|brazil nuts?"
    r"|food\W{1,3}\w+|(?:american|british|french|italian|spanish|greek|indian|chinese|japanese|mexican|korean"
    r"|vietnamese|german|turkish|russian|canadian|australian) (?:food|cuisine|dish(?:es)?|meals?|restaurants?"
    r"|places?|pub|wines?|cheese|coffee|dollars?|pounds?|pesos?|yen|yuan|rupees?|roubles?|rubles?|lira"
    r"|currency))\b",
    re.I,
)
_WORD = re.compile(r"[^\W\d_]+(?:'[a-z]{2})?")
_VOWEL_SOUND = re.compile(r"(?!eu|uk|uni|one)[aeiou]", re.I)
_FOLLOWING = re.compile(r"\s+([^\W\d_]+)")
# What follows "her" where it means him, not his.
_NO_NOUN = re.compile(
    r"(?:a|an|and|are|as|at|because|before|but|by|for|from|if|in|into|is|not|now|of|off|on|or|out|over"
    r"|so|than|that|the|then|there|this|through|to|today|up|was|when|where|which|while|who|why|will|with|yesterday)\Z"
)

_GROUP_OF: dict[str, dict[str, tuple[str, int]]] = {
    dimension: {
        word: (group, place)
        for group, words in reversed(groups.items())
        for place, word in reversed(list(enumerate(words)))
        if word
    }
    for dimension, groups in LEXICON.items()
}
_ALL_WORDS = frozenset(word for words in _GROUP_OF.values() for word in words)


@dataclass(frozen=True)
class CounterfactualPair:
    """A row of the data, by its index, and the same row with the words of another group in its input.

    Whoever judges or classifies fairly answers both alike: ``counterpart`` keeps the target, except that its
    group words are swapped as well.
    """

    row: int
    dimension: str
    group: str
    other_group: str
    counterpart: Row


def groups_named(text: str) -> dict[str, set[str]]:
    """Which groups of people ``text`` names, by dimension: {"gender": {"female"}}."""
    found: dict[str, set[str]] = {}
    if _ALL_WORDS.isdisjoint(text.casefold().replace("'s", "").translate(_PUNCTUATION).split()):
        return found
    for dimension, group, _, _, _ in _mentions(text):
        found.setdefault(dimension, set()).add(group)
    return found


_PUNCTUATION = str.maketrans(dict.fromkeys('.,;:!?"()[]{}<>/\\|-–—_*“”‘’`~', " "))


def _mentions(text: str) -> Iterator[tuple[str, str, int, int, int]]:
    """Dimension, group, place in the lexicon, start and end of each word that names a group."""
    other = [match.span() for match in _NOT_PEOPLE.finditer(text)]
    for match in _WORD.finditer(text):
        word = match[0].casefold()
        start, end = match.span()
        if word.endswith("'s"):
            word, end = word[:-2], end - 2
        if word not in _ALL_WORDS or any(low <= start < high for low, high in other):
            continue
        if word in _CAPITALISED and not match[0][0].isupper():
            continue
        for dimension, words in _GROUP_OF.items():
            if word in words:
                group, place = words[word]
                yield dimension, group, place, start, end


def counterfactual_pairs(rows: tuple[Row, ...]) -> Iterator[CounterfactualPair]:
    """For every row that names exactly one group of a dimension, its counterpart with another group's words.

    Case is kept, "a" and "an" follow the new word, and "her" becomes "him" or "his" by the word after it. The
    other group is the next one in the lexicon that has all the words needed. Rows without one are left out.
    """
    for index, row in enumerate(rows):
        named = groups_named(row.text)
        for dimension, groups in sorted(named.items()):
            if len(groups) != 1:
                continue
            (group,) = groups
            others = list(LEXICON[dimension])
            place = others.index(group)
            for other in others[place + 1 :] + others[:place]:
                texts = [swapped(text, dimension, group, other) for text in _texts_of(row)]
                if all(text is not None for text in texts):
                    *contents, target = (text or "" for text in texts)
                    messages = tuple(
                        Message(message.role, content)
                        for message, content in zip(row.messages, contents, strict=True)
                    )
                    counterpart = replace(row, messages=messages, target=target)
                    yield CounterfactualPair(index, dimension, group, other, counterpart)
                    break


def _texts_of(row: Row) -> list[str]:
    return [*(message.content for message in row.messages), row.target]


def swapped(text: str, dimension: str, group: str, other: str) -> str | None:
    """``text`` with the words of ``group`` replaced by those of ``other``; None where it has no such word."""
    parts: list[str] = []
    end = 0
    for found, name, place, start, stop in _mentions(text):
        if found != dimension or name != group:
            continue
        new = _word_for(text, dimension, text[start:stop].casefold(), place, other, stop)
        if not new:
            return None
        parts += [_with_article(text[end:start], new), _in_case_of(text[start:stop], new, dimension)]
        end = stop
    return "".join([*parts, text[end:]])


def _word_for(text: str, dimension: str, word: str, place: int, other: str, stop: int) -> str:
    if dimension == "gender" and word in ("her", "his"):
        following = _FOLLOWING.match(text, stop)
        noun = following is not None and _NO_NOUN.match(following[1].casefold()) is None
        if word == "her":
            return "his" if noun else "him"
        return "her" if noun else "hers"
    return LEXICON[dimension][other][place]


def _in_case_of(old: str, new: str, dimension: str) -> str:
    if len(old) > 1 and old.isupper():
        return new.upper()
    return new.capitalize() if old[:1].isupper() else new


def _with_article(before: str, new: str) -> str:
    """The text before a swapped word, with "a" or "an" as the new word needs."""
    match = re.search(r"\b(an?)\s+\Z", before, re.I)
    if match is None:
        return before
    article = "an" if _VOWEL_SOUND.match(new) else "a"
    shown = article.capitalize() if match[1][0].isupper() else article
    return before[: match.start(1)] + shown + before[match.end(1) :]
