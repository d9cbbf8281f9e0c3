"""Rows laid end to end as one sequence, and which keys each of their tokens sees.

Nothing is padded on the way through a model's linear layers and norms, and a prefix that all rows share
stands in the sequence once. Only inside attention are rows gathered into padded blocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# A block's scores [rows, queries, keys] are held at once for every head; more rows become another block.
SCORES_PER_BLOCK = 2**21

# Causal queries that only read are cut into chunks, whose keys end where they end.
QUERIES_PER_CHUNK = 64
# In training only long rows are: below, one larger product is quicker.
TRAINED_QUERIES_PER_CHUNK = 256
LONG_ROW = 512
# Queries of rows that continue one parent attend together, in blocks of so many scores a head.
SCORES_PER_FAMILY_BLOCK = 2**19

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Block:
    """Rows that attend together.

    ``queries`` [rows, longest] and ``keys`` [rows, most] are indices into the packed queries and keys;
    padding repeats a valid index and is never seen. Before ``keys`` every row has the first ``shared``
    packed keys. ``mask`` [rows or 1, longest, shared + most] is added to the scores. ``slots``
    [own queries] are the places of the block's packed queries, in order, in the flattened [rows × longest].
    """

    queries: Tensor
    keys: Tensor
    shared: int
    mask: Tensor
    slots: Tensor


@dataclass(frozen=True)
class WholeRows:
    """Whole rows one after the other: row r is tokens ``offsets``[r] to ``offsets``[r + 1] (int32)."""

    offsets: Tensor
    longest: int


@dataclass(frozen=True)
class Packing:
    """Blocks, and the positions in their rows of all packed queries and keys.

    The blocks' queries one after the other are the packed queries, or else ``order`` [queries] says where
    among them each packed query is. With ``segments`` there are no blocks: one kernel attends to all rows.
    """

    blocks: tuple[Block, ...]
    query_positions: Tensor
    key_positions: Tensor
    order: Tensor | None = None
    segments: WholeRows | None = None

    def to(self, device: torch.device) -> Packing:
        """The same layout on ``device``; itself where it is there already."""
        if self.key_positions.device == device:
            return self
        segments = self.segments
        return Packing(
            tuple(
                Block(
                    block.queries.to(device),
                    block.keys.to(device),
                    block.shared,
                    block.mask.to(device),
                    block.slots.to(device),
                )
                for block in self.blocks
            ),
            self.query_positions.to(device),
            self.key_positions.to(device),
            None if self.order is None else self.order.to(device),
            None if segments is None else WholeRows(segments.offsets.to(device), segments.longest),
        )

    def mask_within(self, block: Block, window: int) -> Tensor:
        """The block's mask for a layer in which a token sees only the last ``window`` positions."""
        shared = self.key_positions[: block.shared].expand(len(block.keys), -1)
        keys = torch.cat([shared, self.key_positions[block.keys]], dim=1)
        distance = self.query_positions[block.queries][:, :, None] - keys[:, None, :]
        return block.mask.masked_fill(distance >= window, float("-inf"))


@dataclass(frozen=True)
class Branches:
    """Nodes of one row's tree of answers that are read after its prompt.

    ``prompt_keys`` are the keys of the prompt after the shared prefix, ``earlier_keys`` those of nodes
    read before. ``positions`` [nodes] count from the start of the row; ``sees`` [nodes, earlier + nodes]
    says which other nodes, and itself, each node attends to.
    """

    prompt_keys: Integers
    earlier_keys: Integers
    positions: Integers
    sees: NDArray[np.bool_]


