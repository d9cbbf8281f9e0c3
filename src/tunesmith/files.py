"""Files on disk: content hashes, atomic writes, and records as JSON."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from pydantic import TypeAdapter

RecordType = TypeVar("RecordType")


# Kept, because making an encoder takes longer than encoding a short text.
_CANONICAL = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":"))

_parsers: dict[type, Any] = {}


def canonical_json(value: Any) -> str:
    """``value`` as JSON with sorted keys and no spaces: equal values give equal text."""
    return _CANONICAL.encode(_plain(value))


def content_hash(value: Any) -> str:
    """SHA-256 (hex) of the canonical JSON of ``value``; records and tuples are allowed."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes, read in blocks."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def weights_sha256(folder: Path) -> str:
    """One SHA-256 (hex) over all weight files of a model's folder."""
    return content_hash([[path.name, file_sha256(path)] for path in sorted(folder.glob("*.safetensors"))])


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` that replaces it on success and vanishes on failure."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".partial")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write a record or plain value as readable JSON, atomically."""
    write_text(path, json.dumps(_plain(value), indent=1, ensure_ascii=False) + "\n")


def read_record(path: Path, record_type: type[RecordType]) -> RecordType:
    """Read JSON written by :func:`write_json` back into the record it came from, validated."""
    return record_parser(record_type).validate_json(path.read_bytes())


def record_parser(record_type: type[RecordType]) -> TypeAdapter[RecordType]:
    """The parser of a kind of record; kept, because making one takes a hundred times longer than parsing."""
    from pydantic import TypeAdapter

    if record_type not in _parsers:
        _parsers[record_type] = TypeAdapter(record_type)
    parser: TypeAdapter[RecordType] = _parsers[record_type]
    return parser


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, (str, int, float)):
        return value
    if is_dataclass(value) and not isinstance(value, type):
        # dataclasses.asdict copies every value, which takes most of its time.
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        if set(map(type, value)) == {str}:
            return value
        return [_plain(item) for item in value]
    return value
