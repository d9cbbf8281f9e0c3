"""Every kind of bad data gets one message that says where, what and how to fix it."""

import json
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from tunesmith.data.sources import Source, SourceSpec, read_source
from tunesmith.errors import UserError
from tunesmith.records import SetAside


def spec_for(
    *paths: Path,
    test: Path | None = None,
    input: str | None = "text",
    target: str | None = "label",
    messages: str | None = None,
) -> SourceSpec:
    return SourceSpec(
        package=None,
        path=tuple(str(path) for path in paths),
        test_path=str(test) if test else None,
        input=input,
        target=target,
        messages=messages,
        min_words=None,
        max_words=None,
        most_frequent_labels=None,
    )


def read(spec: SourceSpec) -> Source:
    return read_source(spec, Path("unused"))


def good_rows(number: int = 200) -> list[dict[str, object]]:
    return [
        {"text": f"question {n} about a card", "label": "card" if n % 2 else "fee"} for n in range(number)
    ]


def write_jsonl(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def refused(spec: SourceSpec) -> UserError:
    with pytest.raises(UserError) as caught:
        read(spec)
    assert caught.value.exit_code == 2
    assert caught.value.fix
    return caught.value


def test_a_missing_file_names_the_data_files_beside_it(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "tickets.jsonl", good_rows())
    error = refused(spec_for(tmp_path / "ticket.jsonl"))
    assert "ticket.jsonl: there is no such file" in error.what
    assert "tickets.jsonl" in error.fix


def test_a_folder_without_data_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data.jsonl").mkdir()
    assert "this folder holds no data files" in refused(spec_for(tmp_path / "data.jsonl")).what


def test_an_unknown_suffix_names_the_known_ones(tmp_path: Path) -> None:
    error = refused(spec_for(tmp_path / "data.xlsx"))
    assert "'.xlsx' is unknown" in error.what
    assert ".jsonl" in error.fix
    assert "CSV" in error.fix


@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("suffix", [".jsonl", ".csv"])
def test_not_utf8_names_line_and_byte(tmp_path: Path, suffix: str, bom: bytes) -> None:
    path = tmp_path / f"tickets{suffix}"
    path.write_bytes(bom + b'first line\nsecond "caf\xe9"\n')
    error = refused(spec_for(path))
    assert error.what == f"tickets{suffix}:2: not UTF-8: byte 0xe9 at offset {len(bom) + 22}"
    assert "iconv" in error.fix


def test_utf16_is_recognised(tmp_path: Path) -> None:
    path = tmp_path / "tickets.csv"
    path.write_text("text,label\na,b\n", encoding="utf-16")
    assert "UTF-16" in refused(spec_for(path)).what


def test_null_bytes_are_refused_with_their_line(tmp_path: Path) -> None:
    path = tmp_path / "tickets.csv"
    path.write_bytes(b"text,label\nsome\0thing,card\n")
    assert "tickets.csv:2: a null byte at offset 15" in refused(spec_for(path)).what


def test_an_escaped_null_character_is_refused(tmp_path: Path) -> None:
    rows = good_rows()
    rows[4]["text"] = "some\0thing"
    error = refused(spec_for(write_jsonl(tmp_path / "t.jsonl", rows)))
    assert error.what == "t.jsonl:5: the input 'text' holds a null character"


def test_half_a_surrogate_pair_is_refused(tmp_path: Path) -> None:
    rows = good_rows()
    rows[4]["text"] = "smile \ud83d"
    assert (
        "t.jsonl:5: the input 'text' holds half a surrogate"
        in refused(spec_for(write_jsonl(tmp_path / "t.jsonl", rows))).what
    )


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"text": "a", "label": ', "broken JSON at column"),
        ('{"text": "a" "label": "b"}', "broken JSON at column 14"),
        ('["a", "b"]', "not a JSON object but a list"),
        ("[" * 100_000, "nested deeper than 100 levels"),
        ('{"text": "a", "label": "b", "text": "c"}', "two fields of the same name: 'text'"),
    ],
)
def test_a_broken_json_line_is_named(tmp_path: Path, line: str, words: str) -> None:
    path = write_jsonl(tmp_path / "tickets.jsonl", good_rows())
    lines = path.read_text().splitlines()
    lines[117] = line
    path.write_text("\n".join(lines))
    what = refused(spec_for(path)).what
    assert what.startswith("tickets.jsonl:118: ")
    assert words in what


