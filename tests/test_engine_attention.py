"""Grouped attention equals the textbook's, padded or packed, forward and backward."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tunesmith.engine.attention import attend, attend_backward, grouped_attention
from tunesmith.engine.packing import pack_rows

HEAD_DIM = 8


def textbook(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, softcap: float | None = None) -> Tensor:
    """[batch, heads, queries, head_dim] → [batch, queries, heads, head_dim], every step spelt out."""
    repeats = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(repeats, dim=1), value.repeat_interleave(repeats, dim=1)
    scores = query @ key.transpose(2, 3) / math.sqrt(HEAD_DIM)
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    return (torch.softmax(scores + mask, dim=-1) @ value).transpose(1, 2)


def causal(queries: int, keys: int) -> Tensor:
    return torch.full((queries, keys), float("-inf")).triu(keys - queries + 1)


def heads(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, HEAD_DIM, generator=generator)


@settings(max_examples=40, deadline=None)
@given(
    batch=st.integers(1, 3),
    kv_heads=st.integers(1, 3),
    repeats=st.integers(1, 3),
    queries=st.integers(1, 7),
    earlier=st.integers(0, 5),
    masking=st.sampled_from(["causal", "one for all heads", "one per head"]),
    softcap=st.sampled_from([None, 2.0]),
    seed=st.integers(0, 2**16),
)
def test_padded_attention_equals_the_textbook(
    batch: int,
    kv_heads: int,
    repeats: int,
    queries: int,
    earlier: int,
    masking: str,
    softcap: float | None,
    seed: int,
) -> None:
    generator = torch.Generator().manual_seed(seed)
    keys = earlier + queries
    query = heads(generator, batch, kv_heads * repeats, queries)
    key, value = heads(generator, batch, kv_heads, keys), heads(generator, batch, kv_heads, keys)
    mask = None
    if masking != "causal":
        masked_heads = 1 if masking == "one for all heads" else kv_heads * repeats
        mask = torch.randn(batch, masked_heads, queries, keys, generator=generator)
    output, weights = grouped_attention(
        nn.Identity(), query, key, value, mask, scaling=HEAD_DIM**-0.5, softcap=softcap
    )
    expected = textbook(query, key, value, causal(queries, keys) if mask is None else mask, softcap)
    assert weights is None
    torch.testing.assert_close(output, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("earlier", [0, 3])
def test_long_rows_are_exact_too(monkeypatch: pytest.MonkeyPatch, masked: bool, earlier: int) -> None:
    monkeypatch.setattr("tunesmith.engine.attention.LARGEST_SCORE_MATRIX", 10)
    generator = torch.Generator().manual_seed(0)
    query = heads(generator, 2, 4, 9)
    key, value = heads(generator, 2, 2, 9 + earlier), heads(generator, 2, 2, 9 + earlier)
    mask = torch.randn(2, 1, 9, 9 + earlier, generator=generator) if masked else None
    output, _ = grouped_attention(nn.Identity(), query, key, value, mask, scaling=HEAD_DIM**-0.5)
    expected = textbook(query, key, value, causal(9, 9 + earlier) if mask is None else mask)
    torch.testing.assert_close(output, expected, atol=1e-5, rtol=1e-5)


@settings(max_examples=40, deadline=None)
@given(
    prefix=st.integers(0, 6),
    lengths=st.lists(st.integers(1, 8), min_size=1, max_size=4),
    kv_heads=st.integers(1, 2),
    repeats=st.integers(1, 3),
    window=st.sampled_from([None, 1, 3]),
    seed=st.integers(0, 2**16),
)
def test_packed_attention_equals_the_textbook_row_by_row(
    prefix: int, lengths: list[int], kv_heads: int, repeats: int, window: int | None, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    tokens = prefix + sum(lengths)
    query = heads(generator, tokens, kv_heads * repeats)
    key, value = heads(generator, tokens, kv_heads), heads(generator, tokens, kv_heads)
    packing = pack_rows(prefix, lengths, torch.float32, prefix_is_cached=False)
    output, _ = attend(query, key, value, packing, HEAD_DIM**-0.5, window)
    start = prefix
    for length in lengths:
        places = [*range(prefix), *range(start, start + length)]
        start += length
        mask = causal(len(places), len(places))
        if window is not None:
            distance = torch.arange(len(places))[:, None] - torch.arange(len(places))
            mask = mask.masked_fill(distance >= window, float("-inf"))
        row = [tensor[places].transpose(0, 1)[None] for tensor in (query, key, value)]
        expected = textbook(row[0], row[1], row[2], mask)[0].flatten(1)
        torch.testing.assert_close(output[places], expected, atol=1e-5, rtol=1e-5)
    cached = pack_rows(prefix, lengths, torch.float32, prefix_is_cached=True)
    suffixes, _ = attend(query[prefix:], key, value, cached, HEAD_DIM**-0.5, window)
    torch.testing.assert_close(suffixes, output[prefix:], atol=1e-5, rtol=1e-5)


@settings(max_examples=40, deadline=None)
@given(
    prefix=st.integers(0, 6),
    documents=st.lists(
        st.tuples(st.integers(1, 8), st.lists(st.integers(1, 8), max_size=3)), min_size=1, max_size=3
    ),
    seed=st.integers(0, 2**16),
)
def test_rows_that_continue_a_document_attend_as_whole_rows_do(
    prefix: int, documents: list[tuple[int, list[int]]], seed: int
) -> None:
    lengths: list[int] = []
    parents: list[int | None] = []
    for document, questions in documents:
        place = len(lengths)
        lengths.extend([document, *questions])
        parents.extend([None, *[place] * len(questions)])
    generator = torch.Generator().manual_seed(seed)
    tokens = prefix + sum(lengths)
    query, key, value = (heads(generator, tokens, count).requires_grad_() for count in (4, 2, 2))
    packing = pack_rows(prefix, lengths, torch.float32, prefix_is_cached=False, parents=parents)
    output, saved = attend(query, key, value, packing, HEAD_DIM**-0.5)
    starts = [prefix + sum(lengths[:place]) for place in range(len(lengths))]
    expected = torch.empty_like(output)
    for place, parent in enumerate(parents):
        before = [] if parent is None else [*range(starts[parent], starts[parent] + lengths[parent])]
        own = [*range(starts[place], starts[place] + lengths[place])]
        places = [*range(prefix), *before, *own]
        assert packing.query_positions[own].tolist() == list(range(len(places)))[-len(own) :]
        row = [tensor[places].transpose(0, 1)[None] for tensor in (query, key, value)]
        whole = textbook(row[0], row[1], row[2], causal(len(places), len(places)))[0].flatten(1)
        expected = expected.index_put((torch.tensor(own),), whole[-len(own) :])
        if prefix:
            expected = expected.index_put((torch.arange(prefix),), whole[:prefix])
    torch.testing.assert_close(output, expected, atol=1e-5, rtol=1e-5)
    gradient = torch.randn(output.shape, generator=generator)
    automatic = torch.autograd.grad(expected, (query, key, value), gradient, retain_graph=True)
    by_hand = attend_backward(gradient, packing, saved, HEAD_DIM**-0.5)
    for ours, theirs in zip(by_hand, automatic, strict=True):
        torch.testing.assert_close(ours, theirs.flatten(1), atol=1e-5, rtol=1e-5)
    cached = pack_rows(prefix, lengths, torch.float32, prefix_is_cached=True, parents=parents)
    suffixes, _ = attend(query[prefix:], key, value, cached, HEAD_DIM**-0.5)
    torch.testing.assert_close(suffixes, expected[prefix:], atol=1e-5, rtol=1e-5)


@settings(max_examples=30, deadline=None)
@given(
    prefix=st.integers(0, 6),
    lengths=st.lists(st.integers(1, 8), min_size=1, max_size=4),
    repeats=st.integers(1, 3),
    seed=st.integers(0, 2**16),
)
def test_the_hand_written_backward_equals_automatic_differentiation(
    prefix: int, lengths: list[int], repeats: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    tokens = prefix + sum(lengths)
    query, key, value = (heads(generator, tokens, count).requires_grad_() for count in (2 * repeats, 2, 2))
    packing = pack_rows(prefix, lengths, torch.float32, prefix_is_cached=False)
    output, saved = attend(query, key, value, packing, HEAD_DIM**-0.5)
    gradient = torch.randn(output.shape, generator=generator)
    automatic = torch.autograd.grad(output, (query, key, value), gradient)
    by_hand = attend_backward(gradient, packing, saved, HEAD_DIM**-0.5)
    for ours, theirs in zip(by_hand, automatic, strict=True):
        torch.testing.assert_close(ours, theirs.flatten(1), atol=1e-5, rtol=1e-5)
