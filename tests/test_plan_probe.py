"""What the plan measures before a run is like what the run will do."""

from __future__ import annotations

from tunesmith.records import Message, Row
from tunesmith.stages.label_prompts import PROBED_GROUPS, PROBED_ROWS, probed_rows


def rows_in(groups: int, rows_each: int, grouped: bool = True) -> list[Row]:
    return [
        Row(
            id=f"{group} {row}",
            source=f"rows.jsonl:{row * groups + group + 1}",
            messages=(Message("user", f"document {group}, question {row}"),),
            target="yes",
            group=f"g{group}" if grouped else "",
        )
        for row in range(rows_each)
        for group in range(groups)
    ]


def test_rows_of_a_shared_document_are_probed_together() -> None:
    chosen = probed_rows(rows_in(15, 17))
    by_group = [[row for row in chosen if row.group == group] for group in {row.group for row in chosen}]
    assert len(by_group) == PROBED_GROUPS
    assert all(len(rows) == 17 for rows in by_group)


def test_rows_of_their_own_are_probed_from_all_over() -> None:
    rows = rows_in(100, 1, grouped=False)
    assert probed_rows(rows) == rows[::12][:PROBED_ROWS]
    assert probed_rows(rows[:2]) == rows[:2]