def pack_rows(
    prefix: int,
    lengths: Sequence[int],
    dtype: torch.dtype,
    prefix_is_cached: bool,
    parents: Sequence[int | None] | None = None,
) -> Packing:
    """Rows with ``lengths`` tokens of their own after ``prefix`` shared ones, all causal.

    With ``parents`` some rows continue another, earlier one, such as a document that several questions are
    asked about: the index of that row, which itself continues none. The packed queries are the prefix,
    unless its keys are cached already, and then the rows in order.
    """
    blocks = []
    if prefix and not prefix_is_cached:
        own = torch.arange(prefix)
        blocks.append(Block(own[None], own[None], 0, causal_mask(prefix, prefix, dtype)[None], own))
    sizes = torch.tensor(lengths)
    starts = prefix + torch.cumsum(sizes, 0) - sizes
    continued = torch.tensor(
        [-1 if parent is None else parent for parent in parents or [None] * len(lengths)]
    )
    before = torch.where(continued >= 0, sizes[continued], 0)
    offset = prefix if prefix_is_cached else 0
    chunk = QUERIES_PER_CHUNK if prefix_is_cached else None
    if not prefix_is_cached and max(lengths) > LONG_ROW:
        chunk = TRAINED_QUERIES_PER_CHUNK
    apart, together = torch.nonzero(continued < 0)[:, 0], torch.nonzero(continued >= 0)[:, 0]
    if not prefix_is_cached:
        for parent in sorted(set(continued[together].tolist())):
            children = torch.nonzero(continued == parent)[:, 0]
            parent_keys = torch.arange(lengths[parent]) + starts[parent]
            blocks.extend(_family_blocks(starts[children], sizes[children], parent_keys, prefix, dtype))
        together = together[:0]
    for chosen in (apart, together):
        if not len(chosen):
            continue
        widths = (prefix + before + sizes)[chosen].tolist()
        for part in _parts(list(zip(sizes[chosen].tolist(), widths, strict=True))):
            rows = chosen[part]
            blocks.extend(
                _row_blocks(starts[rows], sizes[rows], starts[continued[rows]], before[rows], prefix, offset,
                            chunk, dtype)
            )  # fmt: skip
    own_positions = torch.cat(
        [
            torch.arange(length) + first
            for length, first in zip(lengths, (prefix + before).tolist(), strict=True)
        ]
    )
    key_positions = torch.cat([torch.arange(prefix), own_positions])
    query_positions = own_positions if prefix_is_cached else key_positions
    if chunk is None and parents is None:
        return Packing(tuple(blocks), query_positions, key_positions)
    order = torch.argsort(torch.cat([block.queries.flatten()[block.slots] for block in blocks]))
    return Packing(tuple(blocks), query_positions, key_positions, order)


def pack_whole_rows(lengths: Sequence[int]) -> Packing:
    """Rows with ``lengths`` tokens, all causal, that share nothing and are attended to by one kernel."""
    positions = torch.cat([torch.arange(length) for length in lengths])
    offsets = torch.zeros(len(lengths) + 1, dtype=torch.int32)
    offsets[1:] = torch.tensor(lengths).cumsum(0)
    return Packing((), positions, positions, segments=WholeRows(offsets, max(lengths)))


