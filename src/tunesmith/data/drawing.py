"""Drawing whole groups into splits: stratified, exact where groups allow, independent of input order."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from tunesmith.records import SplitName


@dataclass(frozen=True)
class Group:
    """Rows that go together. ``order`` decides who is drawn first.

    ``label`` is the most frequent one of the ``clean`` rows, which no other row contradicts; None without
    any. Training takes clean rows only.
    """

    id: str
    size: int
    clean: int
    label: str | None
    order: str

    def rows_in(self, split: SplitName) -> int:
        """How many rows a split gets with this group."""
        return self.clean if split == "train" else self.size


def draw(groups: Sequence[Group], sizes: Mapping[SplitName, int]) -> dict[SplitName, list[Group]]:
    """Groups for each split, at most ``sizes`` rows each; splits are served in the order of ``sizes``.

    1. Labels with fewer groups than splits go to train whole; every other label gives one group to each
       split. 2. Each split is filled up to its quota of each label (largest remainders; groups with
       conflicts are a label of their own, never in train). 3. What is still missing comes from any label,
       first as further groups, then by swapping a drawn group for a slightly larger one of its label.
    """
    strata = _strata(groups)
    pool = _Pool(sizes)
    labels = [label for label in strata if label is not None]
    rare = {label for label in labels if len(strata[label]) < len(sizes)}
    for label in sorted(labels, key=lambda label: (-len(strata[label]), label)):
        if label in rare:
            pool.take_while_fitting("train", strata[label], sizes["train"])
        else:
            for name in sizes:
                pool.take_first_that_fits(name, strata[label])
    for name in sizes:
        eligible = {
            stratum: members
            for stratum, members in strata.items()
            if stratum not in rare and not (stratum is None and name == "train")
        }
        rare_rows = sum(pool.rows(name, label) for label in rare)
        weights = {
            stratum: sum(group.rows_in(name) for group in members) for stratum, members in eligible.items()
        }
        quotas = _apportion(sizes[name] - rare_rows, weights)
        for stratum, members in eligible.items():
            pool.take_while_fitting(name, members, quotas[stratum] - pool.rows(name, stratum))
        missing = {stratum: quotas[stratum] - pool.rows(name, stratum) for stratum in eligible}
        spare = [group for stratum in eligible if stratum is not None for group in eligible[stratum]]
        spare.sort(key=lambda group: (-missing[group.label], group.order))
        pool.take_while_fitting(name, spare, sizes[name])
        while pool.swap_closer(name, spare):
            pass
    return pool.drawn


def draw_by_time(
    groups: Sequence[Group], sizes: Mapping[SplitName, int], dates: Mapping[str, datetime]
) -> dict[SplitName, list[Group]]:
    """Groups for each split, the latest first: no split begins before the next one in ``sizes`` ends.

    ``dates`` holds each group's latest date by its id; ``sizes`` names the latest split first. A split ends
    before the group that would exceed its size. Groups without a clean row are passed over for train.
    """
    waiting = sorted(groups, key=lambda group: (dates[group.id], group.order))
    drawn: dict[SplitName, list[Group]] = {name: [] for name in sizes}
    for name, room in sizes.items():
        while waiting and waiting[-1].rows_in(name) <= room:
            group = waiting.pop()
            if group.rows_in(name):
                drawn[name].append(group)
                room -= group.rows_in(name)
    return drawn


def _strata(groups: Sequence[Group]) -> dict[str | None, list[Group]]:
    strata: defaultdict[str | None, list[Group]] = defaultdict(list)
    for group in sorted(groups, key=lambda group: group.order):
        strata[group.label].append(group)
    return dict(sorted(strata.items(), key=lambda item: (item[0] is None, item[0] or "")))


def _apportion(total: int, weights: Mapping[str | None, int]) -> dict[str | None, int]:
    """Whole shares of ``total`` in proportion to ``weights`` (largest remainders, Hamilton's method)."""
    whole = sum(weights.values())
    if whole == 0:
        return dict.fromkeys(weights, 0)
    shares = {label: total * weight // whole for label, weight in weights.items()}
    by_remainder = sorted(
        weights, key=lambda label: (-(total * weights[label] % whole), label is None, label or "")
    )
    for label in by_remainder[: total - sum(shares.values())]:
        shares[label] += 1
    return shares


class _Pool:
    """Which groups are taken and how much room each split has left."""

    def __init__(self, sizes: Mapping[SplitName, int]) -> None:
        self.room = dict(sizes)
        self.drawn: dict[SplitName, list[Group]] = {name: [] for name in sizes}
        self.taken: set[str] = set()

    def rows(self, name: SplitName, label: str | None) -> int:
        return sum(group.rows_in(name) for group in self.drawn[name] if group.label == label)

    def take_first_that_fits(self, name: SplitName, members: Sequence[Group]) -> None:
        for group in members:
            if group.id not in self.taken and group.rows_in(name) <= self.room[name]:
                self._take(name, group)
                return

    def take_while_fitting(self, name: SplitName, members: Sequence[Group], limit: int) -> None:
        for group in members:
            if group.id not in self.taken and group.rows_in(name) <= min(limit, self.room[name]):
                self._take(name, group)
                limit -= group.rows_in(name)

    def swap_closer(self, name: SplitName, spare: Sequence[Group]) -> bool:
        """Swap one drawn group for a free one of its label that fills most of the gap; False if none does."""
        gap = self.room[name]
        if gap == 0:
            return False
        drawn: dict[tuple[str | None, int], Group] = {}
        for group in self.drawn[name]:
            drawn.setdefault((group.label, group.rows_in(name)), group)
        best: tuple[int, Group, Group] | None = None
        for group in spare:
            if group.id in self.taken:
                continue
            rows = group.rows_in(name)
            for difference in range(min(gap, rows - 1), best[0] if best else 0, -1):
                other = drawn.get((group.label, rows - difference))
                if other is not None:
                    best = (difference, other, group)
                    break
        if best is None:
            return False
        _, old, new = best
        self.drawn[name].remove(old)
        self.taken.remove(old.id)
        self.room[name] += old.rows_in(name)
        self._take(name, new)
        return True

    def _take(self, name: SplitName, group: Group) -> None:
        self.drawn[name].append(group)
        self.taken.add(group.id)
        self.room[name] -= group.rows_in(name)
