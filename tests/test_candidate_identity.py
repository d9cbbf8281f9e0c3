"""Who learned from repaired rows is another candidate: what was sealed of the old one is not its answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from bank_samples import questions
from tunesmith.candidates.answers import accuracy
from tunesmith.candidates.classical import tune_classical
from tunesmith.candidates.neighbours import tune_neighbours
from tunesmith.candidates.one_vs_rest import tune_label_models
from tunesmith.candidates.plain_texts import best_plain
from tunesmith.data.label_sets import label_set_text
from tunesmith.data.made import learned_sha256
from tunesmith.records import Message, Row

ROWS = questions(90)
VALIDATION = questions(18, seed=1)


def _classical(train: Sequence[Row]) -> str:
    return tune_classical(train, VALIDATION)[0].candidate.id


def _labels_one_by_one(train: Sequence[Row]) -> str:
    sets = [
        [replace(row, target=label_set_text([row.target])) for row in rows] for rows in (train, VALIDATION)
    ]
    return tune_label_models(sets[0], sets[1], accuracy)[0].candidate.id


def _neighbours(train: Sequence[Row]) -> str:
    return tune_neighbours(train, VALIDATION)[0].id


def _nearest_text(train: Sequence[Row]) -> str:
    return best_plain("answer", train, VALIDATION, lambda _: 0.0)[0][0].id


@pytest.mark.parametrize("tuned", [_classical, _labels_one_by_one, _neighbours, _nearest_text])
def test_a_candidate_is_named_by_what_its_rows_say(tuned: Callable[[Sequence[Row]], str]) -> None:
    # Far from all others, so that what is chosen on validation stays the same.
    own = replace(ROWS[0], messages=(Message("user", "quux"),))
    train = [*ROWS[1:], own]
    relabelled = [*ROWS[1:], replace(own, target=ROWS[1].target)]
    reworded = [*ROWS[1:], replace(own, messages=(Message("user", "quuux"),))]
    assert len({tuned(rows) for rows in (train, relabelled, reworded)}) == 3
    assert tuned(train[::-1]) == tuned(train)


def test_what_is_learned_counts_weights_and_groups_but_no_order_or_source() -> None:
    made = replace(ROWS[0], source="swap: bank.jsonl:1", fields=(("weight", "0.5"),))
    told = learned_sha256([made, *ROWS[1:]])
    assert told == learned_sha256([*ROWS[:0:-1], replace(made, source="swap: elsewhere")])
    heavier = replace(made, fields=(("weight", "0.7"),))
    assert told != learned_sha256([heavier, *ROWS[1:]])
    assert told != learned_sha256([replace(made, group="another"), *ROWS[1:]])
