"""Subsets of rows: by quality, diversity, length or chance."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bank_samples import questions
from tunesmith.data.curation.subset import MEASURES, Measure, select_rows
from tunesmith.errors import UserError

ROWS = questions(300)


def test_free_text_has_no_quality() -> None:
    rows = [replace(row, target=f"answer {number}") for number, row in enumerate(ROWS[:60])]
    with pytest.raises(UserError, match="60 different answers in 60 rows"):
        select_rows(rows, 10, "quality")
    assert len(select_rows(rows, 10, "diversity")) == 10


@pytest.mark.parametrize("measure", MEASURES)
def test_subsets_have_their_size_and_ignore_order(measure: Measure) -> None:
    rows = ROWS[:120]
    chosen = select_rows(rows, 30, measure)
    assert len(chosen) == len({row.id for row in chosen}) == 30
    again = select_rows(rows[::-1], 30, measure)
    if measure in ("random", "longest"):
        assert {row.id for row in again} == {row.id for row in chosen}
    with pytest.raises(UserError):
        select_rows(rows, 121, "random")


def test_quality_leaves_wrong_labels_out_and_diversity_leaves_copies_out() -> None:
    wrong = [replace(row, target="fees" if row.target != "fees" else "transfer") for row in ROWS[:20]]
    kept = {row.id for row in select_rows([*wrong, *ROWS[20:]], 260, "quality")}
    assert sum(row.id in kept for row in wrong) <= 3
    copies = [replace(ROWS[0], id=f"copy{number}") for number in range(50)]
    varied = select_rows([*copies, *ROWS[1:60]], 40, "diversity")
    assert sum(row.text == ROWS[0].text for row in varied) <= 1
    longest = select_rows(ROWS, 10, "longest")
    assert min(len(row.text) for row in longest) >= sorted(len(row.text) for row in ROWS)[-10]
