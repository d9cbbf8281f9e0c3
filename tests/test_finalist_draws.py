"""How many test rows a finalist that is clearly behind is asked."""

from __future__ import annotations

from dataclasses import replace

from bank_samples import questions
from tunesmith.stages.verdict import fair_draw


def test_few_rows_are_drawn_fairly_and_all_where_they_would_be_too_few_groups() -> None:
    rows = [replace(row, id=f"{number * 7919 % 1000:04}") for number, row in enumerate(questions(400))]
    drawn = fair_draw(rows, 250)
    assert len(drawn) == 250
    assert drawn == sorted(drawn)
    others = set(range(400)) - set(drawn)
    assert max(rows[place].id for place in drawn) < min(rows[place].id for place in others)
    assert fair_draw(rows, None) == list(range(400))
    # Most rows are of one customer: 250 of them would hold fewer groups than an interval needs.
    few = [replace(row, group="large") if place % 8 else row for place, row in enumerate(rows)]
    assert len({row.group for row in few}) == 51
    assert fair_draw(few, 250) == list(range(400))
