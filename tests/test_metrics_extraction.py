"""Fields, entities, exact match and schemas."""

import json
from typing import Any

import pytest

from metric_samples import answered
from tunesmith.errors import UserError
from tunesmith.evaluation.metrics.answered import RowScores
from tunesmith.evaluation.metrics.catalogue import METRICS
from tunesmith.evaluation.metrics.schema import check_schema, schema_problems


def value_of(metric: str, targets: list[Any], answers: list[Any], **more: Any) -> float:
    texts = [
        [one if isinstance(one, str) else json.dumps(one) for one in part] for part in (targets, answers)
    ]
    measured = METRICS[metric].measure(answered(*texts, **more))
    return float(measured.scores.mean()) if isinstance(measured, RowScores) else measured.value


def test_field_f1_counts_right_wanted_and_given_fields_of_all_rows() -> None:
    targets = [{"name": "Blue Spice", "area": "city"}, {"name": "Aromi", "price": {"low": 5}}]
    answers = [{"area": "city", "name": "Blue Spice"}, {"name": "Aroma", "price": {"low": 5}, "food": "thai"}]
    assert value_of("field_f1", targets, answers) == pytest.approx(2 * 3 / (4 + 5))


def test_an_answer_that_is_not_json_misses_every_field() -> None:
    assert value_of("field_f1", [{"a": 1, "b": 2}, {"a": 1}], ["a is 1", {"a": 1}]) == pytest.approx(2 / 4)
    assert value_of("field_f1", [{"a": 1}], ['{"a": NaN}']) == 0


def test_lists_are_compared_in_any_order_and_absent_equals_null() -> None:
    assert value_of("field_f1", [{"tags": ["x", "y", "y"]}], [{"tags": ["y", "x", "y"]}]) == 1
    assert value_of("field_f1", [{"tags": ["x", "y"]}], [{"tags": ["y", "y"]}]) == 0.5
    assert value_of("field_f1", [{"a": 1, "b": None}], [{"a": 1, "c": ""}]) == 1


@pytest.mark.parametrize(("wanted", "given"), [("Blue  Spice", "blue spice"), (12, "12.0"), ("１２", 12)])
def test_by_value_what_a_reader_takes_for_the_same_is_the_same(wanted: object, given: object) -> None:
    assert value_of("field_f1_by_value", [{"a": wanted}], [{"a": given}]) == 1
    assert value_of("field_f1", [{"a": wanted}], [{"a": given}]) == 0


def test_true_is_not_one() -> None:
    for metric in ("field_f1", "field_f1_by_value"):
        assert value_of(metric, [{"a": True}], [{"a": 1}]) == 0


def entity(start: int, end: int, label: str, text: str) -> dict[str, Any]:
    return {"start": start, "end": end, "label": label, "text": text}


def test_entities_match_by_exact_span_or_by_value() -> None:
    targets = [[entity(0, 4, "PERSON", "Anna"), entity(9, 13, "CITY", "Rome")]]
    shifted = [{"entities": [entity(0, 4, "PERSON", "Anna"), entity(8, 12, "CITY", "rome")]}]
    assert value_of("entity_f1", targets, shifted) == 0.5
    assert value_of("entity_f1_by_value", targets, shifted) == 1
    assert value_of("entity_f1_by_value", targets, [[{**targets[0][0], "label": "CITY"}]]) == 0


def test_an_incomplete_entity_is_wrong_in_an_answer_and_an_error_in_a_target() -> None:
    whole, part = [entity(0, 4, "PERSON", "Anna")], [{"text": "Anna", "label": "PERSON"}]
    assert value_of("entity_f1", [whole], [whole + part]) == pytest.approx(2 / 3)
    with pytest.raises(UserError, match=r"data\.jsonl:1: an entity of the target"):
        value_of("entity_f1", [part], [whole])
    with pytest.raises(UserError, match=r"data\.jsonl:2: the target holds no list"):
        value_of("entity_f1", [whole, {"a": 1}], [whole, whole])


