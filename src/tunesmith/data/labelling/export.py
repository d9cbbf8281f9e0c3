"""The queue of rows to label, for a person's tool; what comes back is read with the columns of the task."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal
from xml.sax.saxutils import quoteattr

from tunesmith.data.annotated import TARGET_COLUMN
from tunesmith.data.curation.review import MOST_CHOICES
from tunesmith.data.labelling.queue import Suggestion
from tunesmith.data.rows import ColumnsRead
from tunesmith.errors import UserError
from tunesmith.files import write_text

QueueFormat = Literal["jsonl", "label-studio", "prodigy"]


def export_queue(
    path: Path,
    suggestions: Sequence[Suggestion],
    labels: Sequence[str],
    columns: ColumnsRead,
    format: QueueFormat,
) -> None:
    """Write the queue. The committee's label is proposed, never filled in as the answer.

    ``jsonl``: a line a row with the task's columns, the target empty. ``label-studio``: tasks whose control
    is called like the task's target column, so that the finished export can stand in ``data.path`` beside the
    data; the labelling configuration lies beside it. ``prodigy``: examples with choices (with more
    than 200 labels the answer is typed) that name the target column, so that their answers are read into it.
    """
    if format == "label-studio":
        text = json.dumps([_task(one, columns) for one in suggestions], ensure_ascii=False, indent=1) + "\n"
        files = {path: text, path.with_suffix(".config.xml"): _config(labels, columns)}
    else:
        make = _example if format == "prodigy" else _line
        records = [make(one, labels, columns) for one in suggestions]
        files = {path: "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)}
    for file, content in files.items():
        try:
            write_text(file, content)
        except OSError as error:
            raise UserError(
                f"{file}: cannot be written: {error.strerror}", "give a place you may write to with --out"
            ) from error


def _line(one: Suggestion, labels: Sequence[str], columns: ColumnsRead) -> dict[str, Any]:
    if columns.messages is not None:
        turns = [{"role": turn.role, "content": turn.content} for turn in one.row.messages]
        asked: dict[str, Any] = {columns.messages: [*turns, {"role": "assistant", "content": ""}]}
    else:
        asked = _input(one, columns) | {columns.target or "label": ""}
    return asked | {"proposed": one.proposed, "why": "; ".join(one.reasons), "taken_from": one.row.source}


def _input(one: Suggestion, columns: ColumnsRead) -> dict[str, str]:
    """The text in the first of the task's input columns; the others are empty, and left out when read."""
    first, *rest = columns.input or ("text",)
    return {first: one.row.text, **dict.fromkeys(rest, "")}


def _task(one: Suggestion, columns: ColumnsRead) -> dict[str, Any]:
    result = {
        "from_name": columns.target or "label",
        "to_name": "text",
        "type": "choices",
        "value": {"choices": [one.proposed]},
    }
    data = _input(one, columns) | {"why": "; ".join(one.reasons), "taken_from": one.row.source}
    prediction = {"model_version": "tunesmith committee", "score": one.probability, "result": [result]}
    return {"data": data, "predictions": [prediction]}


def _config(labels: Sequence[str], columns: ColumnsRead) -> str:
    """The labelling interface (labelstud.io/tags)."""
    text, name = (columns.input or ("text",))[0], columns.target or "label"
    if len(labels) <= MOST_CHOICES:
        choices = "".join(f"    <Choice value={quoteattr(label)}/>\n" for label in labels)
        control = f'  <Choices name={quoteattr(name)} toName="text" choice="single">\n{choices}  </Choices>'
    else:
        control = f'  <TextArea name={quoteattr(name)} toName="text" maxSubmissions="1"/>'
    value = quoteattr("$" + text)
    shown = f'  <Text name="text" value={value}/>\n  <Header value="$why" size="5"/>'
    return f"<View>\n{shown}\n{control}\n</View>\n"


def _example(one: Suggestion, labels: Sequence[str], columns: ColumnsRead) -> dict[str, Any]:
    """A task of Prodigy's choice interface (prodi.gy/docs/api-interfaces#choice), or of text_input."""
    options = [{"id": label, "text": label} for label in labels] if len(labels) <= MOST_CHOICES else []
    return {
        **_input(one, columns),
        "text": one.row.text,
        **({"options": options} if options else {}),
        "meta": {
            TARGET_COLUMN: columns.target or "label",
            "proposed": one.proposed,
            "why": "; ".join(one.reasons),
            "taken_from": one.row.source,
        },
    }
