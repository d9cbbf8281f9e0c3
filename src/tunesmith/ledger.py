"""The ledger: an append-only, hash-chained ``ledger.jsonl`` per task, with its head beside it.

Every line carries the hash of the line before it, and ``ledger.head`` carries the number of lines and the
last hash. What that proves: no line was edited, removed or reordered, by accident or by hand, since the head
was written; a removed last line is missed by the head. What it cannot prove: somebody who rewrites the
whole chain *and* the head leaves no trace, nor does one who cuts the ledger and sets the head back. Against
that, keep the head hash that ``verify`` returns somewhere else (the report prints it).
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Literal

from tunesmith.errors import UserError
from tunesmith.files import content_hash, write_json

Event = Literal["frozen", "test_opened", "verdict"]

GENESIS = "0" * 64
_FIELDS = ["seq", "time", "event", "data", "previous", "hash"]
_RESTORE = "restore the ledger and its .head file together from a backup; a verdict needs the whole history"


@dataclass(frozen=True)
class LedgerLine:
    """One line. ``seq`` counts from 1; ``previous`` is the hash of the line before, 64 zeros for the first.

    ``hash`` is the SHA-256 of the canonical JSON list of the other five, in this order. ``event`` is text
    here, because a later version may have written events that this one does not know.
    """

    seq: int
    time: str
    event: str
    data: dict[str, Any]
    previous: str
    hash: str


@dataclass(frozen=True)
class LedgerHead:
    """How far a ledger goes: its number of lines and the hash of the last (64 zeros when there is none)."""

    lines: int
    hash: str


def append(path: Path, event: Event, data: Mapping[str, Any]) -> LedgerLine:
    """Add one line, durably: when this returns, the line is on disk.

    ``test_opened`` needs ``test_sha256`` and ``contest_id`` in its data. Two processes take turns (flock).
    Raises UserError when the chain is broken or its last line is torn (exit code 1), or the disk refuses;
    nothing is written then.
    """
    if event == "test_opened" and not {"test_sha256", "contest_id"} <= data.keys():
        raise ValueError("a test_opened line needs test_sha256 and contest_id")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        created = not path.exists()
        with path.open("ab+", buffering=0) as stream, _locked(stream, fcntl.LOCK_EX):
            if created:
                _sync_folder(path.parent)
            lines = _checked(path, stream)
            line = _next_line(lines, event, data)
            # The last append may have died between its line and its head.
            _write_head(path, lines)
            _write_whole(stream, _text(line) + b"\n")
            _write_head(path, (*lines, line))
            return line
    except OSError as error:
        raise UserError(
            f"{path}: cannot write the ledger: {error.strerror}",
            "free space or allow writing there, then run the same command again; no line was half-written",
        ) from error


def read(path: Path) -> tuple[LedgerLine, ...]:
    """All lines, oldest first, after checking the chain; none when there is no ledger yet.

    Raises UserError (exit code 1) naming the first bad line, as ``verify`` does.
    """
    try:
        with path.open("rb") as stream, _locked(stream, fcntl.LOCK_SH):
            return _checked(path, stream)
    except FileNotFoundError:
        _check_head(path, ())
        return ()
    except OSError as error:
        raise UserError(
            f"{path}: cannot read the ledger: {error.strerror}", "allow reading that file"
        ) from error


def verify(path: Path) -> LedgerHead:
    """Check every line, the chain and the head.

    Raises UserError with exit code 1 that names the first bad line and whether it was edited, removed,
    reordered or copied; with exit code 2 when there is no ledger at all.
    """
    lines = read(path)
    if not lines:
        raise UserError(
            f"{path}: there is no ledger", "give the task's folder; the first freeze begins its ledger"
        )
    return _head_of(lines)


def distinct_contests(path: Path, test_sha256: str) -> list[str]:
    """Contests that opened this test, by their id, each once, in the order of their first opening."""
    opened = (
        str(line.data["contest_id"]) for line in openings(path) if line.data.get("test_sha256") == test_sha256
    )
    return list(dict.fromkeys(opened))


def opening_number(path: Path, test_sha256: str, contest_id: str, related: Collection[str] = ()) -> int:
    """k: this is the k-th distinct contest on this test. One that opened it before keeps its k.

    Contests on ``related`` tests, named by their hash, count as well. Ask after appending the ``test_opened``
    line: then two processes that open the same test at once cannot be given the same k.
    """
    opened = [(str(line.data.get("test_sha256")), str(line.data["contest_id"])) for line in openings(path)]
    contests = list(dict.fromkeys(pair for pair in opened if pair[0] == test_sha256 or pair[0] in related))
    own = (test_sha256, contest_id)
    return contests.index(own) + 1 if own in contests else len(contests) + 1


def openings(path: Path) -> tuple[LedgerLine, ...]:
    """The lines of all openings of tests, in order."""
    return tuple(line for line in read(path) if line.event == "test_opened")


def _checked(path: Path, stream: IO[bytes]) -> tuple[LedgerLine, ...]:
    stream.seek(0)
    content = stream.read()
    texts = content.split(b"\n")
    unfinished = texts.pop()
    if unfinished:
        if _parsed(unfinished):
            raise _broken(
                path,
                f"line {len(texts) + 1} was edited: the newline at its end is gone",
                "put that newline back",
            )
        raise _broken(
            path,
            f"line {len(texts) + 1} is torn: it has no end ({len(unfinished)} bytes)",
            "if a crash or a full disk did it, delete that unfinished last line: it was never acted upon; "
            "otherwise restore the ledger and its .head file from a backup",
        )
    parsed = tuple(_parsed(text) for text in texts)
    _check_chain(path, parsed)
    lines = tuple(line for line in parsed if line is not None)
    _check_head(path, lines)
    return lines


def _check_chain(path: Path, lines: tuple[LedgerLine | None, ...]) -> None:
    present = {line.seq for line in lines if line is not None}
    previous = GENESIS
    for number, line in enumerate(lines, start=1):
        if line is None:
            raise _broken(path, f"line {number} was edited: its content and its hash do not agree")
        if line.seq < number:
            raise _broken(path, f"line {number} was copied in: it repeats line {line.seq}")
        if line.seq > number:
            how = "reordered: it now follows a later line" if number in present else "removed"
            raise _broken(path, f"line {number} was {how} (line {line.seq} stands in its place)")
        if line.previous != previous:
            # Both lines agree with their own hashes, so the earlier one was replaced together with its hash.
            edited = max(1, number - 1)
            raise _broken(path, f"line {edited} was edited: line {number} was chained to another one")
        previous = line.hash


def _check_head(path: Path, lines: tuple[LedgerLine, ...]) -> None:
    """The head may be one line behind a valid chain: a crash came between the two writes."""
    head_path = _head_path(path)
    try:
        recorded = json.loads(head_path.read_bytes())
        head = LedgerHead(int(recorded["lines"]), str(recorded["hash"]))
    except FileNotFoundError:
        if len(lines) <= 1:
            return
        found = json.dumps({"lines": len(lines), "hash": lines[-1].hash})
        raise _broken(
            path,
            f"{head_path.name} is missing, so lines removed after line {len(lines)} could not be seen",
            f"restore {head_path} from a backup; only if surely nothing is missing, write into it: {found}",
        ) from None
    except (ValueError, KeyError, TypeError):
        raise _broken(
            path, f"{head_path.name} was edited: it does not hold a number of lines and a hash"
        ) from None
    if head.lines > len(lines):
        last = f" to {head.lines}" if head.lines > len(lines) + 1 else ""
        raise _broken(
            path, f"line {len(lines) + 1}{last} was removed: {head_path.name} counts {head.lines} lines"
        )
    if head.lines < len(lines) - 1 or head.lines < 0:
        raise _broken(path, f"{head_path.name} was set back: it counts {head.lines} of {len(lines)} lines")
    if head != _head_of(lines[: head.lines]):
        how = f"edited, or rewritten with lines before it: {head_path.name} holds another hash"
        raise _broken(path, f"line {max(1, head.lines)} was {how}")


def _broken(path: Path, what: str, fix: str = _RESTORE) -> UserError:
    return UserError(f"{path}: {what}", fix, exit_code=1)


def _parsed(text: bytes) -> LedgerLine | None:
    """The line, or None unless it is exactly what ``append`` wrote: same bytes, right hash."""
    try:
        fields = json.loads(text)
        line = LedgerLine(**fields)
        unchanged = type(line.seq) is int and isinstance(line.data, dict) and _text(line) == text
        return line if unchanged and list(fields) == _FIELDS and _hash(line) == line.hash else None
    except (ValueError, TypeError, RecursionError):
        return None


def _next_line(lines: tuple[LedgerLine, ...], event: Event, data: Mapping[str, Any]) -> LedgerLine:
    time = datetime.now(UTC).isoformat(timespec="seconds")
    line = LedgerLine(len(lines) + 1, time, event, dict(data), _head_of(lines).hash, hash="")
    line = LedgerLine(line.seq, line.time, line.event, line.data, line.previous, _hash(line))
    reread = _parsed(_text(line))
    if reread is None:
        raise ValueError(f"ledger data must survive JSON unchanged, with text keys: {data!r}")
    return reread


def _hash(line: LedgerLine) -> str:
    return content_hash([line.seq, line.time, line.event, line.data, line.previous])


def _text(line: LedgerLine) -> bytes:
    """The line as JSON without its newline; non-ASCII is escaped, so a newline byte always ends a line."""
    fields = {name: getattr(line, name) for name in _FIELDS}
    return json.dumps(fields, allow_nan=False).encode("ascii")


def _head_of(lines: tuple[LedgerLine, ...]) -> LedgerHead:
    return LedgerHead(len(lines), lines[-1].hash if lines else GENESIS)


def _head_path(path: Path) -> Path:
    return path.with_suffix(".head")


def _write_head(path: Path, lines: tuple[LedgerLine, ...]) -> None:
    write_json(_head_path(path), _head_of(lines))


def _write_whole(stream: IO[bytes], content: bytes) -> None:
    """Write and fsync, or leave the file as it was."""
    before = os.fstat(stream.fileno()).st_size
    try:
        while content:
            content = content[os.write(stream.fileno(), content) :]
        os.fsync(stream.fileno())
    except BaseException:
        os.ftruncate(stream.fileno(), before)
        raise


def _sync_folder(folder: Path) -> None:
    """Make a new file's name durable, not only its content."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _locked(stream: IO[bytes], kind: int) -> Iterator[None]:
    fcntl.flock(stream.fileno(), kind)
    try:
        yield
    finally:
        fcntl.flock(stream.fileno(), fcntl.LOCK_UN)
