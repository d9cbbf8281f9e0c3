"""Files made to harm, or damaged: one clear message, before time or memory are spent."""

import gzip
import json
import re
import subprocess
import sys
import time
import tracemalloc
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from tunesmith.data import content
from tunesmith.data.csv_files import safe_cell
from tunesmith.data.formats import open_table, read_table
from tunesmith.data.json_files import parse_object
from tunesmith.errors import UserError

GIB = 2**30


def refused(path: Path) -> UserError:
    with pytest.raises(UserError) as caught:
        read_table(path)
    return caught.value


@pytest.fixture
def frugal() -> Iterator[None]:
    """The test must use at most 300 MB at its height, and at most ten seconds."""
    tracemalloc.start()
    began = time.perf_counter()
    yield
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 300e6
    assert time.perf_counter() - began < 10


def write_sparse(path: Path, size: int, byte: bytes = b" ") -> None:
    """A file of one long line, written in pieces."""
    with path.open("wb") as file:
        file.write(b'{"text": "')
        for _ in range(size // 2**20):
            file.write(byte * 2**20)


@pytest.mark.usefixtures("frugal")
@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.txt"])
def test_a_line_of_100_mb_is_refused_where_it_stands(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    write_sparse(path, 100 * 2**20)
    if name == "a.txt":
        from tunesmith.data.documents import document_text
        from tunesmith.data.formats import recognise

        with pytest.raises(UserError) as caught:
            document_text(recognise(path, name))
        what = caught.value.what
    else:
        what = refused(path).what
    assert what == f"{name}:1: this line is longer than 64 MiB"


@pytest.mark.usefixtures("frugal")
def test_a_line_of_one_gb_is_refused_after_its_first_part(tmp_path: Path) -> None:
    with (tmp_path / "a.jsonl").open("wb") as file:
        file.write(b'{"text": "a"}\n{"text": "')
        file.truncate(GIB)  # a hole that reads as null bytes: the line is told before they are
    assert refused(tmp_path / "a.jsonl").what == "a.jsonl:2: this line is longer than 64 MiB"


def test_an_array_on_one_line_may_be_longer_than_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"text": "x" * 50, "label": str(n % 2)} for n in range(1000)]
    (tmp_path / "a.json").write_text(json.dumps(rows))
    monkeypatch.setattr(content, "LONGEST_LINE_BYTES", 1000)
    assert len(read_table(tmp_path / "a.json").records) == 1000


@pytest.mark.usefixtures("frugal")
def test_an_element_of_an_array_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tunesmith.data.json_files.LONGEST_LINE_BYTES", 3 * 2**20)
    element = json.dumps({"text": "x" * (8 * 2**20)})
    (tmp_path / "a.json").write_text(f'[{{"text": "a"}}, {element}]')
    assert refused(tmp_path / "a.json").what.startswith("a.json:2: this element of the array is longer than")


def test_the_bounds_are_those_that_are_told() -> None:
    assert (content.LONGEST_LINE_BYTES, content.FREE_BYTES, content.LARGEST_RATIO) == (64 * 2**20, GIB, 100)


