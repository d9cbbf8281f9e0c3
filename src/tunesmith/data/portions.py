"""A share of the training rows by whole groups, so that a smaller share lies within a larger one."""

from __future__ import annotations

from collections.abc import Sequence

from tunesmith.errors import UserError
from tunesmith.records import Row
from tunesmith.stats.crossfit import outer_folds

QUARTERS = 4
# What a learning curve is measured on beside all four.
SMALLER = (1, 2)


def first_quarters(rows: Sequence[Row], quarters: int, seed: int, labelled: bool) -> list[Row]:
    """``quarters`` of four about equal parts of the rows, dealt by group and, where ``labelled``, by target.

    Raises UserError (exit code 3) for fewer than four groups.
    """
    groups = [row.group for row in rows]
    if len(set(groups)) < QUARTERS:
        raise UserError(
            f"train.learning_curve: {len(rows):,} rows in {len(set(groups))} groups have no quarters",
            "collect more rows, or leave train.learning_curve out",
            exit_code=3,
        )
    strata = [row.target for row in rows] if labelled else None
    part_of = outer_folds(groups, QUARTERS, seed, strata)
    return [row for row, part in zip(rows, part_of, strict=True) if part < quarters]
