"""One token for every active row, over preallocated keys and values: the decoders we know, step by step.

Rows lie in blocks, each as wide as its own longest row, since products read all of it. A long prompt prefix
that all rows share is stored once and multiplied as one matrix; a short one is copied to every row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from tunesmith.engine.attention import KeyValues, Packed
from tunesmith.engine.decoder import activated, decode, normed, stacked_layers
from tunesmith.engine.head import own_logits
from tunesmith.engine.packing import pack_rows
from tunesmith.engine.products import FrozenProduct, Product, multiplication

# Keys and values of all slots together, beside the weights.
CACHE_BYTES = 1536 * 2**20

# A block's room grows by this many tokens.
ROOM_TOKENS = 16

# Prompts are read from short to long, so that rows of one block are about as long.
BLOCK_ROWS = 64

# A shared prefix up to this length is cheaper to read once more for every row than to attend to apart.
COPIED_PREFIX_TOKENS = 64


# A layer's products, in the order of its own.
_Frozen = tuple[FrozenProduct, FrozenProduct, FrozenProduct, FrozenProduct]


@dataclass
class _Block:
    """Rows whose keys and values lie together, in the first slots: ``rows`` are their places among all."""

    cached: list[Tensor]  # of every layer [keys and values, slots, kv_heads, room, head_dim]
    lengths: Tensor  # [slots]
    rows: list[int]

    @property
    def slots(self) -> int:
        return len(self.lengths)

    @property
    def room(self) -> int:
        return self.cached[0].shape[3]

    def make_room(self, tokens: int, capacity: int) -> None:
        """Room for ``tokens`` tokens of every row, layer by layer, so that little is held twice."""
        if tokens <= self.room:
            return
        more = 0, 0, 0, min(capacity, -(-tokens // ROOM_TOKENS) * ROOM_TOKENS) - self.room
        for index, cached in enumerate(self.cached):
            # Zeros: the weight of a masked value is 0, and 0 times whatever lay in memory need not be.
            self.cached[index] = F.pad(cached, more)

    def keep(self, now: dict[int, int]) -> None:
        """Only rows in ``now`` go on, each at its new place; the last ones move into the slots of others."""
        staying = [slot for slot, row in enumerate(self.rows) if row in now]
        number = len(staying)
        gaps = sorted(set(range(number)).difference(staying))
        moving = [slot for slot in staying if slot >= number]
        if gaps:
            for cached in self.cached:
                cached[:, gaps] = cached[:, moving]
            self.lengths[gaps] = self.lengths[moving]
            for gap, slot in zip(gaps, moving, strict=True):
                self.rows[gap] = self.rows[slot]
        self.rows = [now[row] for row in self.rows[:number]]


class SlotReader:
    """The rows of a model of our decoder's families: ``active`` of them, in the order of their coming."""

    def __init__(self, model: PreTrainedModel, prefix: Sequence[int], rows: int, capacity: int) -> None:
        """Room for at most ``rows`` rows of ``capacity`` tokens each after the shared ``prefix``."""
        self.model, self.prefix_tokens = model, len(prefix)
        copied = len(prefix) <= COPIED_PREFIX_TOKENS
        self.shared = 0 if copied else len(prefix)
        base: Any = model.base_model
        self.embed, self.rotary, self.final_norm = base.embed_tokens, base.rotary_emb, base.norm
        self.layers = stacked_layers(model)
        for layer in self.layers:
            for product in layer.products:
                product.refresh()
        self.products = [_frozen(layer.products) for layer in self.layers]
        self.head = _packed_head(model)
        first = self.layers[0]
        self.weight = first.qkv.weight
        self.head_dim = first.head_dim
        self.queries, self.kv_heads, _ = (outputs // self.head_dim for outputs in first.qkv.outputs)
        self.capacity = capacity + len(prefix) - self.shared
        token_bytes = 2 * len(self.layers) * self.kv_heads * self.head_dim * self.weight.element_size()
        self.rows = max(1, min(rows, CACHE_BYTES // (token_bytes * self.capacity)))
        # What rows attend to of a long prefix is one product for all of them.
        self.block_rows = BLOCK_ROWS if copied else self.rows
        self.blocks: list[_Block] = []
        self.active = 0
        self.prefix: KeyValues = {}
        if prefix:
            packing = pack_rows(0, [len(prefix)], self.weight.dtype, prefix_is_cached=False)
            device = self.weight.device
            packed = Packed(packing.to(device), self.prefix)
            ids, last = torch.tensor(prefix, device=device), torch.tensor([0], device=device)
            decode(model, ids, packed, last, self.products)
        # Of every layer [kv_heads, …]: keys [head_dim, tokens] and values [tokens, head_dim].
        self.prefix_keys = [self.prefix[index][0].permute(1, 2, 0).contiguous() for index in self.prefix]
        self.prefix_values = [self.prefix[index][1].transpose(0, 1).contiguous() for index in self.prefix]

    def admit(self, suffixes: Sequence[Sequence[int]]) -> Tensor:
        """Read new rows, which follow the active ones; the final hidden state [rows, width] of each."""
        lengths = [len(suffix) for suffix in suffixes]
        cache = dict(self.prefix)
        packing = pack_rows(self.prefix_tokens, lengths, self.weight.dtype, prefix_is_cached=True)
        ends = torch.tensor(lengths).cumsum(0)
        ids = torch.tensor([token for suffix in suffixes for token in suffix])
        device = self.weight.device
        packed = Packed(packing.to(device), cache)
        hidden = decode(self.model, ids.to(device), packed, (ends - 1).to(device), self.products)
        placed = first = 0
        while placed < len(lengths):
            block = self._free_block()
            number = min(block.slots - len(block.rows), len(lengths) - placed)
            own = lengths[placed : placed + number]
            self._fill(block, own, cache, packing.query_positions, first)
            block.rows += range(self.active + placed, self.active + placed + number)
            placed, first = placed + number, first + sum(own)
        self.active += len(suffixes)
        return hidden

    def step(self, tokens: Tensor) -> Tensor:
        """Read one more token [active] of every row; the final hidden states [active, width]."""
        blocks = [block for block in self.blocks if block.rows]
        lengths = torch.cat([block.lengths[: len(block.rows)] for block in blocks])
        order = torch.tensor([row for block in blocks for row in block.rows], device=lengths.device)
        hidden = self.embed(tokens.to(lengths.device)[order])
        cos, sin = self.rotary(hidden[None], (self.shared + lengths)[None])
        half = self.head_dim // 2
        rotation = cos[0, :, None], torch.cat([-sin[0, :, None, :half], sin[0, :, None, half:]], dim=-1)
        parts: list[tuple[_Block, slice, Tensor, Tensor]] = []
        for block in blocks:
            start = parts[-1][1].stop if parts else 0
            own = slice(start, start + len(block.rows))
            slots = torch.arange(len(block.rows), device=lengths.device)
            parts.append((block, own, slots, self._mask(block, hidden)))
        repeats = self.queries // self.kv_heads
        turned = self.queries + self.kv_heads
        attended = hidden.new_empty(self.active * self.kv_heads, repeats, self.head_dim)
        for index, layer in enumerate(self.layers):
            qkv, output, gate_up, down = self.products[index]
            heads = qkv.forward(normed(hidden, layer.first_norm, qkv)).view(self.active, -1, self.head_dim)
            rolled = heads[:, :turned].roll(half, -1)
            heads[:, :turned].mul_(rotation[0]).addcmul_(rolled, rotation[1])
            query = heads[:, : self.queries].reshape(-1, repeats, self.head_dim)
            fresh = heads[:, self.queries :].view(self.active, 2, self.kv_heads, self.head_dim)
            for block, own, slots, mask in parts:
                block.cached[index][:, slots, :, lengths[own]] = fresh[own]
                groups = slice(own.start * self.kv_heads, own.stop * self.kv_heads)
                self._attend(index, block, query[groups], mask, layer.scaling, attended[groups])
            hidden = output.forward(output.extended(attended.view(self.active, -1))).add_(hidden)
            gate_up_output = gate_up.forward(normed(hidden, layer.second_norm, gate_up))
            hidden = down.forward(activated(gate_up_output, down)).add_(hidden)
        for block in blocks:
            block.lengths[: len(block.rows)] += 1
        final: Tensor = self.final_norm(hidden)
        return torch.empty_like(final).index_copy_(0, order, final)

    def logits(self, hidden: Tensor) -> Tensor:
        """[rows, vocabulary] of final hidden states [rows, width]."""
        return own_logits(self.model, hidden) if self.head is None else self.head(hidden)

    def keep(self, places: Sequence[int]) -> None:
        """Only the active rows at these ``places`` go on, in this order."""
        now = {place: index for index, place in enumerate(places)}
        for block in self.blocks:
            block.keep(now)
        self.active = len(places)

    def _free_block(self) -> _Block:
        """The first block with a free slot, made where there is none."""
        for block in self.blocks:
            if len(block.rows) < block.slots:
                return block
        slots = min(self.block_rows, self.rows - sum(block.slots for block in self.blocks))
        nothing = self.weight.new_zeros(2, slots, self.kv_heads, 0, self.head_dim)
        lengths = torch.zeros(slots, dtype=torch.long, device=self.weight.device)
        self.blocks.append(_Block([nothing] * len(self.layers), lengths, []))
        return self.blocks[-1]

    def _fill(
        self, block: _Block, own: Sequence[int], cache: KeyValues, positions: Tensor, first: int
    ) -> None:
        """Put keys and values of rows of ``own`` tokens, from the ``first`` of those just read on, into the
        block's next slots."""
        copied = self.prefix_tokens - self.shared
        block.make_room(copied + max(own), self.capacity)
        counts = torch.tensor(own)
        start = len(block.rows)
        slots = torch.arange(start, start + len(own)).repeat_interleave(counts)
        tokens = slice(self.prefix_tokens + first, self.prefix_tokens + first + sum(own))
        places = positions[first : first + sum(own)] - self.shared
        for index, cached in enumerate(block.cached):
            for part, read in enumerate(cache[index]):
                cached[part][slots, :, places] = read[tokens]
                if copied:
                    cached[part][start : start + len(own), :, :copied] = read[:copied].transpose(0, 1)
        block.lengths[start : start + len(own)] = counts + copied

    def _mask(self, block: _Block, hidden: Tensor) -> Tensor:
        """Of each row's own tokens, the same for every head: [rows × kv_heads, repeats, room in use]."""
        lengths = block.lengths[: len(block.rows)]
        longest = int(lengths.max()) + 1
        block.make_room(longest, self.capacity)
        # Products would copy a part of the room first, unless it is much smaller than the whole.
        if block.room < longest + ROOM_TOKENS:
            longest = block.room
        beyond = torch.arange(longest, device=lengths.device) > lengths[:, None]
        mask = torch.zeros(beyond.shape, dtype=hidden.dtype, device=lengths.device)
        mask = mask.masked_fill_(beyond, float("-inf"))
        repeats = self.queries // self.kv_heads
        return mask[:, None, None].expand(-1, self.kv_heads, repeats, -1).reshape(-1, repeats, longest)

    def _attend(
        self, index: int, block: _Block, query: Tensor, mask: Tensor, scaling: float, attended: Tensor
    ) -> None:
        """Attention of one query of every row of a block, [rows × kv_heads, repeats, head_dim], into
        ``attended`` of that shape."""
        groups, repeats, longest = mask.shape
        keys, values = block.cached[index].flatten(1, 2)[:, :groups, :longest]
        scores = torch.bmm(query, keys.transpose(1, 2))
        scores = torch.add(mask, scores, alpha=scaling)
        if not self.shared:
            torch.bmm(torch.softmax(scores, dim=-1), values, out=attended)
            return
        # [active, kv_heads, …] and back: one product per head reads the prefix for all rows.
        by_head = query.view(-1, self.kv_heads, repeats, self.head_dim).transpose(0, 1)
        by_head = by_head.reshape(self.kv_heads, -1, self.head_dim)
        prefix_keys, prefix_values = self.prefix_keys[index], self.prefix_values[index]
        zero = query.new_zeros(1)
        before = torch.baddbmm(zero, by_head, prefix_keys, beta=0, alpha=scaling)
        before = before.view(self.kv_heads, -1, repeats, self.shared).transpose(0, 1)
        weights = torch.softmax(torch.cat([before.reshape(groups, repeats, -1), scores], dim=-1), dim=-1)
        torch.bmm(weights[..., self.shared :], values, out=attended)
        before = weights[..., : self.shared].view(-1, self.kv_heads, repeats, self.shared)
        before = before.transpose(0, 1).reshape(self.kv_heads, -1, self.shared)
        prefix_part = torch.bmm(before, prefix_values).view(self.kv_heads, -1, repeats, self.head_dim)
        attended.view(-1, self.kv_heads, repeats, self.head_dim).add_(prefix_part.transpose(0, 1))


def _frozen(products: tuple[Product, Product, Product, Product]) -> _Frozen:
    qkv, output, gate_up, down = map(FrozenProduct, products)
    return qkv, output, gate_up, down


def _packed_head(model: PreTrainedModel) -> Any:
    """The output head as a function; None where it is more than a linear layer."""
    head: Any = model.get_output_embeddings()  # type: ignore[no-untyped-call]  # so is Transformers' own
    return multiplication(head.weight.detach(), head.bias) if type(head) is nn.Linear else None
