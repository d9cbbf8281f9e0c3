"""JSON Lines and JSON arrays, one record at a time, with bounds on length and nesting."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, TextIO

from tunesmith.data.content import LONGEST_LINE_BYTES
from tunesmith.data.parsed import BadRecord, Record
from tunesmith.errors import UserError

DEEPEST_LEVELS = 100
_CHUNK = 2**20
_AT_THE_END = 16  # characters: how far before the end of a cut-off text a parser may report it
_SPACE_AND_COMMA = re.compile(r"[ \t\r\n]*,?[ \t\r\n]*")
_STRING_OR_BRACKET = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[\[{]|[\]}]', re.DOTALL)
_EXAMPLE = 'Each line must hold one object, for example {"text": "...", "label": "..."}.'
TOO_DEEP = f"JSON nested deeper than {DEEPEST_LEVELS} levels"
_FLATTEN = "Flatten or remove this row: no task data needs such nesting."


class _RepeatedKeyError(ValueError):
    pass


def read_jsonl(lines: Iterable[str]) -> Iterator[Record | BadRecord]:
    """One record for each line that is not blank; ``lines`` are bounded (see ``check_text``)."""
    for line, content in enumerate(lines, start=1):
        if content.strip():
            yield _of_line(content.rstrip("\r\n"), line)


def parse_object(content: str) -> Any:
    """One JSON value, of bounded depth and without repeated names.

    Raises:
        ValueError: what is wrong, in words.
    """
    if content.count("[") + content.count("{") > DEEPEST_LEVELS and _depth(content) > DEEPEST_LEVELS:
        raise ValueError(TOO_DEEP)
    try:
        return json.loads(content, object_pairs_hook=_object)
    except RecursionError:
        raise ValueError(TOO_DEEP) from None


def _of_line(content: str, line: int) -> Record | BadRecord:
    try:
        fields = parse_object(content)
    except _RepeatedKeyError as error:
        return _repeated_key(line, error)
    except json.JSONDecodeError as error:
        return BadRecord(
            line,
            f"broken JSON at column {error.colno}: {error.msg}",
            "Each line must hold one complete JSON object. Correct this line.",
        )
    except ValueError as error:
        fix = _FLATTEN if str(error) == TOO_DEEP else "Correct or remove this line."
        return BadRecord(line, f"JSON that cannot be read: {error}", fix)
    if not isinstance(fields, dict):
        return BadRecord(line, f"not a JSON object but a {type(fields).__name__}", _EXAMPLE)
    return Record(line, fields)


def read_json_array(stream: TextIO, name: str) -> Iterator[Record | BadRecord]:
    """The elements of one array, numbered from 1 and read piece by piece: an array that stands on a single
    line needs no more memory than another.

    Raises:
        UserError: from the first syntax error on nothing can be told apart, so it ends the reading.
    """
    decoder = json.JSONDecoder(object_pairs_hook=_object)
    buffer = stream.read(_CHUNK)
    opening = re.match(r"\s*\[", buffer)
    if opening is None:
        raise UserError(f"{name}:1: not a JSON array: it does not begin with [", _one_of_two(name))
    at, line, number, ended = opening.end(), buffer.count("\n", 0, opening.end()) + 1, 1, False
    while True:
        gap = _SPACE_AND_COMMA.match(buffer, at)
        assert gap is not None  # the pattern matches nothing, too
        if gap.end() == len(buffer) and not ended:
            more = stream.read(_CHUNK)
            buffer, at, ended = buffer[at:] + more, 0, not more
            continue
        line, at = line + buffer.count("\n", at, gap.end()), gap.end()
        if buffer[at : at + 1] == "]":
            if (buffer[at + 1 :] + stream.read(_CHUNK)).strip():
                raise UserError(f"{name}: line {line}: text after the end of the array", _one_of_two(name))
            return
        if at == len(buffer):
            raise UserError(f"{name}: line {line}: the array is cut off: no ] ends it", _one_of_two(name))
        try:
            value, end = decoder.raw_decode(buffer, at)
        except json.JSONDecodeError as error:
            cut = error.msg.startswith("Unterminated string") or error.pos >= len(buffer) - _AT_THE_END
            if cut and not ended and len(buffer) - at <= LONGEST_LINE_BYTES:
                more = stream.read(max(_CHUNK, len(buffer) - at))
                buffer, at, ended = buffer[at:] + more, 0, not more
                continue
            if cut and not ended:
                raise UserError(*_too_long(name, number)) from None
            raise UserError(
                f"{name}: line {line + buffer.count(chr(10), at, error.pos)}: broken JSON in element "
                f"{number:,}, at its character {error.pos - at + 1:,}: {error.msg}",
                "Correct the file there: every element of the array must be one complete JSON object.",
            ) from None
        except _RepeatedKeyError as error:
            bad = _repeated_key(number, error)
            raise UserError(f"{name}:{number}: {bad.what}", bad.fix) from None
        except (ValueError, RecursionError) as error:
            what = TOO_DEEP if isinstance(error, RecursionError) else f"JSON that cannot be read: {error}"
            raise UserError(f"{name}:{number}: {what}", _FLATTEN) from None
        if end - at > LONGEST_LINE_BYTES:
            raise UserError(*_too_long(name, number))
        yield _element(value, buffer[at:end], number)
        line, at, number = line + buffer.count("\n", at, end), end, number + 1


def _element(value: object, content: str, number: int) -> Record | BadRecord:
    if not isinstance(value, dict):
        what = f"the array holds a {type(value).__name__}, not a JSON object"
        return BadRecord(number, what, _EXAMPLE.replace("line", "element"))
    if content.count("[") + content.count("{") > DEEPEST_LEVELS and _depth(content) > DEEPEST_LEVELS:
        return BadRecord(number, TOO_DEEP, _FLATTEN)
    return Record(number, value)


def _too_long(name: str, number: int) -> tuple[str, str]:
    return (
        f"{name}:{number}: this element of the array is longer than {LONGEST_LINE_BYTES // 2**20} MiB",
        "One element is one row. Split or remove it.",
    )


def _one_of_two(name: str) -> str:
    return f"Give one JSON array of objects, or JSON Lines: jq -c '.[]' {name} > data.jsonl"


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise _RepeatedKeyError(repeated(key for key, _ in pairs))
    return fields


def _repeated_key(line: int, error: _RepeatedKeyError) -> BadRecord:
    return BadRecord(
        line,
        f"two fields of the same name: {error}",
        "Rename or remove one of them: which value was meant cannot be known.",
    )


def repeated(names: Iterable[str]) -> str:
    """The names that occur more than once, quoted."""
    return ", ".join(f"'{name}'" for name, times in Counter(names).items() if times > 1)


def _depth(content: str) -> int:
    """How deep brackets nest outside strings, counted only until it is too deep."""
    depth = deepest = 0
    for token in _STRING_OR_BRACKET.finditer(content):
        first = content[token.start()]
        if first in "[{":
            depth += 1
            deepest = max(deepest, depth)
            if deepest > DEEPEST_LEVELS:
                break
        elif first in "]}":
            depth -= 1
    return deepest