@pytest.mark.usefixtures("frugal")
@pytest.mark.parametrize("compression", ["gzip", "zstd"])
@pytest.mark.parametrize("block", [b'{"text": "a", "label": "b"}\n' * 2**15, b"\n" * 2**20])
def test_a_bomb_is_refused_before_it_is_unpacked_or_parsed(
    tmp_path: Path, compression: str, block: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(content, "FREE_BYTES", 5 * 2**20)
    path = tmp_path / "a.jsonl"
    pack = gzip.compress if compression == "gzip" else zstandard.ZstdCompressor().compress
    path.write_bytes(pack(block * 64))
    what = refused(path).what
    found = re.search(r"unpack to ([\d,]+) bytes", what)
    assert found is not None
    unpacked = int(found[1].replace(",", ""))
    assert unpacked <= max(5 * 2**20, 100 * path.stat().st_size) + 2**20
    assert unpacked < len(block) * 64 / 3
    assert "a file may hold 100 times its packed size" in what


def test_a_file_that_packs_well_but_is_small_is_read(tmp_path: Path) -> None:
    rows = b'{"text": "a", "label": "b"}\n' * 50_000
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(rows))
    assert len(rows) > 100 * (tmp_path / "a.jsonl.gz").stat().st_size
    assert len(read_table(tmp_path / "a.jsonl.gz").records) == 50_000


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
@pytest.mark.parametrize("kept", [0.5, -5])
def test_a_packed_file_that_was_cut_off_is_refused(tmp_path: Path, compression: str, kept: float) -> None:
    pack = gzip.compress if compression == "gzip" else zstandard.ZstdCompressor(write_checksum=True).compress
    packed = pack(b"".join(b'{"text": "%d"}\n' % (n * n) for n in range(50_000)))
    (tmp_path / "a.jsonl").write_bytes(packed[: int(len(packed) * kept) if kept > 0 else int(kept)])
    assert f"a.jsonl: the {compression} file is damaged or cut off" in refused(tmp_path / "a.jsonl").what


