"""The general readers turn files into rows that know where they came from."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from tunesmith.data.look import look
from tunesmith.data.sources import Source, SourceSpec, read_source
from tunesmith.records import Message

ROWS = [{"text": f"question {n} about a card", "label": n % 3} for n in range(150)]


def spec_for(*paths: Path, **other: str | int | None) -> SourceSpec:
    settings: dict[str, str | int | None] = {"input": "text", "target": "label", **other}
    keys = ("test_path", "input", "target", "messages", "min_words", "max_words", "most_frequent_labels")
    values: dict[str, Any] = {key: settings.get(key) for key in keys}
    values |= {"package": None, "path": tuple(str(path) for path in paths)}
    return SourceSpec(**values)


def read(spec: SourceSpec) -> Source:
    return read_source(spec, Path("unused"))


def write_jsonl(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def write_all_formats(folder: Path) -> list[Path]:
    jsonl = write_jsonl(folder / "a.jsonl", [dict(row) for row in ROWS])
    csv = folder / "a.csv"
    csv.write_text(
        "text;label\r\n" + "".join(f"{row['text']};{row['label']}\r\n" for row in ROWS), "utf-8-sig"
    )
    parquet.write_table(pa.Table.from_pylist(ROWS), folder / "a.parquet")
    return [jsonl, csv, folder / "a.parquet"]


def test_all_formats_give_the_same_rows_but_for_their_places(tmp_path: Path) -> None:
    sources = [read(spec_for(path)) for path in write_all_formats(tmp_path)]
    contents = [[(row.id, row.messages, row.target) for row in source.rows] for source in sources]
    assert contents[0] == contents[1] == contents[2]
    assert contents[0][4][1:] == ((Message("user", "question 4 about a card"),), "1")
    assert [source.rows[4].source for source in sources] == ["a.jsonl:5", "a.csv:6", "a.parquet:5"]
    assert [source.files[0].rows for source in sources] == [150, 150, 150]


def test_a_csv_row_is_named_by_the_line_where_it_starts(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text,label\n" + '"two\nlines","a ""b"""\nplain,c\n' * 60)
    rows = read(spec_for(path)).rows
    assert [row.source for row in rows[:4]] == ["a.csv:2", "a.csv:4", "a.csv:5", "a.csv:7"]
    assert (rows[0].text, rows[0].target) == ("two\nlines", 'a "b"')


def test_targets_become_text_without_the_spaces_around_them(tmp_path: Path) -> None:
    values = [3, 3.0, 0.5, True, " card\n"]
    rows = [{"text": f"row {n}", "label": values[n % 5]} for n in range(100)]
    path = write_jsonl(tmp_path / "a.jsonl", rows)
    assert [row.target for row in read(spec_for(path)).rows[:5]] == ["3", "3", "0.5", "true", "card"]


def test_conversations_end_with_the_target(tmp_path: Path) -> None:
    turns = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "Which card?"},
    ]
    rows: list[dict[str, object]] = [
        {"messages": [*turns, {"role": "assistant", "content": f"{n % 2}"}]} for n in range(100)
    ]
    path = write_jsonl(tmp_path / "chat.jsonl", rows)
    row = read(spec_for(path, input=None, target=None, messages="messages")).rows[1]
    assert [message.role for message in row.messages] == ["system", "user", "assistant", "user"]
    assert row.target == "1"
    assert look(path).messages == "messages"


def test_ids_are_unique_and_independent_of_the_order_of_rows(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [{"text": f"row {n % 60}", "label": n % 2} for n in range(120)]
    first = read(spec_for(write_jsonl(tmp_path / "a.jsonl", rows))).rows
    second = read(spec_for(write_jsonl(tmp_path / "b.jsonl", rows[::-1]))).rows
    assert len({row.id for row in first}) == 120
    assert {(row.id, row.text) for row in first} == {(row.id, row.text) for row in second}


def test_a_test_file_is_read_as_the_test(tmp_path: Path) -> None:
    train = write_jsonl(tmp_path / "train.jsonl", [dict(row) for row in ROWS])
    test = write_jsonl(tmp_path / "test.jsonl", [dict(row) for row in ROWS[:60]])
    source = read(spec_for(train, test_path=str(test)))
    assert (len(source.rows), len(source.test_rows), source.read_rows) == (150, 60, 210)
    assert source.test_rows[0].source == "test.jsonl:1"
    alone = read(spec_for(write_jsonl(tmp_path / "x.jsonl", ROWS[60:]), test_path=str(test)))
    assert [row.id for row in alone.test_rows] == [row.id for row in source.test_rows]


def test_files_of_the_same_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        write_jsonl(tmp_path / folder / "a.jsonl", [dict(row) for row in ROWS])
    rows = read(spec_for(tmp_path / "one" / "a.jsonl", tmp_path / "two" / "a.jsonl")).rows
    assert rows[0].source == f"{tmp_path}/one/a.jsonl:1"
    assert len({row.source for row in rows}) == 300


def test_a_look_proposes_input_and_target(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {
            "id": n,
            "subject": f"ticket {n}",
            "body": f"a long description of what went wrong with thing {n}",
            "priority": n % 2 == 0,
            "category": ["card", "fee", "loan"][n % 3],
            "closed": None if n % 4 else "yes",
        }
        for n in range(120)
    ]
    seen = look(write_jsonl(tmp_path / "tickets.jsonl", rows))
    assert (seen.input, seen.target, seen.messages, seen.rows) == ("body", "category", None, 120)
    columns = {column.name: column for column in seen.columns}
    assert (columns["id"].type, columns["priority"].type, columns["body"].type) == (
        "number",
        "true/false",
        "text",
    )
    assert (columns["closed"].filled, columns["closed"].distinct) == (0.25, 1)
    assert columns["category"].examples == ("card", "fee", "loan")


def test_a_look_at_a_csv_file_tells_numbers_from_text(tmp_path: Path) -> None:
    path = tmp_path / "tickets.csv"
    path.write_text("number;says;kind\n" + "".join(f"{n};words {n};{n % 4}\n" for n in range(100)))
    seen = look(path)
    assert [column.type for column in seen.columns] == ["number", "text", "number"]
    assert (seen.input, seen.target) == ("says", "kind")


def test_a_look_proposes_nothing_where_nothing_fits(tmp_path: Path) -> None:
    seen = look(write_jsonl(tmp_path / "n.jsonl", [{"a": n, "b": n * 2} for n in range(100)]))
    assert (seen.input, seen.target) == (None, None)
