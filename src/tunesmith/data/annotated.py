"""Exports of annotation tools: Label Studio tasks and Prodigy examples, as plain records with votes.

Spans become a JSON list of ``{"start", "end", "label", "text"}``, sorted: one form for both tools. Several
choices become a JSON list, sorted. What a model proposed (Label Studio's predictions) is kept apart, as
``predicted_<column>``; it is never taken for an answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

from tunesmith.data.parsed import BadRecord, Record, Votes, majority
from tunesmith.files import canonical_json

Tool = Literal["Label Studio", "Prodigy"]
PRODIGY_ANSWERS = ("accept", "reject", "ignore")
_PRODIGY_COLUMNS = ("accept", "spans", "label", "user_input")
# In ``meta`` of examples that Tunesmith wrote: the task's column that an option or a typed text answers.
TARGET_COLUMN = "target_column"
_READ = "choices, textarea, labels, rating and number are read"
_EXPORT_AGAIN = "Export the project again, as JSON (Label Studio) or JSONL (Prodigy)."


class _TaskError(ValueError):
    pass


def tool_of(fields: Mapping[str, object]) -> Tool | None:
    """Whose export a record comes from; None for a record of one's own."""
    if isinstance(fields.get("data"), dict) and isinstance(
        fields.get("annotations", fields.get("predictions")), list
    ):
        return "Label Studio"
    if fields.get("answer") in PRODIGY_ANSWERS and ("_input_hash" in fields or "_task_hash" in fields):
        return "Prodigy"
    return None


def label_studio(records: Iterable[Record | BadRecord]) -> Iterator[Record | BadRecord]:
    """Each task as one record: the fields of ``data``, and a column for each control people answered with.

    The file is read whole first: which controls mark spans decides what an empty annotation says.
    """
    read: list[tuple[Record, _Task] | BadRecord] = []
    controls: dict[str, str] = {}
    for record in records:
        if isinstance(record, BadRecord):
            read.append(record)
            continue
        try:
            task = _task(record)
        except _TaskError as problem:
            read.append(BadRecord(record.line, str(problem), _EXPORT_AGAIN))
            continue
        controls |= task.controls
        read.append((record, task))
    for item in read:
        yield item if isinstance(item, BadRecord) else _with_votes(*item, controls)


@dataclass(frozen=True)
class _Task:
    """``given``: who answered what, by control. ``controls``: the type of each control that was used."""

    given: tuple[tuple[str, dict[str, str]], ...]
    predicted: dict[str, str]
    controls: dict[str, str]
    skipped: bool


def _task(record: Record) -> _Task:
    task: Mapping[str, Any] = record.fields
    if tool_of(task) != "Label Studio":
        raise _TaskError(f"not a Label Studio task: no 'data' with 'annotations' (found: {', '.join(task)})")
    given: list[tuple[str, dict[str, str]]] = []
    predicted: dict[str, str] = {}
    controls: dict[str, str] = {}
    skipped = False
    for number, annotation in enumerate(_objects(task, "annotations"), start=1):
        if annotation.get("was_cancelled"):
            skipped = True
            continue
        results = _objects(annotation, "result")
        controls |= {str(result.get("from_name")): str(result.get("type")) for result in results}
        given.append((_annotator(annotation, number), _answers(results)))
    for prediction in _objects(task, "predictions"):
        predicted = _answers(_objects(prediction, "result")) | predicted
    return _Task(tuple(given), predicted, controls, skipped and not given)


def _with_votes(record: Record, task: _Task, controls: Mapping[str, str]) -> Record:
    votes: dict[str, Votes] = {}
    for control, kind in controls.items():
        if kind != "relation":
            unmarked = "[]" if kind == "labels" else None
            answers = [(who, answers.get(control, unmarked)) for who, answers in task.given]
            votes[control] = tuple((who, answer) for who, answer in answers if answer is not None)
    data = cast(dict[str, object], record.fields["data"])
    fields = {f"data.{name}" if name in votes else name: value for name, value in data.items()}
    if "id" in record.fields:
        fields.setdefault("id", record.fields["id"])
    return replace(
        record,
        fields={
            **fields,
            **{name: majority(given) for name, given in votes.items()},
            **{f"predicted_{name}": answer for name, answer in task.predicted.items()},
        },
        votes=votes,
        refused="skipped by the annotator" if task.skipped else None,
    )