def test_row_118_lacks_the_target(tmp_path: Path) -> None:
    rows = good_rows()
    rows[117] = {"text": "how do I pay", "reply": "card"}
    error = refused(spec_for(write_jsonl(tmp_path / "tickets.jsonl", rows)))
    assert error.what == "tickets.jsonl:118: no field 'label' (found: text, reply)"
    assert error.fix.startswith("Correct or remove this row in tickets.jsonl, then run again. Or set ")


def test_all_bad_rows_are_counted_and_the_first_twenty_named(tmp_path: Path) -> None:
    rows = good_rows()
    for number in range(100, 130):
        rows[number]["label"] = None
    error = refused(spec_for(write_jsonl(tmp_path / "t.jsonl", rows)))
    assert "t.jsonl:101: the target 'label' is null" in error.what
    assert "30 of 200 rows cannot be used: 101, 102," in error.what
    assert error.fix.startswith("Correct or remove these rows in")
    assert ", 120, ..." in error.what
    assert "121" not in error.what


def test_unusable_rows_are_left_out_and_counted_where_the_task_says_so(tmp_path: Path) -> None:
    lines = [json.dumps(row) for row in good_rows()]
    lines[5], lines[9], lines[30] = '{"text": "cut', '{"text": "", "label": "fees"}', '{"text": "no label"}'
    path = tmp_path / "t.jsonl"
    path.write_text("\n".join(lines))
    spec = replace(spec_for(path), unusable="set_aside")
    source = read_source(spec, tmp_path / "cache")
    assert len(source.rows) == len(lines) - 3
    assert source.read_rows == len(lines)
    assert source.set_aside == (SetAside("rows that cannot be used", 3, 0),)
    assert [bad.line for bad in source.unusable] == ["t.jsonl:6", "t.jsonl:10", "t.jsonl:31"]
    assert "t.jsonl: 3 rows that cannot be used: 6, 10, 31 (t.jsonl:6: broken JSON" in source.notes[-1]
    path.write_text("\n".join([*lines, *(['{"text": "no label"}'] * len(lines))]))
    error = refused(spec)
    assert "rows cannot be used: 6, 10, 31," in error.what
    assert "set_aside" not in error.fix


def test_a_field_that_no_row_has_gets_the_nearest_one_as_fix(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "tickets.jsonl", [{"question": "a", "reply": "b"}] * 200)
    error = refused(spec_for(path, input="question", target="answer"))
    assert error.what == "tickets.jsonl:1: no field 'answer' (found: question, reply)"
    assert error.fix == "Set data.target: reply"
    assert refused(spec_for(path, input="questions", target="reply")).fix == "Set data.input: question"


