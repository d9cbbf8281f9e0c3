"""CSV and TSV, one record at a time, and cells that a spreadsheet will not run as formulas."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterator
from typing import TextIO

from tunesmith.data.content import LONGEST_LINE_BYTES
from tunesmith.data.json_files import repeated
from tunesmith.data.parsed import BadRecord, Record
from tunesmith.errors import UserError

DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab"}
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "＝", "＋", "－", "＠")


def delimiter_of(head: str) -> str:
    """Whichever of comma, semicolon and tab occurs most in the header."""
    return max(DELIMITERS, key=head.lstrip("\r\n").split("\n", 1)[0].count)


def read_csv(stream: TextIO, name: str) -> Iterator[Record | BadRecord]:
    """One record for each row behind the header. ``stream`` keeps its line ends (``newline=""``).

    Raises:
        UserError: two columns of one name, or quotes from which on the rows cannot be told apart.
    """
    begun = list(_through_header(stream))
    delimiter = delimiter_of("".join(begun))
    csv.field_size_limit(LONGEST_LINE_BYTES)  # the default cuts off at 128 KiB
    reader = csv.reader(itertools.chain(begun, stream), delimiter=delimiter, strict=True)
    columns: tuple[str, ...] | None = None
    start = line = 1
    try:
        for cells in reader:
            line, start = start, reader.line_num + 1
            if not cells:
                continue
            if columns is None:
                columns = tuple(cell.strip() for cell in cells)
                if len(set(columns)) < len(columns):
                    raise UserError(
                        f"{name}:{line}: two columns of the same name: {repeated(columns)}",
                        "Rename or remove one of them in the header.",
                    )
            elif len(cells) != len(columns):
                yield BadRecord(
                    line,
                    f"{len(cells)} cells, but the header names {len(columns)} columns",
                    "Quote cells that hold the delimiter or a line break, then write the file again.",
                )
            else:
                yield Record(line, dict(zip(columns, cells, strict=True)))
    except csv.Error as error:
        if "field limit" in str(error):
            what = f"a cell is longer than {LONGEST_LINE_BYTES // 2**20} MiB; is its quote never closed?"
        else:
            what = f"broken CSV: {error}"
        begins = f" (in the row that begins on line {start})" if reader.line_num > start else ""
        raise UserError(
            f"{name}:{reader.line_num}: {what}{begins}",
            'Quote cells with " and double a " inside a cell, then write the file again.',
        ) from None


def safe_cell(text: str) -> str:
    """``text`` for a CSV file that people open in a spreadsheet: a ' before what begins like a formula.

    OWASP, "CSV Injection"; numbers such as -3.5 are left as they are.
    """
    if not text.startswith(_FORMULA_STARTS) or _is_number(text):
        return text
    return f"'{text}"


def _through_header(stream: TextIO) -> Iterator[str]:
    for line in stream:
        yield line
        if line.strip("\r\n"):
            return


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return text.strip() == text
