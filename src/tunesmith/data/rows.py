"""From the records of a file to rows. All defects of its rows are reported at once, with their lines."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any, get_args

from tunesmith.data.formats import Record, Table
from tunesmith.errors import UserError
from tunesmith.records import Message, Role, Row

LINES_SHOWN = 20


class _RowError(ValueError):
    """What is wrong with one row; collected, so that all of them are reported at once."""


def rows_of(table: Table, input: str | None, target: str | None, messages: str | None) -> list[Row]:
    """The rows of a table, without ids: from two named fields, or from a field of conversations.

    Numbers and booleans become text ("3", "true"); targets lose the spaces around them.

    Raises:
        UserError: a field does not exist, or some rows cannot be used (the first 20 and their number).
    """
    asked = [("messages", messages)] if messages is not None else [("input", input), ("target", target)]
    fields = _named_fields(table, asked)
    rows: list[Row] = []
    problems: list[tuple[int, str]] = []
    for record in table.records:
        try:
            if messages is not None:
                turns, answer = _conversation(record, messages)
            else:
                turns = (Message("user", _text(record, fields[0], "input")),)
                answer = _text(record, fields[1], "target").strip()
        except _RowError as problem:
            problems.append((record.line, str(problem)))
        else:
            rows.append(Row("", f"{table.name}:{record.line}", turns, answer))
    if problems:
        _report(table, problems)
    return rows


def _named_fields(table: Table, asked: Sequence[tuple[str, str | None]]) -> tuple[str, ...]:
    found = f"found: {', '.join(table.columns)}"
    for key, name in asked:
        if name is None:
            raise UserError(
                f"{table.name}: data.{key} is not set ({found})", f"Set data.{key} to one of these fields."
            )
        if name not in table.columns:
            others = [column for column in table.columns if column not in [other for _, other in asked]]
            near = (difflib.get_close_matches(name, others, n=1, cutoff=0.5) or others[:1] or [""])[0]
            raise UserError(
                f"{table.name}:{table.records[0].line}: no field '{name}' ({found})",
                f"Set data.{key}: {near}" if near else f"Add a field '{name}' to the file.",
            )
    return tuple(name for _, name in asked if name is not None)


def _report(table: Table, problems: list[tuple[int, str]]) -> None:
    line, problem = problems[0]
    what = f"{table.name}:{line}: {problem}"
    if len(problems) > 1:
        lines = ", ".join(str(line) for line, _ in problems[:LINES_SHOWN])
        more = ", ..." if len(problems) > LINES_SHOWN else ""
        what += f"; {len(problems):,} of {len(table.records):,} rows cannot be used: {lines}{more}"
    rows = "this row" if len(problems) == 1 else "these rows"
    raise UserError(what, f"Correct or remove {rows} in {table.name}, then run again.")


def _text(record: Record, field: str, role: str) -> str:
    if field not in record.fields:
        raise _RowError(f"no field '{field}' (found: {', '.join(record.fields)})")
    return _as_text(record.fields[field], field, role)


def _as_text(value: object, field: str, role: str) -> str:
    if value is None:
        raise _RowError(f"the {role} '{field}' is null")
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        if value != value:
            raise _RowError(f"the {role} '{field}' is not a number (NaN)")
        # Tables turn whole numbers into floats as soon as one cell of the column is missing.
        return str(int(value)) if value.is_integer() else repr(value)
    if isinstance(value, (list, dict, bytes)):
        raise _RowError(f"the {role} '{field}' holds a {type(value).__name__}, not text")
    text = str(value)
    if not text.strip():
        raise _RowError(
            f"the {role} '{field}' is empty" if not text else f"the {role} '{field}' is only spaces"
        )
    if "\0" in text:
        raise _RowError(f"the {role} '{field}' holds a null character")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise _RowError(f"the {role} '{field}' holds half a surrogate pair, which is no valid text") from None
    return text


def _conversation(record: Record, field: str) -> tuple[tuple[Message, ...], str]:
    if field not in record.fields:
        raise _RowError(f"no field '{field}' (found: {', '.join(record.fields)})")
    turns: Any = record.fields[field]
    if not isinstance(turns, list) or not turns:
        raise _RowError(f"'{field}' is not a list of turns, each with a role and a content")
    messages = []
    for number, turn in enumerate(turns, start=1):
        if not isinstance(turn, dict) or "role" not in turn or "content" not in turn:
            raise _RowError(f"turn {number} of '{field}' is not an object with role and content")
        role = turn["role"]
        if role not in get_args(Role):
            raise _RowError(f"turn {number} has the role '{role}' (known: {', '.join(get_args(Role))})")
        if role == "system" and number > 1:
            raise _RowError(f"turn {number} has the role 'system', which only the first turn may have")
        messages.append(Message(role, _as_text(turn["content"], "content", f"{role} turn {number}")))
    if messages[-1].role != "assistant":
        raise _RowError(
            f"the last turn has the role '{messages[-1].role}', not 'assistant': no answer to learn"
        )
    if not any(message.role == "user" for message in messages):
        raise _RowError("no turn has the role 'user': nothing is asked")
    return tuple(messages[:-1]), messages[-1].content.strip()
