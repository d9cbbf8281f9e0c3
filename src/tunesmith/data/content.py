"""The bytes of a data file: unpacked, and checked in one pass of little memory before anything is parsed."""

from __future__ import annotations

import codecs
import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal, cast

import zstandard

from tunesmith.data.parsed import LINES_SHOWN
from tunesmith.errors import UserError

Compression = Literal["gzip", "zstd"]
MAGIC: dict[Compression, bytes] = {"gzip": b"\x1f\x8b", "zstd": b"\x28\xb5\x2f\xfd"}

LONGEST_LINE_BYTES = 64 * 2**20
# A packed file may unpack to this much; beyond it, to this many times its size.
FREE_BYTES = 2**30
LARGEST_RATIO = 100
_BLOCK_BYTES = 2**20

_Broken = (EOFError, zlib.error, gzip.BadGzipFile, zstandard.ZstdError)


def compression_of(path: Path) -> Compression | None:
    """How the file is packed, by its first bytes, whatever its name."""
    with path.open("rb") as file:
        head = file.read(4)
    return next((kind for kind, magic in MAGIC.items() if head.startswith(magic)), None)


class _Zstd(io.RawIOBase):
    """A zstd file, unpacked while it is read. zstandard's own reader takes a file that was cut off for whole.

    1 KiB at a time, as that much can unpack to 32 MiB.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._frame: zstandard.ZstdDecompressionObj | None = None
        self._packed = b""
        self._unpacked = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._unpacked:
            self._packed = self._packed or self._file.read(1024)
            if not self._packed:
                if self._frame is not None:
                    raise EOFError("the last frame is not complete")
                return 0
            if self._frame is None:
                self._frame = zstandard.ZstdDecompressor().decompressobj()
            self._unpacked = memoryview(self._frame.decompress(self._packed))
            self._packed = self._frame.unused_data if self._frame.eof else b""
            if self._frame.eof:
                self._frame = None
        size = min(len(buffer), len(self._unpacked))
        buffer[:size] = self._unpacked[:size]
        self._unpacked = self._unpacked[size:]
        return size


@contextmanager
def opened(path: Path, name: str, compression: Compression | None) -> Iterator[IO[bytes]]:
    """The unpacked bytes. A damaged file is a UserError, raised where it is met."""
    try:
        with path.open("rb") as file:
            if compression is None:
                yield file
            elif compression == "gzip":
                with gzip.GzipFile(fileobj=file) as unpacked:
                    yield cast(IO[bytes], unpacked)
            else:
                with io.BufferedReader(_Zstd(file)) as unpacked:
                    yield unpacked
    except _Broken as error:
        raise UserError(
            f"{name}: the {compression} file is damaged or cut off: {error}", "Get or pack the file again."
        ) from None


def text_of(stream: IO[bytes], newline: str | None) -> io.TextIOWrapper:
    """Checked bytes as text, without a byte order mark; ``newline`` as in :func:`open`."""
    return io.TextIOWrapper(stream, encoding="utf-8-sig", newline=newline)


def head_of(path: Path, name: str, compression: Compression | None, size: int = 4096) -> bytes:
    """The first unpacked bytes."""
    with opened(path, name, compression) as stream:
        return stream.read(size)


def check_text(path: Path, name: str, compression: Compression | None, lines: bool = True) -> None:
    """Refuse what would harm or confuse a parser; one pass, a few MiB of memory.

    ``lines`` also bounds each line (a JSON array may stand on one line: there each element is bounded).

    Raises:
        UserError: not UTF-8, null bytes, a line above 64 MiB, or more than 1 GiB that unpacks to more than
            100 times the size of the file.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    offset, line, line_bytes, pending = 0, 1, 0, 0
    nulls: list[int] = []
    null_offset = 0
    for block in blocks(path, name, compression):
        if offset == 0 and block.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise UserError(
                f"{name}:1: not UTF-8: the file starts with a UTF-16 byte order mark",
                f"Save it as UTF-8, for example: iconv -f UTF-16 -t UTF-8 {name}",
            )
        try:
            decoder.decode(block)
        except UnicodeDecodeError as error:
            byte, start = error.object[error.start], error.start - pending
            raise _not_utf8(name, byte, offset + start, line + block.count(b"\n", 0, max(start, 0))) from None
        pending = len(decoder.getstate()[0])
        first = block.find(b"\0")
        if first >= 0:
            null_offset = null_offset if nulls else offset + first
            nulls += _lines_with_null(block, line, nulls[-1] if nulls else 0)
        breaks = block.count(b"\n")
        line_bytes = line_bytes + len(block) if not breaks else len(block) - block.rfind(b"\n") - 1
        if lines and line_bytes > LONGEST_LINE_BYTES:
            raise UserError(
                f"{name}:{line}: this line is longer than {LONGEST_LINE_BYTES // 2**20} MiB",
                "Each row stands on a line of its own. Write the file with line breaks between its rows, or "
                "remove this line.",
            )
        offset += len(block)
        line += breaks
    if pending:
        raise _not_utf8(name, decoder.getstate()[0][0], offset - pending, line)
    if nulls:
        shown = ", ".join(map(str, nulls[:LINES_SHOWN])) + (", ..." if len(nulls) > LINES_SHOWN else "")
        raise UserError(
            f"{name}:{nulls[0]}: a null byte at offset {null_offset:,}"
            + (f"; {len(nulls):,} lines hold null bytes: {shown}" if len(nulls) > 1 else ""),
            "The file is damaged or not text. Write it again; remove null bytes with: tr -d '\\000'",
        )


def blocks(path: Path, name: str, compression: Compression | None) -> Iterator[bytes]:
    """The unpacked bytes in blocks of at most 1 MiB; stops a file that unpacks far beyond its size."""
    packed = path.stat().st_size
    size = 0
    with opened(path, name, compression) as stream:
        while block := stream.read(_BLOCK_BYTES):
            size += len(block)
            if compression and unpacks_too_far(size, packed):
                raise UserError(
                    f"{name}: {packed:,} bytes of {compression} unpack to {size:,} bytes or more: above "
                    f"{FREE_BYTES // 2**30} GiB a file may hold {LARGEST_RATIO} times its packed size",
                    "Such a file is damaged or made to fill memory. If it is your own, unpack it first.",
                )
            yield block


def unpacks_too_far(size: int, packed: int) -> bool:
    return size > FREE_BYTES and size > LARGEST_RATIO * packed


def _not_utf8(name: str, byte: int, offset: int, line: int) -> UserError:
    return UserError(
        f"{name}:{line}: not UTF-8: byte 0x{byte:02x} at offset {offset:,}",
        f"Save the file as UTF-8, for example: iconv -f WINDOWS-1252 -t UTF-8 {name}",
    )


def _lines_with_null(block: bytes, line: int, known: int) -> list[int]:
    """The lines of a block that hold a null byte, each once, but for the one that is ``known``."""
    found = []
    for number, content in enumerate(block.split(b"\n"), start=line):
        if b"\0" in content and number != known:
            found.append(number)
    return found
