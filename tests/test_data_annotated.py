"""Exports of Label Studio and Prodigy: answers, spans, several annotators, and who left what out."""

import json
from pathlib import Path
from typing import Any

import pytest

from tunesmith.data.formats import open_table, read_table
from tunesmith.data.look import look
from tunesmith.data.rows import ColumnsRead, RowsRead, rows_of
from tunesmith.errors import UserError


def choice(who: int, *labels: str, control: str = "topic") -> dict[str, Any]:
    result = {"type": "choices", "from_name": control, "to_name": "text", "value": {"choices": list(labels)}}
    return {"completed_by": who, "was_cancelled": False, "result": [result]}


def spans(who: int, *found: tuple[int, int, str]) -> dict[str, Any]:
    results = [
        {
            "type": "labels",
            "from_name": "entity",
            "to_name": "text",
            "value": {"start": start, "end": end, "text": "x", "labels": [label]},
        }
        for start, end, label in found
    ]
    return {"completed_by": {"id": who, "email": f"{who}@example.org"}, "result": results}


def task(number: int, *annotations: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"id": number, "data": {"text": f"text {number}"}, "annotations": list(annotations), **more}


def read(path: Path, target: str) -> RowsRead:
    return rows_of(open_table(path), ColumnsRead(("text",), target))


def write(path: Path, items: list[dict[str, Any]]) -> Path:
    path.write_text(
        json.dumps(items, indent=1)
        if path.suffix == ".json"
        else "".join(json.dumps(i) + "\n" for i in items)
    )
    return path


def test_the_majority_of_annotators_decides_and_a_tie_is_told_not_guessed(tmp_path: Path) -> None:
    skipped = {**choice(4, "fee"), "was_cancelled": True}
    tasks = [
        task(1, choice(1, "fee")),
        task(2, choice(1, "fee"), choice(2, "card"), choice(3, "card")),
        task(3, choice(1, "fee"), choice(2, "card")),
        task(4),
        task(5, skipped),
        task(6, skipped, choice(1, "card")),
        task(7, choice(1, "b", "a")),
    ]
    found = read(write(tmp_path / "tasks.json", tasks), "topic")
    assert [(row.source, row.target) for row in found.rows] == [
        ("tasks.json:1", "fee"),
        ("tasks.json:2", "card"),
        ("tasks.json:6", "card"),
        ("tasks.json:7", '["a","b"]'),
    ]
    assert [row.annotations for row in found.rows] == [
        (),
        (("1", "fee"), ("2", "card"), ("3", "card")),
        (),
        (),
    ]
    assert found.aside == {
        "whose annotators have no majority": 1,
        "without an accepted answer in 'topic'": 1,
        "skipped by the annotator": 1,
    }
    assert found.notes[0] == "tasks.json: 1 rows whose annotators have no majority: 3"
    assert found.records == 7


def test_spans_are_one_form_and_an_empty_annotation_says_that_there_are_none(tmp_path: Path) -> None:
    tasks = [task(1, spans(1, (5, 6, "N"), (0, 4, "T"))), task(2, spans(1)), task(3)]
    found = read(write(tmp_path / "tasks.json", tasks), "entity")
    assert [json.loads(row.target) for row in found.rows] == [
        [
            {"start": 0, "end": 4, "label": "T", "text": "x"},
            {"start": 5, "end": 6, "label": "N", "text": "x"},
        ],
        [],
    ]
    assert found.aside == {"without an accepted answer in 'entity'": 1}
    two = [task(1, spans(1, (0, 4, "T")), spans(2, (0, 4, "T")))]
    row = read(write(tmp_path / "two.json", two), "entity").rows[0]
    assert [who for who, _ in row.annotations] == ["1@example.org", "2@example.org"]


def test_predictions_are_kept_apart_and_never_taken_for_answers(tmp_path: Path) -> None:
    tasks = [
        task(1, choice(1, "fee"), predictions=[choice(0, "card")]),
        task(2, predictions=[choice(0, "card")]),
    ]
    path = write(tmp_path / "tasks.json", tasks)
    assert [row.target for row in read(path, "topic").rows] == ["fee"]
    assert [row.target for row in read(path, "predicted_topic").rows] == ["card", "card"]