def _family_blocks(
    starts: Tensor, sizes: Tensor, parent_keys: Tensor, prefix: int, dtype: torch.dtype
) -> list[Block]:
    """Rows [rows] that continue one parent, as one row: the keys of the parent stand there only once.

    Each row is shown the keys of the others too and sees its own: that costs less than copies of the parent.
    """
    own = torch.cat(
        [torch.arange(size) + start for start, size in zip(starts.tolist(), sizes.tolist(), strict=True)]
    )
    member = torch.repeat_interleave(torch.arange(len(sizes)), sizes)
    keys = torch.cat([parent_keys, own])
    step = max(QUERIES_PER_CHUNK, SCORES_PER_FAMILY_BLOCK // (prefix + len(keys)))
    blocks = []
    for first in range(0, len(own), step):
        queries = own[first : first + step]
        seen = (member[first : first + step, None] == member[None]) & (own[None] <= queries[:, None])
        mask = torch.zeros(len(queries), prefix + len(keys), dtype=dtype)
        mask[:, prefix + len(parent_keys) :].masked_fill_(~seen, float("-inf"))
        blocks.append(Block(queries[None], keys[None], prefix, mask[None], torch.arange(len(queries))))
    return blocks


def _row_blocks(
    starts: Tensor,
    sizes: Tensor,
    parent_starts: Tensor,
    before: Tensor,
    prefix: int,
    offset: int,
    chunk: int | None,
    dtype: torch.dtype,
) -> list[Block]:
    """Blocks of rows [rows] whose first keys are ``starts``, after ``before`` keys of their parents each.

    A query's index is that of its key less ``offset``.
    """
    longest, parent_keys = int(sizes.max()), int(before.max())
    parent_offsets = torch.arange(parent_keys)
    continued = parent_starts[:, None] + torch.minimum(parent_offsets, (before - 1).clamp(min=0)[:, None])
    hidden = parent_offsets >= before[:, None]
    blocks = []
    for first in range(0, longest, chunk or longest):
        stop = min(first + (chunk or longest), longest)
        reaches = sizes > first
        offsets = torch.arange(stop)
        last = sizes[reaches, None] - 1
        own = starts[reaches, None] + torch.minimum(offsets, last)
        slots = torch.nonzero((offsets[first:] <= last).flatten())[:, 0]
        mask = causal_mask(stop - first, prefix + parent_keys + stop, dtype)[None]
        if parent_keys:
            mask = mask.repeat(len(own), 1, 1)
            mask[:, :, prefix : prefix + parent_keys].masked_fill_(hidden[reaches, None], float("-inf"))
        keys = torch.cat([continued[reaches], own], dim=1)
        blocks.append(Block(own[:, first:] - offset, keys, prefix, mask, slots))
    return blocks


def pack_branches(
    prefix: int, rows: Sequence[Branches], cached_positions: Tensor, dtype: torch.dtype
) -> Packing:
    """The nodes of every row in order; their keys follow the cached ones in the same order."""
    counts = [len(row.positions) for row in rows]
    positions = torch.from_numpy(np.concatenate([row.positions for row in rows]))
    key_positions = torch.cat([cached_positions, positions])
    blocks, first_query = [], 0
    keys_of = [
        prefix + len(row.prompt_keys) + len(row.earlier_keys) + count
        for row, count in zip(rows, counts, strict=True)
    ]
    for part in _parts(list(zip(counts, keys_of, strict=True))):
        longest, most = max(counts[part]), max(keys_of[part]) - prefix
        queries = np.zeros((len(rows[part]), longest), dtype=np.int64)
        keys = np.zeros((len(rows[part]), most), dtype=np.int64)
        seen = np.zeros((len(rows[part]), longest, prefix + most), dtype=bool)
        real = np.arange(longest) < np.array(counts[part])[:, None]
        for slot, (row, count) in enumerate(zip(rows[part], counts[part], strict=True)):
            own = first_query + np.arange(count)
            known = np.concatenate([row.prompt_keys, row.earlier_keys, len(cached_positions) + own])
            queries[slot, :count] = own
            keys[slot, : len(known)] = known
            # Padded queries see the prompt too, so that no softmax is over nothing.
            seen[slot, :, : prefix + len(row.prompt_keys)] = True
            seen[slot, :count, prefix + len(row.prompt_keys) : prefix + len(known)] = row.sees
            first_query += count
        mask = torch.zeros(seen.shape, dtype=dtype).masked_fill_(torch.from_numpy(~seen), float("-inf"))
        slots = torch.from_numpy(np.flatnonzero(real))
        blocks.append(Block(torch.from_numpy(queries), torch.from_numpy(keys), prefix, mask, slots))
    return Packing(tuple(blocks), positions, key_positions)


def causal_mask(queries: int, keys: int, dtype: torch.dtype) -> Tensor:
    """[queries, keys], 0 where a query may look and −inf where it may not; the queries come last."""
    return torch.full((queries, keys), float("-inf"), dtype=dtype).triu(keys - queries + 1)


def _parts(sizes: Sequence[tuple[int, int]]) -> list[slice]:
    """Runs of rows, given their (queries, keys), whose padded scores stay within ``SCORES_PER_BLOCK``."""
    parts, start, longest, most = [], 0, 0, 0
    for stop, (queries, keys) in enumerate(sizes):
        longest, most = max(longest, queries), max(most, keys)
        if stop > start and (stop + 1 - start) * longest * most > SCORES_PER_BLOCK:
            parts.append(slice(start, stop))
            start, longest, most = stop, queries, keys
    return [*parts, slice(start, len(sizes))]
