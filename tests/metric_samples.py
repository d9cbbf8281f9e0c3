"""Rows and answers for tests of metrics."""

from collections.abc import Sequence
from typing import Any

from tunesmith.evaluation.metrics.answered import Answered
from tunesmith.records import Message, Row


def rows_of(
    targets: Sequence[str], groups: Sequence[str] | None = None, texts: Sequence[str] = ()
) -> list[Row]:
    """One row a target; every row a group of its own unless told otherwise."""
    return [
        Row(
            id=f"row{number}",
            source=f"data.jsonl:{number + 1}",
            messages=(Message("user", texts[number] if texts else f"question {number}"),),
            target=target,
            group=groups[number] if groups else f"group{number}",
        )
        for number, target in enumerate(targets)
    ]


def answered(
    targets: Sequence[str],
    predictions: Sequence[str],
    groups: Sequence[str] | None = None,
    texts: Sequence[str] = (),
    **more: Any,
) -> Answered:
    return Answered(rows_of(targets, groups, texts), predictions, **more)
