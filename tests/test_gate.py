"""The gate: nothing passes that is missing, altered or not asked."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import report_samples
from tunesmith import ledger
from tunesmith.cli import main
from tunesmith.evaluation.verdict import decide
from tunesmith.files import content_hash, file_sha256, weights_sha256, write_json
from tunesmith.pipeline import Run, run_stages
from tunesmith.records import Check, Decision
from tunesmith.stages.gate import check_gate
from tunesmith.stages.session import Session
from tunesmith.stages.verdict import VerdictResult
from tunesmith.stages.verdict_line import asked_of, free_names
from tunesmith.stats.levels import alpha_for_opening
from tunesmith.task import load_task
from tunesmith.task.guard_settings import GuardsSettings
from tunesmith.workspace import TaskFolder, Workspace, adapter_folder, model_folder

Captured = pytest.CaptureFixture[str]
GUARDS = content_hash(GuardsSettings().model_dump())
ALPHA = alpha_for_opening(1)
TASK = """\
name: notices
kind: classify
instruction: Name the licence.
data: {package: licensedcode-data}
split: {validation: 400, test: 1200}
goal: {gain: 0.02}
base: smollm2-135m-instruct
"""


def stored_result(decision: Decision, guard: Check | None = None) -> VerdictResult:
    """A verdict as the real code decides it, from the report's sample numbers at the level of a contest."""
    summary = report_samples.summary(decision)
    gains = [replace(gain, level=1 - 2 * ALPHA) for gain in summary.verdict.gains]
    guards = [check for check in summary.verdict.checks if check.name.startswith("forgetting")]
    guards.append(Check("forgetting: all probes", "Is it?", "passed", "inside the margin", False))
    tuned = next(card for card in summary.test_scorecards if card.candidate.kind == "tuned")
    verdict = decide(
        gains,
        [*guards, *([guard] if guard else [])],
        goal_gain=0.02,
        rule="estimate",
        alpha_one_sided=ALPHA,
        opening=1,
        tuned=tuned.metrics["accuracy"],
        opponents=[card for card in summary.test_scorecards if card is not tuned],
    )
    return VerdictResult(verdict, summary.test_scorecards, summary.forgetting, 142.0, guards_sha256=GUARDS)


def store(runs: Path, result: VerdictResult, line: dict[str, Any] | None = None) -> Path:
    """A finished task on disk, as the stages leave it; returns the stored result's path."""
    folder = Workspace(runs).task("notices")
    task_file = runs / "notices.yaml"
    task_file.parent.mkdir(parents=True, exist_ok=True)
    task_file.write_text(TASK)
    folder.keep_task_file(task_file)
    adapter = adapter_folder(folder.stage("train", "a" * 12)) / "adapter_model.safetensors"
    adapter.parent.mkdir(parents=True)
    adapter.write_bytes(b"weights")
    (adapter.parent.parent / "result.json").write_text("{}")
    path = folder.stage("verdict", "b" * 12) / "result.json"
    write_json(path, result)
    ledger.append(folder.ledger, "frozen", {"test_sha256": "test"})
    said = {
        "test_sha256": "test",
        "decision": result.verdict.decision,
        "adapter_sha256": file_sha256(adapter),
        "asked": asked_of(load_task(task_file)),
        "result": path.parent.name,
        "result_sha256": content_hash(result),
        "result_names": free_names(result),
    }
    ledger.append(folder.ledger, "verdict", said if line is None else line)
    return path


def gate(runs: Path, capsys: Captured) -> tuple[int, Any]:
    code = main(["gate", "notices", "--runs", str(runs), "--json"])
    return code, json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(
    ("decision", "guard", "code"),
    [
        ("TRAIN", None, 0),
        ("DON'T", None, 1),
        ("CANNOT TELL YET", None, 3),
        ("TRAIN", Check("leaks", "Any?", "failed", "3 pairs", True), 1),
        ("TRAIN", Check("leaks", "Any?", "unmeasured", "not looked for", True), 3),
        ("TRAIN", Check("leaks", "Any?", "failed", "3 pairs", False), 0),
    ],
)
def test_the_exit_code_is_that_of_the_checks_that_must_pass(
    decision: Decision, guard: Check | None, code: int, tmp_path: Path, capsys: Captured
) -> None:
    store(tmp_path, stored_result(decision, guard))
    found, answer = gate(tmp_path, capsys)
    assert found == code
    assert answer["answer"] == {0: "passed", 1: "failed", 3: "unmeasured"}[code]
    assert all({"name", "answer", "evidence"} <= check.keys() for check in answer["checks"])


