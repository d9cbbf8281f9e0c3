"""Every layout that people bring is read into the same rows, and what it was taken for is said."""

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import zstandard
from pyarrow import parquet

from tunesmith.data.formats import open_table
from tunesmith.data.look import look
from tunesmith.data.rows import ColumnsRead, RowsRead, rows_of
from tunesmith.data.sources import Source, SourceSpec, read_source
from tunesmith.errors import UserError
from tunesmith.records import Message

ROWS: list[dict[str, Any]] = [
    {"text": f"question {n} about a card", "label": f"l{n % 3}"} for n in range(120)
]
TEXT = ColumnsRead(("text",), "label")


def jsonl(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def read(path: Path, columns: ColumnsRead = TEXT) -> RowsRead:
    return rows_of(open_table(path), columns)


def source(*paths: str, **other: Any) -> Source:
    settings = {"input": "text", "target": "label", "messages": None, "test_path": None, **other}
    spec = SourceSpec(None, paths, min_words=None, max_words=None, most_frequent_labels=None, **settings)
    return read_source(spec, Path("unused"))


def refused(path: Path, columns: ColumnsRead = TEXT) -> UserError:
    with pytest.raises(UserError) as caught:
        read(path, columns)
    return caught.value


@pytest.mark.parametrize("indent", [None, 1])
def test_a_json_array_gives_the_rows_of_json_lines(tmp_path: Path, indent: int | None) -> None:
    rows = [{**row, "note": 'brackets ] } "and quotes"'} for row in ROWS]
    (tmp_path / "a.json").write_text(json.dumps(rows, indent=indent))
    (tmp_path / "a.jsonl").write_text(jsonl(rows))
    array, lines = read(tmp_path / "a.json"), read(tmp_path / "a.jsonl")
    assert [(row.messages, row.target) for row in array.rows] == [
        (row.messages, row.target) for row in lines.rows
    ]
    assert array.rows[-1].source == "a.json:120"
    assert "a JSON array, as it begins with [" in open_table(tmp_path / "a.json").why


def test_an_array_longer_than_the_read_ahead_is_read_whole(tmp_path: Path) -> None:
    rows = [{"text": "word " * (1 + n % 997), "label": str(n % 2)} for n in range(3000)]
    (tmp_path / "a.json").write_text(json.dumps(rows, ensure_ascii=False))
    assert (tmp_path / "a.json").stat().st_size > 5 * 2**20
    found = read(tmp_path / "a.json").rows
    assert [row.text for row in found] == [row["text"] for row in rows]


def test_the_content_decides_and_not_the_name(tmp_path: Path) -> None:
    (tmp_path / "lines.json").write_text(jsonl(ROWS))
    (tmp_path / "array.jsonl").write_text(json.dumps(ROWS))
    parquet.write_table(pa.Table.from_pylist(ROWS), tmp_path / "table.jsonl")
    (tmp_path / "nameless").write_text(jsonl(ROWS))
    for name, words in (
        ("lines.json", "read as JSON Lines"),
        ("array.jsonl", "read as a JSON array"),
        ("table.jsonl", "read as Parquet, as it begins with PAR1"),
        ("nameless", "read as JSON Lines, as its first line is a JSON object"),
    ):
        assert words in open_table(tmp_path / name).why
        assert len(read(tmp_path / name).rows) == 120


@pytest.mark.parametrize("packed", ["gzip", "zstd"])
def test_packed_files_are_known_by_their_content(tmp_path: Path, packed: str) -> None:
    content = jsonl(ROWS).encode()
    # Two frames, as parallel packers and `cat a.gz b.gz` write them.
    halves = [content[: len(content) // 2], content[len(content) // 2 :]]
    pack = gzip.compress if packed == "gzip" else zstandard.ZstdCompressor().compress
    for name in ("a.jsonl", "a.jsonl.gz", "a.jsonl.zst"):
        (tmp_path / name).write_bytes(b"".join(map(pack, halves)))
        assert len(read(tmp_path / name).rows) == 120
        assert f"packed with {packed}" in open_table(tmp_path / name).why


def test_sharegpt_conversations_are_conversations(tmp_path: Path) -> None:
    turns = [("system", "Be brief."), ("human", "Hi"), ("gpt", "Hello"), ("human", "Which?"), ("gpt", "This")]
    row = {"conversations": [{"from": who, "value": text} for who, text in turns]}
    (tmp_path / "a.jsonl").write_text(jsonl([row] * 3))
    found = read(tmp_path / "a.jsonl", ColumnsRead(messages="conversations")).rows[0]
    assert [turn.role for turn in found.messages] == ["system", "user", "assistant", "user"]
    assert found.target == "This"
    assert look(tmp_path / "a.jsonl").messages == "conversations"


def test_alpaca_joins_instruction_and_input_and_leaves_an_empty_one_out(tmp_path: Path) -> None:
    rows = [
        {"instruction": "Translate.", "input": "Katze", "output": "cat"},
        {"instruction": "Name a colour.", "input": "", "output": "red"},
        {"instruction": "Name a fish.", "output": "eel"},
    ]
    (tmp_path / "a.json").write_text(json.dumps(rows))
    found = read(tmp_path / "a.json", ColumnsRead(("instruction", "input"), "output")).rows
    assert [row.text for row in found] == ["Translate.\n\nKatze", "Name a colour.", "Name a fish."]
    seen = look(tmp_path / "a.json")
    assert (seen.input, seen.target) == (("instruction", "input"), "output")


def test_prompt_and_completion_are_proposed(tmp_path: Path) -> None:
    rows = [{"completion": f"long answer number {n}", "prompt": f"q {n}"} for n in range(9)]
    (tmp_path / "a.jsonl").write_text(jsonl(rows))
    seen = look(tmp_path / "a.jsonl")
    assert (seen.input, seen.target, seen.rejected) == ("prompt", "completion", None)


def test_preference_pairs_keep_both_answers(tmp_path: Path) -> None:
    rows = [{"prompt": f"q {n}", "chosen": f"good {n}", "rejected": " bad "} for n in range(4)]
    rows[2]["rejected"] = rows[2]["chosen"]
    (tmp_path / "a.jsonl").write_text(jsonl(rows))
    found = read(tmp_path / "a.jsonl", ColumnsRead(("prompt",), "chosen", rejected="rejected"))
    assert [(row.target, row.rejected) for row in found.rows] == [(f"good {n}", "bad") for n in (0, 1, 3)]
    assert found.aside == {"whose chosen and rejected answers are the same": 1}
    assert found.notes == ("a.jsonl: 1 rows whose chosen and rejected answers are the same: 3",)
    seen = look(tmp_path / "a.jsonl")
    assert (seen.input, seen.target, seen.rejected) == ("prompt", "chosen", "rejected")


def test_preference_conversations_must_share_what_is_asked(tmp_path: Path) -> None:
    def talk(question: str, answer: str) -> list[dict[str, str]]:
        return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]

    rows = [{"chosen": talk("Hi", "Hello"), "rejected": talk("Hi", "Go away")}]
    (tmp_path / "a.jsonl").write_text(jsonl(rows))
    columns = ColumnsRead(messages="chosen", rejected="rejected")
    found = read(tmp_path / "a.jsonl", columns).rows[0]
    assert (found.messages, found.target, found.rejected) == ((Message("user", "Hi"),), "Hello", "Go away")
    seen = look(tmp_path / "a.jsonl")
    assert (seen.messages, seen.rejected) == ("chosen", "rejected")
    (tmp_path / "b.jsonl").write_text(jsonl([{**rows[0], "rejected": talk("Bye", "Go away")}]))
    what = refused(tmp_path / "b.jsonl", columns).what
    assert what == "b.jsonl:1: 'rejected' does not begin with the same turns as 'chosen'"


def test_pairs_with_a_prompt_of_turns_are_read(tmp_path: Path) -> None:
    row = {
        "prompt": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}],
        "chosen": [{"role": "assistant", "content": "Hello"}],
        "rejected": [{"role": "assistant", "content": "No"}],
    }
    (tmp_path / "a.jsonl").write_text(jsonl([row]))
    found = read(tmp_path / "a.jsonl", ColumnsRead(("prompt",), "chosen", rejected="rejected")).rows[0]
    assert ([turn.role for turn in found.messages], found.target, found.rejected) == (
        ["system", "user"],
        "Hello",
        "No",
    )


