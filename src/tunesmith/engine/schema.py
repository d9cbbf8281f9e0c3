"""The JSON texts of a schema as an automaton over bytes: the part of JSON Schema that extraction needs.

Texts are written as Python's ``json.dumps`` writes them, one space after ``:`` and ``,``, with every
property in the schema's order, and characters as themselves or escaped. Numbers have no exponent and at most
15 digits before and after the point, so that every reader of JSON holds whole numbers exactly.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tunesmith.engine.automaton import Automaton, Builder
from tunesmith.errors import UserError

MOST_DIGITS = 15

_NOTES = frozenset({"title", "description", "default", "examples", "$schema", "$id", "$comment"})
_WHOLE = ("enum", "const", "anyOf")
_KEYWORDS: dict[str, frozenset[str]] = {
    "object": frozenset({"properties", "required", "additionalProperties"}),
    "array": frozenset({"items", "minItems", "maxItems"}),
    "string": frozenset({"minLength", "maxLength"}),
    "number": frozenset(),
    "integer": frozenset(),
    "boolean": frozenset(),
    "null": frozenset(),
}


def compile_schema(schema: Mapping[str, Any]) -> Automaton:
    """The automaton of the texts that ``schema`` allows.

    Raises UserError, naming the place and the keyword, for a schema outside the subset: ``type`` (also a list
    of types), ``properties``, ``required``, ``additionalProperties``, ``items``, ``minItems``, ``maxItems``,
    ``minLength``, ``maxLength``, ``enum``, ``const`` and ``anyOf``.
    """
    builder = Builder()
    return Automaton(builder, _value(builder, schema, builder.end, "schema"))


def _value(builder: Builder, schema: Any, following: int, place: str) -> int:
    if not isinstance(schema, Mapping):
        raise UserError(f"{place}: found {schema!r}", fix="give a JSON Schema object, such as {type: string}")
    whole = [keyword for keyword in _WHOLE if keyword in schema]
    if whole:
        return _choice(builder, schema, whole[0], following, place)
    kinds = _types(schema, place)
    allowed = _NOTES.union({"type"}, *(_KEYWORDS[kind] for kind in kinds))
    _refuse(schema, allowed, place, f"with type {', '.join(kinds)}")
    starts = []
    for kind in kinds:
        if kind == "object":
            starts.append(_object(builder, schema, following, place))
        elif kind == "array":
            starts.append(_array(builder, schema, following, place))
        elif kind == "string":
            low, high = _bounds(schema, "minLength", "maxLength", place)
            starts.append(_string(builder, low, high, following))
        elif kind in ("number", "integer"):
            starts.append(_number(builder, kind == "number", following))
        else:
            words = ("true", "false") if kind == "boolean" else ("null",)
            starts += [builder.literal(word, following) for word in words]
    return builder.any_of(starts)


def _types(schema: Mapping[str, Any], place: str) -> list[str]:
    found = schema.get("type")
    kinds = list(found) if isinstance(found, list) else [found]
    if not kinds or any(kind not in _KEYWORDS for kind in kinds):
        # A keyword outside the subset, such as $ref, says more than its missing type.
        known = _NOTES.union({"type"}, *_KEYWORDS.values())
        _refuse(schema, known, place, "here")
        raise UserError(
            f"{place}: type is {found!r}",
            fix=f"give it a type out of {', '.join(_KEYWORDS)}, or a list of them",
        )
    return [str(kind) for kind in kinds]


def _refuse(schema: Mapping[str, Any], allowed: frozenset[str], place: str, where: str) -> None:
    odd = sorted(set(schema) - allowed)
    if odd:
        raise UserError(
            f"{place}: the keyword {odd[0]} is not supported {where}",
            fix=f"leave it out; supported {where}: {', '.join(sorted({*allowed, *_WHOLE} - _NOTES))}",
        )


def _choice(builder: Builder, schema: Mapping[str, Any], keyword: str, following: int, place: str) -> int:
    _refuse(schema, _NOTES | {keyword, "type"}, place, f"with {keyword}")
    choices = [schema[keyword]] if keyword == "const" else schema[keyword]
    if not isinstance(choices, Sequence) or isinstance(choices, str) or not choices:
        raise UserError(f"{place}: {keyword} is {choices!r}", fix="give it a list with at least one entry")
    if keyword == "anyOf":
        if "type" in schema:
            raise UserError(f"{place}: both anyOf and type", fix="move the type into every entry of anyOf")
        return builder.any_of(
            _value(builder, entry, following, f"{place}.anyOf[{index}]")
            for index, entry in enumerate(choices)
        )
    kinds = _types(schema, place) if "type" in schema else list(_KEYWORDS)
    fitting = [choice for choice in choices if any(_is(choice, kind) for kind in kinds)]
    if not fitting:
        raise UserError(
            f"{place}: no value of {keyword} is of type {', '.join(kinds)}",
            fix="correct the type or the values",
        )
    try:
        texts = [json.dumps(choice, ensure_ascii=False, allow_nan=False) for choice in fitting]
    except ValueError as error:
        raise UserError(
            f"{place}: {keyword} holds a number that is not finite", fix="leave it out"
        ) from error
    return builder.any_of(builder.literal(text, following) for text in dict.fromkeys(texts))


def _is(value: Any, kind: str) -> bool:
    if kind in ("number", "integer"):
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return number and (kind == "number" or value == int(value))
    types: dict[str, Any] = {
        "object": dict,
        "array": list,
        "string": str,
        "boolean": bool,
        "null": type(None),
    }
    return isinstance(value, types[kind])


def _object(builder: Builder, schema: Mapping[str, Any], following: int, place: str) -> int:
    properties = schema.get("properties", {})
    if not isinstance(properties, Mapping):
        raise UserError(f"{place}: properties is {properties!r}", fix="give names and their schemas")
    missing = [name for name in schema.get("required", ()) if name not in properties]
    if missing:
        raise UserError(
            f"{place}: required names {missing[0]!r}, which properties does not describe",
            fix="describe it, or leave it out of required",
        )
    if not isinstance(schema.get("additionalProperties", False), bool):
        raise UserError(
            f"{place}: the keyword additionalProperties is not supported with a schema",
            fix="name every property under properties",
        )
    state = builder.literal("}", following)
    for index, (name, inner) in reversed(list(enumerate(properties.items()))):
        state = _value(builder, inner, state, f"{place}.{name}")
        before = ", " if index else ""
        state = builder.literal(f"{before}{json.dumps(str(name), ensure_ascii=False)}: ", state)
    return builder.literal("{", state)


def _array(builder: Builder, schema: Mapping[str, Any], following: int, place: str) -> int:
    if "items" not in schema:
        raise UserError(f"{place}: an array without items", fix="give the schema of its items")
    low, high = _bounds(schema, "minItems", "maxItems", place)
    inside = f"{place}[]"
    # After at least ``low`` items and, where there is a highest number, after that many.
    end = builder.literal("]", following)
    if high is None:
        more = builder.state()
        builder.silent[more].append(end)
        builder.silent[more].append(builder.literal(", ", _value(builder, schema["items"], more, inside)))
        after = more
        known = max(low, 1)
    else:
        after, known = end, high
    for count in range(known, 0, -1):
        # ``after`` is the state with ``count`` items written.
        first = _value(builder, schema["items"], after, inside)
        start = first if count == 1 else builder.literal(", ", first)
        after = builder.any_of([start, end]) if count - 1 >= low else start
    return builder.literal("[", after)


def _bounds(schema: Mapping[str, Any], low: str, high: str, place: str) -> tuple[int, int | None]:
    least, most = schema.get(low, 0), schema.get(high)
    for name, value in ((low, least), (high, most)):
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 0):
            raise UserError(f"{place}: {name} is {value!r}", fix="give a whole number, 0 or more")
    if most is not None and most < least:
        raise UserError(f"{place}: {high} {most} is below {low} {least}", fix="make the larger one larger")
    return least, most


def _string(builder: Builder, low: int, high: int | None, following: int) -> int:
    """A quoted string of ``low`` to ``high`` characters (code points)."""
    if high is None:
        content = builder.state()
        builder.steps[content].append((0x22, 0x22, following))
        _character(builder, content, content)
        known = low
    else:
        content = builder.literal('"', following)
        known = high
    for count in range(known - 1, -1, -1):
        start = builder.state()
        _character(builder, start, content)
        if count >= low:
            builder.steps[start].append((0x22, 0x22, following))
        content = start
    return builder.literal('"', content)


def _character(builder: Builder, start: int, following: int) -> None:
    """One character inside a string: itself in UTF-8 (RFC 3629), or escaped (RFC 8259), no surrogate."""
    steps = builder.steps

    def state(*ways: tuple[int, int, int]) -> int:
        new = builder.state()
        steps[new].extend(ways)
        return new

    one = state((0x80, 0xBF, following))
    two = state((0x80, 0xBF, one))
    three = state((0x80, 0xBF, two))
    hexadecimal = [following]
    for _ in range(3):
        digit = hexadecimal[-1]
        hexadecimal.append(state((0x30, 0x39, digit), (0x41, 0x46, digit), (0x61, 0x66, digit)))
    last_two, last_three = hexadecimal[2], hexadecimal[3]
    not_surrogate = state((0x30, 0x37, last_two))
    code = state(
        *((low, high, last_three) for low, high in ((0x30, 0x39), (0x41, 0x43), (0x45, 0x46))),
        *((low, high, last_three) for low, high in ((0x61, 0x63), (0x65, 0x66))),
        (0x44, 0x44, not_surrogate),
        (0x64, 0x64, not_surrogate),
    )
    escape = state(*((ord(sign), ord(sign), following) for sign in '"\\/bfnrt'), (0x75, 0x75, code))
    steps[start] += [
        (0x20, 0x21, following),
        (0x23, 0x5B, following),
        (0x5C, 0x5C, escape),
        (0x5D, 0x7F, following),
        (0xC2, 0xDF, one),
        (0xE0, 0xE0, state((0xA0, 0xBF, one))),
        (0xE1, 0xEC, two),
        (0xED, 0xED, state((0x80, 0x9F, one))),
        (0xEE, 0xEF, two),
        (0xF0, 0xF0, state((0x90, 0xBF, two))),
        (0xF1, 0xF3, three),
        (0xF4, 0xF4, state((0x80, 0x8F, two))),
    ]


def _number(builder: Builder, fraction: bool, following: int) -> int:
    end = following
    if fraction:
        point = builder.state()
        builder.steps[point].append((0x2E, 0x2E, _digits(builder, MOST_DIGITS, following, least=1)))
        end = builder.any_of([following, point])
    whole = builder.state()
    builder.steps[whole].append((0x30, 0x30, end))
    builder.steps[whole].append((0x31, 0x39, _digits(builder, MOST_DIGITS - 1, end, least=0)))
    minus = builder.state()
    builder.steps[minus].append((0x2D, 0x2D, whole))
    return builder.any_of([whole, minus])


def _digits(builder: Builder, most: int, following: int, least: int) -> int:
    state = following
    for count in range(most - 1, -1, -1):
        start = builder.state()
        builder.steps[start].append((0x30, 0x39, state))
        if count >= least:
            builder.silent[start].append(following)
        state = start
    return state
