"""Which rows make up each step: shuffled, but of like length or of one document, so that little is wasted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch

from tunesmith.engine.forward import Batch, common_prefix, make_batch
from tunesmith.engine.scoring import batches_by_length
from tunesmith.engine.segments import shared_openings
from tunesmith.models.families import Family
from tunesmith.models.rendering import Tokens

BATCHES_SORTED_TOGETHER = 12

# Rows are batched by what they open with where that spares this share of all tokens: rows of one batch are
# then less independent of each other, which a few shared words are not worth.
SHARE_WORTH_SAVING = 0.5


@dataclass(frozen=True)
class Sharing:
    """What rows open with: ``prefix`` tokens that all share, and then perhaps a document that some share.

    ``documents`` [training rows] numbers the documents; None where rows share too little for that to matter.
    """

    prefix: int
    documents: tuple[int, ...] | None

    def batch(self, rows: Sequence[Tokens], chosen: Sequence[int], pad_token: int) -> Batch:
        """The ``chosen`` rows as tensors, with weights where one of them does not count as a whole row."""
        ids = [rows[index].ids for index in chosen]
        learn = [rows[index].learn for index in chosen]
        batch = make_batch(ids, learn, pad_token, self.prefix, share_openings=self.documents is not None)
        weights = torch.tensor([rows[index].weight for index in chosen])
        return batch if bool((weights == 1).all()) else replace(batch, weights=weights[batch.rows])

    def parts(self, rows: Sequence[Tokens], chosen: Sequence[int], tokens: int) -> list[list[int]]:
        """``chosen`` in parts of like length, of about ``tokens`` put through a model: the prefix once.

        With documents, rows of one stay together up to ``tokens`` of their own, however long it is.
        """
        suffixes = [len(rows[index].ids) - self.prefix for index in chosen]
        if self.documents is None:
            found = batches_by_length(suffixes, max(1, tokens - self.prefix))
        else:
            found = _by_document([_head(rows[index], self.prefix) for index in chosen], suffixes, tokens)
        return [[chosen[at] for at in part] for part in found]


# How the plain path reads rows, and encoders: nothing is shared.
WHOLE_ROWS = Sharing(0, None)


def sharing_of(
    train: Sequence[Tokens], validation: Sequence[Tokens] = (), family: Family = "decoder"
) -> Sharing:
    """What the rows of a run share before any of them learns; an encoder reads every row whole."""
    if family != "decoder":
        return WHOLE_ROWS
    rows = [*train, *validation]
    prefix = common_prefix([row.ids for row in rows], [row.learn.index(True) for row in rows])
    groups = shared_openings([_head(row, prefix) for row in train])
    saved = _read_again(groups)
    if saved < SHARE_WORTH_SAVING * sum(len(row.ids) - prefix for row in train):
        return Sharing(prefix, None)
    documents = [0] * len(train)
    for number, (members, _) in enumerate(groups):
        for index in members:
            documents[index] = number
    return Sharing(prefix, tuple(documents))


def tokens_read_once(rows: Sequence[Tokens], sharing: Sharing) -> int:
    """Tokens put through a model for all ``rows`` where what they share is read once."""
    once = sharing.prefix + sum(len(row.ids) - sharing.prefix for row in rows)
    if sharing.documents is None:
        return once
    return once - _read_again(shared_openings([_head(row, sharing.prefix) for row in rows]))


def _read_again(groups: Sequence[tuple[Sequence[int], int]]) -> int:
    return sum(shared * (len(members) - 1) for members, shared in groups)


def epoch_batches(
    lengths: Sequence[int], batch_size: int, seed: int, epoch: int, documents: Sequence[int] | None = None
) -> list[list[int]]:
    """Row indices of every batch of one epoch; each row once, the last batch may be smaller.

    Rows are shuffled, sorted by length within runs of a few batches, cut, and the batches shuffled
    again. With ``documents`` [rows] the rows of one document follow each other instead, documents in
    shuffled order. The same seed and epoch give the same batches, so a resumed run needs no RNG state.
    """
    generator = torch.Generator().manual_seed((seed * 1_000_003 + epoch) % 2**64)
    order = torch.randperm(len(lengths), generator=generator).tolist()
    if documents is not None:
        # A document stands where its first row was drawn.
        first = {documents[index]: place for place, index in reversed(list(enumerate(order)))}
        order.sort(key=lambda index: first[documents[index]])
        return [order[at : at + batch_size] for at in range(0, len(order), batch_size)]
    together = batch_size * BATCHES_SORTED_TOGETHER
    batches: list[list[int]] = []
    for start in range(0, len(order), together):
        run = sorted(order[start : start + together], key=lambda index: lengths[index])
        batches.extend(run[at : at + batch_size] for at in range(0, len(run), batch_size))
    shuffled = torch.randperm(len(batches), generator=generator).tolist()
    return [batches[index] for index in shuffled]


def _by_document(heads: Sequence[Sequence[int]], lengths: Sequence[int], tokens: int) -> list[list[int]]:
    parts: list[list[int]] = []
    room = 0
    for members, shared in shared_openings(heads):
        piece: list[int] = []
        own = 0
        for index in members:
            if piece and own + lengths[index] - shared > tokens:
                parts.append(piece)
                piece, own = [], 0
            piece.append(index)
            own += lengths[index] - shared
        if parts and shared + own <= room:
            parts[-1].extend(piece)
            room -= shared + own
        else:
            parts.append(piece)
            room = tokens - shared - own
    return parts


def mean_weight(rows: Sequence[Tokens], loss_per: Literal["token", "example"]) -> float:
    """The mean weight of a learned token, or of a row; exactly 1 where every row counts as one.

    The loss of a step is divided by it, so that weights say how much rows count beside each other, and two
    rows of weight ½ are one of weight 1; steps are as long as without weights.
    """
    counts = [sum(row.learn) if loss_per == "token" else 1 for row in rows]
    return math.fsum(row.weight * count for row, count in zip(rows, counts, strict=True)) / sum(counts)


def two_short_rows(lengths: Sequence[int], sharing: Sharing) -> list[int]:
    """Two of the shortest rows, of one document where there are documents: what a self-check is made on."""
    order = sorted(range(len(lengths)), key=lambda index: lengths[index])
    if sharing.documents is not None:
        seen: dict[int, int] = {}
        for index in order:
            document = sharing.documents[index]
            if document in seen:
                return [seen[document], index]
            seen[document] = index
    return order[:2]


def _head(row: Tokens, prefix: int) -> Sequence[int]:
    """What stands between the prefix and the first learned token."""
    return row.ids[prefix : row.learn.index(True)]
