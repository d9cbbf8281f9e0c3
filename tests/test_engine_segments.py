"""Rows that open alike are cut, batched and put together again without losing a token."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tunesmith.engine.segments import (
    FEWEST_SHARED_TOKENS,
    cut_at_shared_openings,
    in_batches,
    shared_openings,
)

documents = st.lists(st.integers(0, 2), min_size=FEWEST_SHARED_TOKENS, max_size=24)
rows_of_documents = st.lists(
    st.tuples(documents, st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=5), max_size=4)),
    min_size=1,
    max_size=4,
).map(lambda pairs: [document + own for document, owns in pairs for own in owns] or [[1]])


@given(rows_of_documents)
def test_every_row_is_its_parent_and_its_own_tokens(rows: list[list[int]]) -> None:
    segments = cut_at_shared_openings(rows)
    for row, place in zip(rows, segments.places, strict=True):
        parent = segments.parents[place]
        opening = [] if parent is None else list(segments.own[parent])
        assert [*opening, *segments.own[place]] == row
        assert len(segments.own[place]) >= 1
        assert parent is None or segments.parents[parent] is None
    assert sum(map(len, segments.own)) <= sum(map(len, rows))


def test_a_document_that_rows_share_is_read_once() -> None:
    document = list(range(100, 140))
    rows = [[*document, 1, 2], [7] * 30, [*document, 3], [*document, 1, 4]]
    segments = cut_at_shared_openings(rows)
    assert sum(map(len, segments.own)) == 40 + 2 + 1 + 2 + 30
    assert sorted(sorted(members) for members, _ in shared_openings(rows)) == [[0, 2, 3], [1]]


@given(rows_of_documents, st.integers(20, 200))
def test_batches_hold_every_row_once_and_keep_to_the_budget(rows: list[list[int]], budget: int) -> None:
    batches = in_batches(rows, [2] * len(rows), budget)
    assert sorted(index for batch in batches for index in batch) == list(range(len(rows)))
    for batch in batches:
        chosen = [rows[index] for index in batch]
        tokens = sum(map(len, cut_at_shared_openings(chosen).own))
        [(_, shared), *others] = shared_openings(chosen)
        one_document = not others and tokens - shared <= budget // 2
        assert tokens <= budget or len(batch) == 1 or one_document


def test_a_document_longer_than_a_batch_is_read_once_for_its_rows() -> None:
    document = list(range(1_000, 1_240))
    rows = [[*document, statement, 1] for statement in range(17)]
    for budget in (140, 250):
        batches = in_batches(rows, [2] * len(rows), budget)
        assert batches == [list(range(17))]
