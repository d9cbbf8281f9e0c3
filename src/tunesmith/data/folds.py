"""Few rows: all of them as train and validation, and dealt into folds that are each judged once.

For each fold train and validation are drawn anew from the other folds, so that nothing is chosen or learnt
with a row of the fold, or of its group.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tunesmith.data.label_sets import rarest_labels, target_labels
from tunesmith.data.splits import Split, SplitSpec, split_rows
from tunesmith.errors import UserError
from tunesmith.records import Row
from tunesmith.stats.crossfit import outer_folds
from tunesmith.stats.paired import FEWEST_GROUPS


@dataclass(frozen=True)
class Folds:
    """``whole``: all rows as train and validation, without a test. ``parts``: for each fold its rows as the
    test, and train and validation drawn from the rows of the others."""

    whole: Split
    parts: tuple[Split, ...]


def split_folds(rows: Sequence[Row], spec: SplitSpec) -> Folds:
    """Deal whole groups into ``spec.folds`` folds, stratified by label, and draw each one's splits.

    A row of several labels counts with the rarest of them, as in ``split_rows``; free texts have no strata.

    Every row that ``rows_per_group`` keeps is in the test of exactly one fold, conflicts included. ``whole``
    names as unmeasured the labels that no fold both learns and is judged on. Errors as in ``split_rows``, and
    UserError for fewer than 50 groups in all or fewer than two labels that are measured.
    """
    if spec.folds is None:
        raise ValueError("split_folds needs spec.folds")
    whole = split_rows(rows, spec)
    kept = _kept(rows, spec.rows_per_group)
    groups = len({row.group for row in kept})
    if groups < FEWEST_GROUPS:
        raise UserError(
            f"split.test: crossfit: {len(kept):,} rows in {groups} groups: with fewer than {FEWEST_GROUPS} "
            "groups every gain is unmeasured",
            f"collect rows in at least {FEWEST_GROUPS} groups that are not near-duplicates",
        )
    drawn_by = rarest_labels(kept) if spec.label_sets else {}
    fold_of = outer_folds(
        [row.group for row in kept],
        spec.folds,
        spec.seed,
        [drawn_by.get(row.target, row.target) for row in kept] if spec.labelled else None,
    )
    parts = []
    for fold in range(spec.folds):
        test = [row for row, own in zip(kept, fold_of, strict=True) if own == fold]
        judged = {row.id for row in test}
        parts.append(split_rows([row for row in rows if row.id not in judged], spec, test))
    if not spec.labelled:
        return Folds(whole, tuple(parts))
    measured = {
        label for part in parts for label in target_labels(part.test, spec.label_sets) if label in part.labels
    }
    if len(measured) < 2:
        raise UserError(
            f"split.test: crossfit: {len(measured)} labels are in the rows of a fold and in those that it is "
            "trained on: nothing can be told apart",
            "check that data.target names the label field, or collect more rows per label: at least three "
            "groups each",
        )
    unmeasured = tuple(label for label in whole.labels if label not in measured)
    return Folds(replace(whole, unmeasured_labels=unmeasured), tuple(parts))


def _kept(rows: Sequence[Row], rows_per_group: int | None) -> list[Row]:
    """The rows, by id; of each group at most so many, the same that ``split_rows`` keeps."""
    taken: dict[str, int] = {}
    kept = []
    for row in sorted(rows, key=lambda row: row.id):
        taken[row.group] = taken.get(row.group, 0) + 1
        if rows_per_group is None or taken[row.group] <= rows_per_group:
            kept.append(row)
    return kept
