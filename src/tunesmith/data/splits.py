"""Train, validation and test drawn by group: near-duplicates stay together, conflicts are not trained on."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from tunesmith.data.dates import row_dates
from tunesmith.data.drawing import Group, draw, draw_by_time
from tunesmith.data.duplicates import conflicting_rows
from tunesmith.data.given import given_splits, in_one_split
from tunesmith.data.label_sets import rarest_labels, target_labels
from tunesmith.data.split_account import account_of, note_fields, note_untrained
from tunesmith.errors import UserError
from tunesmith.records import Row, SetAside, Settings, SplitName

MINIMUM_TEST_GROUPS = 50  # the rules of evidence leave a gain on fewer groups unmeasured
SHORTFALL_ALLOWED = 0.1  # of the rows asked for, where whole groups do not add up to them


@dataclass(frozen=True)
class SplitSpec:
    """Sizes: whole numbers are rows, fractions are shares of the rows to draw from, None is what is left.

    ``test`` is None only when a test file is given. ``rows_per_group`` keeps at most so many rows of
    each group. ``keep_together`` names the fields whose values joined rows to groups besides near-duplicates,
    ``time`` the field with the dates of a split by time. ``given`` names the field that says the split of
    each row; there are no sizes then. Without ``labelled`` targets are free texts: several of them for one
    input are all right, so there is no conflict, and nothing to stratify by. With ``label_sets`` a target is
    a set of labels: another set is a conflict, and a set is stratified by its rarest label.
    """

    train: int | float | None
    validation: int | float | None
    test: int | float | None
    seed: int
    rows_per_group: int | None
    near_duplicate_similarity: float = 0.8
    shingle_words: int = 3
    keep_together: tuple[str, ...] = ()
    time: str | None = None
    given: str | None = None
    labelled: bool = True
    label_sets: bool = False

    def recipe(self) -> Settings:
        """What the manifest records. Fields that are not used are left out: versions keep their names."""
        recipe: Settings = asdict(self) | {"keep_together": list(self.keep_together)}
        unused = [name for name in ("keep_together", "time", "given") if not recipe[name]]
        unused += ["labelled"] if self.labelled else []
        unused += [] if self.label_sets else ["label_sets"]
        return {name: value for name, value in recipe.items() if name not in unused}


@dataclass(frozen=True)
class Split:
    """Rows by split, each list sorted by row id, and the account of all others.

    ``groups`` and ``conflict_groups`` count the groups of all rows that came in. ``labels`` are those
    of train; ``unmeasured_labels`` are trained on but have no test row without a conflict. Both are empty
    where targets are free texts. With ``label_sets`` they are those in the sets that rows have.
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
    label_sets: bool = False