def test_fields_are_kept_as_text_sorted_by_name_and_empty_ones_left_out(tmp_path: Path) -> None:
    row = {**ROWS[0], "when": "2024-05-01", "customer": 7, "tags": ["b", "a"], "none": None, "blank": " "}
    (tmp_path / "a.jsonl").write_text(jsonl([row]))
    columns = ColumnsRead(("text",), "label", fields=("when", "tags", "none", "blank", "customer"))
    assert read(tmp_path / "a.jsonl", columns).rows[0].fields == (
        ("customer", "7"),
        ("tags", '["b","a"]'),
        ("when", "2024-05-01"),
    )
    assert read(tmp_path / "a.jsonl").rows[0].fields == ()
    missing = ColumnsRead(("text",), "label", fields=("custumer",))
    error = refused(tmp_path / "a.jsonl", missing)
    assert "no field 'custumer'" in error.what
    assert error.fix == "Set data.fields: customer"


def test_ids_do_not_depend_on_fields_nor_on_the_order_of_rows_that_differ_in_them(tmp_path: Path) -> None:
    rows = [{**ROWS[n % 60], "customer": f"c{n}"} for n in range(120)]
    (tmp_path / "a.jsonl").write_text(jsonl(rows))
    (tmp_path / "b.jsonl").write_text(jsonl(rows[::-1]))
    plain = source(str(tmp_path / "a.jsonl")).rows
    first = source(str(tmp_path / "a.jsonl"), fields=("customer",)).rows
    second = source(str(tmp_path / "b.jsonl"), fields=("customer",)).rows
    assert {row.id for row in plain} == {row.id for row in first}
    assert {(row.id, row.fields) for row in first} == {(row.id, row.fields) for row in second}


