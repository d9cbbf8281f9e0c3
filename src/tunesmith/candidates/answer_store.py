"""Answers that were paid for, one JSON line each, written before anything else happens with them."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tunesmith.errors import UserError


@dataclass(frozen=True)
class Paid:
    """One answer of an endpoint. ``request`` is the hash of the URL and all that was sent.

    ``answer`` is None for attempts that were sent, and may have been billed, without an answer.
    """

    request: str
    answer: str | None
    prompt_tokens: int
    answer_tokens: int
    spend: float
    seconds: float


class AnswerStore:
    """The answers in one file. ``others`` hold more answers of the same endpoint, whose price counts too."""

    def __init__(self, path: Path, others: Sequence[Path] = ()) -> None:
        self.path = path
        own = _read(path)
        self.answers = {paid.request: paid for paid in own if paid.answer is not None}
        self.spent = sum(paid.spend for paid in own)
        self.spent += sum(paid.spend for other in others for paid in _read(other))

    def add(self, paid: Paid) -> None:
        """Append one line; it is on disk when this returns."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab") as stream:
            # After half a line, from a process that was killed while writing it, begin a new one.
            start = b"" if stream.tell() == 0 or _ends_whole(self.path) else b"\n"
            stream.write(start + json.dumps(asdict(paid), ensure_ascii=False).encode() + b"\n")
            stream.flush()
            os.fsync(stream.fileno())
        self.spent += paid.spend
        if paid.answer is not None:
            self.answers[paid.request] = paid


def _ends_whole(path: Path) -> bool:
    with path.open("rb") as stream:
        stream.seek(-1, os.SEEK_END)
        return stream.read(1) == b"\n"


def _read(path: Path) -> list[Paid]:
    """The lines of a file; half a line is what a killed process left, anything else is damage."""
    if not path.is_file():
        return []
    found = []
    lines = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines, start=1):
        if not line:
            continue
        try:
            found.append(Paid(**json.loads(line)))
        except (ValueError, TypeError):
            if line.rstrip().endswith(b"}"):
                raise UserError(
                    f"{path}:{number}: not an answer as Tunesmith wrote it",
                    "restore the file from a copy, or remove this line; its answer is then asked for again",
                ) from None
    return found