def test_an_unset_field_is_asked_for(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "tickets.jsonl", good_rows())
    assert "data.target is not set (found: text, label)" in refused(spec_for(path, target=None)).what


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.jsonl", ""), ("a.jsonl", "\n\n"), ("a.csv", ""), ("a.csv", "text,label\n"), ("a.parquet", "")],
)
def test_an_empty_file_is_refused(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    what = refused(spec_for(tmp_path / name)).what
    assert "the file is empty" in what or "the file holds no rows" in what


@pytest.mark.parametrize(
    ("value", "words"), [("", "is empty"), (" \t", "is only spaces"), (["a"], "holds a list")]
)
@pytest.mark.parametrize(("field", "role"), [("text", "input"), ("label", "target")])
def test_an_empty_input_or_label_is_refused(
    tmp_path: Path, field: str, role: str, value: object, words: str
) -> None:
    rows = good_rows()
    rows[9][field] = value
    what = refused(spec_for(write_jsonl(tmp_path / "t.jsonl", rows))).what
    assert what.startswith(f"t.jsonl:10: the {role} '{field}' {words}")


def test_two_columns_of_the_same_name_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("text,label,text\n" + "a,b,c\n" * 200)
    assert refused(spec_for(path)).what == "t.csv:1: two columns of the same name: 'text'"
    table = pa.table([["a"] * 200, ["b"] * 200], names=["label", "label"])
    parquet.write_table(table, tmp_path / "t.parquet")
    assert (
        refused(spec_for(tmp_path / "t.parquet")).what == "t.parquet: two columns of the same name: 'label'"
    )


@pytest.mark.parametrize(
    ("line", "words"),
    [("just one cell", "1 cells, but the header names 2"), ('"never closed,card', "broken CSV")],
)
def test_a_broken_csv_row_is_named(tmp_path: Path, line: str, words: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text('text,label\n"two\nlines",card\n' + line + "\n")
    what = refused(spec_for(path)).what
    assert what.startswith("t.csv:4: ")
    assert words in what


def test_a_file_that_is_no_parquet_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.parquet").write_bytes(b"PAR1 but nothing else PAR1")
    assert "t.parquet: not a readable Parquet file" in refused(spec_for(tmp_path / "t.parquet")).what


def test_only_one_class_is_refused(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [{"text": f"question {n}", "label": "card"} for n in range(200)]
    error = refused(spec_for(write_jsonl(tmp_path / "t.jsonl", rows)))
    assert error.what == "t.jsonl: only one class: every target is 'card'"


def test_ten_rows_are_too_few_and_the_message_says_why(tmp_path: Path) -> None:
    error = refused(spec_for(write_jsonl(tmp_path / "t.jsonl", good_rows(10))))
    assert error.what == "t.jsonl: 10 rows in all: too few"
    assert "at least 100 rows" in error.fix
    assert "fewer than 50 test groups every gain is unmeasured" in error.fix


def test_a_test_file_of_ten_rows_is_too_small(tmp_path: Path) -> None:
    train = write_jsonl(tmp_path / "train.jsonl", good_rows())
    test = write_jsonl(tmp_path / "test.jsonl", good_rows(10))
    assert "10 test rows: too few" in refused(spec_for(train, test=test)).what


def test_the_same_file_twice_is_refused(tmp_path: Path) -> None:
    train = write_jsonl(tmp_path / "train.jsonl", good_rows())
    assert "named twice" in refused(spec_for(train, test=train)).what


@pytest.mark.parametrize(
    ("turns", "words"),
    [
        ("hello", "not a list of turns"),
        ([], "not a list of turns"),
        ([{"from": "human"}], "turn 1 of 'messages' is not an object with role and content"),
        ([{"from": "narrator", "value": "hi"}], "turn 1 has the role 'narrator' (known: human, user, gpt"),
        (
            [{"role": "human", "content": "hi"}],
            "turn 1 has the role 'human' (known: system, user, assistant)",
        ),
        ([{"role": "user", "content": "hi"}], "the last turn has the role 'user', not 'assistant'"),
        ([{"role": "assistant", "content": "hi"}], "no turn has the role 'user'"),
        (
            [{"role": "user", "content": "hi"}, {"role": "assistant", "content": " "}],
            "the assistant turn 2 'content' is only spaces",
        ),
        (
            [{"role": "user", "content": "hi"}, {"role": "system", "content": "x"}],
            "turn 2 has the role 'system', which only the first turn may have",
        ),
    ],
)
def test_a_conversation_with_wrong_turns_is_refused(tmp_path: Path, turns: object, words: str) -> None:
    path = write_jsonl(tmp_path / "chat.jsonl", [{"messages": turns}])
    what = refused(spec_for(path, input=None, target=None, messages="messages")).what
    assert what.startswith("chat.jsonl:1: ")
    assert words in what
