"""What a task says about its audit reaches its checks, which run again when what they were told changed."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from bank_samples import questions
from tunesmith.data.audit.findings import CheckResult, LengthLimit
from tunesmith.errors import UserError
from tunesmith.records import Message, SetAside
from tunesmith.stages.audit import audit, length_limit, stored_audit
from tunesmith.stages.curate import plan_path, write_plan
from tunesmith.stages.data import make_dataset
from tunesmith.stages.session import Session
from tunesmith.task import load_task
from tunesmith.workspace import Workspace

ROWS = 400
OLD, FOREIGN, RARE = 7, 11, 13


def records() -> list[dict[str, str]]:
    """Questions with a date, a product, a region in which one label is rarer, and a few odd rows."""
    found = []
    for number, row in enumerate(questions(ROWS)):
        found.append(
            {
                "text": row.text,
                "label": row.target,
                "opened": f"2024-{number % 12 + 1:02}-05",
                "product": "card" if number % 2 else "account",
                "region": "north" if row.target == "fees" and number % 8 else "south",
            }
        )
    found[OLD]["opened"] = "2019-05-31"
    found[FOREIGN]["text"] = "Bitte rufen Sie mich unter 030 901820 zurück, meine Karte ist verloren gegangen"
    found[RARE]["product"] = "loan"
    return found


def session(home: Path, **settings: Any) -> Session:
    lines = [json.dumps(record) + "\n" for record in records()]
    (home / "rows.jsonl").write_text("".join(lines))
    (home / "bench.jsonl").write_text("".join(lines[20:25]))
    task = {
        "name": "bank",
        "kind": "classify",
        "instruction": "Name the subject of this question to a bank.",
        "data": {"path": "rows.jsonl", "input": "text", "target": "label"},
        "split": {"validation": 0.2, "test": 0.3},
        "goal": {"gain": 0.02},
        "base": "smollm2-135m-instruct",
        **settings,
    }
    path = home / "task.yaml"
    path.write_text(yaml.safe_dump(task))
    loaded = load_task(path)
    return Session(loaded, Workspace(home / "runs").task("bank"), Console(quiet=True), home / "cache")


def checked(found: Session, *names: str) -> dict[str, CheckResult]:
    return {result.check: result for result in audit(found, only=names).results}


def rows_of(result: CheckResult, kind: str) -> set[int]:
    return {row for finding in result.findings if finding.kind == kind for row in finding.rows}


def test_what_the_task_says_of_its_data_is_looked_for(tmp_path: Path) -> None:
    asked = {
        "benchmarks": ["bench.jsonl"],
        "domain": "product",
        "groups": ["region"],
        "oldest": "2020-01-01",
        "newest": "2024-11-30",
        "phone_regions": ["DE"],
        "languages": ["en", "de"],
    }
    names = ("private data", "leaks", "domains", "language", "label rates", "age")
    plain = checked(session(tmp_path), *names)
    assert plain["domains"].answer == "unmeasured"
    assert plain["label rates"].answer == "unmeasured"
    assert [plain[name].answer for name in ("private data", "age")] == ["passed"] * 2
    assert not rows_of(plain["leaks"], "in benchmark bench.jsonl")
    assert rows_of(plain["language"], "another language") == {FOREIGN}
    told = checked(session(tmp_path, audit=asked), *names)
    assert rows_of(told["leaks"], "in benchmark bench.jsonl") == set(range(20, 25))
    assert rows_of(told["domains"], "rare domain") == {RARE}
    assert "column 'region'" in told["label rates"].findings[0].evidence
    assert rows_of(told["age"], "too old") == {OLD}
    assert rows_of(told["age"], "too new") == {row for row in range(ROWS) if row % 12 == 11}
    assert rows_of(told["private data"], "phone numbers") == {FOREIGN}
    assert told["language"].answer == "passed"


def test_rows_of_a_benchmark_that_the_task_names_are_in_the_repair_plan(tmp_path: Path) -> None:
    found = session(tmp_path, audit={"benchmarks": ["bench.jsonl"]})
    write_plan(found, plan_path(found, None))
    assert "    in benchmark bench.jsonl: drop" in (tmp_path / "repair-plan.yaml").read_text()


def test_a_check_runs_again_when_what_it_was_told_changed_and_only_then(tmp_path: Path) -> None:
    checked(session(tmp_path), "relevance", "age")
    assert {result.check for result in stored_audit(session(tmp_path))} == {"relevance", "age"}
    other = session(tmp_path, instruction="Name the licence of this notice.")
    assert {result.check for result in stored_audit(other)} == {"age"}
    other = session(tmp_path, audit={"oldest": "2024-01-01"})
    assert {result.check for result in stored_audit(other)} == {"relevance"}


def test_lengths_are_counted_with_the_tokenizer_of_a_base_that_is_there(
    tmp_path: Path, general_base: Path
) -> None:
    unmeasured = checked(session(tmp_path), "lengths")["lengths"]
    assert unmeasured.answer == "unmeasured"
    assert "`tunesmith base smollm2-135m-instruct` fetches it" in unmeasured.summary
    there = session(tmp_path, base=str(general_base))
    assert checked(there, "lengths")["lengths"].answer == "passed"
    long = [*records(), {"text": "where is my card? " * 300, "label": "fees"}]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(record) + "\n" for record in long))
    assert rows_of(checked(there, "lengths")["lengths"], "too long") == {ROWS}


def test_no_tokenizer_is_loaded_where_all_rows_are_surely_short(
    tmp_path: Path, general_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tunesmith.models import tokenizing
    from tunesmith.models.catalog import Base

    loaded: list[Base] = []
    load = tokenizing.load_tokenizer

    def counted(base: Base) -> tokenizing.BaseTokenizer:
        loaded.append(base)
        return load(base)

    monkeypatch.setattr(tokenizing, "load_tokenizer", counted)
    base = tmp_path / "roomy"
    shutil.copytree(general_base, base)
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 8192}))
    there = session(tmp_path, base=str(base))
    limit = length_limit(there)
    assert isinstance(limit, LengthLimit)
    assert limit.context_tokens == 8192
    assert (
        checked(there, "lengths")["lengths"].summary == "Every row fits into 8,192 tokens; none is near it."
    )
    assert not loaded
    for text in ("é" * 40, "a b" * 30, "\U0001f600" * 9):  # the bound holds for rows as they are rendered
        row = questions(1)[0]
        row = replace(row, messages=(*row.messages, Message("assistant", text), Message("user", text)))
        size = len(row.text.encode()) + len(row.target.encode())
        assert limit.count_tokens(row) <= size + limit.beside_tokens + 4 * limit.turn_tokens
    assert len(loaded) == 1
    tokenizer = json.loads((base / "tokenizer.json").read_text())
    (base / "tokenizer.json").write_text(json.dumps({**tokenizer, "normalizer": {"type": "NFKC"}}))
    assert isinstance(length_limit(there), LengthLimit)
    assert len(loaded) == 2


def test_unusable_rows_keep_no_check_from_running_and_are_left_out_on_request(tmp_path: Path) -> None:
    found = session(tmp_path)
    with (tmp_path / "rows.jsonl").open("a") as stream:
        stream.write('{"text": "what now?", "label": null}\n{"text": "and this?", "label": ""}\n{"text": \n')
    result = checked(found, "unusable rows", "turns")
    assert result["turns"].answer == "passed"
    assert result["unusable rows"].answer == "failed"
    told = [finding.evidence for finding in result["unusable rows"].findings]
    assert "1 record: the target 'label' is null: rows.jsonl:401" in told
    with pytest.raises(UserError, match="3 of 403 rows cannot be used"):
        write_plan(found, plan_path(found, None))
    task = yaml.safe_load((tmp_path / "task.yaml").read_text())
    task["data"]["unusable"] = "set_aside"
    (tmp_path / "task.yaml").write_text(yaml.safe_dump(task))
    left_out = Session(load_task(tmp_path / "task.yaml"), found.folder, found.console, found.cache)
    assert checked(left_out, "unusable rows")["unusable rows"].answer == "passed"
    assert {result.check for result in stored_audit(left_out)} == {"unusable rows", "turns"}
    dataset, told_of = make_dataset(left_out)
    assert dataset.manifest.rows == ROWS
    assert SetAside("rows that cannot be used", 3, 0) in dataset.manifest.set_aside
    assert any("3 rows that cannot be used: 401, 402, 403" in note for note in told_of.notes)


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"domain": "colour"}, "audit.domain: the data has no further column 'colour' (found: opened, "),
        ({"groups": ["region", "label"]}, "audit.groups: the data has no further column 'label'"),
        ({"benchmarks": ["nowhere.jsonl"]}, "no such file"),
        ({"oldest": "last year"}, "a day of the calendar, as 2024-05-31"),
        ({"languages": ["English"]}, "a language by its two letters"),
    ],
)
def test_settings_that_do_not_fit_are_explained(tmp_path: Path, asked: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError) as caught:
        audit(session(tmp_path, audit=asked), only=("turns",))
    assert told in caught.value.what
