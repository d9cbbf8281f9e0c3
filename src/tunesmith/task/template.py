"""A commented task.yaml for data that was looked at, and the general way to write one."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from tunesmith.task.kinds import LABELLED, Kind
from tunesmith.task.lines import read_yaml
from tunesmith.task.settings import Task
from tunesmith.task.split_settings import CROSSFIT_FOLDS, FEW_GROUPS

SCHEMA_FILE = "task.schema.json"
DEFAULT_BASE = "smollm2-135m-instruct"
_WIDTH = 100
_LONG_INPUT_WORDS = 60


@dataclass(frozen=True)
class Columns:
    """Which columns of a data file are read: input and target, or messages; ``rejected`` of pairs."""

    input: str | tuple[str, ...] | None
    target: str | None
    messages: str | None
    rejected: str | None = None


@dataclass(frozen=True)
class Seen:
    """What was seen in the data. ``labels`` maps each label to its number of rows; lengths are in words.

    ``attributes``: nearly all inputs are attributes with values, ``name[value], …``. ``unusable`` says which
    records cannot be used, and why; it is empty where all can, and where too many cannot to leave them out.
    """

    rows: int
    test_rows: int | None
    labels: dict[str, int]
    median_words: int
    longest_words: int
    attributes: bool = False
    unusable: str = ""


def begin_task(
    name: str,
    path: str,
    test_path: str | None,
    columns: Columns,
    seen: Seen,
    base: str = DEFAULT_BASE,
    kind: Kind = "classify",
    fields: Sequence[str] = (),
) -> str:
    """The text of a first task.yaml: settings that suit the data, and what was seen in the comments.

    ``fields`` are those that the targets of ``kind: extract`` name.
    """
    given = columns.input or "conversation"
    given = given if isinstance(given, str) else " and ".join(given)
    target = columns.target or ("label" if kind == "classify" else "next turn")
    data = {
        "path": path,
        "test_path": test_path,
        "input": columns.input,
        "target": columns.target,
        "messages": columns.messages,
        "rejected": columns.rejected,
        "unusable": "set_aside" if seen.unusable else None,
        # Lists of attributes are alike by nature: only equal ones are the same question.
        "near_duplicate_similarity": 1.0 if kind == "generate" and seen.attributes else None,
    }
    settings = {
        "name": name,
        "kind": kind,
        "description": f"The {target} of each {given}.",
        "instruction": _instruction(kind, given, target, fields),
        "data": {key: value for key, value in data.items() if value is not None},
        "split": _split(seen, kind),
        "audit": {},
        "goal": {"gain": 0.02},
        "guards": {
            "general_text": {"margin": 0.03, "blocking": False},
            "probes": {"margin": 0.02, "blocking": False},
        },
        "base": base,
        "opponents": {"classical": True, "zero_shot": True, "few_shot": [_shots(seen, kind)]},
        "train": {"learning_rate": 0.001, "epochs": 2.0, "batch_size": 16},
    }
    return render_task_yaml(settings, _notes(seen, columns, kind))


def _instruction(kind: Kind, given: str, target: str, fields: Sequence[str]) -> str:
    match kind:
        case "extract":
            named = f" with the fields {', '.join(fields)}" if fields else ""
            return f"Give what this {given} says as JSON{named}."
        case "tag":
            return f"List the {target} of this {given}."
        case "generate":
            return f"Write the {target} for this {given}. Say everything that is given, and nothing else."
        case "summarise":
            return f"Summarise this {given}."
        case "answer":
            return f"Answer the question from the text before it ({given})."
        case "chat":
            return "Give the next turn of this conversation."
        case _:
            return f"Name the {target} of this {given}."


def _shots(seen: Seen, kind: Kind) -> int:
    """How many examples a prompt shows; long inputs with texts as answers leave room for one."""
    return 1 if kind != "classify" and seen.median_words > _LONG_INPUT_WORDS else 3


def render_task_yaml(settings: Mapping[str, Any], notes: Mapping[str, str]) -> str:
    """task.yaml with every setting explained: those in ``settings`` live, the others commented out.

    ``notes`` are further comments, by dotted name (``data.path``). Whatever text the settings hold, the
    file reads back as just these settings.
    """
    lines = [
        f"# yaml-language-server: $schema={SCHEMA_FILE}",
        "# A line such as `#rank: 16` is a setting at its default or an example: remove the # to set it.",
    ]
    for name, field in Task.model_fields.items():
        lines += ["", *_comment(field, notes.get(name), "")]
        if name in settings and isinstance(settings[name], Mapping):
            lines += [f"{name}:", *_section(name, field, settings[name], notes)]
        else:
            lines.append(_setting(name, field, settings, ""))
    return "\n".join(lines) + "\n"


def _section(
    section: str, field: FieldInfo, settings: Mapping[str, Any], notes: Mapping[str, str]
) -> list[str]:
    lines = []
    for name, inner in cast(type[BaseModel], field.annotation).model_fields.items():
        lines += _comment(inner, notes.get(f"{section}.{name}"), "  ")
        lines.append(_setting(name, inner, settings, "  "))
    return lines


def _comment(field: FieldInfo, note: str | None, indent: str) -> list[str]:
    texts = [field.description or "", *([" ".join(note.split())] if note else [])]
    start = f"{indent}# "
    return [
        line
        for text in texts
        for line in textwrap.wrap(text, _WIDTH, initial_indent=start, subsequent_indent=start)
    ]


def _setting(name: str, field: FieldInfo, settings: Mapping[str, Any], indent: str) -> str:
    if name in settings:
        return f"{indent}{name}: {_value(settings[name])}"
    shown = (field.examples or [None])[0] if field.default is None or field.is_required() else field.default
    return f"{indent}#{name}: {_value(shown)}"


def _value(value: Any) -> str:
    if isinstance(value, BaseModel):
        value = value.model_dump(exclude_none=True)
    if isinstance(value, Mapping):
        return (
            "{" + ", ".join(f"{key}: {_value(item)}" for key, item in value.items() if item is not None) + "}"
        )
    if isinstance(value, (list, tuple)):
        return (
            "[" + ", ".join(_quoted(item) if isinstance(item, str) else _value(item) for item in value) + "]"
        )
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, str):
        return repr(value)
    return value if read_yaml(f"key: {value}").values == {"key": value} else _quoted(value)


def _quoted(text: str) -> str:
    quoted: str = yaml.safe_dump(text, default_style='"', width=10**9, allow_unicode=True)
    return quoted.rstrip("\n")


def few_rows(seen: Seen) -> str | None:
    """The proposal to cross-fit, with its reason and its price; None where there are rows for a test."""
    if seen.test_rows is not None or seen.rows >= FEW_GROUPS:
        return None
    return (
        f"{seen.rows:,} rows are few: a test takes from training what it needs itself. Consider split.test: "
        f"crossfit, which judges every row in one of {CROSSFIT_FOLDS} folds and then trains on all of them, "
        f"for about {CROSSFIT_FOLDS} times the training time; `tunesmith plan` shows what either can tell"
    )


def _split(seen: Seen, kind: Kind) -> dict[str, int | float]:
    """The test takes many rows, as they decide what can be proven; validation is scored often, so fewer.

    Texts are written token by token, so they are asked for on fewer rows.
    """
    if kind != "classify" and seen.rows >= 3000:
        return {"validation": 300} if seen.test_rows is not None else {"validation": 300, "test": 900}
    if seen.test_rows is not None:
        return {"validation": 500 if seen.rows >= 5000 else 0.15}
    if seen.rows >= 8000:
        return {"validation": 500, "test": 2000}
    return {"validation": 0.15, "test": 0.3 if seen.rows >= 200 else 0.5}


def _notes(seen: Seen, columns: Columns, kind: Kind) -> dict[str, str]:
    counts = sorted(seen.labels.values())
    shown = ", ".join(_printable(label) for label in list(seen.labels)[:5])
    labels = f"Seen: {len(counts):,} labels ({shown}{', …' if len(counts) > 5 else ''})"
    if kind not in LABELLED:
        labels = (
            f"Seen: {len(counts):,} different targets, such as: {_printable(next(iter(seen.labels), ''))}"
        )
    elif counts:
        labels += f" with {counts[0]:,} to {counts[-1]:,} rows each."
    lengths = f"Seen: half of the inputs have at most {seen.median_words:,} words; the longest "
    lengths += f"has {seen.longest_words:,}."
    split = _split(seen, kind)
    sizes = {part: size if isinstance(size, int) else round(size * seen.rows) for part, size in split.items()}
    few = few_rows(seen)
    left = f"Here: {seen.rows - sum(sizes.values()):,} rows are left for training, less those set aside"
    notes = {
        "instruction": "A first draft: say it in the words of your task.",
        "data.path": f"Seen: {seen.rows:,} rows.",
        "split": "; ".join([left, *(f"{part} takes {size:,}" for part, size in sizes.items())])
        + (f". {few}" if few else "")
        + ".",
    }
    if seen.unusable:
        notes["data.unusable"] = (
            f"Seen: {_on_one_line(seen.unusable)}. They are left out: correct them and remove this setting "
            "to have them."
        )
    if seen.test_rows is not None:
        notes["data.test_path"] = f"Seen: {seen.test_rows:,} rows."
    if columns.messages is None:
        return notes | {"data.input": lengths, "data.target": labels}
    return notes | {"data.messages": f"{lengths} {labels}"}


def _printable(label: str) -> str:
    """A label of the data, fit for a comment: one line, no control characters."""
    text = _on_one_line(label)
    return text if len(text) <= 40 else f"{text[:39]}…"


def _on_one_line(text: str) -> str:
    return "".join(character if character.isprintable() else " " for character in text)
