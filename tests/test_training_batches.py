"""Which rows make up a step: every row once, of like length, or of one document where that spares work."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError

from tunesmith.models.rendering import Tokens
from tunesmith.task.train_settings import TrainSettings
from tunesmith.training.batches import Sharing, epoch_batches, sharing_of, tokens_read_once


def test_every_row_is_in_exactly_one_batch_of_an_epoch_and_batches_are_of_like_length() -> None:
    lengths = [(37 * index) % 200 + 20 for index in range(1000)]
    batches = epoch_batches(lengths, 16, seed=3, epoch=1)
    assert sorted(row for batch in batches for row in batch) == list(range(1000))
    assert [len(batch) for batch in batches].count(16) == 62
    padded = sum(len(batch) * max(lengths[row] for row in batch) for batch in batches)
    assert padded < 1.15 * sum(lengths)
    assert batches == epoch_batches(lengths, 16, seed=3, epoch=1)
    assert batches != epoch_batches(lengths, 16, seed=3, epoch=2)
    assert batches != epoch_batches(lengths, 16, seed=4, epoch=1)


def test_rows_of_one_document_follow_each_other_where_that_spares_most_of_the_work() -> None:
    def row(document: int, question: int) -> Tokens:
        ids = (1, 2, *[10 + document] * 40, *[60 + question] * 4, 3)
        return Tokens(ids, (False,) * (len(ids) - 2) + (True,) * 2)

    rows = [row(document, question) for question in range(5) for document in range(7)]
    sharing = sharing_of(rows)
    assert sharing.prefix == 2
    assert sharing.documents is not None
    batches = epoch_batches([len(row.ids) for row in rows], 5, 0, 0, sharing.documents)
    assert sorted(index for batch in batches for index in batch) == list(range(len(rows)))
    assert all(len({index % 7 for index in batch}) == 1 for batch in batches)
    assert [batch[0] % 7 for batch in batches] != list(range(7))
    computed = sum(sharing.batch(rows, batch, 0).computed_tokens for batch in batches)
    assert computed == 7 * (2 + 40 + 5 * 5)
    assert tokens_read_once(rows, sharing) == 2 + 7 * (40 + 5 * 5)
    assert tokens_read_once(rows, Sharing(2, None)) == 2 + 35 * (40 + 5)
    # A document longer than a part is still read once for all its rows; rows of their own fill parts up.
    assert sharing.parts(rows, batches[0], 30) == [sorted(batches[0])]
    assert [len(part) for part in sharing.parts(rows, batches[0], 12)] == [2, 2, 1]
    assert [len(part) for part in sharing.parts(rows, [*batches[0], *batches[1]], 140)] == [10]
    other = epoch_batches([len(row.ids) for row in rows], 5, 0, 1, sharing.documents)
    assert other != batches
    assert sharing_of(rows[:7]).documents is None


def test_a_part_of_a_step_counts_the_prefix_that_all_rows_share_once() -> None:
    rows = [Tokens((*range(100), 200 + row, 1), (False,) * 101 + (True,)) for row in range(16)]
    sharing = sharing_of(rows)
    assert sharing.prefix == 100
    assert len(sharing.parts(rows, range(16), 100 + 16 * 2)) == 1
    assert len(sharing.parts(rows, range(16), 100 + 8 * 2)) == 2
    # A budget that the prefix fills leaves one row at a time.
    assert [len(part) for part in sharing.parts(rows, range(16), 100)] == [1] * 16


def test_seeds_are_taken_as_far_as_they_can_be_drawn_with() -> None:
    largest = TrainSettings(seed=2**64 - 1).seed
    torch.Generator().manual_seed(largest)
    assert sorted(row for batch in epoch_batches([3] * 9, 4, largest, 0) for row in batch) == list(range(9))
    for settings in ({"seed": 2**64}, {"seeds": [0, 2**64]}):
        with pytest.raises(ValidationError, match="less than"):
            TrainSettings.model_validate(settings)
