"""task.yaml: what is read, what is refused and how it is explained."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tunesmith.errors import UserError
from tunesmith.stages.answering import judging_of
from tunesmith.task import Task, load_task, task_json_schema

EXAMPLES = Path(__file__).parent.parent / "examples"

GOOD = """\
name: tickets
kind: classify
instruction: Name the team for this ticket.
data:
  path: tickets.jsonl
  input: text
  target: label
split:
  validation: 0.2
  test: 300
goal:
  gain: 0.02
base: smollm2-135m-instruct
train:
  learning_rate: 1e-3
"""


def load(folder: Path, text: str | bytes) -> Task:
    path = folder / "task.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_task(path)


def problems(folder: Path, text: str | bytes) -> list[str]:
    """The lines of the error, without the name of the file: ``12: train.rank: …``."""
    with pytest.raises(UserError) as caught:
        load(folder, text)
    assert caught.value.exit_code == 2
    assert caught.value.fix
    start = f"{folder / 'task.yaml'}:"
    return [
        line.removeprefix(start) for line in caught.value.what.splitlines() if not line.endswith(" problems")
    ]


def changed(old: str, new: str) -> str:
    assert old in GOOD
    return GOOD.replace(old, new)


def test_a_good_file_loads_with_its_defaults(tmp_path: Path) -> None:
    task = load(tmp_path, GOOD)
    assert (task.split.train, task.split.validation, task.split.test) == (None, 0.2, 300)
    assert (task.train.rank, task.train.learning_rate, task.opponents.few_shot) == (16, 0.001, (3,))
    assert task.goal.rule == "estimate"
    assert not task.guards.general_text.blocking


@pytest.mark.parametrize("written", ["1e-3", "1E-3", "0.001", ".001", "1.0e-03"])
def test_numbers_are_read_as_people_write_them(tmp_path: Path, written: str) -> None:
    assert load(tmp_path, changed("1e-3", written)).train.learning_rate == 0.001


@pytest.mark.parametrize("word", ["no", "yes", "on", "2024-01-01", "1:30"])
def test_words_that_yaml_1_1_turns_into_something_else_stay_text(tmp_path: Path, word: str) -> None:
    assert load(tmp_path, changed("target: label", f"target: {word}")).data.target == word


def test_a_section_whose_settings_are_all_commented_out_has_its_defaults(tmp_path: Path) -> None:
    task = load(tmp_path, GOOD + "guards:\n  #probes: {margin: 0.5}\n")
    assert task.guards.probes.margin == 0.02


def test_relative_paths_start_at_the_folder_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(tmp_path, changed("tickets.jsonl", "[a.jsonl, /data/b.jsonl]"))
    monkeypatch.chdir(tmp_path)
    task = load_task(Path("task.yaml"))
    monkeypatch.chdir("/")
    assert task.data_paths == (tmp_path / "a.jsonl", Path("/data/b.jsonl"))
    assert task.resolve("../base") == tmp_path / "../base"
    assert load_task(tmp_path / "task.yaml", Path("/elsewhere")).data_paths[0] == Path("/elsewhere/a.jsonl")


@pytest.mark.parametrize(
    ("wrong", "suggested"),
    [
        ("learning_rat: 1e-3", "train.learning_rat: unknown key (did you mean learning_rate?)"),
        ("gain: 0.1", "train.gain: unknown key (did you mean goal.gain?)"),
        ("zzzzz: 1", "train.zzzzz: unknown key (known here: method, rank, alpha"),
    ],
)
def test_an_unknown_key_gets_the_nearest_valid_one(tmp_path: Path, wrong: str, suggested: str) -> None:
    (problem,) = problems(tmp_path, changed("learning_rate: 1e-3", wrong))
    assert problem.startswith(f"15: {suggested}")


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (
            "1e-3",
            '"0.001"',
            'found "0.001" (text), allowed: a number (above 0, below 1); write it without quotes',
        ),
        ("1e-3", "true", "found true, allowed: a number (above 0, below 1)"),
        ("1e-3", "-1", "found -1, allowed: a number (above 0, below 1)"),
        ("1e-3", "1e999", "found inf, allowed: a number (above 0, below 1)"),
        ("1e-3", "", "found nothing, allowed: a number (above 0, below 1)"),
        ("target: label", "target: 2024", "found 2024, allowed: text (not empty); put it in quotes"),
        ("input: text", "input: 2024", "or a list, each item text (not empty); put it in quotes"),
        ("input: text", 'input: " "', 'found " " (text), allowed: text (not empty)'),
        ("0.2", "0", "found 0, allowed: a whole number (1 or more), or a number (above 0, below 1)"),
        ("300", "1.5", "found 1.5, allowed: a whole number (1 or more), or a number (above 0, below 1)"),
        (
            "name: tickets",
            "name: My Tickets",
            'found "My Tickets" (text), allowed: up to 64 lower-case letters',
        ),
        ("name: tickets", "name: ../x", 'found "../x" (text), allowed: up to 64 lower-case letters'),
        ("kind: classify", "kind: translate", 'found "translate" (text), allowed: classify or tag or'),
        ("gain: 0.02", "gain: 2", "found 2, allowed: a number (above 0, below 1)"),
        ("tickets.jsonl", "[a.jsonl, 3]", "found 3, allowed: text (not empty); put it in quotes"),
        ("tickets.jsonl", "[]", "found a list, allowed: text (not empty), or a list"),
        (
            "name: tickets",
            "audit: {oldest: 2024-02-31}\nname: tickets",
            'audit.oldest: found "2024-02-31" (text), allowed: a day of the calendar, as 2024-05-31',
        ),
    ],
)
def test_a_wrong_value_is_told_with_what_was_found_and_what_is_allowed(
    tmp_path: Path, old: str, new: str, told: str
) -> None:
    (problem,) = problems(tmp_path, changed(old, new))
    line = next(number for number, row in enumerate(GOOD.splitlines(), start=1) if old in row)
    assert problem.startswith(f"{line}: ")
    assert told in problem


def test_all_problems_are_reported_at_once_with_their_lines(tmp_path: Path) -> None:
    text = """\
