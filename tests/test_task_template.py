"""The first task file that Tunesmith writes: it loads, it says what was seen, and its hints are valid."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.task import Task, load_task
from tunesmith.task.lines import read_yaml
from tunesmith.task.template import Columns, Seen, begin_task, render_task_yaml


def load(folder: Path, text: str) -> Task:
    path = folder / "task.yaml"
    path.write_text(text, encoding="utf-8")
    return load_task(path)


SEEN = Seen(rows=1000, test_rows=None, labels={"a": 600, "b\nx: 1": 400}, median_words=12, longest_words=90)


@pytest.mark.parametrize("rows", [100, 199, 200, 3000, 8000, 100_000])
@pytest.mark.parametrize("test_rows", [None, 500])
@pytest.mark.parametrize("columns", [Columns("text", "label", None), Columns(None, None, "messages")])
def test_a_first_file_loads_and_leaves_rows_for_every_split(
    tmp_path: Path, rows: int, test_rows: int | None, columns: Columns
) -> None:
    seen = Seen(rows, test_rows, SEEN.labels, 12, 90)
    test_path = "t.jsonl" if test_rows else None
    task = load(tmp_path, begin_task("tickets", "../a b.jsonl", test_path, columns, seen))
    assert (task.data.input, task.data.messages) == (columns.input, columns.messages)
    assert task.split.test != "crossfit"  # proposed in a comment, never chosen
    sizes = [task.split.validation or 0, task.split.test or 0]
    assert sum(size if isinstance(size, int) else size * rows for size in sizes) < 0.7 * rows
    if test_rows is None:
        assert isinstance(task.split.test, int | float)
        assert (task.split.test if isinstance(task.split.test, int) else task.split.test * rows) >= 50


def test_a_first_file_says_what_was_seen(tmp_path: Path) -> None:
    text = begin_task("tickets", "a.jsonl", None, Columns("text", "label", None), SEEN)
    assert text.splitlines()[0] == "# yaml-language-server: $schema=task.schema.json"
    comments = " ".join(line.strip().removeprefix("# ") for line in text.splitlines())
    assert "1,000 rows" in comments
    assert "2 labels (a, b x: 1) with 400 to 600 rows each" in comments
    assert "at most 12 words; the longest has 90" in comments
    assert "550 rows are left for training" in comments


def test_every_commented_out_setting_of_a_first_file_is_valid_when_it_is_set(tmp_path: Path) -> None:
    text = begin_task("tickets", "a.jsonl", None, Columns("text", "label", None), SEEN)
    hidden = [
        line
        for line in text.splitlines()
        if line.strip().startswith("#") and not line.strip().startswith("# ")
    ]
    assert len(hidden) > 20
    for line in hidden:
        other_kinds = ("#max_new_tokens", "#json_schema", "#grounding", "#label_separator")
        others = ("#package", "#messages", "#test_path", "#given", "#folds", "#compare_learning_rates")
        if line.strip().startswith((*others, *other_kinds)):
            continue  # instead of others, or with another value of them
        load(tmp_path, text.replace(line, line.replace("#", "", 1)))


@given(
    st.text(st.characters(exclude_categories=["Cs"])),
    st.lists(st.text(st.characters(exclude_categories=["Cs"]))),
)
def test_whatever_text_is_written_reads_back_the_same(text: str, items: list[str]) -> None:
    settings = {"name": "a", "description": text, "data": {"path": items, "input": text}, "base": "b"}
    tree = read_yaml(render_task_yaml(settings, {"name": "a\nnote"}))
    assert tree.problems == ()
    assert tree.values["description"] == text
    assert tree.values["data"] == {"path": items, "input": text}
