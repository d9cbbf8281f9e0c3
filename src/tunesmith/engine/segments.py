"""Rows that open alike, cut so that what they share is read once: one document, many questions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

# A shorter opening is not worth being read apart.
FEWEST_SHARED_TOKENS = 16


@dataclass(frozen=True)
class Segments:
    """Rows as segments: each is read after its parent, where it has one.

    ``own`` are the tokens of every segment, ``parents`` the index of the segment it continues (which itself
    continues none) or None, and ``places`` says for every row which segment ends it.
    """

    own: tuple[Sequence[int], ...]
    parents: tuple[int | None, ...]
    places: list[int]


def shared_openings(rows: Sequence[Sequence[int]]) -> list[tuple[list[int], int]]:
    """Rows (token ids, not empty) in groups, each with the number of opening tokens that all of it shares.

    0 for rows that share none. Every row keeps at least one token of its own. Groups are chosen greedily
    over the sorted rows, so that joining a group never costs more tokens than it saves.
    """
    order = sorted(range(len(rows)), key=lambda index: tuple(rows[index]))
    groups: list[tuple[list[int], int]] = []
    members: list[int] = []
    shared = 0
    for index in order:
        if members:
            both = _common(rows[members[-1]], rows[index], len(rows[index]) - 1)
            both = min(both, len(rows[members[0]]) - 1) if len(members) == 1 else min(both, shared)
            if both >= FEWEST_SHARED_TOKENS and both * len(members) >= shared * (len(members) - 1):
                members.append(index)
                shared = both
                continue
            groups.append((members, shared))
        members, shared = [index], 0
    if members:
        groups.append((members, shared))
    return groups


def cut_at_shared_openings(rows: Sequence[Sequence[int]], ends: Sequence[int] | None = None) -> Segments:
    """Every shared opening as a segment of its own, followed by the rest of its rows.

    With ``ends`` each row shares fewer than so many tokens.
    """
    heads = rows if ends is None else [row[:end] for row, end in zip(rows, ends, strict=True)]
    own: list[Sequence[int]] = []
    parents: list[int | None] = []
    places = [0] * len(rows)
    for members, shared in shared_openings(heads):
        parent = None
        if shared:
            parent = len(own)
            own.append(rows[members[0]][:shared])
            parents.append(None)
        for index in members:
            places[index] = len(own)
            own.append(rows[index][shared:])
            parents.append(parent)
    return Segments(tuple(own), tuple(parents), places)


def in_batches(rows: Sequence[Sequence[int]], extra: Sequence[int], tokens_per_batch: int) -> list[list[int]]:
    """Row indices in batches of like length, rows of one opening together where they fit.

    A row costs its tokens and ``extra``; padded to the longest, a batch costs at most ``tokens_per_batch``,
    or is a single row, or rows of one long opening that cost at most half of it without the opening: a
    document that nearly fills a batch is not read again for every row.
    """
    pieces: list[tuple[list[int], int, int]] = []
    for members, shared in shared_openings(rows):
        piece: list[int] = []
        widest = 0
        budget = max(tokens_per_batch, shared + tokens_per_batch // 2)
        for index in members:
            cost = max(widest, len(rows[index]) - shared + extra[index])
            if piece and shared + cost * (len(piece) + 1) > budget:
                pieces.append((piece, shared, widest))
                piece, cost = [], len(rows[index]) - shared + extra[index]
            piece.append(index)
            widest = cost
        pieces.append((piece, shared, widest))
    pieces.sort(key=lambda piece: (piece[2], piece[1], piece[0]))
    batches: list[list[int]] = []
    current: list[int] = []
    openings = 0
    for members, shared, widest in pieces:
        if current and openings + shared + widest * (len(current) + len(members)) > tokens_per_batch:
            batches.append(current)
            current, openings = [], 0
        current = [*current, *members]
        openings += shared
    return [*batches, current] if current else batches


def _common(left: Sequence[int], right: Sequence[int], most: int) -> int:
    """How many leading tokens, at most ``most``, two rows share."""
    for place, (one, other) in enumerate(zip(left, right, strict=False)):
        if one != other or place == most:
            return place
    return min(len(left), len(right), most)
