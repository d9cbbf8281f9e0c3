"""The review queue: rows for a person to decide, and the answers, in our own and others' formats."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal
from xml.sax.saxutils import quoteattr

from tunesmith.errors import UserError
from tunesmith.files import write_text
from tunesmith.records import SplitName

Decision = Literal["keep", "drop", "relabel"]
ReviewFormat = Literal["jsonl", "label-studio", "prodigy"]
FORMATS: tuple[ReviewFormat, ...] = ("jsonl", "label-studio", "prodigy")

REMOVE = "(remove this row)"
MOST_CHOICES = 200  # more labels do not fit a screen: then the answer is typed


@dataclass(frozen=True)
class QueueItem:
    """One row for a person to look at. ``proposed`` is the label that the evidence prefers, if any."""

    row: str
    source: str
    split: SplitName
    input: str
    target: str
    proposed: str | None
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class ReviewAnswer:
    """What a person decided about a row; ``target`` only with ``relabel``."""

    row: str
    decision: Decision
    target: str | None = None


def answers_beside(plan: Path) -> Path:
    """Where the answers to the review queue of a repair plan are kept."""
    return plan.with_name(f"{plan.stem}.answers.jsonl")


def write_queue(path: Path, queue: Sequence[QueueItem], labels: Sequence[str], format: ReviewFormat) -> None:
    """Write the queue for review.

    ``jsonl``: one object a line with an empty ``decision`` and ``new_target`` to fill in. ``label-studio``:
    a JSON array of tasks (with the proposal as a prediction), and beside it ``<name>.config.xml``, the
    labelling configuration. ``prodigy``: JSONL for the ``mark`` recipe with choices.
    """
    # Without labels the targets are texts: the answer is typed then, too.
    choices = [*labels, REMOVE] if 0 < len(labels) <= MOST_CHOICES else None
    if format == "label-studio":
        tasks = [_label_studio_task(item, choices) for item in queue]
        write_text(path, json.dumps(tasks, ensure_ascii=False, indent=1) + "\n")
        write_text(path.with_suffix(".config.xml"), _label_studio_config(choices))
        return
    if format == "prodigy":
        records = [_prodigy_task(item, choices) for item in queue]
    else:
        records = [{**asdict(item), "decision": "", "new_target": ""} for item in queue]
    write_text(path, "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records))


def read_review(path: Path, targets: Mapping[str, str]) -> list[ReviewAnswer]:
    """The answers in a file that came back from review, in whichever of the formats, sorted by row.

    ``targets`` are the present targets by row id: an answer that repeats them is ``keep``. Unanswered,
    skipped and ignored tasks are left out. Raises UserError for a file that is none of them, an unknown
    row or decision, and for two different answers to one row.
    """
    answers: dict[str, ReviewAnswer] = {}
    for number, record in enumerate(read_task_file(path), start=1):
        row, decided = _decided(path, number, record)
        if row not in targets:
            raise UserError(
                f"{path}: task {number} is about row {row!r}, which the data does not hold",
                "import answers to the queue of this task, for the data as it was exported",
            )
        if decided is None:
            continue
        answer = _answer(row, decided, targets[row])
        if answers.setdefault(row, answer) != answer:
            raise UserError(
                f"{path}: two different answers about row {row!r}", "settle them and leave one of them"
            )
    return [answers[row] for row in sorted(answers)]


def write_answers(path: Path, answers: Iterable[ReviewAnswer]) -> None:
    """Write people's answers as JSONL, sorted by row."""
    ordered = sorted(answers, key=lambda answer: answer.row)
    write_text(path, "".join(json.dumps(asdict(answer), ensure_ascii=False) + "\n" for answer in ordered))


def read_answers(path: Path) -> dict[str, ReviewAnswer]:
    """The answers that :func:`write_answers` wrote, by row id; none where there is no file."""
    if not path.is_file():
        return {}
    answers = {}
    for number, record in enumerate(read_task_file(path), start=1):
        answer = ReviewAnswer(str(record.get("row")), record.get("decision", ""), record.get("target"))
        if answer.decision not in ("keep", "drop", "relabel") or (
            answer.decision == "relabel" and not answer.target
        ):
            raise UserError(f"{path}:{number}: not an answer: {record}", "import the reviewed file again")
        answers[answer.row] = answer
    return answers


