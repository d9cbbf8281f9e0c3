"""A task file -> :class:`Task`; every problem reported at once, with its line, what was found and the fix."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from tunesmith.errors import UserError
from tunesmith.task.lines import Problem, Tree, Where, dotted, read_yaml
from tunesmith.task.rules import broken_rules
from tunesmith.task.sections import PATTERNS
from tunesmith.task.settings import Task, task_json_schema

_SECTIONS = tuple(
    name
    for name, field in Task.model_fields.items()
    if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
)


def load_task(path: Path, folder: Path | None = None) -> Task:
    """Read and validate a task file.

    Relative paths in it start at ``folder``, by default the folder of the file itself.
    Raises UserError with one line for each problem: ``task.yaml:12: train.learning_rat: unknown key …``.
    """
    tree = read_yaml(_text(path))
    values = tree.values
    if isinstance(values, dict):
        # A section whose settings are all commented out is null in YAML; here it is a section of defaults.
        values = {key: {} if value is None and key in _SECTIONS else value for key, value in values.items()}
        task, problems = _validated(values, tree)
    elif values is None and not tree.problems:
        problems = [Problem(1, "empty: there are no settings in it")]
    else:
        problems = [*tree.problems] or [
            Problem(1, f"found {found(values)}, expected settings such as `name: my-task`")
        ]
    if problems:
        raise _all_at_once(path, problems)
    task._folder = (path.parent if folder is None else folder).absolute()
    return task


def _text(path: Path) -> str:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file", _nearest_file(path)) from None
    except IsADirectoryError:
        raise UserError(f"{path}: is a folder, not a task file", _nearest_file(path / "task.yaml")) from None
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read: {error.strerror}", "check the path and your rights to it"
        ) from error
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{path}:{line}: not UTF-8 (byte 0x{content[error.start]:02x})",
            "save the file as UTF-8; most editors offer it under 'save with encoding'",
        ) from None


def _nearest_file(path: Path) -> str:
    folder = path.parent
    if not folder.is_dir():
        return f"the folder {folder} does not exist; check the path"
    files = {file.name: file for file in sorted(folder.glob("*.y*ml"))}
    files |= {str(file.relative_to(folder)): file for file in sorted(folder.glob("*/task.yaml"))}
    near = difflib.get_close_matches(path.name, files, n=1, cutoff=0.4) or list(files)[:1]
    if near:
        return f"did you mean {files[near[0]]}?"
    return "check the path, or begin a task with `tunesmith new NAME --data FILE`"


def _all_at_once(path: Path, problems: list[Problem]) -> UserError:
    lines = [
        f"{path}:{problem.line}: {problem.text}"
        for problem in sorted(problems, key=lambda problem: problem.line)
    ]
    if len(lines) == 1:
        return UserError(lines[0], f"correct that line; `tunesmith task check {path}` looks again")
    what = f"{path}: {len(lines)} problems\n" + "\n".join(lines)
    return UserError(what, f"correct these lines; `tunesmith task check {path}` looks again")


def _validated(values: dict[str, Any], tree: Tree) -> tuple[Task, list[Problem]]:
    """The task, valid only when there are no problems."""
    problems = [*tree.problems]
    for where, text in broken_rules(values):
        problems.append(Problem(_line(where, tree), f"{dotted(where)}: {text}"))
    try:
        return Task.model_validate(values), problems
    except ValidationError as error:
        problems += _setting_problems(error, values, tree)
    return Task.model_construct(), problems


def _setting_problems(error: ValidationError, values: dict[str, Any], tree: Tree) -> Iterator[Problem]:
    schema = task_json_schema()
    wrong: dict[Where, None] = {}  # a union reports a place once for each of its members
    for item in error.errors(include_url=False, include_context=False):
        where = item["loc"]
        if item["type"] == "missing":
            yield Problem(_line(where, tree), f"{dotted(where)}: missing: {_explained(where, schema)}")
        elif item["type"] == "extra_forbidden":
            yield Problem(_line(where, tree), f"{dotted(where)}: unknown key ({_known_key(where, schema)})")
        elif where:  # without a place it is a broken rule between settings, reported already
            wrong[_in_file(where, tree)] = None
    for where in wrong:
        if not any(other[: len(where)] == where for other in wrong if other != where):
            value, at = _at(values, where), _schema_at(where, schema)
            text = f"{dotted(where)}: found {found(value)}, allowed: {allowed(at, schema)}"
            yield Problem(_line(where, tree), text + _type_hint(value, at))


def _in_file(where: Where, tree: Tree) -> Where:
    """The part of a validation error's place that the file has (pydantic adds the members of unions)."""
    inside: Where = ()
    for part in where:
        if (*inside, part) in tree.lines:
            inside = (*inside, part)
    return inside