def _objects(holder: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    items = holder.get(name) or []
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise _TaskError(f"'{name}' is not a list of objects")
    return items


def _annotator(annotation: Mapping[str, Any], number: int) -> str:
    who = annotation.get("completed_by")
    if isinstance(who, dict):
        who = who.get("email") or who.get("id")
    return f"annotator {number}" if who is None else str(who)


def _answers(results: list[dict[str, Any]]) -> dict[str, str]:
    """The answer of one annotation, by control."""
    spans: dict[str, list[dict[str, Any]]] = {}
    answers: dict[str, str] = {}
    for result in results:
        kind, control, value = result.get("type"), str(result.get("from_name")), result.get("value")
        if kind == "relation":
            continue
        if not isinstance(value, dict) or kind not in value:
            raise _TaskError(f"a result of type '{kind}' has no value '{kind}'")
        match kind:
            case "labels" if isinstance(value["labels"], list) and _has_ends(value):
                spans.setdefault(control, []).extend(_labelled(value))
            case "choices" | "textarea" if isinstance(value[kind], list) and value[kind]:
                texts = [str(text) for text in value[kind]]
                answers[control] = _one_or_list(texts) if kind == "choices" else "\n".join(texts)
            case "textarea" if isinstance(value[kind], str):
                answers[control] = value[kind]
            case "rating" | "number":
                answers[control] = str(value[kind])
            case _:
                raise _TaskError(f"a result of type '{kind}' is not an answer about text ({_READ})")
    return answers | {control: _spans_text(found) for control, found in spans.items()}


def _labelled(value: Mapping[str, Any]) -> list[dict[str, object]]:
    place = {"start": value["start"], "end": value["end"], "text": value.get("text")}
    return [{**place, "label": label} for label in value["labels"]]


def prodigy(records: Iterable[Record | BadRecord]) -> Iterator[Record | BadRecord]:
    """Each example as one record; several annotators' answers to one input are its votes.

    ``accept`` holds the option chosen, ``spans`` the spans, ``label`` a label that was accepted,
    ``user_input`` a text that was typed, ``answer`` accept or reject. In examples of ``tunesmith data next``
    the option or the typed text stands in the task's own target column instead. Answers of several annotators
    are brought together by ``_input_hash``, so then the file is read whole.
    """
    several: dict[object, list[Record]] = {}
    for record in records:
        if isinstance(record, BadRecord):
            yield record
        elif tool_of(record.fields) != "Prodigy":
            what = (
                f"not a Prodigy example: no 'answer' with '_input_hash' (found: {', '.join(record.fields)})"
            )
            yield BadRecord(record.line, what, _EXPORT_AGAIN)
        elif _prodigy_annotator(record) is None or record.fields.get("_input_hash") is None:
            yield _example([record])
        else:
            several.setdefault(record.fields["_input_hash"], []).append(record)
    for same in several.values():
        yield _example(same)


def _prodigy_annotator(record: Record) -> str | None:
    who = record.fields.get("_annotator_id") or record.fields.get("_session_id")
    return None if who is None else str(who)


def _example(same: Sequence[Record]) -> Record | BadRecord:
    left_out = (*_PRODIGY_COLUMNS, "tokens", "options", "answer")
    fields = {name: value for name, value in same[0].fields.items() if name not in left_out}
    used = [name for name in _PRODIGY_COLUMNS if any(name in record.fields for record in same)]
    votes: dict[str, list[tuple[str, str]]] = {name: [] for name in ("answer", *used)}
    for record in same:
        answer = str(record.fields["answer"])
        who = _prodigy_annotator(record) or "annotator 1"
        if answer == "ignore":
            continue
        votes["answer"].append((who, answer))
        if answer == "accept":
            try:
                given = _given(record.fields)
            except _TaskError as problem:
                return BadRecord(record.line, str(problem), _EXPORT_AGAIN)
            for column, text in given.items():
                votes[column].append((who, text))
    kept: dict[str, Votes] = {}
    for name, given_votes in votes.items():
        column = _column(name, same[0].fields)
        kept[column] = kept.get(column, ()) + tuple(given_votes)
    return replace(
        same[0],
        fields=fields | {name: majority(given) for name, given in kept.items()},
        votes=kept,
        refused=None if votes["answer"] else "ignored by the annotator",
    )


def _column(name: str, fields: Mapping[str, Any]) -> str:
    """What an answer's column is called: as the queue it comes from says, else as in Prodigy."""
    meta = fields.get("meta")
    asked = meta.get(TARGET_COLUMN) if isinstance(meta, dict) else None
    return asked if isinstance(asked, str) and name in ("accept", "user_input") else name


def _given(fields: Mapping[str, Any]) -> dict[str, str]:
    given: dict[str, str] = {}
    chosen, spans, label, typed = (fields.get(name) for name in _PRODIGY_COLUMNS)
    if isinstance(chosen, list) and chosen:
        given["accept"] = _one_or_list([str(option) for option in chosen])
    if isinstance(spans, list):
        text = str(fields.get("text", ""))
        given["spans"] = _spans_text([_prodigy_span(span, text) for span in spans])
    if label is not None:
        given["label"] = str(label)
    if isinstance(typed, str) and typed.strip():
        given["user_input"] = typed
    return given


def _has_ends(span: Mapping[str, Any]) -> bool:
    return isinstance(span.get("start"), int) and isinstance(span.get("end"), int)


def _prodigy_span(span: object, text: str) -> dict[str, object]:
    if not isinstance(span, dict) or not _has_ends(span):
        raise _TaskError("a span has no 'start' and 'end'")
    start, end = span["start"], span["end"]
    return {"start": start, "end": end, "label": span.get("label"), "text": text[start:end]}


def _one_or_list(texts: list[str]) -> str:
    return texts[0] if len(texts) == 1 else canonical_json(sorted(texts))


def _spans_text(spans: list[dict[str, Any]]) -> str:
    return canonical_json(sorted(spans, key=lambda span: (span["start"], span["end"], str(span["label"]))))


def several(votes: Votes) -> Votes:
    """The votes of a row that more than one person annotated; of one person there is nothing to compare."""
    return votes if len({who for who, _ in votes}) > 1 else ()