def read_task_file(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSON array or of JSON lines. Raises UserError for a file that holds no such thing."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read: {error}", "give the file that review wrote") from error
    try:
        records = json.loads(text) if text.lstrip().startswith("[") else [
            json.loads(line) for line in text.splitlines() if line.strip()
        ]  # fmt: skip
    except (json.JSONDecodeError, RecursionError) as error:
        raise UserError(
            f"{path}: broken JSON: {error}", "export it again from the tool that wrote it"
        ) from None
    if not all(isinstance(record, dict) for record in records):
        raise UserError(f"{path}: not a list of objects", "export it again from the tool that wrote it")
    return list(records)


def _decided(path: Path, number: int, record: Mapping[str, Any]) -> tuple[str, str | None]:
    """The row's id and the label that was chosen (or ``REMOVE``); None where nothing was decided."""
    try:
        if "annotations" in record:
            return str(record["data"]["row"]), _label_studio_choice(record)
        if "meta" in record:
            return str(record["meta"]["row"]), _prodigy_choice(record)
        row, decision = str(record["row"]), str(record["decision"])
        known = {"": None, "keep": str(record["target"]), "drop": REMOVE, "relabel": record["new_target"]}
        if decision not in known or (decision == "relabel" and not record["new_target"]):
            raise UserError(
                f"{path}: task {number}: the decision {decision!r} cannot be followed",
                "decide keep, drop, or relabel with a new_target",
            )
        return row, known[decision]
    except (KeyError, TypeError, IndexError) as error:
        raise UserError(
            f"{path}: task {number} is no reviewed row of the queue (no {error})",
            f"give a file exported as one of {', '.join(FORMATS)}",
        ) from None


def _answer(row: str, decided: str, target: str) -> ReviewAnswer:
    if decided == REMOVE:
        return ReviewAnswer(row, "drop")
    return ReviewAnswer(row, "keep") if decided == target else ReviewAnswer(row, "relabel", decided)


def _label_studio_task(item: QueueItem, choices: Sequence[str] | None) -> dict[str, Any]:
    data = {
        "text": item.input,
        "target": item.target,
        "why": "; ".join(item.reasons),
        "row": item.row,
        "source": item.source,
        "split": item.split,
    }
    label = item.proposed or item.target
    value = {"choices": [label]} if choices else {"text": [label]}
    result = {
        "from_name": "answer",
        "to_name": "text",
        "type": "choices" if choices else "textarea",
        "value": value,
    }
    return {"data": data, "predictions": [{"model_version": "tunesmith audit", "result": [result]}]}


def _label_studio_config(choices: Sequence[str] | None) -> str:
    """The labelling interface (labelstud.io/tags): the text, why it is asked, and the answer."""
    if choices:
        inner = "".join(f"    <Choice value={quoteattr(label)}/>\n" for label in choices)
        answer = (
            f'  <Choices name="answer" toName="text" choice="single" required="true">\n{inner}  </Choices>'
        )
    else:
        answer = '  <TextArea name="answer" toName="text" required="true" maxSubmissions="1"/>'
    return (
        '<View>\n  <Text name="text" value="$text"/>\n  <Header value="Now: $target"/>\n'
        f'  <Header value="$why" size="5"/>\n{answer}\n</View>\n'
    )


def _label_studio_choice(record: Mapping[str, Any]) -> str | None:
    chosen = None
    for annotation in record["annotations"]:
        if annotation.get("was_cancelled"):
            continue
        for result in annotation["result"]:
            value = result["value"]
            chosen = str((value["choices"] if "choices" in value else value["text"])[0])
    return chosen


def _prodigy_task(item: QueueItem, choices: Sequence[str] | None) -> dict[str, Any]:
    """A task of Prodigy's choice interface (prodi.gy/docs/api-interfaces#choice), or of text_input."""
    task: dict[str, Any] = {
        "text": item.input,
        "meta": {
            "row": item.row,
            "source": item.source,
            "split": item.split,
            "target": item.target,
            "why": "; ".join(item.reasons),
        },
    }
    label = item.proposed or item.target
    if choices:
        task["options"] = [{"id": choice, "text": choice} for choice in choices]
        task["accept"] = [label]
    else:
        task["user_input"] = label
    return task


def _prodigy_choice(record: Mapping[str, Any]) -> str | None:
    if record.get("answer") == "reject":
        return REMOVE
    if record.get("answer") != "accept":
        return None
    if "user_input" in record:
        return str(record["user_input"])
    return str(record["accept"][0]) if record["accept"] else None
