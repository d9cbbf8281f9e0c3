"""Labelling functions: patterns in YAML or functions in Python, from a text to a label or to none."""

from __future__ import annotations

import importlib.util
import inspect
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import yaml

from tunesmith.data.duplicates import compared_text
from tunesmith.errors import UserError
from tunesmith.records import Row
from tunesmith.stats.clusters import Codes
from tunesmith.stats.label_model import ABSTAINED

_KEYS = ("name", "label", "pattern", "unless")
_RULES_FIX = (
    "Write it as `rules:`, a list of entries with a label and a pattern (a regular expression, any case), "
    "and optionally a name and unless (a second expression that forbids the label)."
)


@dataclass(frozen=True)
class LabellingFunction:
    """``vote`` gives a row's label, or None where the function has nothing to say."""

    name: str
    vote: Callable[[Row], str | None]


@dataclass(frozen=True)
class FunctionVotes:
    """What one function did to a pool of ``rows``: on how many it voted, how many of these another function
    voted on too, and how many of these with another label."""

    name: str
    rows: int
    voted: int
    overlaps: int
    conflicts: int
    labels: tuple[str, ...]


def load_functions(paths: Sequence[Path]) -> tuple[LabellingFunction, ...]:
    """The functions of Python files (.py) and rules of YAML files, in order.

    In a Python file every public function is one; it is given the text of a row, and where it takes a second
    argument a dict of the columns kept by ``data.fields``; it returns a label, or None to abstain. Running a
    user's file runs its code.

    Raises UserError for a file that cannot be used, none at all, and a name that is there twice.
    """
    found: list[LabellingFunction] = []
    for path in paths:
        if not path.is_file():
            raise UserError(f"{path}: no such file", "give a Python file or a YAML file of rules")
        found += _python_functions(path) if path.suffix == ".py" else _rules(path)
    names = [function.name for function in found]
    if not found:
        raise UserError("no labelling function was given", "name a file with --functions")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(f"two labelling functions are called {twice!r}", "give each a name of its own")
    return tuple(found)


def cast_votes(
    functions: Sequence[LabellingFunction], rows: Sequence[Row], labels: Sequence[str] | None = None
) -> tuple[Codes, tuple[str, ...]]:
    """Votes, shape (rows, functions), as numbers of labels or -1; and the labels, sorted.

    ``labels`` are all that the task knows. Raises UserError for a vote for another one, and for a function
    that fails.
    """
    given = [[_ask(function, row) for function in functions] for row in rows]
    used = {label for votes in given for label in votes if label is not None}
    if labels is not None and used - set(labels):
        strange = min(used - set(labels))
        name = next(
            function.name for votes in given for function, label in zip(functions, votes, strict=True)
            if label == strange
        )  # fmt: skip
        raise UserError(
            f"labelling function {name!r} gives the label {strange!r}, which the task does not have",
            f"use one of: {', '.join(sorted(labels))}",
        )
    known = tuple(sorted(used if labels is None else labels))
    number = {label: place for place, label in enumerate(known)}
    votes = [[ABSTAINED if label is None else number[label] for label in row] for row in given]
    return np.array(votes, dtype=np.intp).reshape(len(rows), len(functions)), known


def describe_votes(
    functions: Sequence[LabellingFunction], votes: Codes, labels: Sequence[str]
) -> tuple[FunctionVotes, ...]:
    """Coverage, overlaps and conflicts of each function."""
    voted = votes != ABSTAINED
    told = []
    for place, function in enumerate(functions):
        own = voted[:, place]
        others = np.delete(votes, place, axis=1)
        overlaps = own & (others != ABSTAINED).any(axis=1)
        differs = (others != ABSTAINED) & (others != votes[:, [place]])
        used = np.unique(votes[own, place]).tolist()
        told.append(
            FunctionVotes(
                function.name,
                len(votes),
                int(own.sum()),
                int(overlaps.sum()),
                int((own & differs.any(axis=1)).sum()),
                tuple(labels[number] for number in used),
            )
        )
    return tuple(told)


def _ask(function: LabellingFunction, row: Row) -> str | None:
    try:
        label: Any = function.vote(row)
    except Exception as error:  # the user's code
        raise UserError(
            f"labelling function {function.name!r} failed on {row.source}: {type(error).__name__}: {error}",
            "correct the function; return None where it has nothing to say",
        ) from error
    if label is not None and not (isinstance(label, str) and label.strip()):
        raise UserError(
            f"labelling function {function.name!r} returned {label!r} for {row.source}",
            "return the label as text, or None",
        )
    return label


def _python_functions(path: Path) -> list[LabellingFunction]:
    module = _loaded(path)
    found = []
    for name, value in vars(module).items():
        if name.startswith("_") or not inspect.isfunction(value) or value.__module__ != module.__name__:
            continue
        arguments = len(inspect.signature(value).parameters)
        if arguments not in (1, 2):
            raise UserError(
                f"{path}: {name} takes {arguments} arguments",
                "let it take the text, and a dict of further columns if it needs them; helpers begin with _",
            )
        found.append(LabellingFunction(name, _voter(value, with_fields=arguments == 2)))
    if not found:
        raise UserError(f"{path}: no public function in it", "define a function from a text to a label")
    return found


def _voter(function: Callable[..., Any], with_fields: bool) -> Callable[[Row], Any]:
    def vote(row: Row) -> Any:
        text = compared_text(row)
        return function(text, dict(row.fields)) if with_fields else function(text)

    return vote


def _loaded(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"labelling_functions_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise UserError(f"{path}: not a Python file", "give a file that ends in .py")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # the user's code
        raise UserError(
            f"{path}: it does not run: {type(error).__name__}: {error}", "correct the file"
        ) from error
    return module


def _rules(path: Path) -> list[LabellingFunction]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: broken YAML: {' '.join(str(error).split())}", _RULES_FIX) from None
    rules = content.get("rules") if isinstance(content, dict) else None
    if not isinstance(rules, list) or not rules:
        raise UserError(f"{path}: no `rules:` with a list in it", _RULES_FIX)
    return [_rule(path, number, rule) for number, rule in enumerate(rules, start=1)]


def _rule(path: Path, number: int, rule: object) -> LabellingFunction:
    where = f"{path}: rule {number}"
    if not isinstance(rule, dict) or not {"label", "pattern"} <= rule.keys() or not rule.keys() <= set(_KEYS):
        raise UserError(f"{where}: found {rule!r}", _RULES_FIX)
    pattern, unless = (_expression(where, rule.get(key)) for key in ("pattern", "unless"))
    label = str(rule["label"])
    assert pattern is not None

    def vote(row: Row) -> str | None:
        text = compared_text(row)
        return label if pattern.search(text) and not (unless and unless.search(text)) else None

    return LabellingFunction(str(rule.get("name") or f"{label}: {rule['pattern']}"), vote)


def _expression(where: str, text: object) -> re.Pattern[str] | None:
    if text is None:
        return None
    try:
        return re.compile(str(text), re.IGNORECASE)
    except re.error as error:
        raise UserError(f"{where}: not a regular expression: {text!r} ({error})", _RULES_FIX) from None
