"""Reviews by way of Label Studio: the tasks of one reviewer as a file, and what came back.

One reviewer gets one file, as order, positions and conditions are drawn for each. A task says nothing about
whose answer is whose: its ``key`` is a hash that only the reading side can make again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from xml.sax.saxutils import quoteattr

from tunesmith.data.curation.review import MOST_CHOICES, read_task_file
from tunesmith.errors import UserError
from tunesmith.evaluation.grading import GRADES, Grade, Single
from tunesmith.evaluation.review import Choice, Judgement, Showing
from tunesmith.evaluation.timed import TimedAnswer, Turn
from tunesmith.files import content_hash, write_text

CHOICES: dict[str, Choice] = {"1 is better": "first", "2 is better": "second", "tie": "tie"}
_FIX = "give the JSON that Label Studio exported, of tasks exported for this reviewer and this run"
RecordType = TypeVar("RecordType")


@dataclass(frozen=True)
class _Annotation:
    """One task as it came back: values by the name of their control, and how long it was open."""

    values: Mapping[str, Any]
    seconds: float | None


def write_pair_tasks(
    path: Path, shown: Sequence[Showing], contest: str, reviewer: str, criteria: Sequence[str]
) -> None:
    """Pairs as tasks, and beside them ``<name>.config.xml``, the labelling configuration."""
    tasks = [
        {
            "key": _key(contest, reviewer, one.pair.item, "again" if one.again else "once"),
            "text": one.pair.text,
            "first": one.answers[0],
            "second": one.answers[1],
        }
        for one in shown
    ]
    answers = _text("first", "Answer 1") + _text("second", "Answer 2")
    asked = "".join(
        f"  <Header value={quoteattr(criterion)}/>\n"
        + _choices(f"criterion_{place}", tuple(CHOICES), "single")
        for place, criterion in enumerate(criteria)
    )
    _write(path, tasks, answers + asked + _comment())


def write_single_tasks(
    path: Path, shown: Sequence[Single], contest: str, reviewer: str, criteria: Sequence[str]
) -> None:
    """Single answers as tasks, graded with 1 to 5 stars."""
    tasks = [
        {"key": _single_key(contest, reviewer, one), "text": one.pair.text, "answer": one.answer}
        for one in shown
    ]
    asked = "".join(
        f"  <Header value={quoteattr(criterion)}/>\n"
        f'  <Rating name="criterion_{place}" toName="text" maxRating="{len(GRADES)}" required="true"/>\n'
        for place, criterion in enumerate(criteria)
    )
    _write(path, tasks, _text("answer", "Answer") + asked + _comment())


def write_timed_tasks(
    path: Path, shown: Sequence[Turn], contest: str, reviewer: str, labels: Sequence[str]
) -> None:
    """Items to do; those done with the model's answer have it as a prediction, which Label Studio fills in.

    The project must take predictions up ("Use predictions to prelabel tasks") for that.
    """
    choices = 0 < len(labels) <= MOST_CHOICES
    control = _choices("answer", labels, "single") if choices else _text_area("answer", required=True)
    tasks: list[dict[str, Any]] = []
    predictions: list[list[dict[str, Any]]] = []
    for turn in shown:
        tasks.append({"key": _key(contest, reviewer, turn.item.item, "timed"), "text": turn.item.text})
        value = {"choices": [turn.item.answer]} if choices else {"text": [turn.item.answer]}
        result = {
            "from_name": "answer",
            "to_name": "text",
            "type": "choices" if choices else "textarea",
            "value": value,
        }
        predictions.append([{"result": [result]}] if turn.with_answer else [])
    _write(path, tasks, control, predictions)


def read_pair_tasks(
    path: Path, shown: Sequence[Showing], contest: str, reviewer: str, criteria: Sequence[str]
) -> list[Judgement]:
    """What a reviewer said of pairs. Skipped and open tasks are left out.

    Raises UserError naming the task that is none of ``shown``, or lacks a criterion.
    """
    by_key = {_key(contest, reviewer, one.pair.item, "again" if one.again else "once"): one for one in shown}

    def judged(one: Showing, given: _Annotation, where: str) -> Judgement:
        said = {criterion: _said(given, place, where) for place, criterion in enumerate(criteria)}
        unknown = [word for word in said.values() if word not in CHOICES]
        if unknown:
            raise UserError(f"{where}: the choice {unknown[0]!r} is none of {', '.join(CHOICES)}", _FIX)
        choices = {criterion: CHOICES[str(word)] for criterion, word in said.items()}
        return Judgement(one.pair.item, reviewer, one.tuned_first, one.again, choices, _said_more(given))

    return _read(path, by_key, judged)


def read_single_tasks(
    path: Path, shown: Sequence[Single], contest: str, reviewer: str, criteria: Sequence[str]
) -> list[Grade]:
    """What a reviewer said of single answers. Errors as in :func:`read_pair_tasks`."""
    by_key = {_single_key(contest, reviewer, one): one for one in shown}

    def graded(one: Single, given: _Annotation, where: str) -> Grade:
        said = {criterion: _said(given, place, where) for place, criterion in enumerate(criteria)}
        unknown = [grade for grade in said.values() if str(grade) not in GRADES]
        if unknown:
            raise UserError(f"{where}: the grade {unknown[0]!r} is not 1 to {len(GRADES)}", _FIX)
        grades = {criterion: int(grade) for criterion, grade in said.items()}
        return Grade(one.pair.item, reviewer, one.tuned, one.again, grades, _said_more(given))

    return _read(path, by_key, graded)


def read_timed_tasks(path: Path, shown: Sequence[Turn], contest: str, reviewer: str) -> list[TimedAnswer]:
    """What a reviewer answered, and Label Studio's ``lead_time``: the seconds that a task was open.

    Errors as in :func:`read_pair_tasks`; UserError too where a task has no time.
    """
    by_key = {_key(contest, reviewer, turn.item.item, "timed"): turn for turn in shown}

    def done(turn: Turn, given: _Annotation, where: str) -> TimedAnswer:
        answer = given.values.get("answer")
        if answer is None:
            raise UserError(f"{where}: no answer", _FIX)
        if given.seconds is None:
            raise UserError(f"{where}: no lead_time, so how long it took is not known", _FIX)
        return TimedAnswer(turn.item.item, reviewer, turn.with_answer, str(answer), given.seconds, False)

    return _read(path, by_key, done)


def _read(
    path: Path, by_key: Mapping[str, Any], made: Callable[[Any, _Annotation, str], RecordType]
) -> list[RecordType]:
    found: dict[str, RecordType] = {}
    for number, record in enumerate(read_task_file(path), start=1):
        where = f"{path}: task {number}"
        data = record.get("data")
        key = str(data.get("key")) if isinstance(data, Mapping) else ""
        if key not in by_key:
            raise UserError(f"{where} was not exported for this reviewer and this run", _FIX)
        annotation = _annotation(record, where)
        if annotation is not None:
            found[key] = made(by_key[key], annotation, where)
    return list(found.values())


def _annotation(record: Mapping[str, Any], where: str) -> _Annotation | None:
    """The last annotation that was not skipped; None where there is none."""
    try:
        given = [one for one in record.get("annotations") or [] if not one.get("was_cancelled")]
        if not given:
            return None
        values: dict[str, Any] = {}
        for result in given[-1]["result"]:
            value = result["value"]
            kind = next(name for name in ("choices", "rating", "text") if name in value)
            held = value[kind]
            values[result["from_name"]] = held[0] if isinstance(held, list) else held
        seconds = given[-1].get("lead_time")
        usable = isinstance(seconds, (int, float)) and seconds > 0
        return _Annotation(values, float(seconds) if usable else None)
    except (AttributeError, KeyError, IndexError, TypeError, StopIteration):
        raise UserError(f"{where}: its annotation is not as Label Studio exports it", _FIX) from None


def _said(given: _Annotation, place: int, where: str) -> Any:
    name = f"criterion_{place}"
    if name not in given.values:
        raise UserError(f"{where}: no answer to {name}", _FIX)
    return given.values[name]


def _said_more(given: _Annotation) -> str:
    return str(given.values.get("comment", "")).strip()


def _key(contest: str, reviewer: str, item: str, which: str) -> str:
    return content_hash([contest, reviewer, item, which])[:16]


def _single_key(contest: str, reviewer: str, one: Single) -> str:
    return _key(contest, reviewer, one.pair.item, f"{'tuned' if one.tuned else 'opponent'} {one.again}")


def _write(
    path: Path,
    tasks: Sequence[Mapping[str, Any]],
    controls: str,
    predictions: Sequence[Sequence[Mapping[str, Any]]] | None = None,
) -> None:
    said = predictions or [[] for _ in tasks]
    records = [
        {"data": task} | ({"predictions": guess} if guess else {})
        for task, guess in zip(tasks, said, strict=True)
    ]
    write_text(path, json.dumps(records, ensure_ascii=False, indent=1) + "\n")
    write_text(
        path.with_suffix(".config.xml"), f'<View>\n  <Text name="text" value="$text"/>\n{controls}</View>\n'
    )


def _text(name: str, title: str) -> str:
    return f'  <Header value="{title}" size="5"/>\n  <Text name="{name}" value="${name}"/>\n'


def _choices(name: str, choices: Sequence[str], choice: str) -> str:
    inner = "".join(f"    <Choice value={quoteattr(each)}/>\n" for each in choices)
    return f'  <Choices name="{name}" toName="text" choice="{choice}" required="true">\n{inner}  </Choices>\n'


def _text_area(name: str, required: bool) -> str:
    needed = "true" if required else "false"
    return (
        f'  <TextArea name="{name}" toName="text" required="{needed}" maxSubmissions="1" editable="true"/>\n'
    )


def _comment() -> str:
    return '  <Header value="Comment" size="5"/>\n' + _text_area("comment", required=False)