def test_a_damaged_zstd_file_is_refused(tmp_path: Path) -> None:
    packed = bytearray(zstandard.ZstdCompressor(write_checksum=True).compress(b'{"text": "a"}\n' * 1000))
    packed[len(packed) // 2] ^= 0xFF
    (tmp_path / "a.jsonl").write_bytes(packed)
    assert "the zstd file is damaged" in refused(tmp_path / "a.jsonl").what


@pytest.mark.parametrize("levels", [101, 900, 5_000, 200_000])
@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
def test_deep_nesting_is_refused_and_not_a_crash(tmp_path: Path, name: str, levels: int) -> None:
    deep = '{"text": ' + "[" * (levels - 1) + "]" * (levels - 1) + "}"
    good = '{"text": "a"}'
    text = f"{good}\n{deep}\n" if name == "a.jsonl" else f"[{good}, {deep}]"
    (tmp_path / name).write_text(text)
    assert "nested deeper than 100 levels" in refused(tmp_path / name).what
    assert refused(tmp_path / name).what.startswith(f"{name}:2: ")


def test_a_hundred_levels_and_any_number_of_brackets_in_text_are_read(tmp_path: Path) -> None:
    deep = '{"text": ' + "[" * 99 + "]" * 99 + "}"
    (tmp_path / "a.jsonl").write_text(f'{deep}\n{{"text": "{"[" * 500}\\"{"{" * 500}"}}\n')
    assert len(read_table(tmp_path / "a.jsonl").records) == 2


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(_values)
def test_what_json_writes_is_read(value: object) -> None:
    assert parse_object(json.dumps(value)) == value


@given(st.text(alphabet='[]{}"\\:,ab1 ', max_size=300))
def test_whatever_the_text_is_it_is_a_value_or_one_kind_of_error(text: str) -> None:
    try:
        expected = json.loads(text)
    except ValueError:
        with pytest.raises(ValueError):  # noqa: PT011 (its text is json's own)
            parse_object(text)
    else:
        assert json.dumps(parse_object(text)) == json.dumps(expected) or '"' in text


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv"])
def test_null_bytes_are_named_with_their_lines(tmp_path: Path, name: str) -> None:
    lines = [b'{"text": "a"}'] * 9
    for number in (3, 6):
        lines[number] = b'{"text": "\0\0"}'
    (tmp_path / name).write_bytes(b"\n".join(lines))
    error = refused(tmp_path / name)
    assert error.what == f"{name}:4: a null byte at offset 52; 2 lines hold null bytes: 4, 7"
    assert "tr -d" in error.fix


def test_a_character_cut_by_a_block_is_read_and_a_broken_one_named(tmp_path: Path) -> None:
    good = '{"text": "' + "x" * (2**20 - 11) + 'é"}\n'
    (tmp_path / "a.jsonl").write_bytes(good.encode())
    assert len(read_table(tmp_path / "a.jsonl").records) == 1
    (tmp_path / "a.jsonl").write_bytes(good.encode() + b"\n\xe9")
    assert refused(tmp_path / "a.jsonl").what.startswith("a.jsonl:3: not UTF-8: byte 0xe9 at offset 1,048,58")
    (tmp_path / "a.jsonl").write_bytes(good[: 2**20].encode()[:-1] + b'"}\n')
    assert "a.jsonl:1: not UTF-8: byte 0xc3 at offset 1,048,575" in refused(tmp_path / "a.jsonl").what


def test_an_array_that_is_broken_or_cut_off_says_where(tmp_path: Path) -> None:
    for text, words in (
        ('[{"a": 1},\n {"a": 2},\n {"a" 3}]', "a.json: line 3: broken JSON in element 3, at its character 6"),
        ('[{"a": 1},\n {"a": 2}', "a.json: line 2: the array is cut off: no ] ends it"),
        ('[{"a": 1},\n {"a": "tw', "a.json: line 2: broken JSON in element 2"),
        ('[{"a": 1}]\n[{"a": 2}]', "a.json: line 1: text after the end of the array"),
        ('[{"a": 1}, 7, "x"]', "a.json:2: the array holds a int, not a JSON object; 2 of 3 rows"),
        ('[{"a": 1, "a": 2}]', "a.json:1: two fields of the same name: 'a'"),
        ('{\n "data": [{"a": 1}]\n}', "neither a JSON array of objects nor JSON Lines"),
    ):
        (tmp_path / "a.json").write_text(text)
        assert words in refused(tmp_path / "a.json").what


def test_a_csv_quote_that_is_never_closed_names_the_row_where_it_begins(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('text,label\na,b\n"never closed,c\n' + "d,e\n" * 50)
    assert "(in the row that begins on line 3)" in refused(tmp_path / "a.csv").what


@pytest.mark.parametrize("typed", [True, False])
def test_a_parquet_file_that_unpacks_too_far_is_refused(
    tmp_path: Path, typed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A value stored once that every row repeats; ``typed``: whether Arrow knows it as a dictionary."""
    monkeypatch.setattr(content, "FREE_BYTES", 50 * 2**20)
    column = pa.array(["x" * 2**20]).take(pa.array([0] * 200))
    column = column.dictionary_encode() if typed else column
    parquet.write_table(pa.table({"text": column}), tmp_path / "a.parquet", compression="zstd")
    assert (tmp_path / "a.parquet").stat().st_size < 10_000
    assert "of Parquet unpack to" in refused(tmp_path / "a.parquet").what


def test_a_zip_archive_is_no_data_file(tmp_path: Path) -> None:
    for name in ("a.zip", "a.jsonl", "a.xlsx"):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr("data.jsonl", "{}")
        assert "its content does not tell the format: a zip archive" in refused(tmp_path / name).what


def test_a_formula_is_no_formula_in_an_exported_cell() -> None:
    for cell in ("=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "＝1+1"):
        assert safe_cell(cell) == f"'{cell}"
    for cell in ("", "refund", "-3.5", "+7", "a=b", " =1"):
        assert safe_cell(cell) == cell


def test_reading_is_streamed(tmp_path: Path) -> None:
    """A file of 80 MB is opened, checked and read through in far less memory than it holds."""
    line = json.dumps({"text": "word " * 400, "label": "a"}) + "\n"
    with (tmp_path / "a.jsonl").open("w") as file:
        for _ in range(40):
            file.write(line * 1000)
    code = (
        "import resource, sys; from pathlib import Path; from tunesmith.data.formats import open_table\n"
        "import pyarrow.parquet\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "rows = sum(1 for _ in open_table(Path(sys.argv[1])).records)\n"
        "print(rows, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "a.jsonl")], capture_output=True, text=True, check=True
    )
    rows, kib = map(int, done.stdout.split())
    assert rows == 40_000
    assert kib < 40 * 1024


def test_an_unreadable_name_is_not_a_crash(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "a"}\n')
    assert open_table(tmp_path / "a.jsonl", "another name").name == "another name"
