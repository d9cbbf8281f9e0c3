"""Does a JSON value obey a JSON schema? The part of JSON Schema 2020-12 that answers of a model need.

``type``, ``properties``, ``required``, ``additionalProperties`` (true or false), ``items`` (one schema),
``enum``, ``const``, ``minItems``, ``maxItems``, ``minLength``, ``maxLength``, ``minimum``, ``maximum``. Any
other keyword that could reject a value is refused by ``check_schema``, never passed over.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tunesmith.errors import UserError
from tunesmith.records import Row

_ROWS_LISTED = 10

_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "number": (int, float),
    "integer": (int,),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
    "null": (type(None),),
}
_SIZES = ("minItems", "maxItems", "minLength", "maxLength")
_LIMITS = ("minimum", "maximum")
_CHECKED = {
    *("type", "properties", "required", "additionalProperties", "items", "enum", "const"),
    *_SIZES,
    *_LIMITS,
}
# These describe and never reject.
_DESCRIBING = {"$schema", "$id", "$comment", "title", "description", "default", "examples", "deprecated"}


def check_schema(schema: object, where: str = "schema") -> None:
    """Raises UserError where ``schema`` cannot be judged by here, naming place and keyword."""
    if not isinstance(schema, dict):
        raise UserError(f"{where} is {_shown(schema)}", "a JSON schema is an object, such as {type: object}")
    unknown = sorted(set(schema) - _CHECKED - _DESCRIBING)
    if unknown:
        raise UserError(
            f"{where} uses {', '.join(unknown)}, which is not checked here",
            f"use only {', '.join(sorted(_CHECKED))}",
        )
    problem = _broken_keyword(schema)
    if problem:
        raise UserError(f"{where}: {problem}", "see json-schema.org for what this keyword takes")
    for name, part in schema.get("properties", {}).items():
        check_schema(part, f"{where}.properties.{name}")
    if "items" in schema:
        check_schema(schema["items"], f"{where}.items")


def schema_problems(value: object, schema: Mapping[str, Any], where: str = "") -> Iterator[str]:
    """Everything about ``value`` that a checked ``schema`` forbids, with the place it is at."""
    place = where or "the answer"
    if "type" in schema and not _is_of_type(value, schema["type"]):
        yield f"{place} is {_shown(value)}, not {_listed(schema['type'])}"
        return
    if "enum" in schema and not any(_same(value, one) for one in schema["enum"]):
        yield f"{place} is {_shown(value)}, not one of the values allowed"
    if "const" in schema and not _same(value, schema["const"]):
        yield f"{place} is {_shown(value)}, not {_shown(schema['const'])}"
    if isinstance(value, str):
        yield from _size_problems(place, len(value), schema, "Length", "characters")
    elif isinstance(value, list):
        yield from _size_problems(place, len(value), schema, "Items", "items")
        for index, item in enumerate(value):
            yield from schema_problems(item, schema.get("items", {}), f"{where}[{index}]")
    elif isinstance(value, dict):
        properties = schema.get("properties", {})
        for name in schema.get("required", ()):
            if name not in value:
                yield f"{place} has no {name!r}"
        for name, item in value.items():
            inner = f"{where}.{name}" if where else name
            if name in properties:
                yield from schema_problems(item, properties[name], inner)
            elif schema.get("additionalProperties", True) is False:
                yield f"{inner} is not in the schema"
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        if value < schema.get("minimum", value):
            yield f"{place} is {value}, below {schema['minimum']}"
        if value > schema.get("maximum", value):
            yield f"{place} is {value}, above {schema['maximum']}"


def check_rows(rows: Sequence[Row], schema: Mapping[str, Any]) -> None:
    """Raises UserError naming the rows whose target (JSON) a checked ``schema`` forbids, and why."""
    bad = []
    for row in rows:
        problem = next(schema_problems(json.loads(row.target), schema), None)
        if problem is not None:
            bad.append(f"{row.source}: {problem}")
    if bad:
        more = f"; and {len(bad) - _ROWS_LISTED:,} more" if len(bad) > _ROWS_LISTED else ""
        raise UserError(
            f"{len(bad):,} of {len(rows):,} targets do not obey the schema: "
            f"{'; '.join(bad[:_ROWS_LISTED])}{more}",
            "correct these targets or the schema; a field that may be absent has the type [string, null]",
        )


def _broken_keyword(schema: dict[str, Any]) -> str | None:
    kinds = schema.get("type", [])
    for kind in kinds if isinstance(kinds, list) else [kinds]:
        if not isinstance(kind, str) or kind not in _TYPES:
            return f"no type is called {_shown(kind)}"
    expected: dict[str, type | tuple[type, ...]] = {
        "properties": dict,
        "required": list,
        "additionalProperties": bool,
        "enum": list,
        **dict.fromkeys(_SIZES, int),
        **dict.fromkeys(_LIMITS, (int, float)),
    }
    for keyword, kind_of_value in expected.items():
        if keyword in schema and not isinstance(schema[keyword], kind_of_value):
            return f"{keyword} is {_shown(schema[keyword])}"
    return None


def _is_of_type(value: object, kinds: str | list[str]) -> bool:
    return any(_is_one_type(value, kind) for kind in ([kinds] if isinstance(kinds, str) else kinds))


def _is_one_type(value: object, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    if kind == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, _TYPES[kind])


def _same(value: object, other: object) -> bool:
    """Equal as JSON: 1 and 1.0 are, 1 and true are not."""
    return value == other and isinstance(value, bool) == isinstance(other, bool)


def _size_problems(place: str, size: int, schema: Mapping[str, Any], suffix: str, unit: str) -> Iterator[str]:
    least, most = schema.get(f"min{suffix}", 0), schema.get(f"max{suffix}", size)
    if not least <= size <= most:
        yield f"{place} has {size} {unit}, {'fewer' if size < least else 'more'} than allowed"


def _listed(kinds: str | list[str]) -> str:
    return kinds if isinstance(kinds, str) else " or ".join(kinds)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