def _line(where: Where, tree: Tree) -> int:
    return tree.lines[_in_file(where, tree)]


def _at(values: Any, where: Where) -> Any:
    for part in where:
        values = values[part]
    return values


def _schema_at(where: Where, schema: dict[str, Any]) -> dict[str, Any]:
    at = schema
    for part in where:
        at = _followed(at, schema)
        if isinstance(part, int):
            at = next(member["items"] for member in at.get("anyOf", [at]) if "items" in member)
        else:
            at = at["properties"][part]
    return at


def _followed(at: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    sections = [member for member in at.get("anyOf", ()) if "$ref" in member]
    at = sections[0] if sections else at  # a section that may be left out
    if "$ref" not in at:
        return at
    followed: dict[str, Any] = schema["$defs"][at["$ref"].rpartition("/")[2]]
    return followed


def _known_key(where: Where, schema: dict[str, Any]) -> str:
    key = str(where[-1])
    here = list(_followed(_schema_at(where[:-1], schema), schema)["properties"])
    elsewhere = {name: name for name in schema["properties"]}
    for section in _SECTIONS:
        names = _followed(_schema_at((section,), schema), schema)["properties"]
        elsewhere |= {name: f"{section}.{name}" for name in names}
    if key in elsewhere:
        return f"did you mean {elsewhere[key]}?"
    if near := difflib.get_close_matches(key, here, n=1):
        return f"did you mean {near[0]}?"
    if near := difflib.get_close_matches(key, elsewhere, n=1):
        return f"did you mean {elsewhere[near[0]]}?"
    return f"known here: {', '.join(here)}"


def _explained(where: Where, schema: dict[str, Any]) -> str:
    at = _schema_at(where, schema)
    at = at if "description" in at else _followed(at, schema)
    return f"{at['description'].split('. ')[0].rstrip('.')}; allowed: {allowed(at, schema)}"


def allowed(at: dict[str, Any], schema: dict[str, Any]) -> str:
    """The values a part of a JSON Schema allows, in words."""
    at = _followed(at, schema)
    if "anyOf" in at:
        return ", or ".join(allowed(member, schema) for member in at["anyOf"] if member.get("type") != "null")
    if "const" in at:
        return str(at["const"])
    if "enum" in at:
        return " or ".join(map(str, at["enum"]))
    match at["type"]:
        case "object":
            return f"a section with {', '.join(at['properties'])}"
        case "array":
            return f"a list, each item {allowed(at['items'], schema)}"
        case "boolean":
            return "true or false"
        case "string":
            return PATTERNS[at["pattern"]] if "pattern" in at else "text"
        case "integer":
            return "a whole number" + _range(at)
        case _:
            return "a number" + _range(at)


def _range(at: dict[str, Any]) -> str:
    words = {
        "minimum": "{:g} or more",
        "exclusiveMinimum": "above {:g}",
        "maximum": "{:g} or less",
        "exclusiveMaximum": "below {:g}",
    }
    limits = ", ".join(text.format(at[key]) for key, text in words.items() if key in at)
    return f" ({limits})" if limits else ""


def found(value: Any) -> str:
    """A value from a file, in words."""
    match value:
        case None:
            return "nothing"
        case bool():
            return str(value).lower()
        case str():
            return f'"{value if len(value) <= 60 else value[:57] + "..."}" (text)'
        case list():
            return "a list"
        case dict():
            return "a section"
        case _:
            return str(value)


def _type_hint(value: Any, at: dict[str, Any]) -> str:
    kinds = {member.get("type") for member in at.get("anyOf", [at])}
    if (
        isinstance(value, str)
        and kinds & {"integer", "number"}
        and value.strip().replace(".", "", 1).isdigit()
    ):
        return "; write it without quotes"
    if isinstance(value, (bool, int, float)) and "string" in kinds:
        return "; put it in quotes"
    return ""
