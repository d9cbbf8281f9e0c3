"""What is asked of every candidate: each distinct input once, with all its right answers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tunesmith.errors import UserError
from tunesmith.records import Message, Row

ROWS_LISTED = 20


@dataclass(frozen=True)
class Questions:
    """``references[i]`` are the right answers to ``rows[i]``, the target of that row first."""

    rows: tuple[Row, ...]
    references: tuple[tuple[str, ...], ...]

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, indices: Sequence[int]) -> Questions:
        return Questions(
            tuple(self.rows[index] for index in indices), tuple(self.references[index] for index in indices)
        )


def each_row(rows: Sequence[Row]) -> Questions:
    """Every row is a question of its own, with its target as the only right answer."""
    return Questions(tuple(rows), tuple((row.target,) for row in rows))


def distinct_inputs(rows: Sequence[Row]) -> Questions:
    """Rows with the same turns are one question; each different target among them is a reference.

    The row that stands for them is the first; order is kept.
    """
    by_input: dict[tuple[Message, ...], list[Row]] = {}
    for row in rows:
        by_input.setdefault(row.messages, []).append(row)
    return Questions(
        tuple(members[0] for members in by_input.values()),
        tuple(tuple(dict.fromkeys(row.target for row in members)) for members in by_input.values()),
    )


def with_json_targets(rows: Sequence[Row], schema: Mapping[str, Any] | None) -> list[Row]:
    """The rows with targets as one way of writing JSON: that of ``json.dumps``, fields in the schema's order.

    Fields that the schema names and a target lacks become null; without a schema only spacing changes.
    Raises UserError naming the rows whose target is not JSON.
    """
    bad: list[str] = []
    written: list[Row] = []
    for row in rows:
        try:
            value = json.loads(row.target)
        except (ValueError, RecursionError):
            bad.append(f"{row.source} ({row.target[:40]!r})")
            continue
        ordered = value if schema is None else _ordered(value, schema)
        written.append(replace(row, target=json.dumps(ordered, ensure_ascii=False)))
    if bad:
        more = f" and {len(bad) - ROWS_LISTED:,} more" if len(bad) > ROWS_LISTED else ""
        raise UserError(
            f"{len(bad):,} of {len(rows):,} targets are not JSON: {', '.join(bad[:ROWS_LISTED])}{more}",
            'with kind: extract every target is JSON, such as {"name": "Anna"}; correct these rows, or set '
            "another kind",
        )
    return written


def _ordered(value: Any, schema: Mapping[str, Any]) -> Any:
    if isinstance(value, dict) and isinstance(schema.get("properties"), Mapping):
        properties = schema["properties"]
        known = {name: _ordered(value.get(name), inner) for name, inner in properties.items()}
        return known | {name: item for name, item in value.items() if name not in properties}
    if isinstance(value, list) and isinstance(schema.get("items"), Mapping):
        return [_ordered(item, schema["items"]) for item in value]
    return value