def test_people_see_every_check_its_evidence_and_what_stops(tmp_path: Path, capsys: Captured) -> None:
    result = stored_result("DON'T")
    store(tmp_path, result)
    assert main(["gate", "notices", "--runs", str(tmp_path)]) == 1
    shown = capsys.readouterr().out
    for check in result.verdict.checks:
        assert check.name in shown
        assert check.evidence in shown
    assert shown.splitlines()[-1].startswith(f"gate failed: {result.verdict.checks[0].name}")


def paths(value: Any, where: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The path of every key in nested JSON."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield (*where, key)
            yield from paths(inner, (*where, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from paths(inner, (*where, index))


def test_every_single_key_that_is_deleted_from_the_stored_result_blocks_and_is_named(
    tmp_path: Path, capsys: Captured
) -> None:
    path = store(tmp_path, stored_result("TRAIN"))
    folder = Workspace(tmp_path).task("notices")
    task = load_task(folder.task_file)
    whole = path.read_text(encoding="utf-8")
    keys = list(paths(json.loads(whole)))
    assert len(keys) > 500
    for number, key in enumerate(keys):
        stored = json.loads(whole)
        inside = stored
        for part in key[:-1]:
            inside = inside[part]
        del inside[key[-1]]
        path.write_text(json.dumps(stored), encoding="utf-8")
        name = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in key)[1:]
        found = check_gate(task, folder)
        assert found.answer == "unmeasured", name
        assert name in found.missing, (name, found.missing)
        if number % 100 == 0:
            code, answer = gate(tmp_path, capsys)
            assert code == 3
            assert name in answer["missing"]
    path.write_text(whole, encoding="utf-8")
    assert gate(tmp_path, capsys)[0] == 0


def test_every_key_that_the_ledger_does_not_say_blocks_and_is_named(tmp_path: Path, capsys: Captured) -> None:
    store(tmp_path / "whole", stored_result("TRAIN"))
    said = ledger.read(Workspace(tmp_path / "whole").task("notices").ledger)[-1].data
    for key in said:
        runs = tmp_path / key
        store(runs, stored_result("TRAIN"), {name: value for name, value in said.items() if name != key})
        code, answer = gate(runs, capsys)
        assert code == 3
        assert key in answer["error"]


@pytest.mark.parametrize("content", ["", "{", "[]", "null", "3", '{"verdict": []}', "\udcff", '"text"'])
def test_a_result_that_cannot_be_read_is_unmeasured(content: str, tmp_path: Path, capsys: Captured) -> None:
    path = store(tmp_path, stored_result("TRAIN"))
    path.write_text(content, errors="surrogateescape")
    code, answer = gate(tmp_path, capsys)
    assert code == 3
    assert "error" in answer or answer["missing"]


def test_a_number_that_was_altered_blocks(tmp_path: Path, capsys: Captured) -> None:
    path = store(tmp_path, stored_result("CANNOT TELL YET"))
    stored = json.loads(path.read_text())
    stored["verdict"]["decision"] = "TRAIN"
    for check in stored["verdict"]["checks"]:
        check["answer"] = "passed"
    path.write_text(json.dumps(stored))
    code, answer = gate(tmp_path, capsys)
    assert code == 3
    assert [check["answer"] for check in answer["checks"][:2]] == ["unmeasured", "unmeasured"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("gain: 0.02", "gain: 0.01"),
        ("gain: 0.02", "gain: 0.02, rule: margin"),
        ("gain: 0.02", "gain: 0.02, alpha: 0.2"),
        ("base:", "guards: {general_text: {margin: 0.03, blocking: true}}\nbase:"),
        ("base:", "guards: {probes: {margin: 0.2}}\nbase:"),
        ("base:", "guards: {robustness: {margin: 0.2}}\nbase:"),
        ("base:", "guards: {slices: [{name: gpl, pattern: gpl, margin: 0.1}]}\nbase:"),
    ],
)
def test_a_task_that_asks_something_else_by_now_is_unmeasured(
    old: str, new: str, tmp_path: Path, capsys: Captured
) -> None:
    store(tmp_path, stored_result("TRAIN"))
    task_file = Workspace(tmp_path).task("notices").task_file
    task_file.write_text(TASK.replace(old, new))
    code, answer = gate(tmp_path, capsys)
    assert code == 3
    (check,) = [check for check in answer["checks"] if check["blocking"] and check["answer"] != "passed"]
    assert check["name"] == "the task asks what was judged"


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("base:", "instruction: Say something else.\nbase:", "instruction"),
        ("base:", "train: {rank: 4}\nbase:", "train"),
        ("base:", "opponents: {classical: false}\nbase:", "opponents"),
    ],
)
def test_a_task_that_was_edited_since_its_verdict_is_unmeasured(
    old: str, new: str, named: str, tmp_path: Path, capsys: Captured
) -> None:
    store(tmp_path, stored_result("TRAIN"))
    task_file = Workspace(tmp_path).task("notices").task_file
    kept = "\n".join(line for line in TASK.splitlines() if not line.startswith(f"{named}:"))
    task_file.write_text(kept.replace(old, new))
    code, answer = gate(tmp_path, capsys)
    assert code == 3
    (check,) = [check for check in answer["checks"] if check["blocking"] and check["answer"] != "passed"]
    assert check["name"] == "the task is the one that was run"
    assert f"edited since: {named};" in check["evidence"]


