"""Splits are drawn by group: nothing is in two of them, conflicts are not trained on, sizes are met."""

import random
import re
from collections import Counter

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tunesmith.data.splits import Split, SplitSpec, split_rows
from tunesmith.errors import UserError
from tunesmith.records import Message, Row


def group_of_rows(group: str, targets: list[str]) -> list[Row]:
    return [
        Row(
            f"{group}-{number}",
            f"data.jsonl:{group}-{number}",
            (Message("user", f"{group} {number}"),),
            target,
            group,
        )
        for number, target in enumerate(targets)
    ]


def singles(prefix: str, **labels: int) -> list[Row]:
    return [
        row
        for label, number in labels.items()
        for place in range(number)
        for row in group_of_rows(f"{prefix}{label}{place}", [label])
    ]


def spec(
    train: int | float | None,
    validation: int | float,
    test: int | float | None,
    seed: int = 0,
    rows_per_group: int | None = None,
) -> SplitSpec:
    return SplitSpec(train, validation, test, seed, rows_per_group)


def sizes(split: Split) -> tuple[int, int, int]:
    return len(split.train), len(split.validation), len(split.test)


def ids(rows: tuple[Row, ...]) -> set[str]:
    return {row.id for row in rows}


def accounted(split: Split) -> int:
    return sum(sizes(split)) + sum(aside.rows for aside in split.set_aside)


random_rows = st.builds(
    lambda groups, spare: (
        [row for number, targets in enumerate(groups) for row in group_of_rows(f"g{number}", targets)]
        + singles("s", a=90 + spare, b=90 + spare)
    ),
    st.lists(st.lists(st.sampled_from("aaabbbcde"), min_size=1, max_size=6), max_size=40),
    st.integers(0, 40),
)


@settings(max_examples=60, deadline=None)
@given(
    rows=random_rows,
    train=st.one_of(st.none(), st.integers(10, 60), st.floats(0.1, 0.6)),
    validation=st.one_of(st.integers(5, 40), st.floats(0.05, 0.2)),
    test=st.integers(50, 70),
    seed=st.integers(0, 5),
    rows_per_group=st.one_of(st.none(), st.integers(1, 4)),
    order=st.randoms(),
)
def test_what_must_hold_for_any_groups(
    rows: list[Row],
    train: int | float | None,
    validation: int | float,
    test: int,
    seed: int,
    rows_per_group: int | None,
    order: random.Random,
) -> None:
    asked = spec(train, validation, test, seed, rows_per_group)
    try:
        split = split_rows(rows, asked)
    except UserError as error:
        assume("fewer than 50" not in error.what)  # large groups may leave the test too few
        raise
    parts = (split.train, split.validation, split.test)
    assert len(ids(split.train) | ids(split.validation) | ids(split.test)) == sum(sizes(split))
    in_groups = [{row.group for row in part} for part in parts]
    assert len(set.union(*in_groups)) == sum(map(len, in_groups)), "a group is in two splits"

    targets: dict[str, set[str]] = {}
    for row in rows:
        targets.setdefault(row.group, set()).add(row.target)
    assert not any(row.conflict for row in split.train)
    assert all(row.conflict == (len(targets[row.group]) > 1) for part in parts for row in part)
    assert split.conflict_groups == sum(len(labels) > 1 for labels in targets.values())
    assert split.groups == len(targets)

    # 180 rows stand alone, so whole groups can always make up the numbers asked for.
    if isinstance(validation, int):
        assert len(split.validation) == validation
    if isinstance(train, int):
        assert len(split.train) == train
    assert len(split.test) == test
    assert accounted(split) == len(rows)
    if rows_per_group is not None:
        assert max(Counter(row.group for part in parts for row in part).values()) <= rows_per_group

    clean = Counter(next(iter(labels)) for labels in targets.values() if len(labels) == 1)
    for label, number in clean.items():
        if number < 3 and label in split.labels:
            assert label in split.unmeasured_labels
            assert label not in {row.target for part in parts[1:] for row in part if not row.conflict}
    assert set(split.labels) == {row.target for row in split.train}

    shuffled = list(rows)
    order.shuffle(shuffled)
    assert split_rows(shuffled, asked) == split


