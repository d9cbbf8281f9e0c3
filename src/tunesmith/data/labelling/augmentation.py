"""Rows made from training rows: paraphrase patterns, templates filled from fields, swapped group words."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from tunesmith.data.audit.groups import LEXICON, counterfactual_pairs
from tunesmith.data.made import MadeRow
from tunesmith.errors import UserError
from tunesmith.records import Message, Row

_FIX = (
    "Write `paraphrases:`, a list of entries with find (a regular expression) and write (a list of what to "
    "write in its place; \\1 is its first group), and `templates:`, a list of entries with input (with "
    "{column} for a field of the row), optionally target and where (column: value)."
)
_SLOT = re.compile(r"\{([^{}]+)\}")
# As in E2E-style meaning representations: name[The Punter], food[Indian].
_ATTRIBUTE = re.compile(r"([\w][\w ]*)\[([^\[\]]*)\]")


@dataclass(frozen=True)
class Paraphrase:
    """Where ``find`` matches an input, each of ``write`` is one more way to say it."""

    find: re.Pattern[str]
    write: tuple[str, ...]


@dataclass(frozen=True)
class Template:
    """A row written from the fields of another; ``target`` None keeps that row's own. ``where`` are fields
    (or ``target``) that the row must have."""

    input: str
    target: str | None
    where: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Rules:
    """What a rules file says."""

    paraphrases: tuple[Paraphrase, ...]
    templates: tuple[Template, ...]


def read_rules(path: Path) -> Rules:
    """The rules in a YAML file. Raises UserError for a file that is not of that form."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}", "check the path") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: broken YAML: {' '.join(str(error).split())}", _FIX) from None
    if not isinstance(content, dict) or not content or not content.keys() <= {"paraphrases", "templates"}:
        raise UserError(f"{path}: neither `paraphrases:` nor `templates:` alone", _FIX)
    return Rules(
        tuple(_paraphrase(path, entry) for entry in _entries(path, content, "paraphrases")),
        tuple(_template(path, entry) for entry in _entries(path, content, "templates")),
    )


def paraphrased(rows: Sequence[Row], paraphrases: Sequence[Paraphrase]) -> list[MadeRow]:
    """Every row whose last message a pattern matches, said in each of its other ways."""
    made = []
    for row in rows:
        last = row.messages[-1]
        for paraphrase in paraphrases:
            for other in paraphrase.write:
                text = paraphrase.find.sub(other, last.content)
                if text != last.content and text.strip():
                    messages = (*row.messages[:-1], Message(last.role, text))
                    made.append(MadeRow("paraphrase", row.source, messages, row.target, row.id))
    return made


def from_attributes(rows: Sequence[Row], templates: Sequence[Template]) -> list[MadeRow]:
    """Templates filled from the fields of each row that has all of them.

    Fields are the columns kept by ``data.fields``, the attributes of an input that is a JSON object or a list
    such as ``name[The Punter], food[Indian]``, and ``target``.
    """
    made = []
    for row in rows:
        fields = attributes_of(row)
        for template in templates:
            if any(fields.get(name) != value for name, value in template.where):
                continue
            text = _filled(template.input, fields)
            target = row.target if template.target is None else _filled(template.target, fields)
            if text and target:
                system = tuple(turn for turn in row.messages if turn.role == "system")
                messages = (*system, Message("user", text))
                made.append(MadeRow("from attributes", row.source, messages, target, row.id))
    return made


def swapped_rows(rows: Sequence[Row], dimensions: Collection[str]) -> list[MadeRow]:
    """Every row that names one group of a dimension, with the words of another group in their place.

    Raises UserError for a dimension that the lexicon does not have.
    """
    unknown = sorted(set(dimensions) - LEXICON.keys())
    if unknown:
        raise UserError(f"no words to swap for {unknown[0]!r}", f"use some of {', '.join(LEXICON)}")
    made = []
    for pair in counterfactual_pairs(tuple(rows)):
        if pair.dimension in dimensions:
            row, other = rows[pair.row], pair.counterpart
            made.append(MadeRow("swap", row.source, other.messages, other.target, row.id))
    return made


def attributes_of(row: Row) -> dict[str, str]:
    """What a template may be filled with: a column wins over an attribute of the same name."""
    text = row.messages[-1].content
    found: dict[str, str] = {}
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        found = {name.strip(): value.strip() for name, value in _ATTRIBUTE.findall(text)}
    else:
        if isinstance(value, dict):
            found = {str(name): str(one) for name, one in value.items() if isinstance(one, (str, int, float))}
    return found | dict(row.fields) | {"target": row.target}


def _filled(text: str, fields: Mapping[str, str]) -> str | None:
    """``text`` with its slots filled; None where a field is missing or empty."""
    names = [name.strip() for name in _SLOT.findall(text)]
    if not all(fields.get(name, "").strip() for name in names):
        return None
    return _SLOT.sub(lambda slot: fields[slot[1].strip()], text)


def _entries(path: Path, content: Mapping[str, object], name: str) -> list[Mapping[str, object]]:
    entries = content.get(name, [])
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise UserError(f"{path}: {name} is not a list of entries", _FIX)
    return entries


def _paraphrase(path: Path, entry: Mapping[str, object]) -> Paraphrase:
    write = entry.get("write")
    others = [write] if isinstance(write, str) else write
    if entry.keys() != {"find", "write"} or not isinstance(others, list) or not others:
        raise UserError(f"{path}: a paraphrase is {dict(entry)!r}", _FIX)
    try:
        find = re.compile(str(entry["find"]), re.IGNORECASE)
        for other in others:
            find.sub(str(other), "")
            re.compile(find.pattern + "|").sub(str(other), "")  # an unknown group is an error of the template
    except (re.error, IndexError) as error:
        raise UserError(f"{path}: {entry['find']!r}: not a usable expression: {error}", _FIX) from None
    return Paraphrase(find, tuple(map(str, others)))


def _template(path: Path, entry: Mapping[str, object]) -> Template:
    where = entry.get("where", {})
    if (
        "input" not in entry
        or not entry.keys() <= {"input", "target", "where"}
        or not isinstance(where, dict)
    ):
        raise UserError(f"{path}: a template is {dict(entry)!r}", _FIX)
    if not _SLOT.search(str(entry["input"])):
        raise UserError(f"{path}: a template without a {{field}}: {entry['input']!r}", _FIX)
    target = entry.get("target")
    wanted = tuple(sorted((str(name), str(value)) for name, value in where.items()))
    return Template(str(entry["input"]), None if target is None else str(target), wanted)
