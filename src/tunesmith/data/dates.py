"""Dates in columns of the data: ISO 8601, and nothing that has to be guessed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from tunesmith.data.parsed import LINES_SHOWN
from tunesmith.errors import UserError
from tunesmith.records import Row, SplitName

_ISO = re.compile(
    r"\d{4}-\d{2}-\d{2}(?:[T ]\d{2}:\d{2}(?::\d{2}(?:[.,]\d{1,9})?)?(?:Z|[+-]\d{2}:?\d{2})?)?\Z"
)


def parsed_date(value: str | None) -> datetime | None:
    """The time of an ISO 8601 date or date and time, without its zone (moved to UTC); None for others."""
    text = (value or "").strip()
    if _ISO.match(text) is None:
        return None
    try:
        moment = datetime.fromisoformat(text.replace(",", "."))
    except ValueError:
        return None
    return moment if moment.tzinfo is None else moment.astimezone(UTC).replace(tzinfo=None)


def row_dates(rows: Sequence[Row], column: str) -> dict[str, datetime]:
    """The date of every row, by row id.

    Raises:
        UserError: rows without a readable date (the first 20 and their number).
    """
    dates = {row.id: parsed_date(row.field(column)) for row in rows}
    undated = [row for row in rows if dates[row.id] is None]
    if undated:
        raise UserError(
            f"split.time: {len(undated):,} of {len(rows):,} rows have no readable date in '{column}': "
            f"{sources_with_values(undated, column)}",
            "Give every row a date in ISO 8601, such as 2024-05-31 or 2024-05-31T10:30:00Z.",
        )
    return {row: moment for row, moment in dates.items() if moment is not None}


def sources_with_values(rows: Sequence[Row], column: str) -> str:
    """Where the first 20 rows come from, each with what it has in ``column``."""
    shown = []
    for row in rows[:LINES_SHOWN]:
        value = row.field(column)
        shown.append(f"{row.source} ({'empty' if value is None else repr(value[:40])})")
    return ", ".join(shown) + (", ..." if len(rows) > LINES_SHOWN else "")


def date_ranges(split: Mapping[SplitName, Sequence[Row]], column: str) -> dict[SplitName, tuple[str, str]]:
    """The first and the last date of each split's rows, in ISO 8601 and UTC."""
    ranges: dict[SplitName, tuple[str, str]] = {}
    for name, rows in split.items():
        dates = row_dates(rows, column).values()
        if dates:
            ranges[name] = (min(dates).isoformat(), max(dates).isoformat())
    return ranges
