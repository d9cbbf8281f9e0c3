"""Which training rows and passages a prompt shows: never the row itself, nor one of its group."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from tunesmith.candidates.forms import PromptForm, Shown
from tunesmith.candidates.nearest import nearest
from tunesmith.candidates.retrieval import Library
from tunesmith.files import content_hash
from tunesmith.models.embedding import Embedder
from tunesmith.records import Row


def shown_with(
    form: PromptForm,
    train: Sequence[Row],
    rows: Sequence[Row],
    library: Library | None = None,
    embedder: Embedder | None = None,
) -> list[Shown]:
    """What ``form`` shows for each of ``rows``.

    ``library`` is needed for a form with passages, ``embedder`` for one that finds by embeddings.
    """
    assert embedder is not None or not form.embeds
    examples: list[tuple[Row, ...]] = [()] * len(rows)
    if form.examples:
        match form.choice:
            case "nearest":
                examples = [tuple(near) for near in nearest(train, rows, form.examples)]
            case "embeddings":
                examples = [tuple(near) for near in nearest(train, rows, form.examples, embedder)]
            case "fixed":
                order = _by_turns(train)
                examples = [_others(order, row, form.examples) for row in rows]
            case "random":
                examples = [_others(_shuffled(train, row), row, form.examples) for row in rows]
    if not form.passages:
        return [Shown(one) for one in examples]
    assert library is not None
    if form.found_by == "embeddings" and embedder is not None:
        found = library.find_by_embeddings(embedder, rows, form.passages)
    else:
        found = [library.find(row, form.passages) for row in rows]
    return [
        Shown(one, tuple(passage.text for passage in passages))
        for one, passages in zip(examples, found, strict=True)
    ]


def ever_shorter(shown: Shown) -> Iterator[Shown]:
    """``shown``, then with one passage or example less each time, the least alike first, down to none."""
    for left_out in range(len(shown.passages)):
        yield replace(shown, passages=shown.passages[left_out:])
    for left_out in range(len(shown.examples) + 1):
        yield Shown(shown.examples[left_out:])


def _by_turns(train: Sequence[Row]) -> list[Row]:
    """Rows in the order of their hashes, each answer in turn, so that the first few show many answers."""
    by_target: defaultdict[str, list[Row]] = defaultdict(list)
    for row in sorted(train, key=lambda row: row.id):
        by_target[row.target].append(row)
    rounds = itertools.zip_longest(*(by_target[target] for target in sorted(by_target)))
    return [row for turn in rounds for row in turn if row is not None]


def _shuffled(train: Sequence[Row], row: Row) -> list[Row]:
    draw = np.random.default_rng(int(content_hash([row.id])[:16], 16))
    return [train[index] for index in draw.permutation(len(train))]


def _others(order: Sequence[Row], row: Row, count: int) -> tuple[Row, ...]:
    others = (one for one in order if one.id != row.id and not (row.group and one.group == row.group))
    return tuple(itertools.islice(others, count))
