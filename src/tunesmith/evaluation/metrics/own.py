"""A user's own metric: one Python function in a file beside the task.

``goal.metric: my_metrics.py:politeness`` names the function ``politeness`` in ``my_metrics.py``:

    def politeness(prediction: str, row: Mapping) -> float:
        return float("please" in prediction.lower())

``row`` has the keys id, source, group, target, input (all turns before the answer as one text) and messages
(a list of {"role", "content"}). Larger is better, and the metric is the mean over rows.
"""

from __future__ import annotations

import importlib.util
import inspect
import math
import numbers
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from tunesmith.errors import UserError
from tunesmith.evaluation.metrics.answered import Answered, RowScores
from tunesmith.files import file_sha256
from tunesmith.records import Row

_SIGNATURE = "def {name}(prediction: str, row: Mapping) -> float"
_LONGEST_MESSAGE = 200


@dataclass(frozen=True)
class OwnMetric:
    """A loaded function. ``name`` is as written in the task; ``sha256`` is that of its file."""

    name: str
    path: Path
    function: Callable[[str, Mapping[str, Any]], object]
    sha256: str

    def __call__(self, answered: Answered) -> RowScores:
        """One score per row. Raises UserError (exit code 3) naming the row where the function fails, or gives
        anything but a finite number."""
        pairs = zip(answered.rows, answered.predictions, strict=True)
        return RowScores(np.array([self._score(row, answer) for row, answer in pairs]), low=None, high=None)

    def _score(self, row: Row, answer: str) -> float:
        try:
            score = self.function(answer, as_mapping(row))
        except Exception as error:
            raise UserError(
                f"{self.name} failed on row {row.source}: {_told(error, self.path)}",
                "correct the function; no answer was lost",
                exit_code=3,
            ) from error
        if not isinstance(score, (numbers.Real, np.bool_)):
            raise self._wrong(row, f"{score!r:.60} ({type(score).__name__})")
        if not math.isfinite(score):
            raise self._wrong(row, f"{float(score)}")
        return float(score)

    def _wrong(self, row: Row, found: str) -> UserError:
        return UserError(
            f"{self.name} returned {found} for row {row.source}",
            "it has to return one finite number for each row",
            exit_code=3,
        )


def load_own_metric(reference: str, folder: Path) -> OwnMetric:
    """Load ``my_metrics.py:f``; a relative path starts at ``folder``, that of the task file.

    The file is run, as any Python module is. Raises UserError when the reference is not of that form, the
    file is missing or does not run, there is no such function, or it does not take two arguments.
    """
    path, name = _parts(reference, folder)
    module = _module(path)
    function = getattr(module, name, None)
    if not callable(function):
        offered = sorted(
            key
            for key, value in vars(module).items()
            if inspect.isfunction(value) and not key.startswith("_")
        )
        raise UserError(
            f"{path} has no function {name!r} (found: {', '.join(offered) or 'none'})",
            f"write one: {_SIGNATURE.format(name=name)}",
        )
    try:
        inspect.signature(function).bind("prediction", {})
    except (TypeError, ValueError):
        raise UserError(
            f"{path}: {name} cannot be called with a prediction and a row",
            f"give it this signature: {_SIGNATURE.format(name=name)}",
        ) from None
    return OwnMetric(reference, path, function, file_sha256(path))


def as_mapping(row: Row) -> dict[str, Any]:
    """A row as a user's function sees it; a copy, so that nothing it does to it can change the data."""
    return {
        "id": row.id,
        "source": row.source,
        "group": row.group,
        "target": row.target,
        "input": row.text,
        "messages": [{"role": message.role, "content": message.content} for message in row.messages],
    }


def _parts(reference: str, folder: Path) -> tuple[Path, str]:
    written, colon, name = reference.rpartition(":")
    if not colon or not written.endswith(".py") or not name.isidentifier():
        raise UserError(
            f"goal.metric: {reference!r} is neither a metric's name nor a function in a file",
            "name a function of your own as my_metrics.py:my_function",
        )
    path = (folder / Path(written).expanduser()).resolve()
    if not path.is_file():
        raise UserError(
            f"goal.metric: there is no file {path}", "a relative path starts at the folder of the task file"
        )
    return path, name


def _module(path: Path) -> ModuleType:
    name = f"tunesmith_own_metric_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise AssertionError("a .py file always has a loader")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up there
    writes_bytecode, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise UserError(f"{path} does not run: {_told(error, path)}", "correct the file") from error
    finally:
        sys.dont_write_bytecode = writes_bytecode
    return module


def _told(error: BaseException, path: Path) -> str:
    """Kind, message and, where the error passed through the user's file, the line there."""
    text = f"{type(error).__name__}: {error}"[:_LONGEST_MESSAGE]
    if isinstance(error, SyntaxError):
        return text
    lines = [
        frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)
    ]
    return f"{text} (line {lines[-1]} of {path.name})" if lines else text
