"""What a command says: its result on stdout, everything else on stderr."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TypeVar

from tunesmith.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

Name = TypeVar("Name", bound=str)


def stage_console(as_json: bool) -> Console:
    """Where stages and progress are shown: stdout for people, stderr when stdout is for a script."""
    from rich.console import Console

    return Console(stderr=as_json, highlight=False)


def emit(result: Any, as_json: bool, text: str) -> None:
    """The result of a command: a record or plain value as one JSON object, or ``text`` for people."""
    if as_json:
        text = json.dumps(result, default=asdict, indent=1)
    sys.stdout.write(text + "\n")


def one_of(option: str, given: str, known: tuple[Name, ...]) -> Name:
    """``given``, if it is one of the words an option knows; else UserError."""
    for name in known:
        if name == given:
            return name
    raise UserError(f"{option}: {given!r} is unknown", f"use one of {', '.join(known)}")


def one_line(text: str | None) -> str:
    """A text on one line, cut at 100 characters."""
    line = " ".join((text or "").split())
    return line if len(line) <= 100 else line[:99] + "…"


def say(message: str) -> None:
    """Progress and remarks, for people: on stderr, so that they are never mixed into a result."""
    sys.stderr.write(message + "\n")
    sys.stderr.flush()


def report_error(error: UserError, as_json: bool) -> None:
    """Say what was wrong and how to mend it; with ``--json`` scripts get it on stdout, too."""
    say(f"{_coloured('error:', '1;31')} {_indented(error.what)}")
    say(f"{_coloured('fix:', '1;32')}   {_indented(error.fix)}")
    if as_json:
        emit({"error": error.what, "fix": error.fix}, as_json, "")


def _indented(text: str) -> str:
    return text.replace("\n", "\n       ")


def _coloured(text: str, code: str) -> str:
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" or not sys.stderr.isatty()
    return text if plain else f"\033[{code}m{text}\033[0m"