def test_weights_that_were_trained_whole_are_found(tmp_path: Path, capsys: Captured) -> None:
    store(tmp_path / "adapter", stored_result("TRAIN"))
    said = ledger.read(Workspace(tmp_path / "adapter").task("notices").ledger)[-1].data
    runs = tmp_path / "whole"
    model = model_folder(Workspace(runs).task("notices").stage("train", "a" * 12))
    model.mkdir(parents=True)
    (model / "model.safetensors").write_bytes(b"all weights")
    store(runs, stored_result("TRAIN"), said | {"adapter_sha256": weights_sha256(model)})
    assert gate(runs, capsys)[0] == 0
    (model / "model.safetensors").write_bytes(b"others")
    assert gate(runs, capsys)[0] == 3


def test_the_verdict_that_was_asked_for_last_is_the_one_that_holds(
    finished: tuple[Session, Run], tmp_path: Path
) -> None:
    session, _ = finished
    folder = TaskFolder(tmp_path / "toy")
    shutil.copytree(session.folder.path, folder.path)
    again = Session(session.task, folder, session.console, session.cache)
    lines = ledger.read(folder.ledger)
    run = run_stages(again, "verdict")
    assert ledger.read(folder.ledger) == lines
    # The copied run uses the adapter that was copied with it.
    assert run.train is not None
    assert Path(run.train.training.adapter_folder).is_relative_to(folder.path)
    own = [line.data for line in lines if line.event == "verdict"][-1]
    ledger.append(folder.ledger, "verdict", own | {"decision": "TRAIN", "result": "verdict-of-another-task"})
    run_stages(again, "verdict")
    assert ledger.read(folder.ledger)[-1].data == own


def test_another_adapter_a_newer_test_and_no_verdict_at_all_are_unmeasured(
    tmp_path: Path, capsys: Captured
) -> None:
    store(tmp_path, stored_result("TRAIN"))
    folder = Workspace(tmp_path).task("notices")
    adapter = adapter_folder(folder.stage("train", "a" * 12)) / "adapter_model.safetensors"
    adapter.write_bytes(b"other weights")
    assert gate(tmp_path, capsys)[0] == 3
    adapter.write_bytes(b"weights")
    assert gate(tmp_path, capsys)[0] == 0
    ledger.append(folder.ledger, "frozen", {"test_sha256": "newer"})
    assert gate(tmp_path, capsys)[0] == 3
    shutil.rmtree(folder.path / "stages")
    assert "is gone" in gate(tmp_path, capsys)[1]["error"]
    folder.ledger.unlink()
    folder.ledger.with_suffix(".head").unlink()
    code, answer = gate(tmp_path, capsys)
    assert code == 3
    assert "no verdict" in answer["error"]