def split_rows(rows: Sequence[Row], spec: SplitSpec, test_rows: Sequence[Row] = ()) -> Split:
    """Draw the splits by group, stratified by label; the order of ``rows`` plays no part.

    Every row must carry its ``group``. A group with different targets is a conflict: all its rows are
    flagged, and it is drawn for validation and test in proportion to its share, never for train. With
    ``keep_together`` only rows of one input with different targets are, and only they are left out of train.
    With ``test_rows`` the test is exactly those, and groups that touch them are set aside.

    With ``time`` the latest groups are the test, those before it validation, and those before train; a group
    counts with its latest date. With ``given`` rows are where their field says, and a group that is in
    several splits keeps its rows in the most sealed one. Neither is stratified.

    A label with fewer groups than there are splits to draw is put into train whole. Every other label
    gets at least one group in each split where the sizes allow. Sizes are met exactly where whole groups
    allow it and are never exceeded.

    Raises:
        UserError: fewer rows than asked for (with sizes that fit), fewer than 50 test groups, fewer
            than two labels that can be tested, or rows without a readable date or split.
    """
    if spec.given is None and bool(test_rows) == (spec.test is not None):
        raise UserError(
            "data.split.test is set, but a test file is given"
            if test_rows
            else "data.split.test is not set, and no test file is given",
            "Remove data.split.test or data.test_path."
            if test_rows
            else "Set data.split.test, for example 0.2.",
        )
    everything = [*rows, *test_rows]
    by_group = _by_group(everything)
    conflicts = conflicting_rows(everything, same_input=bool(spec.keep_together)) if spec.labelled else set()
    in_test = {row.group for row in test_rows}
    given: dict[str, SplitName] = {}
    mixed: tuple[SetAside, ...] = ()
    if spec.given is not None:
        rows, given, mixed = in_one_split(rows, given_splits(rows, spec.given))

    own = {group: members for group, members in _by_group(rows).items() if group not in in_test}
    # Members are sorted by id, a hash of content: whom the limit keeps does not depend on their order.
    kept = {group: members[: spec.rows_per_group] for group, members in own.items()}
    drawn_by = rarest_labels([row for members in kept.values() for row in members]) if spec.label_sets else {}
    groups = [_group(group, members, conflicts, spec, drawn_by) for group, members in kept.items()]
    sizes: dict[SplitName, int] = {}
    if spec.given is not None:
        drawn = _as_given(groups, given)
    else:
        sizes = _sizes(spec, groups)
        drawn = draw(groups, sizes) if spec.time is None else _by_time(spec.time, kept, groups, sizes)
    split = {
        name: _flagged(
            (
                row
                for group in drawn[name]
                for row in kept[group.id]
                if name != "train" or row.id not in conflicts
            ),
            conflicts,
        )
        for name in drawn
    }
    notes = _check_sizes(spec, sizes, split, groups)
    if test_rows:
        split["test"] = _flagged(test_rows, conflicts)
    _check_test(spec, split)

    trained = set(target_labels(split["train"], spec.label_sets)) if spec.labelled else set()
    tested = set(target_labels((row for row in split["test"] if not row.conflict), spec.label_sets))
    used = {group.id for members in drawn.values() for group in members}
    left = [group for group in groups if group.id not in used]
    unlearned = [row for group in drawn["train"] for row in kept[group.id] if row.id in conflicts]
    return Split(
        train=split["train"],
        validation=split["validation"],
        test=split["test"],
        groups=len(by_group),
        conflict_groups=len({row.group for row in everything if row.id in conflicts}),
        labels=tuple(sorted(trained)),
        unmeasured_labels=tuple(sorted(trained - tested)),
        set_aside=mixed + account_of(rows, own, kept, left, unlearned, in_test, spec.keep_together),
        notes=notes
        + (note_untrained(trained, split, spec.label_sets) if spec.labelled else ())
        + note_fields(spec.keep_together, spec.time, split, everything),
        label_sets=spec.label_sets,
    )


def _by_group(rows: Sequence[Row]) -> dict[str, list[Row]]:
    groups: defaultdict[str, list[Row]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: row.id):
        if not row.group:
            raise ValueError(f"{row.source}: the row has no group; call group_rows first")
        groups[row.group].append(row)
    return dict(sorted(groups.items()))


def _order(seed: int, group: str) -> str:
    return hashlib.sha256(f"{seed}:{group}".encode()).hexdigest()


def _group(
    group: str, members: Sequence[Row], conflicts: set[str], spec: SplitSpec, drawn_by: Mapping[str, str]
) -> Group:
    """``drawn_by``: what stands for a target in the strata, where that is not the target itself."""
    clean = [row.target if spec.labelled else "" for row in members if row.id not in conflicts]
    labels = Counter(drawn_by.get(target, target) for target in clean)
    label = min(labels, key=lambda label: (-labels[label], label)) if labels else None
    return Group(group, len(members), labels.total(), label, _order(spec.seed, group))


def _as_given(groups: Sequence[Group], given: Mapping[str, SplitName]) -> dict[SplitName, list[Group]]:
    drawn: dict[SplitName, list[Group]] = {"test": [], "validation": [], "train": []}
    for group in groups:
        if group.rows_in(given[group.id]):
            drawn[given[group.id]].append(group)
    return drawn