name: My Task
kind: classify
data:
  path: a.jsonl
  path: b.jsonl
  input: text
  min_words: 9
  max_words: 4
split:
  validation: 1.5
goal:
  rule: strict
opponents:
  few_shot:
    - 3
    - three
train:
  learning_rat: 1e-3
  rank: 16.5
"""
    expected = [
        (1, "base: missing"),
        (1, "instruction: missing"),
        (1, "name: found"),
        (3, "data: data.target is missing"),
        (5, "data.path: duplicate key (first on line 4)"),
        (7, "data.min_words: above data.max_words"),
        (9, "split: the test is missing"),
        (10, "split.validation: found 1.5"),
        (11, "goal.gain: missing"),
        (12, "goal.rule: found"),
        (16, "opponents.few_shot[1]: found"),
        (18, "train.learning_rat: unknown key"),
        (19, "train.rank: found 16.5"),
    ]
    told = problems(tmp_path, text)
    assert len(told) == len(expected)
    for line, start in expected:
        assert any(problem.startswith(f"{line}: {start}") for problem in told), (line, start)
    lines = [int(problem.split(":")[0]) for problem in told]
    assert lines == sorted(lines)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (
            "  path: tickets.jsonl\n  input: text\n  target: label\n",
            "  # path: a\n",
            "4: data: no rows: give data.path",
        ),
        (
            "  path: tickets.jsonl\n  input: text\n  target: label\n",
            "  package: licensedcode-data\n  min_words: 3\n  max_words: 2\n",
            "6: data.min_words: above data.max_words",
        ),
        ("  validation: 0.2\n  test: 300\n", "", "8: split: the test is missing"),
        ("  path: tickets.jsonl\n", "", "4: data: no rows: give data.path"),
        ("  input: text\n", "  package: licensedcode-data\n", "data.path: not together with data.package"),
        ("  input: text\n", "", "4: data: data.input is missing"),
        ("  input: text\n", "  messages: chat\n", "data.target: not together with data.messages"),
        ("target: label", "target: text", "7: data.target: the same column as data.input"),
        ("  test: 300\n", "", "8: split: the test is missing"),
        (
            "  input: text\n",
            "  input: text\n  test_path: t.jsonl\n",
            "split.test: there is already a test file",
        ),
        ("300", "0.8", "8: split: the shares add up to 1"),
        ("300", "0.5\n  train: 0.4", "8: split: the shares add up to 1.1"),
        (
            "train:\n",
            "opponents: {classical: false, zero_shot: false, few_shot: []}\ntrain:\n",
            "14: opponents: all are off",
        ),
        (
            "train:\n",
            "opponents: {few_shot: [3, 3]}\ntrain:\n",
            "14: opponents.few_shot: a number is given twice",
        ),
        ("train:\n", "train:\n  best_by: metric\n", "train.best_by: metric is not measured while training"),
        ("train:\n", "train:\n  targets: [q_proj, q_proj]\n", "15: train.targets: a name is given twice"),
        *(
            (
                "train:\n",
                f"train:\n  method: full\n  {setting}\n",
                f"16: train.{setting.partition(':')[0]}: not together with method: full",
            )
            for setting in (
                "targets: [q_proj]",
                "modules_to_save: [lm_head]",
                "adapter_dropout: 0.1",
                "start_from: runs/adapter",
            )
        ),
    ],
)
def test_settings_that_contradict_each_other_are_refused(
    tmp_path: Path, old: str, new: str, told: str
) -> None:
    assert any(told in problem for problem in problems(tmp_path, changed(old, new)))


def test_all_that_contradicts_full_fine_tuning_is_told_at_once(tmp_path: Path) -> None:
    text = changed("train:\n", "train: {method: full, targets: [a], adapter_dropout: 0.1, start_from: b}\n#")
    assert len(problems(tmp_path, text.replace("  learning_rate: 1e-3\n", ""))) == 3


def test_rules_hold_for_tasks_made_in_python_too(tmp_path: Path) -> None:
    settings = load(tmp_path, GOOD).model_dump()
    settings["split"]["test"] = None
    with pytest.raises(ValidationError, match="the test is missing"):
        Task.model_validate(settings)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "1: empty"),
        ("# only a comment\n", "1: empty"),
        ("- a\n- b\n", "1: found a list, expected settings"),
        ("name: a\ndata:\n\tpath: b\n", "3: a tab in the indentation"),
        ("name: a: b\n", "1: not valid YAML"),
        ("name: 'a\nkind: b\nc: d\n", "4: not valid YAML"),
        ("name: a\nkind: b\x01\n", "2: a character that YAML does not allow (U+0001)"),
        ("a: " + "[" * 2000 + "]" * 2000, "1: nested too deeply"),
        ("a: *b\n", "1: not valid YAML"),
    ],
)
def test_a_file_that_is_not_a_mapping_of_settings_is_told_by_line(
    tmp_path: Path, text: str, told: str
) -> None:
    (problem,) = problems(tmp_path, text)
    assert problem.startswith(told)


def test_aliases_and_tags_are_refused_so_that_no_file_can_grow_or_run(tmp_path: Path) -> None:
    told = problems(tmp_path, "a: &x [1]\nb: *x\nc: !!python/object/apply:os.system [ls]\n")
    assert any("an alias (*name) is not supported" in problem for problem in told)
    assert any(problem.startswith("3: c: the tag 'python/object") for problem in told)


def test_a_file_that_is_not_utf_8_is_told_by_line_and_byte(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, b"name: a\ndescription: caf\xe9\n")
    assert problem == "2: not UTF-8 (byte 0xe9)"


def test_a_byte_order_mark_and_windows_line_ends_do_no_harm(tmp_path: Path) -> None:
    assert load(tmp_path, b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode()).name == "tickets"


def test_a_missing_file_gets_the_nearest_one_as_its_fix(tmp_path: Path) -> None:
    load(tmp_path, GOOD)
    with pytest.raises(UserError, match="no such file") as caught:
        load_task(tmp_path / "tsk.yaml")
    assert caught.value.fix == f"did you mean {tmp_path / 'task.yaml'}?"
    with pytest.raises(UserError, match="is a folder") as caught:
        load_task(tmp_path)
    assert caught.value.fix == f"did you mean {tmp_path / 'task.yaml'}?"
    with pytest.raises(UserError) as caught:
        load_task(tmp_path / "nowhere" / "task.yaml")
    assert "does not exist" in caught.value.fix


@given(
    st.text(max_size=200)
    | st.lists(st.sampled_from([*GOOD.splitlines(), "\t", "a: [", "- x", "? y"])).map("\n".join)
)
def test_no_text_ever_raises_anything_but_a_user_error(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    folder = tmp_path_factory.getbasetemp()
    with contextlib.suppress(UserError):
        load(folder, text.encode("utf-8", "replace"))


def sections(schema: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {"Task": schema, **schema["$defs"]}


def test_the_schema_explains_every_setting_and_allows_no_other(tmp_path: Path) -> None:
    schema = json.loads(json.dumps(task_json_schema()))
    assert set(schema["properties"]) == set(Task.model_fields)
    for name, section in sections(schema).items():
        assert section["additionalProperties"] is False, name
        for setting, field in section["properties"].items():
            section_of_its_own = schema["$defs"].get(field.get("$ref", "").rpartition("/")[2], {})
            assert len({**section_of_its_own, **field}["description"]) > 20, (name, setting)
    assert schema["$defs"]["GoalSettings"]["required"] == ["gain"]
    assert schema["$defs"]["TrainSettings"]["properties"]["rank"]["minimum"] == 1


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*/task.yaml")), ids=lambda path: path.parent.name)
def test_the_examples_load(path: Path) -> None:
    task = load_task(path)
    assert task.name == path.parent.name
    assert 0 < task.goal.gain <= 0.03
    if task.json_schema is not None:
        assert judging_of(task).schema is not None
