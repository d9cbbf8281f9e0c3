"""One token for every active row, over preallocated keys and values: the decoders we know, step by step.

A row owns one slot of the cache, whose room grows with the longest row: products read all of it, as a part
would be copied for them first. The prompt prefix that all rows share is stored once and multiplied as one
matrix.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from tunesmith.engine.attention import KeyValues, Packed
from tunesmith.engine.decoder import fp32_and_inverse, stacked_layers
from tunesmith.engine.forward import packed_hidden
from tunesmith.engine.head import own_logits
from tunesmith.engine.packing import pack_rows
from tunesmith.engine.products import Product

# Keys and values of all slots together, beside the weights.
CACHE_BYTES = 1536 * 2**20

# The cache's room grows by this many tokens.
ROOM_TOKENS = 16


class SlotReader:
    """The rows of a model of our decoder's families: ``active`` of them, in the first slots, in order."""

    def __init__(self, model: PreTrainedModel, prefix: Sequence[int], rows: int, capacity: int) -> None:
        """Room for at most ``rows`` rows of ``capacity`` tokens each after the shared ``prefix``."""
        self.model, self.shared = model, len(prefix)
        base: Any = model.base_model
        self.embed, self.rotary, self.final_norm = base.embed_tokens, base.rotary_emb, base.norm
        self.layers = stacked_layers(model)
        for layer in self.layers:
            for product in layer.products:
                product.refresh()
        self.linears = [tuple(_Linear(product) for product in layer.products) for layer in self.layers]
        self.head = _packed_head(model)
        first = self.layers[0]
        weight = first.qkv.weight
        self.head_dim = first.head_dim
        self.queries, self.kv_heads, _ = (outputs // self.head_dim for outputs in first.qkv.outputs)
        token_bytes = 2 * len(self.layers) * self.kv_heads * self.head_dim * weight.element_size()
        self.rows = max(1, min(rows, CACHE_BYTES // (token_bytes * capacity)))
        self.capacity, self.room = capacity, 0
        # Of every layer [rows, kv_heads, room, head_dim].
        nothing = weight.new_zeros(self.rows, self.kv_heads, 0, self.head_dim)
        self.keys, self.values = [nothing] * len(self.layers), [nothing] * len(self.layers)
        self.lengths = torch.zeros(self.rows, dtype=torch.long, device=weight.device)
        self.active = 0
        self.prefix: KeyValues = {}
        if prefix:
            packing = pack_rows(0, [len(prefix)], weight.dtype, prefix_is_cached=False)
            packed_hidden(model, torch.tensor(prefix), Packed(packing, self.prefix), torch.tensor([0]))
        self.prefix_keys = [self.prefix[index][0].permute(1, 2, 0).contiguous() for index in self.prefix]
        self.prefix_values = [self.prefix[index][1].transpose(0, 1).contiguous() for index in self.prefix]

    def admit(self, suffixes: Sequence[Sequence[int]]) -> Tensor:
        """Read new rows, which follow the active ones; the final hidden state [rows, width] of each."""
        lengths = [len(suffix) for suffix in suffixes]
        cache = dict(self.prefix)
        packing = pack_rows(self.shared, lengths, self.keys[0].dtype, prefix_is_cached=True)
        own = torch.tensor(lengths)
        self._make_room(max(lengths))
        ids = torch.tensor([token for suffix in suffixes for token in suffix])
        hidden = packed_hidden(self.model, ids, Packed(packing, cache), own.cumsum(0) - 1)
        slots = torch.arange(self.active, self.active + len(suffixes)).repeat_interleave(own)
        places = packing.query_positions - self.shared
        for index, (keys, values) in enumerate(zip(self.keys, self.values, strict=True)):
            key, value = cache[index]
            keys[slots, :, places] = key[self.shared :]
            values[slots, :, places] = value[self.shared :]
        self.lengths[self.active : self.active + len(suffixes)] = own
        self.active += len(suffixes)
        return hidden

    def step(self, tokens: Tensor) -> Tensor:
        """Read one more token [active] of every row; the final hidden states [active, width]."""
        lengths = self.lengths[: self.active]
        rows = torch.arange(self.active, device=lengths.device)
        longest = int(lengths.max()) + 1
        self._make_room(longest)
        if self.room < longest + ROOM_TOKENS:
            longest = self.room
        hidden = self.embed(tokens.to(lengths.device))
        cos, sin = self.rotary(hidden[None], (self.shared + lengths)[None])
        half = self.head_dim // 2
        rotation = cos[0, :, None], torch.cat([-sin[0, :, None, :half], sin[0, :, None, half:]], dim=-1)
        beyond = torch.arange(longest, device=lengths.device) > lengths[:, None]
        mask = torch.zeros(beyond.shape, dtype=hidden.dtype, device=lengths.device)
        mask = mask.masked_fill_(beyond, float("-inf"))
        # The same for every head: [active × kv_heads, repeats, longest].
        repeats = self.queries // self.kv_heads
        mask = mask[:, None, None].expand(-1, self.kv_heads, repeats, -1).reshape(-1, repeats, longest)
        for index, (keys, values) in enumerate(zip(self.keys, self.values, strict=True)):
            layer, (qkv, output, gate_up, down) = self.layers[index], self.linears[index]
            heads = qkv(_normed(hidden, layer.first_norm)).view(self.active, -1, self.head_dim)
            rotated = heads[:, : self.queries + self.kv_heads]
            rotated = (rotated * rotation[0]).addcmul_(rotated.roll(half, -1), rotation[1])
            keys[rows, :, lengths] = rotated[:, self.queries :]
            values[rows, :, lengths] = heads[:, self.queries + self.kv_heads :]
            attended = self._attend(index, rotated[:, : self.queries], mask, layer.scaling)
            hidden = output(attended).add_(hidden)
            gate, up = gate_up(_normed(hidden, layer.second_norm)).chunk(2, dim=1)
            hidden = down(F.silu(gate).mul_(up)).add_(hidden)
        self.lengths[: self.active] += 1
        final: Tensor = self.final_norm(hidden)
        return final

    def logits(self, hidden: Tensor) -> Tensor:
        """[rows, vocabulary] of final hidden states [rows, width]."""
        return own_logits(self.model, hidden) if self.head is None else self.head(hidden)

    def move(self, source: int, target: int) -> None:
        """The row in slot ``source`` takes the slot ``target``."""
        for cached in (*self.keys, *self.values):
            cached[target] = cached[source]
        self.lengths[target] = self.lengths[source]

    def truncate(self, active: int) -> None:
        """Only the first ``active`` slots still hold rows."""
        self.active = active

    def _make_room(self, tokens: int) -> None:
        """Room for ``tokens`` own tokens of every row, layer by layer, so that little is held twice."""
        if tokens <= self.room:
            return
        self.room = min(self.capacity, -(-tokens // ROOM_TOKENS) * ROOM_TOKENS)
        for index, (keys, values) in enumerate(zip(self.keys, self.values, strict=True)):
            more = 0, 0, 0, self.room - keys.shape[2]
            # Zeros: the weight of a masked value is 0, and 0 times whatever lay in memory need not be.
            self.keys[index], self.values[index] = F.pad(keys, more), F.pad(values, more)

    def _attend(self, index: int, query: Tensor, mask: Tensor, scaling: float) -> Tensor:
        """Attention [active, heads × head_dim] of one query [active, heads, head_dim] of every row."""
        groups, repeats, longest = mask.shape
        own = query.reshape(groups, repeats, self.head_dim)
        keys = self.keys[index].flatten(0, 1)[:groups, :longest].transpose(1, 2)
        values = self.values[index].flatten(0, 1)[:groups, :longest]
        scores = torch.baddbmm(mask, own, keys, alpha=scaling)
        if not self.shared:
            return torch.bmm(torch.softmax(scores, dim=-1), values).view(self.active, -1)
        # [active, kv_heads, …] and back: one product per head reads the prefix for all rows.
        by_head = own.view(self.active, self.kv_heads, repeats, self.head_dim).transpose(0, 1)
        by_head = by_head.reshape(self.kv_heads, -1, self.head_dim)
        prefix_keys, prefix_values = self.prefix_keys[index], self.prefix_values[index]
        zero = query.new_zeros(1)
        before = torch.baddbmm(zero, by_head, prefix_keys, beta=0, alpha=scaling)
        before = before.view(self.kv_heads, self.active, repeats, -1).transpose(0, 1)
        weights = torch.softmax(torch.cat([before.reshape(groups, repeats, -1), scores], dim=-1), dim=-1)
        own_part = torch.bmm(weights[..., self.shared :], values)
        before = weights[..., : self.shared].view(self.active, self.kv_heads, repeats, self.shared)
        before = before.transpose(0, 1).reshape(self.kv_heads, -1, self.shared)
        prefix_part = torch.bmm(before, prefix_values).view(self.kv_heads, self.active, repeats, -1)
        own_part = own_part.view(self.active, self.kv_heads, repeats, -1)
        return own_part.add_(prefix_part.transpose(0, 1)).view(self.active, -1)


class _Linear:
    """A frozen product in the layout that oneDNN multiplies fastest, where there is one."""

    def __init__(self, product: Product) -> None:
        adapted = any(layer.enabled for layer, _, _ in product.adapters)
        self.a = product.a.T if adapted else None
        self.multiply = _multiplication(
            product.weight if adapted else product.weight[:, : product.inputs], product.bias
        )

    def __call__(self, inputs: Tensor) -> Tensor:
        if self.a is not None:
            inputs = torch.cat([inputs, inputs @ self.a], dim=1)
        product: Tensor = self.multiply(inputs)
        return product


def _packed_head(model: PreTrainedModel) -> Any:
    """The output head as a function; None where it is more than a linear layer."""
    head: Any = model.get_output_embeddings()  # type: ignore[no-untyped-call]  # so is Transformers' own
    return _multiplication(head.weight.detach(), head.bias) if type(head) is nn.Linear else None


def _multiplication(weight: Tensor, bias: Tensor | None) -> Any:
    """inputs [rows, in] → [rows, out]."""
    mkldnn: Any = torch.ops.mkldnn
    if (
        weight.device.type != "cpu"
        or not torch._C._has_mkldnn
        or (weight.dtype == torch.bfloat16 and not mkldnn._is_mkldnn_bf16_supported())
    ):
        return lambda inputs: F.linear(inputs, weight, bias)
    packed = mkldnn._reorder_linear_weight(weight.contiguous())
    return lambda inputs: mkldnn._linear_pointwise(inputs, packed, bias, "none", [], "")


def _normed(hidden: Tensor, norm: Any) -> Tensor:
    """As ``decoder`` forms it; PyTorch's own makes more passes over memory on a CPU."""
    if hidden.is_cuda:
        return F.rms_norm(hidden, norm.weight.shape, norm.weight, norm.variance_epsilon)
    normed, inverse = fp32_and_inverse(hidden, norm.variance_epsilon)
    return normed.mul_(inverse).to(hidden.dtype).mul_(norm.weight)
