"""Answers that are JSON: fields, entities, exact match, schema validity.

An answer that is not JSON has no field and no entity: everything wanted of its row is missed. F1 is over all
rows together (micro), as in the CoNLL evaluation of named entities (Tjong Kim Sang and De Meulder 2003).
"""

from __future__ import annotations

import json
import unicodedata
from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from typing import Any

import numpy as np

from tunesmith.errors import UserError
from tunesmith.evaluation.metrics.answered import Answered, RowScores, unmeasured
from tunesmith.evaluation.metrics.schema import check_schema, schema_problems
from tunesmith.stats.clusters import Floats
from tunesmith.stats.jackknife import Statistic, statistic_of_sums

_NOT_JSON = object()
_ENTITY_FORM = '{"start": 3, "end": 7, "label": "PERSON"} (and "text" for the match by value)'


def exact_match(answered: Answered) -> RowScores:
    """Share of the answers that equal a right one: as JSON values where that is JSON, else as text.

    Order of keys and surrounding white space do not count; all else does.
    """
    pairs = zip(answered.predictions, answered.right_answers, strict=True)
    return RowScores(np.array([float(any(_equal(answer, ref) for ref in refs)) for answer, refs in pairs]))


def schema_valid(answered: Answered) -> RowScores:
    """Share of the answers that are JSON and obey the task's schema. Errors as in ``check_schema``."""
    if answered.schema is None:
        raise unmeasured("schema_valid", "the task has no schema")
    check_schema(answered.schema)
    valid = []
    for answer in answered.predictions:
        value = _parsed(answer)
        valid.append(value is not _NOT_JSON and next(schema_problems(value, answered.schema), None) is None)
    return RowScores(np.array(valid, dtype=np.float64))


def field_f1(answered: Answered) -> Statistic:
    """F1 of the fields, each a path and its exact value.

    Nested objects give paths such as ``address.city``; each item of a list is a field of its own, in any
    order. A field that is null, or an empty text, list or object, is no field.
    """
    return _f1_of_items("field_f1", answered, lambda value, _: Counter(_fields(value, "")))


def field_f1_by_value(answered: Answered) -> Statistic:
    """The same, with values compared as a reader would: case, width of characters and white space do not
    count, and 12, 12.0 and "12" are the same."""

    def items(value: Any, _: str | None) -> Counter[Hashable]:
        return Counter((path, _plain(leaf)) for path, (_, leaf) in _fields(value, ""))

    return _f1_of_items("field_f1_by_value", answered, items)


def entity_f1(answered: Answered) -> Statistic:
    """F1 of entities with exactly the right start, end and label.

    An answer is a list of entities, or an object with that list under "entities". Raises UserError where a
    target's entity has no start, end or label.
    """

    def items(value: Any, source: str | None) -> Counter[Hashable]:
        return _entities(value, source, ("start", "end", "label"), str)

    return _f1_of_items("entity_f1", answered, items)


def entity_f1_by_value(answered: Answered) -> Statistic:
    """F1 of entities with the right text and label, wherever they stand; case and spaces do not count."""

    def items(value: Any, source: str | None) -> Counter[Hashable]:
        return _entities(value, source, ("text", "label"), _plain)

    return _f1_of_items("entity_f1_by_value", answered, items)


def _f1_of_items(
    metric: str, answered: Answered, items: Callable[[Any, str | None], Counter[Hashable]]
) -> Statistic:
    """``items`` takes a value and, for a target, its row's source to name in an error."""
    parts = np.zeros((len(answered.rows), 3))
    for index, (row, answer) in enumerate(zip(answered.rows, answered.predictions, strict=True)):
        target = _parsed(row.target)
        if target is _NOT_JSON:
            raise UserError(
                f"{row.source}: the target is not JSON: {row.target[:60]!r}", "correct the target"
            )
        value = _parsed(answer)
        wanted = items(target, row.source)
        given: Counter[Hashable] = Counter() if value is _NOT_JSON else items(value, None)
        parts[index] = (wanted & given).total(), wanted.total(), given.total()

    def value_of(sums: Floats) -> Floats:
        both = sums[:, 1] + sums[:, 2]
        return np.where(both > 0, 2 * sums[:, 0] / np.maximum(both, 1), np.nan)

    if parts[:, 1:].sum() == 0:
        raise unmeasured(metric, "no row has anything to extract, and no answer anything extracted")
    return statistic_of_sums(parts, value_of)


def _parsed(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return _NOT_JSON


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _equal(answer: str, reference: str) -> bool:
    wanted = _parsed(reference)
    if isinstance(wanted, (dict, list)):
        return _canonical(_parsed(answer)) == _canonical(wanted)
    return answer.strip() == reference.strip()


def _canonical(value: Any) -> str | None:
    return None if value is _NOT_JSON else json.dumps(value, sort_keys=True)


def _fields(value: Any, path: str) -> Iterator[tuple[str, tuple[str, Any]]]:
    """Path and (type, value) of every leaf; the type keeps 1 from equalling true."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _fields(item, f"{path}.{name}" if path else str(name))
    elif isinstance(value, list):
        for item in value:
            yield from _fields(item, f"{path}[]")
    elif value is not None and value != "":
        yield path, (type(value).__name__, value)


def _entities(
    value: Any, source: str | None, keys: tuple[str, ...], written: Callable[[Any], str]
) -> Counter[Hashable]:
    """The entities as tuples of ``keys``. Those of an answer that lack one are counted as wrong."""
    listed = value.get("entities") if isinstance(value, dict) else value
    if not isinstance(listed, list):
        if source is not None:
            raise UserError(
                f"{source}: the target holds no list of entities", f"write them as {_ENTITY_FORM}"
            )
        return Counter()
    found: Counter[Hashable] = Counter()
    for entity in listed:
        if isinstance(entity, dict) and all(key in entity for key in keys):
            found[tuple(written(entity[key]) for key in keys)] += 1
        elif source is not None:
            raise UserError(f"{source}: an entity of the target is {entity!r}", f"write it as {_ENTITY_FORM}")
        else:
            found["incomplete"] += 1
    return found


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).casefold()
    text = " ".join(unicodedata.normalize("NFKC", str(value)).casefold().split())
    try:
        return repr(float(text)) if text else text
    except ValueError:
        return text
