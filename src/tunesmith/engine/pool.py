"""One token for every active row through a model's own layers, over packed rows (see ``packing``).

For families that read packed rows but that our decoder does not know. All keys lie end to end in one pool,
and every row has the list of its own.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from tunesmith.engine.attention import KeyValues, Packed
from tunesmith.engine.forward import packed_hidden
from tunesmith.engine.head import own_logits
from tunesmith.engine.packing import Block, Packing, pack_rows


class PoolReader:
    """The ``active`` rows of a model that reads packed rows, in order."""

    def __init__(self, model: PreTrainedModel, prefix: Sequence[int], rows: int, capacity: int) -> None:
        """For at most ``rows`` rows of ``capacity`` tokens each after the shared ``prefix``."""
        self.model, self.shared, self.rows = model, len(prefix), rows
        self.dtype = next(model.parameters()).dtype
        self.prefix: KeyValues = {}
        if prefix:
            packing = pack_rows(0, [len(prefix)], self.dtype, prefix_is_cached=False)
            packed_hidden(model, torch.tensor(prefix), Packed(packing, self.prefix), torch.tensor([0]))
        self.pool = dict(self.prefix)
        self.key_positions = torch.arange(self.shared)
        # The places of every row's own keys in the pool; after ``lengths`` come zeros.
        self.places = np.zeros((rows, capacity), dtype=np.int64)
        self.lengths = np.zeros(rows, dtype=np.int64)
        self.active = 0

    def admit(self, suffixes: Sequence[Sequence[int]]) -> Tensor:
        """Read new rows, which follow the active ones; the final hidden state [rows, width] of each."""
        self._drop_dead_keys()
        lengths = [len(suffix) for suffix in suffixes]
        cache = dict(self.prefix)
        packing = pack_rows(self.shared, lengths, self.dtype, prefix_is_cached=True)
        ids = torch.tensor([token for suffix in suffixes for token in suffix])
        hidden = packed_hidden(self.model, ids, Packed(packing, cache), torch.tensor(lengths).cumsum(0) - 1)
        first = len(self.key_positions)
        self.key_positions = torch.cat([self.key_positions, packing.query_positions])
        for layer, (key, value) in cache.items():
            if layer in self.pool:
                known = self.pool[layer]
                self.pool[layer] = (
                    torch.cat([known[0], key[self.shared :]]),
                    torch.cat([known[1], value[self.shared :]]),
                )
            else:
                self.pool[layer] = key, value
        for length in lengths:
            self.places[self.active] = 0
            self.places[self.active, :length] = np.arange(first, first + length)
            self.lengths[self.active] = length
            self.active += 1
            first += length
        return hidden

    def step(self, tokens: Tensor) -> Tensor:
        """Read one more token [active] of every row; the final hidden states [active, width]."""
        lengths, rows = self.lengths[: self.active], np.arange(self.active)
        self.places[rows, lengths] = len(self.key_positions) + rows
        most = int(lengths.max()) + 1
        beyond = torch.from_numpy(np.arange(most) > lengths[:, None])
        mask = torch.zeros(self.active, 1, self.shared + most, dtype=self.dtype)
        mask[:, 0, self.shared :].masked_fill_(beyond, float("-inf"))
        positions = torch.from_numpy(self.shared + lengths)
        self.key_positions = torch.cat([self.key_positions, positions])
        queries = torch.from_numpy(rows)
        keys = torch.from_numpy(self.places[: self.active, :most].copy())
        block = Block(queries[:, None], keys, self.shared, mask, queries)
        packing = Packing((block,), positions, self.key_positions)
        hidden = packed_hidden(self.model, tokens, Packed(packing, self.pool), queries)
        self.lengths[: self.active] += 1
        return hidden

    def logits(self, hidden: Tensor) -> Tensor:
        """[rows, vocabulary] of final hidden states [rows, width]."""
        return own_logits(self.model, hidden)

    def keep(self, places: Sequence[int]) -> None:
        """Only the active rows at these ``places`` go on, in this order."""
        self.active = len(places)
        self.places[: self.active] = self.places[list(places)]
        self.lengths[: self.active] = self.lengths[list(places)]

    def _drop_dead_keys(self) -> None:
        own = np.arange(self.places.shape[1]) < self.lengths[: self.active, None]
        live = np.concatenate([np.arange(self.shared), self.places[: self.active][own]])
        if len(live) == len(self.key_positions):
            return
        kept = torch.from_numpy(live)
        self.pool = {layer: (key[kept], value[kept]) for layer, (key, value) in self.pool.items()}
        self.key_positions = self.key_positions[kept]
        self.places[: self.active][own] = np.arange(self.shared, len(live))
        self.places[: self.active][~own] = 0
