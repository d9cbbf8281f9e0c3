"""Which rows say the same: exact duplicates after normalisation, and near-duplicates.

Two texts are near-duplicates when the Jaccard similarity of their word shingles (runs of
``shingle_words`` words) reaches a threshold. Groups are the connected components of that relation, so
two rows of different groups are never near-duplicates of each other.
"""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace

from tunesmith.files import content_hash
from tunesmith.records import Row

Shingles = frozenset[tuple[str, ...]]


def compared_text(row: Row) -> str:
    """The part of the input that tells rows apart: all turns but the system turn, which rows share."""
    said = [message.content for message in row.messages if message.role != "system"]
    return "\n".join(said) or row.text


class _Spacing(dict[int, str]):
    """Character -> its normalised form, filled as characters are met."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        category = unicodedata.category(character)
        if character == "+":
            form = character  # "GPL-2.0+" is another licence than "GPL-2.0", and C++ is not C
        elif category[0] in "PZC" or category in ("Sk", "Sm"):
            form = " "
        elif category[0] == "S" or "\u3040" <= character <= "\u30ff" or "\u3400" <= character <= "\u9fff":
            form = f" {character} "  # emoji, currency signs, kana and Chinese characters are words
        else:
            form = character
        self[code] = form
        return form


_SPACING = _Spacing()


def words(text: str) -> tuple[str, ...]:
    """``text`` as normalised words: NFKC, case folded, without punctuation. Digits, ``+`` and emoji stay.

    A text of punctuation only is one word of its own.
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    return tuple(folded.translate(_SPACING).split()) or (" ".join(folded.split()),)


def shingles(text_words: Sequence[str], shingle_words: int) -> Shingles:
    """All runs of ``shingle_words`` words; a shorter text is one shingle."""
    if len(text_words) < shingle_words:
        return frozenset([tuple(text_words)])
    return frozenset(
        tuple(text_words[start : start + shingle_words])
        for start in range(len(text_words) - shingle_words + 1)
    )


def group_rows(
    rows: Sequence[Row], similarity: float = 0.8, shingle_words: int = 3, keep_together: Sequence[str] = ()
) -> list[str]:
    """One group id per row: the same for exact and near-duplicates, and for chains of them.

    ``keep_together`` names fields: rows that share a value in any of them are chained, too. Ids are hashes of
    content and do not depend on the order of rows. Candidates come from MinHash (Broder 1997) with
    locality-sensitive banding, and each one is verified by its true Jaccard similarity.
    """
    import numpy as np

    from tunesmith.data.near import near_components
    from tunesmith.data.shingles import shingle_sets

    # Words never hold a line break, so the joined text stands for them at a fraction of their memory.
    row_texts = ["\n".join(words(compared_text(row))) for row in rows]
    texts = sorted(set(row_texts))
    sets = shingle_sets((text.split("\n") for text in texts), shingle_words)
    together = np.array(_together(rows, row_texts, texts, keep_together), np.int64).reshape(-1, 2)
    roots = near_components(sets, similarity, together)
    # A root is the smallest index of its component, so the id is the hash of the group's first text.
    root_ids = {root: content_hash(texts[root].split("\n"))[:16] for root in set(roots.tolist())}
    ids = {text: root_ids[root] for text, root in zip(texts, roots.tolist(), strict=True)}
    return [ids[text] for text in row_texts]


def _together(
    rows: Sequence[Row], row_texts: Sequence[str], texts: Sequence[str], columns: Sequence[str]
) -> list[tuple[int, int]]:
    """Pairs of indices into ``texts``: each text of a row with the first text that has its value."""
    number = {text: index for index, text in enumerate(texts)} if columns else {}
    firsts: dict[tuple[str, str], int] = {}
    pairs = []
    for row, text in zip(rows, row_texts, strict=True):
        for column in columns:
            value = row.field(column)
            if value is not None:
                pairs.append((firsts.setdefault((column, value), number[text]), number[text]))
    return pairs


def conflicting_rows(rows: Sequence[Row], same_input: bool) -> set[str]:
    """The ids of rows that contradict each other: one group, several targets.

    With ``same_input`` the inputs have to be equal after normalisation as well: a group that shares a
    document or a customer rightly has several targets.
    """
    members: defaultdict[str, list[Row]] = defaultdict(list)
    for row in rows:
        members[row.group].append(row)
    torn = [group for group in members.values() if len({row.target for row in group}) > 1]
    if same_input:
        by_input: defaultdict[tuple[str, ...], list[Row]] = defaultdict(list)
        for row in (row for group in torn for row in group):
            by_input[words(compared_text(row))].append(row)
        torn = [same for same in by_input.values() if len({row.target for row in same}) > 1]
    return {row.id for group in torn for row in group}


def with_groups(rows: Iterable[Row], groups: Iterable[str]) -> tuple[Row, ...]:
    """The rows, each with its group id from :func:`group_rows`."""
    return tuple(replace(row, group=group) for row, group in zip(rows, groups, strict=True))