def test_a_folder_is_read_table_by_table(tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "more").mkdir(parents=True)
    (data / "a.jsonl").write_text(jsonl(ROWS[:60]))
    (data / "more" / "a.csv").write_text("text,label\n" + "".join(f"{r['text']},x\n" for r in ROWS[60:]))
    (data / "README.md").write_text("About the data")
    (data / ".hidden.jsonl").write_text("{broken")
    found = source(str(data))
    assert [file.name for file in found.files] == ["a.jsonl", "more/a.csv"]
    assert found.rows[60].source == "more/a.csv:2"
    assert found.notes[0] == "data: a folder of 2 tables: a.jsonl, a.csv; left out: README.md"
    assert (
        "more/a.csv: read as CSV, by its suffix .csv, with the delimiter of its header: comma" in found.notes
    )


def test_a_glob_reads_the_files_that_fit(tmp_path: Path) -> None:
    for name in ("one.jsonl", "two.jsonl", "other.csv"):
        (tmp_path / name).write_text(jsonl(ROWS))
    found = source(str(tmp_path / "*.jsonl"))
    assert [file.name for file in found.files] == ["one.jsonl", "two.jsonl"]
    with pytest.raises(UserError, match="no file fits"):
        source(str(tmp_path / "*.parquet"))


def test_a_file_named_and_in_the_folder_is_named_twice(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(jsonl(ROWS))
    with pytest.raises(UserError, match=r"a\.jsonl is named twice"):
        source(str(tmp_path), test_path=str(tmp_path / "a.jsonl"))


def test_broken_lines_and_bad_rows_are_named_together(tmp_path: Path) -> None:
    lines = jsonl(ROWS).splitlines()
    lines[4] = '{"text": "cut off'
    lines[7] = '{"text": "no label"}'
    for number in range(40, 70):
        lines[number] = "[1, 2]"
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    what = refused(tmp_path / "a.jsonl").what
    assert what.startswith("a.jsonl:5: broken JSON at column 10")
    assert "32 of 120 rows cannot be used: 5, 8, 41, 42," in what
    assert what.endswith(", 58, ...")