def _by_time(
    column: str, kept: Mapping[str, list[Row]], groups: Sequence[Group], sizes: Mapping[SplitName, int]
) -> dict[SplitName, list[Group]]:
    dates = row_dates([row for members in kept.values() for row in members], column)
    latest = {group: max(dates[row.id] for row in members) for group, members in kept.items()}
    return draw_by_time(groups, sizes, latest)


def _flagged(rows: Iterable[Row], conflicts: set[str]) -> tuple[Row, ...]:
    return tuple(replace(row, conflict=row.id in conflicts) for row in sorted(rows, key=lambda row: row.id))


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
            if name == "validation":
                raise UserError("data.split.validation is not set", "Set it, for example to 0.15.")
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
    if not sizes:
        return ()
    short = {name: sizes[name] - len(split[name]) for name in ordered if len(split[name]) < sizes[name]}
    clean = sum(group.clean for group in groups)
    if "train" in ordered:
        drawn_clean = sum(not row.conflict for name in sizes for row in split[name])
        too_few = sum(short.values()) > clean - drawn_clean
    else:
        too_few = bool(short) and sum(sizes[name] for name in ordered) >= clean
    if too_few or not split["train"]:
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
                f"data.split.{name} asks for {sizes[name]:,} rows, but whole {_groups_of(spec)} fill "
                f"only {len(split[name]):,} (the largest group holds {largest:,} rows)",
                "Set data.rows_per_group, for example to 5. If every input repeats the same "
                "instructions, remove them from the input: they make all rows look alike."
                if not spec.keep_together
                else "Name columns in split.keep_together that few rows share a value of, or set "
                "data.rows_per_group.",
            )
    return tuple(
        f"{name} holds {len(split[name]):,} rows instead of {sizes[name]:,}: {_groups_of(spec)} are not cut"
        for name in short
    )


def _groups_of(spec: SplitSpec) -> str:
    return f"groups of {' and '.join(['near-duplicates', *spec.keep_together])}"


def _fitting(sizes: dict[SplitName, int], ordered: Sequence[SplitName], clean: int) -> str:
    # With train left open, half of the rows are kept for it.
    share = (clean if "train" in ordered else clean // 2) / sum(sizes[name] for name in ordered)
    fitting = {name: int(sizes[name] * min(1.0, share)) for name in reversed(ordered)}
    if min(fitting.values()) < 1 or fitting.get("test", MINIMUM_TEST_GROUPS) < MINIMUM_TEST_GROUPS:
        return f"Collect more rows: the test alone needs {MINIMUM_TEST_GROUPS} groups."
    return f"These sizes fit: {', '.join(f'{name}: {rows}' for name, rows in fitting.items())}."


def _check_test(spec: SplitSpec, split: dict[SplitName, tuple[Row, ...]]) -> None:
    empty = [name for name, rows in split.items() if not rows]
    if spec.given is not None and empty:
        raise UserError(
            f"split.given: no row is left for {' or '.join(empty)}: all are in one group with rows of a more "
            "sealed split, or contradict each other",
            "Leave split.given out and set sizes to draw.",
        )
    groups = len({row.group for row in split["test"]})
    if groups < MINIMUM_TEST_GROUPS:
        raise UserError(
            f"the test holds {len(split['test']):,} rows in {groups} {_groups_of(spec)}: with fewer "
            f"than {MINIMUM_TEST_GROUPS} groups every gain is unmeasured",
            f"Give the test at least {MINIMUM_TEST_GROUPS} groups: "
            f"{'raise data.split.test' if spec.given is None else 'give it more rows'}, or collect more "
            f"rows that are not near-duplicates.",
        )
    if not spec.labelled:
        return
    train, test = (set(target_labels(split[name], spec.label_sets)) for name in ("train", "test"))
    both = train & test
    if len(both) < 2:
        raise UserError(
            f"{len(both)} labels have rows in both train and test: nothing can be told apart",
            "Check that data.target names the label field (free text is another kind, such as generate), or "
            "collect more rows per label: at least three groups each.",
        )