def test_a_target_that_is_not_json_names_its_row() -> None:
    with pytest.raises(UserError, match=r"data\.jsonl:2: the target is not JSON"):
        value_of("field_f1", [{"a": 1}, "a = 1"], [{"a": 1}, {"a": 1}])


def test_exact_match_compares_json_as_json_and_text_as_text() -> None:
    assert value_of("exact_match", ['{"a": 1, "b": 2}'], ['{ "b":2, "a":1 }']) == 1
    assert value_of("exact_match", ['{"a": 1}'], ['{"a": 2}']) == 0
    assert value_of("exact_match", ["Rome", "Rome", "12"], [" Rome\n", "rome", "12.0"]) == pytest.approx(
        1 / 3
    )
    assert value_of("exact_match", ["Rome"], ["Roma"], references=[["Rome", "Roma"]]) == 1


SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["name", "tags"],
    "additionalProperties": False,
    "properties": {
        "name": {"type": "string", "maxLength": 10, "minLength": 1},
        "stars": {"type": ["integer", "null"], "minimum": 1, "maximum": 5},
        "tags": {"type": "array", "maxItems": 2, "items": {"enum": ["food", "pub", 1]}},
        "open": {"const": True},
    },
}


@pytest.mark.parametrize(
    "value",
    [
        {"name": "Aromi", "tags": []},
        {"name": "Aromi", "tags": ["pub", 1.0], "stars": 5.0, "open": True},
        {"name": "Aromi", "tags": [], "stars": None},
    ],
)
def test_values_that_obey_the_schema(value: object) -> None:
    assert list(schema_problems(value, SCHEMA)) == []


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ([], "the answer is [], not object"),
        ({"name": "Aromi"}, "the answer has no 'tags'"),
        ({"name": 3, "tags": []}, "name is 3, not string"),
        ({"name": "", "tags": []}, "name has 0 characters, fewer than allowed"),
        ({"name": "a long long name", "tags": []}, "name has 16 characters, more than allowed"),
        ({"name": "Aromi", "tags": ["bar"]}, "tags[0] is 'bar', not one of the values allowed"),
        ({"name": "Aromi", "tags": [True]}, "tags[0] is True, not one of the values allowed"),
        ({"name": "Aromi", "tags": ["pub"] * 3}, "tags has 3 items, more than allowed"),
        ({"name": "Aromi", "tags": [], "stars": True}, "stars is True, not integer or null"),
        ({"name": "Aromi", "tags": [], "stars": 4.5}, "stars is 4.5, not integer or null"),
        ({"name": "Aromi", "tags": [], "stars": 6}, "stars is 6, above 5"),
        ({"name": "Aromi", "tags": [], "open": 1}, "open is 1, not True"),
        ({"name": "Aromi", "tags": [], "phone": "1"}, "phone is not in the schema"),
    ],
)
def test_each_keyword_of_the_schema_forbids_what_it_says(value: object, problem: str) -> None:
    assert list(schema_problems(value, SCHEMA)) == [problem]


def test_schema_validity_is_a_share_of_the_answers() -> None:
    answers = ['{"name": "Aromi", "tags": []}', '{"name": "Aromi"}', "Aromi", '{"name": "Aromi", "tags": [}']
    assert value_of("schema_valid", [""] * 4, answers, schema=SCHEMA) == 0.25


@pytest.mark.parametrize(
    ("schema", "problem"),
    [
        ({"anyOf": [{"type": "string"}]}, "schema uses anyOf"),
        ({"properties": {"a": {"pattern": "x+"}}}, r"schema\.properties\.a uses pattern"),
        ({"items": {"type": "text"}}, r"schema\.items: no type is called 'text'"),
        ({"required": "name"}, "required is 'name'"),
        ("object", "schema is 'object'"),
    ],
)
def test_a_schema_that_cannot_be_checked_is_refused_not_passed_over(schema: Any, problem: str) -> None:
    with pytest.raises(UserError, match=problem):
        check_schema(schema)
