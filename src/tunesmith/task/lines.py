"""YAML text -> plain values, and the line each of them stands on.

Scalars follow the YAML 1.2 core schema: ``1e-3`` is a number; ``yes``, ``no`` and dates are text. (PyYAML
itself follows YAML 1.1, where ``learning_rate: 1e-3`` is text and ``target: no`` is false.)
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import yaml

Where = tuple[str | int, ...]  # ("train", "rank"), ("data", "path", 0)

_PREFIX = "tag:yaml.org,2002:"
# type: what it looks like, the characters it may begin with, how it is read
_SCALARS: dict[str, tuple[str, list[str], Callable[[str], Any]]] = {
    "null": (r"~|null|Null|NULL|", ["~", "n", "N", ""], lambda text: None),
    "bool": (r"true|True|TRUE|false|False|FALSE", list("tTfF"), lambda text: text.lower() == "true"),
    "int": (r"[-+]?[0-9]{1,18}", list("-+0123456789"), int),
    "float": (
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]{1,3})?",
        list("-+.0123456789"),
        float,
    ),
    "str": (r"(?s:.*)", [], str),
}


@dataclass(frozen=True)
class Problem:
    """One thing wrong in a text, and the line it is on (from 1)."""

    line: int
    text: str


@dataclass(frozen=True)
class Tree:
    """Plain values with their lines. ``problems`` are those that YAML alone can tell."""

    values: Any
    lines: dict[Where, int]
    problems: tuple[Problem, ...]


class _CoreLoader(yaml.SafeLoader):
    """PyYAML's safe loader with the scalar types of YAML 1.2; it only composes nodes, never objects.

    The one written in Python: libyaml's crashes the process on deeply nested input (seen at 200,000
    brackets), and a task file of 120 lines takes this one 9 ms.
    """

    yaml_implicit_resolvers = {}  # noqa: RUF012 (the name and type are PyYAML's)


for _tag, (_pattern, _first, _) in _SCALARS.items():
    if _first:
        _CoreLoader.add_implicit_resolver(_PREFIX + _tag, re.compile(rf"^(?:{_pattern})$"), _first)


def read_yaml(text: str) -> Tree:
    """Values and lines of one YAML document.

    Nothing is raised for bad input: a syntax error, a duplicate key, an alias or a special tag is a
    :class:`Problem` (after a syntax error ``values`` is None).
    """
    try:
        node = yaml.compose(text, Loader=_CoreLoader)
    except yaml.MarkedYAMLError as error:
        return Tree(None, {}, (_syntax_problem(text, error),))
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        found = f"U+{ord(text[error.position]):04X}"
        return Tree(None, {}, (Problem(line, f"a character that YAML does not allow ({found})"),))
    except RecursionError:
        return Tree(None, {}, (Problem(1, "nested too deeply"),))
    lines: dict[Where, int] = {(): 1}
    problems: list[Problem] = []
    values = _walk(node, (), lines, problems, set()) if node is not None else None
    return Tree(values, lines, tuple(problems))


def dotted(where: Where) -> str:
    """``("data", "path", 0)`` as ``data.path[0]``, for people."""
    text = ""
    for part in where:
        text += f"[{part}]" if isinstance(part, int) else f"{'.' if text else ''}{part}"
    return text or "the file"


def _walk(
    node: yaml.Node, where: Where, lines: dict[Where, int], problems: list[Problem], seen: set[int]
) -> Any:
    line = node.start_mark.line + 1
    tag = node.tag.removeprefix(_PREFIX)
    if id(node) in seen:
        problems.append(
            Problem(line, f"{dotted(where)}: an alias (*name) is not supported; repeat the value")
        )
        return None
    seen.add(id(node))
    if isinstance(node, yaml.MappingNode) and tag == "map":
        return _walk_mapping(node, where, lines, problems, seen)
    if isinstance(node, yaml.SequenceNode) and tag == "seq":
        items = []
        for index, item in enumerate(node.value):
            lines[(*where, index)] = item.start_mark.line + 1
            items.append(_walk(item, (*where, index), lines, problems, seen))
        return items
    if isinstance(node, yaml.ScalarNode) and tag in _SCALARS:
        pattern, _, read = _SCALARS[tag]
        if re.fullmatch(pattern, node.value):
            return read(node.value)
    problems.append(Problem(line, f"{dotted(where)}: the tag {tag!r} is not supported; write a plain value"))
    return None


def _walk_mapping(
    node: yaml.MappingNode, where: Where, lines: dict[Where, int], problems: list[Problem], seen: set[int]
) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        if key_node.tag != _PREFIX + "str":
            found = repr(key_node.value) if isinstance(key_node, yaml.ScalarNode) else "a list or a mapping"
            problems.append(Problem(line, f"{dotted(where)}: a key must be text (found {found})"))
            continue
        key = key_node.value
        if key in values:
            first = lines[(*where, key)]
            problems.append(Problem(line, f"{dotted((*where, key))}: duplicate key (first on line {first})"))
            continue
        lines[(*where, key)] = line
        values[key] = _walk(value_node, (*where, key), lines, problems, seen)
    return values


def _syntax_problem(text: str, error: yaml.MarkedYAMLError) -> Problem:
    mark = error.problem_mark
    line = mark.line + 1 if mark else 1
    rows = text.splitlines()
    row = rows[line - 1] if line <= len(rows) else ""
    if "\t" in row[: len(row) - len(row.lstrip())]:
        return Problem(line, "a tab in the indentation (YAML allows only spaces there)")
    begun = error.context_mark.line + 1 if error.context_mark else line
    details = " ".join(part for part in (error.context, error.problem) if part)
    return Problem(line, f"not valid YAML: {details}" + (f" (begun on line {begun})" if begun < line else ""))
