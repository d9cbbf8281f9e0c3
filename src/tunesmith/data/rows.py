"""From the records of a file to rows. All defects of its rows are reported at once, with their lines."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

from tunesmith.data.annotated import several
from tunesmith.data.formats import OpenTable
from tunesmith.data.label_sets import read_label_set
from tunesmith.data.parsed import (
    LINES_SHOWN,
    MADE_COLUMN,
    BadRecord,
    Record,
    few,
    lines_of,
    place,
    refuse,
    row_fix,
)
from tunesmith.errors import UserError
from tunesmith.files import canonical_json
from tunesmith.records import Message, Role, Row

# What exports in ShareGPT's form (from, value) call the speakers.
_SPEAKERS: dict[str, Role] = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "model": "assistant",
    "chatgpt": "assistant",
    "system": "system",
}


# What may become of records that cannot be used.
Unusable = Literal["refuse", "set_aside"]
OR_ELSE = " Or set data.unusable: set_aside, which leaves such rows out and counts them."


@dataclass(frozen=True)
class ColumnsRead:
    """The columns that make a row.

    Either ``messages`` (a conversation that ends with the answer), or ``input`` (one column or several,
    joined by a blank line; a list of turns is a conversation) and ``target``. ``rejected`` is the answer
    not wanted, of a preference pair. ``fields`` are kept beside the row, as text, and so are
    ``split_fields``: (setting, column). With ``label_sets`` a target is a list of labels, or a text of labels
    parted by ``label_separator``. ``unusable`` says what becomes of records that are no rows.
    """

    input: tuple[str, ...] = ()
    target: str | None = None
    messages: str | None = None
    rejected: str | None = None
    fields: tuple[str, ...] = ()
    split_fields: tuple[tuple[str, str], ...] = ()
    label_sets: bool = False
    label_separator: str | None = None
    unusable: Unusable = "refuse"

    @property
    def kept(self) -> tuple[str, ...]:
        """The columns that are kept beside the row, each once, sorted."""
        return tuple(sorted({*self.fields, *(column for _, column in self.split_fields)}))


@dataclass(frozen=True)
class RowsRead:
    """``aside`` counts the records that are no rows by a person's will, by reason; ``notes`` say where.

    ``unusable`` are those among them that nobody could use.
    """

    rows: tuple[Row, ...]
    records: int
    aside: dict[str, int]
    notes: tuple[str, ...]
    unusable: tuple[BadRecord, ...] = ()


class RowError(ValueError):
    """What is wrong with one row; collected, so that all of them are reported at once."""


class LeftOutError(ValueError):
    """Why a record is set aside: nothing is wrong with it, but it holds no answer to learn."""


def rows_of(table: OpenTable, columns: ColumnsRead) -> RowsRead:
    """The rows of a table, without ids.

    Numbers and booleans become text ("3", "true"); targets lose the spaces around them. A record whose
    annotators have no majority, or that was skipped, is set aside and counted: no answer is guessed. So is
    one that cannot be used, where ``columns`` say so and less than half are such.

    Raises:
        UserError: a column does not exist, or some rows cannot be used (the first 20 and their number).
    """
    rows: list[Row] = []
    bad: list[BadRecord] = []
    aside: dict[str, list[str]] = {}
    seen: dict[str, None] = {}
    first: Record | None = None
    for record in table.records:
        if isinstance(record, BadRecord):
            bad.append(record)
            continue
        if first is None:
            first = record
            _check_asked(table.name, record, columns)
        seen.update(dict.fromkeys(record.fields))
        try:
            rows.append(row_of(record, columns, table.name))
        except RowError as problem:
            bad.append(BadRecord(record.line, str(problem), row_fix(table.name)))
        except LeftOutError as reason:
            aside.setdefault(str(reason), []).append(str(record.line))
    records = len(rows) + len(bad) + sum(map(len, aside.values()))
    if first is not None and MADE_COLUMN not in first.fields:  # such rows are refused for what they are
        _check_exists(table.name, first, columns, tuple(seen))
    may_go = few(len(bad), records)
    if columns.unusable == "refuse" or not may_go:
        refuse(table.name, bad, records, OR_ELSE if may_go else "")
    notes = [f"{table.name}: {len(lines):,} rows {why}: {_some(lines)}" for why, lines in aside.items()]
    counts = {why: len(lines) for why, lines in aside.items()}
    if bad:
        counts["that cannot be used"] = len(bad)
        told = f"{place(table.name, bad[0].line)}: {bad[0].what}"
        notes.append(f"{table.name}: {len(bad):,} rows that cannot be used: {lines_of(bad)} ({told})")
    return RowsRead(tuple(rows), records, counts, tuple(notes), _placed(table.name, bad))


def _placed(name: str, bad: Sequence[BadRecord]) -> tuple[BadRecord, ...]:
    """The records with the name of their file before the line."""
    return tuple(replace(one, line=place(name, one.line)) for one in bad)


def row_of(record: Record, columns: ColumnsRead, name: str) -> Row:
    """One row, without an id.

    Raises:
        RowError: a field is missing or cannot be used.
        LeftOutError: a person left the record out, or there is no answer that one could be sure of.
    """
    if record.refused is not None:
        raise LeftOutError(record.refused)
    if MADE_COLUMN in record.fields:
        raise RowError(
            f"made by Tunesmith ({record.fields[MADE_COLUMN]}): such rows are named as data.train_extra and "
            "only trained on"
        )
    answered = columns.messages or columns.target or ""
    votes = (record.votes or {}).get(answered)
    if votes is not None and record.fields.get(answered) is None:
        raise LeftOutError(
            "whose annotators have no majority" if votes else f"without an accepted answer in '{answered}'"
        )
    if columns.messages is not None:
        turns, target = _ended(_turns(_value(record, columns.messages), columns.messages))
    else:
        turns, target = _asked(record, columns.input), _target(record, columns)
    rejected = None
    if columns.rejected is not None:
        rejected = _rejected(record, columns, turns)
        if rejected == target:
            raise LeftOutError("whose chosen and rejected answers are the same")
    return Row(
        "",
        place(name, record.line),
        turns,
        target,
        fields=_kept(record, columns.kept),
        rejected=rejected,
        annotations=several(votes or ()),
    )


def asked_row(record: Record, columns: ColumnsRead, name: str) -> Row:
    """A row whose answer is not known: no id, and an empty target. Of a conversation the answer is left out.

    Raises:
        RowError: there is no input, or it cannot be used.
    """
    if columns.messages is not None:
        turns = _turns(_value(record, columns.messages), columns.messages)
        turns = turns[:-1] if turns[-1].role == "assistant" else turns
    else:
        turns = _asked(record, columns.input)
    if not any(turn.role == "user" for turn in turns):
        raise RowError("no turn has the role 'user': nothing is asked")
    return Row("", place(name, record.line), turns, "", fields=_kept(record, columns.fields))


def _check_asked(name: str, record: Record, columns: ColumnsRead) -> None:
    if columns.messages is not None:
        return
    for key, value in (("input", columns.input), ("target", columns.target)):
        if not value:
            raise UserError(
                f"{name}: data.{key} is not set (found: {', '.join(record.fields)})",
                f"Set data.{key} to one of these fields.",
            )


def _check_exists(name: str, first: Record, columns: ColumnsRead, found: Sequence[str]) -> None:
    """A column that no record has is one mistake in the task, not one in every row."""
    asked = [("data.messages", columns.messages), *(("data.input", column) for column in columns.input)]
    asked += [("data.target", columns.target), ("data.rejected", columns.rejected)]
    asked += [*(("data.fields", column) for column in columns.fields), *columns.split_fields]
    for key, column in asked:
        if column is None or column in found:
            continue
        others = [other for other in found if other not in [used for _, used in asked]]
        near = (difflib.get_close_matches(column, others, n=1, cutoff=0.5) or others[:1] or [""])[0]
        raise UserError(
            f"{place(name, first.line)}: no field '{column}' (found: {', '.join(found)})",
            f"Set {key}: {near}" if near else f"Add a field '{column}' to the file.",
        )


def _some(lines: Sequence[str]) -> str:
    return ", ".join(lines[:LINES_SHOWN]) + (", ..." if len(lines) > LINES_SHOWN else "")


def _value(record: Record, field: str) -> object:
    if field not in record.fields:
        raise RowError(f"no field '{field}' (found: {', '.join(record.fields)})")
    return record.fields[field]


def _asked(record: Record, fields: Sequence[str]) -> tuple[Message, ...]:
    if len(fields) == 1:
        value = _value(record, fields[0])
        if isinstance(value, list) and value and isinstance(value[0], dict):
            turns = _turns(value, fields[0])
            if turns[-1].role != "user":
                raise RowError(f"the last turn of '{fields[0]}' has the role '{turns[-1].role}', not 'user'")
            return turns
        return (Message("user", _as_text(value, fields[0], "input")),)
    values = [(field, record.fields.get(field)) for field in fields]
    filled = [(field, value) for field, value in values if value is not None and str(value).strip()]
    if not filled:
        raise RowError(f"the inputs {', '.join(repr(field) for field in fields)} are all empty")
    return (Message("user", "\n\n".join(_as_text(value, field, "input") for field, value in filled)),)


def _answer(record: Record, field: str, role: str) -> str:
    """Text, or a list with one turn of the assistant."""
    value = _value(record, field)
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], dict):
        turns = _turns(value, field)
        if turns[0].role != "assistant":
            raise RowError(f"the turn in '{field}' has the role '{turns[0].role}', not 'assistant'")
        return turns[0].content.strip()
    return _as_text(value, field, role).strip()


def _target(record: Record, columns: ColumnsRead) -> str:
    field = columns.target or ""
    if not columns.label_sets:
        return _answer(record, field, "target")
    value = _value(record, field)
    if isinstance(value, str) and (record.votes or {}).get(field) and not value.startswith("["):
        value = [value]  # of what people chose among several, one choice is no list
    try:
        return read_label_set(value, columns.label_separator)
    except ValueError as problem:
        raise RowError(f"the target '{field}' {problem}") from None


def _rejected(record: Record, columns: ColumnsRead, turns: tuple[Message, ...]) -> str:
    field = columns.rejected or ""
    if columns.messages is None:
        return _answer(record, field, "rejected answer")
    value = _value(record, field)
    if not isinstance(value, list):
        return _as_text(value, field, "rejected answer").strip()
    asked, answer = _ended(_turns(value, field))
    if asked != turns:
        raise RowError(f"'{field}' does not begin with the same turns as '{columns.messages}'")
    return answer


def _turns(value: object, field: str) -> tuple[Message, ...]:
    """A conversation: turns with role and content, or with from and value (ShareGPT)."""
    if not isinstance(value, list) or not value:
        raise RowError(f"'{field}' is not a list of turns, each with a role and a content")
    messages = []
    for number, turn in enumerate(value, start=1):
        if not isinstance(turn, dict) or not (
            {"role", "content"} <= turn.keys() or {"from", "value"} <= turn.keys()
        ):
            raise RowError(f"turn {number} of '{field}' is not an object with role and content")
        if "role" in turn and "content" in turn:
            role, content, known = turn["role"], turn["content"], list(get_args(Role))
            said = role if role in known else None
        else:
            role, content, known = turn["from"], turn["value"], list(_SPEAKERS)
            said = _SPEAKERS.get(role) if isinstance(role, str) else None
        if said is None:
            raise RowError(f"turn {number} has the role '{role}' (known: {', '.join(known)})")
        if said == "system" and number > 1:
            raise RowError(f"turn {number} has the role 'system', which only the first turn may have")
        messages.append(Message(said, _as_text(content, "content", f"{said} turn {number}")))
    return tuple(messages)


def _ended(turns: tuple[Message, ...]) -> tuple[tuple[Message, ...], str]:
    """The turns before the answer, and the answer."""
    if turns[-1].role != "assistant":
        raise RowError(f"the last turn has the role '{turns[-1].role}', not 'assistant': no answer to learn")
    if not any(turn.role == "user" for turn in turns):
        raise RowError("no turn has the role 'user': nothing is asked")
    return turns[:-1], turns[-1].content.strip()


def _kept(record: Record, names: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """The fields that are kept, as text, sorted by name; an empty one is left out."""
    kept = []
    for name in names:
        value = record.fields.get(name)
        if value is None or value != value or not str(value).strip():
            continue
        text = canonical_json(value) if isinstance(value, (list, dict)) else value
        kept.append((name, _as_text(text, name, "field")))
    return tuple(kept)


def _as_text(value: object, field: str, role: str) -> str:
    if value is None:
        raise RowError(f"the {role} '{field}' is null")
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        if value != value:
            raise RowError(f"the {role} '{field}' is not a number (NaN)")
        # Tables turn whole numbers into floats as soon as one cell of the column is missing.
        return str(int(value)) if value.is_integer() else repr(value)
    if isinstance(value, (list, dict, bytes)):
        several = " (several labels a row are kind: tag)" if role == "target" and _is_labels(value) else ""
        raise RowError(f"the {role} '{field}' holds a {type(value).__name__}, not text{several}")
    text = str(value)
    if not text.strip():
        raise RowError(
            f"the {role} '{field}' is empty" if not text else f"the {role} '{field}' is only spaces"
        )
    if "\0" in text:
        raise RowError(f"the {role} '{field}' holds a null character")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise RowError(f"the {role} '{field}' holds half a surrogate pair, which is no valid text") from None
    return text


def _is_labels(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(label, str) for label in value)
