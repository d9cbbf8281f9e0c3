"""The review queue goes to a person in three formats, and what comes back is checked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tunesmith.data.curation.review import (
    QueueItem,
    ReviewAnswer,
    ReviewFormat,
    read_answers,
    read_review,
    write_answers,
    write_queue,
)
from tunesmith.errors import UserError

QUEUE = [
    QueueItem("r1", "a.jsonl:1", "train", "where is my card?", "lost", "late", ("labels: odd",)),
    QueueItem("r2", "a.jsonl:2", "test", "how much?", "fees", None, ("duplicates: conflict",)),
    QueueItem("r3", "a.jsonl:3", "train", "€ <b>&", "fees", None, ("duplicates: conflict",)),
]
TARGETS = {item.row: item.target for item in QUEUE}


def answer_tasks(path: Path, format: ReviewFormat) -> None:
    """As a person would: the proposal is right, the second row goes, the third is skipped."""
    if format == "label-studio":
        tasks = json.loads(path.read_text())
        result = {"from_name": "answer", "to_name": "text"}
        chosen = [["late"], ["(remove this row)"], ["fees"]]
        kind = "choices" if "choices" in tasks[0]["predictions"][0]["result"][0]["value"] else "text"
        for task, value, cancelled in zip(tasks, chosen, (False, False, True), strict=True):
            given = {"result": [{**result, "value": {kind: value}}], "was_cancelled": cancelled}
            task["annotations"] = [given]
        path.write_text(json.dumps(tasks))
        return
    records = [json.loads(line) for line in path.read_text().splitlines()]
    if format == "prodigy":
        for record, answer in zip(records, ("accept", "reject", "ignore"), strict=True):
            record["answer"] = answer
    else:
        records[0] |= {"decision": "relabel", "new_target": "late"}
        records[1] |= {"decision": "drop"}
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


@pytest.mark.parametrize("format", ["jsonl", "label-studio", "prodigy"])
@pytest.mark.parametrize("labels", [("fees", "late", 'l"o&st'), tuple(f"label {n}" for n in range(300))])
def test_the_queue_goes_to_a_person_and_comes_back(
    tmp_path: Path, format: ReviewFormat, labels: tuple[str, ...]
) -> None:
    path = tmp_path / "queue.json"
    write_queue(path, QUEUE, labels, format)
    assert read_review(path, TARGETS) == [] if format == "prodigy" else True
    answer_tasks(path, format)
    answers = read_review(path, TARGETS)
    assert answers == [ReviewAnswer("r1", "relabel", "late"), ReviewAnswer("r2", "drop")]
    write_answers(tmp_path / "answers.jsonl", answers)
    assert list(read_answers(tmp_path / "answers.jsonl").values()) == answers


def test_answers_that_cannot_be_used_are_explained(tmp_path: Path) -> None:
    path = tmp_path / "queue.jsonl"
    line = {"row": "r1", "target": "lost", "decision": "drop", "new_target": ""}
    cases = {
        "about row 'gone'": [{**line, "row": "gone"}],
        "two different answers": [line, {**line, "decision": "keep"}],
        "'maybe' cannot be followed": [{**line, "decision": "maybe"}],
        "'relabel' cannot be followed": [{**line, "decision": "relabel"}],
        "is no reviewed row": [{"text": "x"}],
    }
    for told, records in cases.items():
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
        with pytest.raises(UserError) as error:
            read_review(path, TARGETS)
        assert told in error.value.what
    path.write_text("{")
    with pytest.raises(UserError, match="broken JSON"):
        read_review(path, TARGETS)