def test_textarea_rating_and_a_control_named_like_a_field(tmp_path: Path) -> None:
    results = [
        {"type": "textarea", "from_name": "text", "value": {"text": ["A summary."]}},
        {"type": "rating", "from_name": "stars", "value": {"rating": 4}},
    ]
    with pytest.raises(UserError, match="has no value 'textarea'"):
        read(write(tmp_path / "a.json", [task(1, {"result": results})]), "stars")
    results[0]["value"] = {"textarea": ["A summary."], "text": ["A summary."]}
    table = read_table(write(tmp_path / "b.json", [task(1, {"result": results})]))
    assert table.records[0].fields == {"data.text": "text 1", "id": 1, "text": "A summary.", "stars": "4"}


def test_a_task_that_is_none_and_an_image_label_are_named(tmp_path: Path) -> None:
    brush = {"result": [{"type": "brushlabels", "from_name": "b", "value": {"brushlabels": ["x"]}}]}
    tasks = [task(1, choice(1, "a")), {"text": "no task"}, task(3, brush)]
    with pytest.raises(UserError) as caught:
        read(write(tmp_path / "tasks.json", tasks), "topic")
    assert caught.value.what.startswith("tasks.json:2: not a Label Studio task")
    assert "2 of 3 rows cannot be used: 2, 3" in caught.value.what


def test_new_proposes_what_people_annotated(tmp_path: Path) -> None:
    seen = look(write(tmp_path / "tasks.json", [task(n, choice(1, "ab"[n % 2])) for n in range(20)]))
    assert (seen.input, seen.target) == ("text", "topic")
    assert "tasks of Label Studio" in seen.why[0]


def example(number: int, answer: str = "accept", who: str | None = None, **more: Any) -> dict[str, Any]:
    annotator = {} if who is None else {"_annotator_id": who}
    return {"text": f"text {number}", "_input_hash": number, "answer": answer, **annotator, **more}


def test_prodigy_choices_rejections_and_ignored_examples(tmp_path: Path) -> None:
    options = [{"id": "FEE", "text": "A fee"}, {"id": "CARD", "text": "A card"}]
    items = [
        example(1, accept=["FEE"], options=options),
        example(2, accept=["CARD", "FEE"], options=options),
        example(3, "ignore", accept=[], options=options),
        example(4, "reject", accept=["FEE"], options=options),
    ]
    path = write(tmp_path / "p.jsonl", items)
    found = read(path, "accept")
    assert [row.target for row in found.rows] == ["FEE", '["CARD","FEE"]']
    assert found.aside == {"ignored by the annotator": 1, "without an accepted answer in 'accept'": 1}
    assert "examples of Prodigy" in open_table(path).why


def test_prodigy_binary_labels_and_spans(tmp_path: Path) -> None:
    items = [
        example(1, label="FEE", spans=[{"start": 0, "end": 4, "label": "T"}]),
        example(2, "reject", label="FEE", spans=[]),
    ]
    path = write(tmp_path / "p.jsonl", items)
    assert [row.target for row in read(path, "label").rows] == ["FEE"]
    assert [row.target for row in read(path, "answer").rows] == ["accept", "reject"]
    assert json.loads(read(path, "spans").rows[0].target) == [
        {"start": 0, "end": 4, "label": "T", "text": "text"}
    ]


def test_prodigy_answers_to_a_queue_of_ours_stand_in_the_target_column(tmp_path: Path) -> None:
    asked = {"target_column": "topic", "why": "unsure"}
    items = [
        example(1, accept=["FEE"], meta=asked),
        example(2, user_input="CARD", meta=asked),
        example(3, user_input=" ", meta=asked),
        example(4, "reject", accept=["FEE"], meta=asked),
    ]
    found = read(write(tmp_path / "p.jsonl", items), "topic")
    assert [row.target for row in found.rows] == ["FEE", "CARD"]
    assert found.aside == {"without an accepted answer in 'topic'": 2}
    typed = write(tmp_path / "typed.jsonl", [example(1, user_input="CARD")])
    assert [row.target for row in read(typed, "user_input").rows] == ["CARD"]


def test_prodigy_annotators_of_one_input_are_brought_together(tmp_path: Path) -> None:
    answers = [(1, "a", "X"), (2, "a", "X"), (1, "b", "Y"), (2, "b", "X"), (1, "c", "Y")]
    items = [example(number, who=who, accept=[label]) for number, who, label in answers]
    found = read(write(tmp_path / "p.jsonl", items), "accept")
    assert [(row.source, row.target, row.annotations) for row in found.rows] == [
        ("p.jsonl:1", "Y", (("a", "X"), ("b", "Y"), ("c", "Y"))),
        ("p.jsonl:2", "X", (("a", "X"), ("b", "X"))),
    ]
