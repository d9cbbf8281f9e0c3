"""Train, validation and test drawn by group: near-duplicates stay together, conflicts are not trained on."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from tunesmith.data.drawing import Group, draw
from tunesmith.errors import UserError
from tunesmith.records import Row, SetAside, SplitName

MINIMUM_TEST_GROUPS = 50  # the rules of evidence leave a gain on fewer groups unmeasured
SHORTFALL_ALLOWED = 0.1  # of the rows asked for, where whole groups do not add up to them


@dataclass(frozen=True)
class SplitSpec:
    """Sizes: whole numbers are rows, fractions are shares of the rows to draw from, None is what is left.

    ``test`` is None only when a test file is given. ``rows_per_group`` keeps at most so many rows of
    each group of near-duplicates. Without ``labelled`` targets are free texts: several of them for one input
    are all right, so there is no conflict, and nothing to stratify by.
    """

    train: int | float | None
    validation: int | float
    test: int | float | None
    seed: int
    rows_per_group: int | None
    near_duplicate_similarity: float = 0.8
    shingle_words: int = 3
    labelled: bool = True


@dataclass(frozen=True)
class Split:
    """Rows by split, each list sorted by row id, and the account of all others.

    ``groups`` and ``conflict_groups`` count the groups of all rows that came in. ``labels`` are those
    of train; ``unmeasured_labels`` are trained on but have no test row without a conflict. Both are empty
    where targets are free texts.
    """

    train: tuple[Row, ...]
    validation: tuple[Row, ...]
    test: tuple[Row, ...]
    groups: int
    conflict_groups: int
    labels: tuple[str, ...]
    unmeasured_labels: tuple[str, ...]
    set_aside: tuple[SetAside, ...]
    notes: tuple[str, ...]


def split_rows(rows: Sequence[Row], spec: SplitSpec, test_rows: Sequence[Row] = ()) -> Split:
    """Draw the splits by group, stratified by label; the order of ``rows`` plays no part.

    Every row must carry its ``group``. A group with different targets is a conflict: all its rows are
    flagged, and it is drawn for validation and test in proportion to its share, never for train. With
    ``test_rows`` the test is exactly those, and groups that touch them are set aside.

    A label with fewer groups than there are splits to draw is put into train whole. Every other label
    gets at least one group in each split where the sizes allow. Sizes are met exactly where whole groups
    allow it and are never exceeded.

    Raises:
        UserError: fewer rows than asked for (with sizes that fit), fewer than 50 test groups, or fewer
            than two labels that can be tested.
    """
    if bool(test_rows) == (spec.test is not None):
        raise UserError(
            "data.split.test is set, but a test file is given"
            if test_rows
            else "data.split.test is not set, and no test file is given",
            "Remove data.split.test or data.test_path."
            if test_rows
            else "Set data.split.test, for example 0.2.",
        )
    by_group = _by_group([*rows, *test_rows])
    targets = {group: {_label(spec, row) for row in members} for group, members in by_group.items()}
    conflicts = {group for group, labels in targets.items() if len(labels) > 1}
    in_test = {row.group for row in test_rows}

    own = {group: members for group, members in _by_group(rows).items() if group not in in_test}
    # Members are sorted by id, a hash of content: whom the limit keeps does not depend on their order.
    kept = {group: members[: spec.rows_per_group] for group, members in own.items()}
    groups = [
        Group(
            group,
            len(members),
            None if group in conflicts else _label(spec, members[0]),
            _order(spec.seed, group),
        )
        for group, members in kept.items()
    ]
    sizes = _sizes(spec, groups)
    drawn = draw(groups, sizes)
    split = {
        name: _flagged((row for group in drawn[name] for row in kept[group.id]), conflicts) for name in sizes
    }
    notes = _check_sizes(spec, sizes, split, groups)
    if test_rows:
        split["test"] = _flagged(test_rows, conflicts)
    _check_test(split, spec.labelled)

    trained = {row.target for row in split["train"]} if spec.labelled else set()
    tested = {row.target for row in split["test"] if not row.conflict}
    used = {group.id for name in sizes for group in drawn[name]}
    left = [group for group in groups if group.id not in used]
    return Split(
        train=split["train"],
        validation=split["validation"],
        test=split["test"],
        groups=len(by_group),
        conflict_groups=len(conflicts),
        labels=tuple(sorted(trained)),
        unmeasured_labels=tuple(sorted(trained - tested)),
        set_aside=_account(rows, own, kept, left, in_test),
        notes=notes + (_note_untrained(trained, split) if spec.labelled else ()),
    )


def _label(spec: SplitSpec, row: Row) -> str:
    return row.target if spec.labelled else ""


def _by_group(rows: Sequence[Row]) -> dict[str, list[Row]]:
    groups: defaultdict[str, list[Row]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: row.id):
        if not row.group:
            raise ValueError(f"{row.source}: the row has no group; call group_rows first")
        groups[row.group].append(row)
    return dict(sorted(groups.items()))


def _order(seed: int, group: str) -> str:
    return hashlib.sha256(f"{seed}:{group}".encode()).hexdigest()


def _flagged(rows: Iterable[Row], conflicts: set[str]) -> tuple[Row, ...]:
    return tuple(
        replace(row, conflict=row.group in conflicts) for row in sorted(rows, key=lambda row: row.id)
    )


def _sizes(spec: SplitSpec, groups: Sequence[Group]) -> dict[SplitName, int]:
    available = sum(group.size for group in groups)
    sizes: dict[SplitName, int] = {}
    asked: list[tuple[SplitName, int | float | None]] = [
        ("test", spec.test),
        ("validation", spec.validation),
        ("train", spec.train),
    ]
    for name, size in asked:
        if size is None:
            if name == "train":
                sizes[name] = available
            continue
        if size <= 0 or (isinstance(size, float) and size > 1):
            raise UserError(
                f"data.split.{name}: {size} is neither a number of rows nor a share",
                "Give a whole number above 0 (rows) or a fraction between 0 and 1 (a share of the rows).",
            )
        sizes[name] = size if isinstance(size, int) else max(1, round(size * available))
    return sizes


def _check_sizes(
    spec: SplitSpec,
    sizes: dict[SplitName, int],
    split: dict[SplitName, tuple[Row, ...]],
    groups: Sequence[Group],
) -> tuple[str, ...]:
    """Notes on splits that fell a little short because groups are not cut; an error where it is more."""
    # A share of train is a wish, a number of rows an order.
    ordered = [name for name in sizes if name != "train" or isinstance(spec.train, int)]
    short = {name: sizes[name] - len(split[name]) for name in ordered if len(split[name]) < sizes[name]}
    clean = sum(group.size for group in groups if group.label is not None)
    drawn_clean = sum(not row.conflict for name in sizes for row in split[name])
    if sum(short.values()) > clean - drawn_clean or not split["train"]:
        wanted = ", ".join(f"{name} {sizes[name]:,}" for name in reversed(ordered))
        raise UserError(
            f"data.split asks for {wanted}: only {clean:,} rows without conflicting targets, in "
            f"{sum(group.label is not None for group in groups):,} groups, are there to draw from",
            _fitting(sizes, ordered, clean),
        )
    for name, rows in short.items():
        if rows > SHORTFALL_ALLOWED * sizes[name]:
            largest = max(group.size for group in groups)
            raise UserError(
                f"data.split.{name} asks for {sizes[name]:,} rows, but whole groups of near-duplicates fill "
                f"only {len(split[name]):,} (the largest group holds {largest:,} rows)",
                "Set data.split.rows_per_group, for example to 5. If every input repeats the same "
                "instructions, remove them from the input: they make all rows look alike.",
            )
    return tuple(
        f"{name} holds {len(split[name]):,} rows instead of {sizes[name]:,}: "
        f"groups of near-duplicates are not cut"
        for name in short
    )


def _fitting(sizes: dict[SplitName, int], ordered: Sequence[SplitName], clean: int) -> str:
    # With train left open, half of the rows are kept for it.
    share = (clean if "train" in ordered else clean // 2) / sum(sizes[name] for name in ordered)
    fitting = {name: int(sizes[name] * min(1.0, share)) for name in reversed(ordered)}
    if min(fitting.values()) < 1 or fitting.get("test", MINIMUM_TEST_GROUPS) < MINIMUM_TEST_GROUPS:
        return f"Collect more rows: the test alone needs {MINIMUM_TEST_GROUPS} groups."
    return f"These sizes fit: {', '.join(f'{name}: {rows}' for name, rows in fitting.items())}."


def _check_test(split: dict[SplitName, tuple[Row, ...]], labelled: bool) -> None:
    groups = len({row.group for row in split["test"]})
    if groups < MINIMUM_TEST_GROUPS:
        raise UserError(
            f"the test holds {len(split['test']):,} rows in {groups} groups of near-duplicates: with fewer "
            f"than {MINIMUM_TEST_GROUPS} groups every gain is unmeasured",
            f"Give the test at least {MINIMUM_TEST_GROUPS} groups: raise data.split.test, or collect more "
            f"rows that are not near-duplicates.",
        )
    both = {row.target for row in split["train"]} & {row.target for row in split["test"]}
    if labelled and len(both) < 2:
        raise UserError(
            f"{len(both)} labels have rows in both train and test: nothing can be told apart",
            "Check that data.target names the label field (free text is another kind, such as generate), or "
            "collect more rows per label: at least three groups each.",
        )


def _account(
    rows: Sequence[Row],
    own: dict[str, list[Row]],
    kept: dict[str, list[Row]],
    left: Sequence[Group],
    in_test: set[str],
) -> tuple[SetAside, ...]:
    touching = Counter(row.group for row in rows if row.group in in_test)
    capped = {group: len(members) - len(kept[group]) for group, members in own.items()}
    account = [
        ("near-duplicates of test rows", sum(touching.values()), len(touching)),
        ("beyond rows_per_group", sum(capped.values()), sum(number > 0 for number in capped.values())),
        ("conflicting targets, not trained on", *_count([group for group in left if group.label is None])),
        ("more rows than the splits ask for", *_count([group for group in left if group.label is not None])),
    ]
    return tuple(SetAside(reason, number, groups) for reason, number, groups in account if number)


def _count(groups: Sequence[Group]) -> tuple[int, int]:
    return sum(group.size for group in groups), len(groups)


def _note_untrained(trained: set[str], split: dict[SplitName, tuple[Row, ...]]) -> tuple[str, ...]:
    untrained = Counter(
        row.target for name in ("validation", "test") for row in split[name] if row.target not in trained
    )
    if not untrained:
        return ()
    labels = ", ".join(f"'{label}'" for label in sorted(untrained)[:20])
    return (
        f"{untrained.total():,} validation and test rows have {len(untrained)} labels that no training row "
        f"has ({labels}): they always count as wrong",
    )
