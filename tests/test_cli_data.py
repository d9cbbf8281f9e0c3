"""``tunesmith data``: from the audit to a repaired, frozen version, and what may be seen of it."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from bank_samples import questions
from tunesmith import ledger
from tunesmith.cli import main
from tunesmith.data.audit import checks
from tunesmith.data.audit.findings import AuditData, CheckResult
from tunesmith.stages.audit import audit
from tunesmith.stages.session import Session
from tunesmith.task import load_task
from tunesmith.workspace import TaskFolder, Workspace

Captured = pytest.CaptureFixture[str]
COPIES = 12


@pytest.fixture
def bank(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> TaskFolder:
    """A task over 400 rows with 12 copies and one input with two targets, in the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TUNESMITH_RUNS", raising=False)
    chance = random.Random(0)
    records = [
        {"text": row.text, "label": row.target, "city": chance.choice(["Rome", "Oslo"])}
        for row in questions(400)
    ]
    records += [dict(record) for record in records[:COPIES]]
    records.append({**records[100], "label": "fees" if records[100]["label"] != "fees" else "transfer"})
    Path("bank.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    assert main(["new", "bank", "--data", "bank.jsonl", "--input", "text", "--target", "label"]) == 0
    capsys.readouterr()
    return Workspace(Path("runs")).task("bank")


def result(capsys: Captured) -> Any:
    return json.loads(capsys.readouterr().out)


def run(*arguments: str) -> int:
    return main(["data", arguments[0], "bank/task.yaml", *arguments[1:]])


def test_from_audit_to_a_repaired_version_and_what_changed(bank: TaskFolder, capsys: Captured) -> None:
    source = Path("bank.jsonl").read_bytes()
    only = ("--check", "duplicates", "--check", "leaks")
    assert run("audit", *only, "--json") == 1
    found = {check["check"]: check for check in result(capsys)["results"]}
    assert found["duplicates"]["answer"] == "failed"
    assert found["leaks"]["answer"] == "passed"
    assert run("audit", *only) == 1
    table = capsys.readouterr().out
    assert "12 of 413 rows repeat another one" in " ".join(table.split())
    assert "drop 12" in table

    assert run("freeze", "--json") == 0
    before = result(capsys)["manifest"]
    assert run("plan", "--json") == 0
    assert Path(result(capsys)["plan_file"]).resolve() == Path("bank/repair-plan.yaml").resolve()
    assert run("plan") == 2
    assert "there is a repair plan already" in capsys.readouterr().err
    assert run("apply", "--json") == 0
    applied = result(capsys)
    assert applied["train_rows_after"] < applied["train_rows_before"] == before["splits"]["train"]["rows"]
    assert Path(applied["changes_file"]).is_file()
    first = Path(applied["changes_file"]).read_bytes()
    assert run("apply", "--json") == 0
    assert Path(result(capsys)["changes_file"]).read_bytes() == first

    task = Path("bank/task.yaml")
    task.write_text(task.read_text().replace("#plan: repair-plan.yaml", "plan: repair-plan.yaml"))
    assert run("freeze", "--json") == 0
    after = result(capsys)["manifest"]
    assert after["splits"]["train"]["rows"] == applied["train_rows_after"]
    assert after["parents"] == [before["version"]]
    assert after["test_sha256"] == before["test_sha256"]
    assert run("diff", before["version"], after["version"][:12], "--json") == 0
    difference = result(capsys)
    assert difference["same_test"]
    assert {row["what"] for row in difference["rows"]} == {"went"}
    assert all(row["why"].startswith("duplicates: copies") for row in difference["rows"])
    assert len(difference["rows"]) == applied["train_rows_before"] - applied["train_rows_after"]
    assert run("diff", after["version"], before["version"]) == 0
    assert "no longer repaired (duplicates)" in capsys.readouterr().out
    assert Path("bank.jsonl").read_bytes() == source


def test_review_answers_change_the_next_version(bank: TaskFolder, capsys: Captured) -> None:
    assert run("plan") == 0
    assert run("review", "--export", "queue.jsonl", "--json") == 0
    queue = [json.loads(line) for line in Path("queue.jsonl").read_text().splitlines()]
    capsys.readouterr()
    assert queue
    for item in queue:
        item["decision"] = "drop"
    Path("queue.jsonl").write_text("".join(json.dumps(item) + "\n" for item in queue))
    assert run("review", "--import", "queue.jsonl") == 0
    assert run("apply", "--json") == 0
    capsys.readouterr().out.splitlines()
    assert run("apply", "--json") == 0
    applied = result(capsys)
    assert applied["changes"]["review: drop"] == len(queue)
    assert applied["waiting_for_review"] == 0
    assert run("review") == 2


def test_the_sealed_test_is_shown_only_when_it_is_spent(bank: TaskFolder, capsys: Captured) -> None:
    assert run("show") == 2
    assert "no frozen dataset" in capsys.readouterr().err
    assert run("freeze") == 0
    capsys.readouterr()
    assert run("show", "--split", "validation", "--rows", "3", "--json") == 0
    assert len(result(capsys)["rows"]) == 3
    for command in (("show",), ("export", "--out", "test.csv")):
        assert run(*command, "--split", "test") == 2
        assert "sealed" in capsys.readouterr().err
    assert not Path("test.csv").exists()
    assert [line.event for line in ledger.read(bank.ledger)] == ["frozen"]
    assert run("show", "--split", "test", "--spend-test") == 0
    assert run("export", "--out", "test.csv", "--split", "test", "--spend-test") == 0
    lines = ledger.read(bank.ledger)
    assert [line.event for line in lines] == ["frozen", "test_opened"]
    assert lines[1].data["candidates"] == ["shown to a person"]


def test_a_version_says_what_the_audit_of_its_source_answered(bank: TaskFolder, capsys: Captured) -> None:
    assert run("audit", "--check", "duplicates", "--check", "encoding") == 1
    assert run("freeze") == 0
    capsys.readouterr()
    assert run("show", "--rows", "1") == 0
    assert "its source's audit: 1 passed; 1 failed (duplicates: 14 rows)" in capsys.readouterr().out
    Path("bank/task.yaml").write_text(
        Path("bank/task.yaml").read_text().replace("data:\n", "data:\n  plan: repair-plan.yaml\n", 1)
    )
    assert run("plan") == 0
    assert run("freeze") == 0
    capsys.readouterr()
    assert run("show", "--rows", "1", "--json") == 0
    answers = {check["check"]: check["answer"] for check in result(capsys)["checks"]}
    assert answers.keys() == checks.CHECKS.keys()
    assert (answers["duplicates"], answers["encoding"]) == ("failed", "passed")


def test_export_writes_all_or_the_best_rows(bank: TaskFolder, capsys: Captured) -> None:
    assert run("freeze") == 0
    capsys.readouterr()
    assert run("export", "--out", "train.jsonl", "--json") == 0
    assert result(capsys)["rows"] == len(Path("train.jsonl").read_text().splitlines())
    assert run("export", "--out", "best.csv", "--rows", "20", "--by", "quality") == 0
    assert len(Path("best.csv").read_text().splitlines()) == 21
    capsys.readouterr()
    assert run("export", "--out", "train.xlsx") == 2
    assert "use one of jsonl, csv" in capsys.readouterr().err
    assert run("export", "--out", "x.csv", "--rows", "20", "--by", "beauty") == 2


def session(bank: TaskFolder) -> Session:
    return Session(load_task(Path("bank/task.yaml")), bank, Console(quiet=True))


def test_ctrl_c_keeps_the_checks_that_were_finished(
    bank: TaskFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(data: AuditData) -> CheckResult:
        raise KeyboardInterrupt

    ran = []

    def counted(data: AuditData) -> CheckResult:
        ran.append(1)
        return CheckResult("duplicates", "passed", "fine")

    monkeypatch.setattr(checks, "CHECKS", {"duplicates": counted, "leaks": stopped})
    told: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        audit(session(bank), tell=lambda result: told.append(result.check))
    assert told == ["duplicates"]
    monkeypatch.setattr(checks, "CHECKS", {"duplicates": counted})
    assert audit(session(bank)).results[0].summary == "fine"
    assert len(ran) == 1


def test_a_check_that_breaks_is_unmeasured_and_tried_again(
    bank: TaskFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(data: AuditData) -> CheckResult:
        raise ZeroDivisionError("no rows")

    def fine(data: AuditData) -> CheckResult:
        return CheckResult("leaks", "passed", "fine")

    monkeypatch.setattr(checks, "CHECKS", {"duplicates": broken, "leaks": fine})
    first, second = audit(session(bank)).results
    assert (first.check, first.answer) == ("duplicates", "unmeasured")
    assert "ZeroDivisionError: no rows" in first.summary
    assert second.answer == "passed"
    monkeypatch.setattr(checks, "CHECKS", {"duplicates": fine, "leaks": fine})
    assert audit(session(bank)).results[0].answer == "passed"


def test_an_unknown_check_and_a_missing_benchmark_are_explained(bank: TaskFolder, capsys: Captured) -> None:
    assert run("audit", "--check", "beauty") == 2
    assert "there are: private data, secrets" in capsys.readouterr().err
    assert run("audit", "--benchmark", "nowhere.jsonl") == 2
    assert "no such file" in capsys.readouterr().err


def test_rows_of_a_benchmark_file_are_found(bank: TaskFolder, capsys: Captured) -> None:
    lines = Path("bank.jsonl").read_text().splitlines(keepends=True)
    Path("bench.jsonl").write_text("".join(lines[50:53]))
    assert run("audit", "--check", "leaks", "--benchmark", "bench.jsonl", "--json") == 1
    (leaks,) = result(capsys)["results"]
    assert leaks["findings"][0]["kind"] == "in benchmark bench.jsonl"
    assert leaks["findings"][0]["rows"] == [50, 51, 52]