def test_every_label_that_can_be_measured_is_in_every_split() -> None:
    rows = singles("s", common=500, rare=3, scarce=4)
    split = split_rows(rows, spec(300, 20, 60))
    for part in (split.train, split.validation, split.test):
        assert {row.target for row in part} == {"common", "rare", "scarce"}
    assert split.unmeasured_labels == ()


def test_a_label_with_too_few_groups_is_trained_on_whole_and_unmeasured() -> None:
    rows = singles("s", a=200, b=200, rare=2) + group_of_rows("big", ["single"] * 5)
    split = split_rows(rows, spec(150, 50, 100))
    assert split.unmeasured_labels == ("rare", "single")
    assert Counter(row.target for row in split.train if row.target in split.unmeasured_labels) == {
        "rare": 2,
        "single": 5,
    }
    assert sizes(split) == (150, 50, 100)


def test_splits_are_stratified_by_label() -> None:
    split = split_rows(singles("s", a=600, b=300, c=100), spec(500, 100, 200))
    for part in (split.train, split.validation, split.test):
        counts = Counter(row.target for row in part)
        assert [round(counts[label] / len(part), 2) for label in "abc"] == [0.6, 0.3, 0.1]


def test_conflicts_are_in_validation_and_test_in_their_natural_share() -> None:
    conflicts = [row for number in range(100) for row in group_of_rows(f"x{number}", ["a", "b"])]
    split = split_rows(singles("s", a=400, b=400) + conflicts, spec(300, 100, 200))
    assert sizes(split) == (300, 100, 200)
    assert sum(row.conflict for row in split.validation) == 20
    assert sum(row.conflict for row in split.test) == 40
    assert [(aside.reason, aside.rows, aside.groups) for aside in split.set_aside] == [
        ("conflicting targets, not trained on", 140, 70),
        ("more rows than the splits ask for", 260, 260),
    ]


def test_shares_are_of_the_rows_to_draw_from() -> None:
    split = split_rows(singles("s", a=300, b=200), spec(None, 0.1, 0.2))
    assert sizes(split) == (350, 50, 100)
    assert sizes(split_rows(singles("s", a=300, b=200), spec(0.5, 0.1, 0.2))) == (250, 50, 100)


def test_another_seed_draws_other_rows() -> None:
    rows = singles("s", a=200, b=200)
    first, second = (split_rows(rows, spec(100, 50, 100, seed)) for seed in (0, 1))
    assert ids(first.test) != ids(second.test)


def test_the_test_stays_when_only_the_training_size_changes() -> None:
    rows = singles("s", a=200, b=200, c=20)
    small, large = split_rows(rows, spec(50, 50, 100)), split_rows(rows, spec(250, 50, 100))
    assert small.test == large.test
    assert small.validation == large.validation


def test_exact_sizes_are_reached_by_swapping_where_groups_are_uneven() -> None:
    threes = [row for number in range(60) for row in group_of_rows(f"t{number}", ["ab"[number % 2]] * 3)]
    fours = [row for number in range(60) for row in group_of_rows(f"f{number}", ["ab"[number % 2]] * 4)]
    for test in range(200, 212):
        assert sizes(split_rows(threes + fours, spec(100, 50, test))) == (100, 50, test)


def test_a_small_shortfall_by_whole_groups_is_noted_and_a_large_one_refused() -> None:
    rows = [row for number in range(150) for row in group_of_rows(f"t{number}", ["ab"[number % 2]] * 3)]
    split = split_rows(rows, spec(100, 50, 200))
    assert sizes(split) == (99, 48, 198)
    assert "train holds 99 rows instead of 100: groups of near-duplicates are not cut" in split.notes
    giant = singles("s", a=80, b=80) + group_of_rows("giant", ["a"] * 500)
    with pytest.raises(UserError, match="whole groups of near-duplicates fill only") as caught:
        split_rows(giant, spec(300, 50, 60))
    assert "rows_per_group" in caught.value.fix
    assert sizes(split_rows(giant, spec(50, 50, 60, rows_per_group=5))) == (50, 50, 60)


