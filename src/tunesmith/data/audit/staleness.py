"""Rows that are too old, and labels that come at other rates than they used to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

import numpy as np

from tunesmith.data.audit.findings import AuditData, CheckResult, Finding, answered
from tunesmith.data.audit.texts import count, excerpt, label_counts, share
from tunesmith.data.dates import parsed_date
from tunesmith.errors import UserError
from tunesmith.stats.multiplicity import holm
from tunesmith.stats.rates import codes_of, rate_difference, trend_p_value

# A column is one of dates when this share of its values are.
DATES_SHARE = 0.8
# Fewer rows than this say little about a trend in 24 runs.
FEWEST_ROWS = 100


@dataclass(frozen=True)
class StalenessSettings:
    """``column``: where the dates are; None looks for a column of ISO 8601 dates.

    ``oldest`` is the first day that the task allows, ``newest`` the last; rows outside are findings.
    ``alpha`` is the chance of one false drift finding or more, over all labels.
    """

    column: str | None = None
    oldest: date | None = None
    newest: date | None = None
    alpha: float = 0.05
    smallest_ratio: float = 0.8
    smallest_label: int = 20


def check_age(data: AuditData, settings: StalenessSettings = StalenessSettings()) -> CheckResult:
    """Rows older than the task allows, younger than it allows, or without a readable date.

    Unmeasured without a column of dates. Raises UserError when the named column does not exist.
    """
    check = "age"
    column, dates = _dates(data, settings)
    if column is None:
        return CheckResult(check, "unmeasured", "No column holds dates (ISO 8601, such as 2024-05-31).")
    findings = []
    known = [(moment, row) for row, moment in enumerate(dates) if moment is not None]
    if not known:
        return CheckResult(check, "unmeasured", f"Column '{column}' holds no date in ISO 8601 (2024-05-31).")
    unread = tuple(row for row, moment in enumerate(dates) if moment is None)
    if unread:
        value = data.fields[column][unread[0]]
        who = share(len(unread), len(dates))
        evidence = f"column '{column}': {who} rows have no ISO 8601 date: {excerpt(value or '')}"
        findings.append(Finding("no date", "warning", unread, evidence, "keep"))
    if settings.oldest is not None:
        old = [(moment, row) for moment, row in known if moment.date() < settings.oldest]
        if old:
            evidence = f"{share(len(old), len(known))} dated rows are from before {settings.oldest}"
            rows = tuple(row for _, row in sorted(old))
            findings.append(Finding("too old", "warning", rows, evidence, "set_aside"))
    if settings.newest is not None:
        later = sorted(
            ((moment, row) for moment, row in known if moment.date() > settings.newest), reverse=True
        )
        if later:
            who = share(len(later), len(known))
            evidence = f"{who} dated rows are from after {settings.newest}: {later[0][0].date()}"
            findings.append(Finding("too new", "warning", tuple(row for _, row in later), evidence, "ask"))
    first, last = min(known)[0].date(), max(known)[0].date()
    stale = sum(len(finding.rows) for finding in findings if finding.kind == "too old")
    limit = "no limit of age is set" if settings.oldest is None else f"{stale:,} older than {settings.oldest}"
    summary = f"{count(len(known), 'row')} dated {first} to {last} in column '{column}'; {limit}"
    return answered(check, summary, findings)


def check_label_drift(data: AuditData, settings: StalenessSettings = StalenessSettings()) -> CheckResult:
    """Labels whose rate rises or falls over time.

    A rank test for a trend over 24 runs of rows (Mann and Kendall), so that days which differ from their
    neighbours do not alarm; corrected by Holm's method over all labels. A drift is a finding when it is
    significant and the rates of the earlier and later half differ by more than four to five.
    Unmeasured without dates, without labels, or with fewer than 100 dated rows. Raises UserError when the
    named column does not exist.
    """
    check = "label drift"
    column, dates = _dates(data, settings)
    counts = label_counts(data)
    rows = np.array([row for row, moment in enumerate(dates) if moment is not None], dtype=np.intp)
    if column is None or counts is None or len(rows) < FEWEST_ROWS:
        why = (
            "No column holds dates (ISO 8601, such as 2024-05-31)."
            if column is None
            else "Targets are free text: there are no labels to drift."
            if counts is None
            else f"{count(len(rows), 'row')} with a date: a trend needs {FEWEST_ROWS}."
        )
        return CheckResult(check, "unmeasured", why)
    times = np.array([dates[row].timestamp() for row in rows])
    if times.min() == times.max():
        return CheckResult(check, "unmeasured", f"Every row has the same date in column '{column}'.")
    # Labels as numbers: an array of texts is as wide as its longest.
    number = {label: place for place, label in enumerate(counts)}
    targets = np.array([number[data.rows[row].target] for row in rows], dtype=np.intp)
    codes = codes_of([data.rows[row].group for row in rows])
    labels = [label for label, times_seen in counts.most_common() if times_seen >= settings.smallest_label]
    adjusted = holm([trend_p_value(targets == number[label], times) for label in labels])
    later = times > np.median(times)
    if not later.any():
        later = times >= np.median(times)
    findings = []
    for p_value, label in sorted(zip(adjusted, labels, strict=True)):
        if p_value > settings.alpha:
            continue
        change = rate_difference(targets == number[label], later, codes)
        low, high = sorted((change.rate, change.other_rate))
        if low >= settings.smallest_ratio * high:
            continue
        interval = change.difference
        evidence = (
            f"label '{label}': {100 * change.other_rate:.1f} % of the earlier half ({change.other_rows:,} "
            f"rows), {100 * change.rate:.1f} % of the later ({change.rows:,}); "
            f"difference {100 * interval.value:+.1f} points "
            f"[{100 * interval.low:+.1f}, {100 * interval.high:+.1f}], trend p {p_value:.2g} after Holm"
        )
        found = tuple(rows[targets == number[label]].tolist())
        findings.append(Finding("label drift", "warning", found, evidence, "keep"))
    summary = (
        f"{len(findings):,} of {len(labels):,} labels with {settings.smallest_label} rows or more drift "
        f"over time (column '{column}', alpha {settings.alpha:g} over all labels)"
    )
    return answered(check, summary, findings)


def _dates(data: AuditData, settings: StalenessSettings) -> tuple[str | None, Sequence[datetime | None]]:
    """The column of dates and its values: the one named, else that with the largest share of dates."""
    if settings.column is not None:
        if settings.column not in data.fields:
            known = ", ".join(data.fields) or "none"
            raise UserError(
                f"no column '{settings.column}' (found: {known})", "Name a column that the data has."
            )
        return settings.column, [parsed_date(value) for value in data.fields[settings.column]]
    best: tuple[int, str, list[datetime | None]] | None = None
    for column, values in data.fields.items():
        # A look at the first values spares parsing long columns of text.
        if not any(parsed_date(value) for value in values[:200]):
            continue
        dates = [parsed_date(value) for value in values]
        filled = sum(bool(value and value.strip()) for value in values)
        read = sum(moment is not None for moment in dates)
        if read >= DATES_SHARE * max(1, filled) and (best is None or read > best[0]):
            best = read, column, dates
    return (None, []) if best is None else (best[1], best[2])
