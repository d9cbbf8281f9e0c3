"""Folds: every row is judged once, by nothing that its group had a part in, whatever the groups are."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from test_data_splits import group_of_rows, singles
from tunesmith.data.folds import split_folds
from tunesmith.data.sealed import open_folds, open_test
from tunesmith.data.sources import Source
from tunesmith.data.splits import SplitSpec
from tunesmith.data.versions import freeze, load_dataset, load_folds, read_split
from tunesmith.errors import UserError
from tunesmith.ledger import read
from tunesmith.records import Dataset, Row


def spec(folds: int, seed: int = 0, rows_per_group: int | None = None) -> SplitSpec:
    return SplitSpec(None, 0.2, None, seed, rows_per_group, folds=folds)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from("ab"), min_size=1, max_size=6), max_size=40),
    st.integers(3, 6),
    st.integers(0, 9),
    st.sampled_from([None, 1, 3]),
)
def test_every_row_is_judged_once_and_its_group_has_no_part_in_what_judges_it(
    groups: list[list[str]], folds: int, seed: int, rows_per_group: int | None
) -> None:
    """Groups with both labels are conflicts: they are judged too, and never trained on."""
    rows = singles("s", a=40, b=40) + [
        row for place, targets in enumerate(groups) for row in group_of_rows(f"g{place}", targets)
    ]
    dealt = split_folds(rows, spec(folds, seed, rows_per_group))
    judged = Counter(row.id for part in dealt.parts for row in part.test)
    sizes = Counter(row.group for row in rows)
    limit = rows_per_group or len(rows)
    assert set(judged.values()) == {1}
    assert len(judged) == sum(min(size, limit) for size in sizes.values())
    for part in dealt.parts:
        own = {row.group for row in part.test}
        assert own.isdisjoint(row.group for row in (*part.train, *part.validation))
        assert {row.group for row in part.train}.isdisjoint(row.group for row in part.validation)
        assert not any(row.conflict for row in part.train)
        assert part.train
        assert part.validation
    assert not dealt.whole.test
    assert {row.id for row in dealt.whole.train}.isdisjoint(row.id for row in dealt.whole.validation)


def test_folds_are_stratified_and_labels_that_no_fold_can_learn_are_unmeasured() -> None:
    rows = [*singles("s", a=90, b=30), *group_of_rows("alone", ["rare", "rare"])]
    dealt = split_folds(rows, spec(3))
    assert [Counter(row.target for row in part.test)["b"] for part in dealt.parts] == [10, 10, 10]
    assert dealt.whole.unmeasured_labels == ("rare",)
    with pytest.raises(UserError, match="40 groups: with fewer than 50"):
        split_folds(singles("s", a=20, b=20), spec(3))


def test_a_frozen_version_names_its_folds_and_opens_them_together_after_the_ledger_line(
    tmp_path: Path,
) -> None:
    rows = singles("s", a=40, b=40)
    whole, folds = frozen(tmp_path, rows, seed=0)
    assert [fold.manifest.version for fold in load_folds(load_dataset(Path(whole.folder)))] == list(
        whole.manifest.folds
    )
    assert len(read_split(whole, "train")) + len(read_split(whole, "validation")) == 80
    assert "test" not in whole.manifest.splits
    ledger = tmp_path / "ledger.jsonl"
    with pytest.raises(UserError, match="no test of its own"):
        open_test(whole, ledger, "contest", ["tuned"])
    assert read(ledger) == ()
    opened, opening = open_folds(whole, folds, ledger, "contest", ["tuned"])
    assert opening == 1
    assert {row.id for members in opened for row in members} == {row.id for row in rows}
    assert read(ledger)[0].data["folds"] == list(whole.manifest.folds)
    other, other_folds = frozen(tmp_path, rows, seed=1)
    assert other.manifest.version != whole.manifest.version
    assert open_folds(other, other_folds, ledger, "another", ["tuned"])[1] == 2  # dealt anew: the same test
    with pytest.raises(UserError, match="not those that the manifest names"):
        open_folds(whole, (*folds[:2], other_folds[2]), ledger, "contest", ["tuned"])


def frozen(home: Path, rows: list[Row], seed: int) -> tuple[Dataset, tuple[Dataset, ...]]:
    source = Source(tuple(rows), (), (), "", "", len(rows), ())
    dealt, own = split_folds(rows, spec(3, seed)), spec(3, seed)
    folder = home / "datasets"
    folds = [freeze(folder, task="few", source=source, split=part, spec=own) for part in dealt.parts]
    whole = freeze(folder, task="few", source=source, split=dealt.whole, spec=own, folds=folds)
    return whole, tuple(folds)