def test_more_rows_than_there_are_is_refused_with_sizes_that_fit() -> None:
    rows = singles("s", a=150, b=150)
    with pytest.raises(UserError, match=r"train 1,500, validation 400, test 1,200") as caught:
        split_rows(rows, spec(1500, 400, 1200))
    fitting = [int(number) for number in re.findall(r"\d+", caught.value.fix)]
    assert caught.value.fix == "These sizes fit: train: 145, validation: 38, test: 116."
    assert sizes(split_rows(rows, spec(*fitting))) == tuple(fitting)


def test_sizes_that_leave_nothing_to_train_on_are_refused() -> None:
    with pytest.raises(UserError, match="validation 100, test 200") as caught:
        split_rows(singles("s", a=150, b=150), spec(None, 100, 200))
    assert caught.value.fix == "These sizes fit: validation: 50, test: 100."


def test_fewer_than_fifty_test_groups_are_refused() -> None:
    rows = [row for number in range(90) for row in group_of_rows(f"t{number}", ["ab"[number % 2]] * 3)]
    with pytest.raises(UserError, match="60 rows in 20 groups") as caught:
        split_rows(rows, spec(100, 50, 60))
    assert "at least 50 groups" in caught.value.fix


def test_free_text_targets_are_refused() -> None:
    rows = [row for number in range(300) for row in group_of_rows(f"t{number}", [f"answer {number}"])]
    with pytest.raises(UserError):
        split_rows(rows, spec(None, 0.1, 0.2))


@pytest.mark.parametrize("size", [0, -1, 1.5, 0.0])
def test_a_size_that_is_no_size_is_refused(size: float) -> None:
    with pytest.raises(UserError, match=r"data\.split\.validation"):
        split_rows(singles("s", a=100, b=100), spec(None, size, 60))


def test_a_given_test_is_kept_as_it_is_and_train_keeps_away_from_it() -> None:
    test = singles("t", a=40, b=40) + group_of_rows("shared", ["a"]) + group_of_rows("torn", ["a"])
    train = singles("s", a=200, b=200, c=10)
    train += [Row(f"train-{row.id}", "s", row.messages, row.target, row.group) for row in test[-2:-1]]
    train += [Row("train-torn", "s", (Message("user", "torn"),), "b", "torn")]
    split = split_rows(train, spec(None, 50, None), test)
    assert ids(split.test) == ids(tuple(test))
    assert {row.group for row in split.test if row.conflict} == {"torn"}
    assert not {"shared", "torn"} & {row.group for row in (*split.train, *split.validation)}
    assert [(aside.reason, aside.rows, aside.groups) for aside in split.set_aside] == [
        ("near-duplicates of test rows", 2, 2)
    ]
    assert len(split.validation) == 50
    assert split.unmeasured_labels == ("c",)


def test_a_label_that_only_the_test_file_has_stays_there_and_is_noted() -> None:
    test = singles("t", a=40, b=40, new=3)
    split = split_rows(singles("s", a=100, b=100), spec(None, 50, None), test)
    assert len(split.test) == 83
    assert "new" not in split.labels
    (note,) = split.notes
    assert note.startswith("3 validation and test rows have 1 labels that no training row has ('new')")


@pytest.mark.parametrize(("test", "given"), [(None, False), (60, True)])
def test_the_test_is_either_drawn_or_given(test: int | None, given: bool) -> None:
    rows = singles("s", a=100, b=100)
    with pytest.raises(UserError, match=r"data\.split\.test is"):
        split_rows(rows, spec(None, 50, test), singles("t", a=30, b=30) if given else [])
