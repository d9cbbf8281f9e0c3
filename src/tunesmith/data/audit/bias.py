"""Do labels occur at other rates where a group of people is named, or in a group that the task names?"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tunesmith.data.audit.findings import AuditData, CheckResult, Finding, answered
from tunesmith.data.audit.groups import LEXICON, groups_named
from tunesmith.data.audit.texts import count, label_counts, share
from tunesmith.errors import UserError
from tunesmith.stats.multiplicity import holm
from tunesmith.stats.rates import RateDifference, class_p_values, codes_of, rate_difference


@dataclass(frozen=True)
class BiasSettings:
    """``fields``: columns whose values are groups. ``alpha`` is the chance of one false finding or more.

    A difference counts when the rates differ by more than four to five (``smallest_ratio``; the "four-fifths
    rule" of the US Uniform Guidelines on Employee Selection Procedures, 1978). Groups with fewer than
    ``smallest_group`` rows, and labels with fewer than ``smallest_label``, are not compared.
    """

    fields: tuple[str, ...] = ()
    alpha: float = 0.05
    smallest_ratio: float = 0.8
    smallest_group: int = 30
    smallest_label: int = 20


@dataclass(frozen=True)
class _Comparison:
    """One label in one group: ``inside`` says which of ``rows`` belong to the group, the others do not."""

    dimension: str
    group: str
    label: str
    rows: npt.NDArray[np.intp]
    inside: npt.NDArray[np.bool_]
    p_value: float


def check_label_rates(data: AuditData, settings: BiasSettings = BiasSettings()) -> CheckResult:
    """Label rates of each group against the rows of the other groups in its dimension.

    Groups are the values of the named fields, and those that the input names by word (gender, nationality,
    age, religion); a row that names two groups of one dimension belongs to neither. Differences have
    clustered 95 % intervals, and exact p-values are corrected by Holm's method over every comparison.
    A difference is a question to a person, not a proof of unfairness: labels may differ for good reasons.
    Raises UserError when a named field does not exist.
    """
    check = "label rates"
    for name in settings.fields:
        if name not in data.fields:
            known = ", ".join(data.fields) or "none"
            raise UserError(f"no column '{name}' (found: {known})", "Name columns that the data has.")
    counts = label_counts(data)
    if counts is None:
        return CheckResult(check, "unmeasured", "Targets are free text: there are no label rates to compare.")
    # Labels as numbers: an array of texts is as wide as its longest.
    names = list(counts)
    number = {label: place for place, label in enumerate(names)}
    targets = np.array([number[row.target] for row in data.rows], dtype=np.intp)
    codes = codes_of([row.group for row in data.rows])
    comparisons: list[_Comparison] = []
    for dimension, membership in _dimensions(data, settings.fields).items():
        comparisons += _compared(dimension, membership, targets, codes, names, settings)
    if not comparisons:
        summary = f"No two groups with {settings.smallest_group} rows each are named: nothing to compare."
        return CheckResult(check, "unmeasured", summary)
    adjusted = holm([comparison.p_value for comparison in comparisons])
    findings = []
    for p_value, comparison in sorted(zip(adjusted, comparisons, strict=True), key=lambda item: item[0]):
        if p_value > settings.alpha:
            break
        events = targets[comparison.rows] == number[comparison.label]
        _, local_codes = np.unique(codes[comparison.rows], return_inverse=True)
        result = rate_difference(events, comparison.inside, local_codes)
        if _ratio(result) < settings.smallest_ratio:
            rows = comparison.rows[comparison.inside & events]
            findings.append(_finding(comparison, result, p_value, tuple(rows.tolist())))
    summary = (
        f"{len(findings):,} of {len(comparisons):,} label rates of groups differ from those of other groups "
        f"(Holm, alpha {settings.alpha:g})"
    )
    return answered(check, summary, findings)


def _dimensions(data: AuditData, fields: Sequence[str]) -> dict[str, dict[str, list[int]]]:
    """Dimension -> group -> its rows."""
    found: dict[str, dict[str, list[int]]] = {}
    for name in fields:
        members: defaultdict[str, list[int]] = defaultdict(list)
        for index, value in enumerate(data.fields[name]):
            if value is not None and value.strip():
                members[value.strip()].append(index)
        found[f"column '{name}'"] = dict(members)
    by_word: dict[str, defaultdict[str, list[int]]] = {name: defaultdict(list) for name in LEXICON}
    for index, row in enumerate(data.rows):
        for dimension, groups in groups_named(row.text).items():
            if len(groups) == 1:
                by_word[dimension][next(iter(groups))].append(index)
    return found | {name: dict(members) for name, members in by_word.items()}


def _compared(
    dimension: str,
    membership: dict[str, list[int]],
    targets: npt.NDArray[np.intp],
    codes: npt.NDArray[np.intp],
    names: Sequence[str],
    settings: BiasSettings,
) -> list[_Comparison]:
    rows = np.array(sorted(row for members in membership.values() for row in members), dtype=np.intp)
    if len(rows) == 0:
        return []
    of_class = targets[rows]
    enough = np.bincount(of_class, minlength=len(names)) >= settings.smallest_label
    comparisons = []
    for group, members in sorted(membership.items()):
        inside = np.isin(rows, members)
        if min(inside.sum(), (~inside).sum()) < settings.smallest_group:
            continue
        p_values = class_p_values(of_class, inside, codes[rows], len(names))
        comparisons += [
            _Comparison(dimension, group, label, rows, inside, p_value)
            for label, p_value, often in zip(names, p_values, enough.tolist(), strict=True)
            if often
        ]
        if len(membership) == 2:
            break  # the other group's differences are the same with the sign turned
    return comparisons


def _ratio(result: RateDifference) -> float:
    """The smaller of two rates over the larger."""
    low, high = sorted((result.rate, result.other_rate))
    return low / high if high > 0 else 1.0


def _finding(
    comparison: _Comparison, result: RateDifference, p_value: float, rows: tuple[int, ...]
) -> Finding:
    difference = result.difference
    evidence = (
        f"{comparison.dimension}, {comparison.group}: label '{comparison.label}' in "
        f"{100 * result.rate:.1f} % of {result.rows:,} rows, elsewhere in {100 * result.other_rate:.1f} % of "
        f"{result.other_rows:,}; difference "
        f"{100 * difference.value:+.1f} points [{100 * difference.low:+.1f}, {100 * difference.high:+.1f}], "
        f"{count(difference.groups, 'group')} of rows, p {p_value:.2g} after Holm"
    )
    return Finding("label rate differs", "warning", rows, evidence, "ask")


def check_group_words(data: AuditData) -> CheckResult:
    """How often each group of people is named: notes only, for whoever judges what the data covers."""
    named: Counter[tuple[str, str]] = Counter()
    rows_of: defaultdict[str, list[int]] = defaultdict(list)
    for index, row in enumerate(data.rows):
        for dimension, groups in groups_named(row.text).items():
            rows_of[dimension].append(index)
            named.update((dimension, group) for group in groups)
    findings = []
    for dimension, rows in rows_of.items():
        listed = ", ".join(
            f"{group} {times:,}" for (found, group), times in named.most_common() if found == dimension
        )
        evidence = f"{share(len(rows), len(data.rows))} inputs name a group by {dimension}: {listed}"
        findings.append(Finding(f"{dimension} words", "note", tuple(rows), evidence, "keep"))
    total = len({row for rows in rows_of.values() for row in rows})
    return answered("group words", f"{share(total, len(data.rows))} inputs name a group of people", findings)
