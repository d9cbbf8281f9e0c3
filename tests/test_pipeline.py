"""The whole run on a tiny real model: what a user sees, and what planted defects must not get away with."""

from __future__ import annotations

import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from toy_task import LABELS, toy_session, toy_task_file
from tunesmith import ledger
from tunesmith.cli import main
from tunesmith.files import file_sha256, read_record
from tunesmith.pipeline import Run, run_stages
from tunesmith.records import Row
from tunesmith.run_records import RunSummary
from tunesmith.stages.session import Session
from tunesmith.stages.verdict import reach_verdict


def test_a_run_ends_with_a_verdict_a_report_and_a_ledger_that_verifies(
    finished: tuple[Session, Run],
) -> None:
    session, run = finished
    assert run.summary is not None
    assert run.summary.verdict.decision in ("TRAIN", "DON'T", "CANNOT TELL YET")
    assert session.folder.report.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert read_record(session.folder.summary, RunSummary) == run.summary
    events = [line.event for line in ledger.read(session.folder.ledger)]
    assert events == ["frozen", "test_opened", "verdict"]
    assert {card.split for card in run.summary.test_scorecards} == {"test"}
    assert all(not card.predictions for card in run.summary.test_scorecards)


def test_examples_and_confusions_come_from_validation_only(finished: tuple[Session, Run]) -> None:
    _, run = finished
    assert run.summary is not None
    from tunesmith.data.versions import read_split

    validation = {row.source for row in read_split(run.dataset, "validation")}
    shown = {duel.source for duel in (*run.summary.wins, *run.summary.losses)}
    assert shown <= validation
    confused = sum(confusion.rows for confusion in run.summary.confusions)
    assert confused <= len(validation)


def test_probabilities_and_confusions_are_told_with_intervals(finished: tuple[Session, Run]) -> None:
    session, run = finished
    assert run.summary is not None
    for metric in ("ece", "brier"):
        found = run.summary.tuned_validation.metrics[metric]
        assert found.low <= found.value <= found.high
        assert found.rows == run.summary.manifest.splits["validation"].rows
        assert all(metric not in card.metrics for card in run.summary.test_scorecards)
    first = run.summary.confusions[0]
    assert first.share is not None
    assert first.share.value == pytest.approx(first.rows / first.share.rows)
    assert first.share.low < first.share.value < first.share.high
    page = session.folder.report.read_text(encoding="utf-8")
    assert "Can its probabilities be believed?" in page


def test_a_second_run_reuses_everything_and_opens_nothing(home: Path, finished: tuple[Session, Run]) -> None:
    session, run = finished
    before = {path: path.stat().st_mtime_ns for path in session.folder.path.rglob("*") if path.is_file()}
    again = run_stages(toy_session(home, home / "runs"), "report")
    after = {path: path.stat().st_mtime_ns for path in session.folder.path.rglob("*") if path.is_file()}
    assert again.summary == run.summary
    assert {path.name for path in after if after[path] != before.get(path)} <= {"task.yaml", "origin.json"}


def test_the_test_is_named_in_the_ledger_before_any_answer_to_it_exists(
    finished: tuple[Session, Run],
) -> None:
    session, _ = finished
    opened = next(line for line in ledger.read(session.folder.ledger) if line.event == "test_opened")
    answers = list(session.folder.sealed.glob("*.json"))
    assert answers
    from datetime import datetime

    moment = datetime.fromisoformat(opened.time).timestamp()
    assert all(path.stat().st_mtime >= moment - 1 for path in answers)


def test_labels_shuffled_at_random_are_not_trained(home: Path, tmp_path: Path) -> None:
    run = run_stages(
        toy_session(home, tmp_path, data="shuffled.jsonl", guarded=False, prompted=False), "verdict"
    )
    assert run.verdict is not None
    assert run.verdict.verdict.decision != "TRAIN"


def test_an_adapter_whose_b_matrices_are_zero_is_not_trained(
    home: Path, tmp_path: Path, finished: tuple[Session, Run]
) -> None:
    _, run = finished
    assert run.plan
    assert run.opponents
    assert run.train
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    for path in Path(run.train.training.adapter_folder).iterdir():
        (adapter / path.name).write_bytes(path.read_bytes())
    weights = load_file(adapter / "adapter_model.safetensors")
    zeroed = {
        name: torch.zeros_like(tensor) if "lora_B" in name else tensor for name, tensor in weights.items()
    }
    save_file(zeroed, adapter / "adapter_model.safetensors")
    candidate = replace(run.train.validation.candidate, id="null adapter")
    null = replace(
        run.train,
        training=replace(run.train.training, adapter_folder=str(adapter)),
        validation=replace(run.train.validation, candidate=candidate),
    )
    session = toy_session(home, tmp_path / "runs")
    result = reach_verdict(session, run.dataset, run.plan.plan, run.opponents, null)
    assert result.verdict.decision != "TRAIN"
    assert all(abs(item.change.value) < 1e-9 for item in result.forgetting)


def test_another_candidate_on_the_same_test_is_a_second_line_at_a_stricter_level(
    home: Path, finished: tuple[Session, Run], tmp_path: Path
) -> None:
    finished_session, run = finished
    assert run.verdict is not None
    runs = tmp_path / "runs"
    shutil.copytree(finished_session.folder.path.parent, runs)
    session = toy_session(home, runs, seed=5, guarded=False)
    other = run_stages(session, "verdict")
    assert other.verdict is not None
    opened = [line for line in ledger.read(session.folder.ledger) if line.event == "test_opened"]
    assert len(opened) == 2
    assert (run.verdict.verdict.opening, other.verdict.verdict.opening) == (1, 2)
    assert other.verdict.verdict.alpha_one_sided == pytest.approx(run.verdict.verdict.alpha_one_sided / 4)
    again = run_stages(toy_session(home, runs), "verdict")
    assert again.verdict == run.verdict
    assert len([line for line in ledger.read(session.folder.ledger) if line.event == "test_opened"]) == 2


def test_the_gate_answers_as_the_verdict_did(
    home: Path, finished: tuple[Session, Run], capsys: pytest.CaptureFixture[str]
) -> None:
    session, _ = finished
    session.folder.keep_task_file(home / "task-0.yaml")
    latest = [line.data for line in ledger.read(session.folder.ledger) if line.event == "verdict"][-1]
    code = main(["gate", "toy", "--runs", str(home / "runs"), "--json"])
    answer = json.loads(capsys.readouterr().out)
    assert code == {"TRAIN": 0, "DON'T": 1, "CANNOT TELL YET": 3}[latest["decision"]]
    assert answer["decision"] == latest["decision"]
    assert all(check["answer"] == "passed" for check in answer["checks"][:5])


def test_a_review_by_keyboard_is_blind_resumable_and_ends_with_win_rates(
    home: Path,
    finished: tuple[Session, Run],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    session, _ = finished
    session.folder.keep_task_file(home / "task-0.yaml")
    command = ["review", "toy", "--runs", str(home / "runs"), "--json"]
    assert main(command) == 2
    assert "--reviewer" in capsys.readouterr().err
    monkeypatch.setattr("sys.stdin", io.StringIO("1\ngood\n2\n\nt\n"))  # stops inside the third pair
    assert main([*command, "--reviewer", "anna"]) == 0
    shown = capsys.readouterr()
    assert "LoRA" not in shown.err
    first = json.loads(shown.out)["review"]
    assert (first["judgements"], first["reviewers"], first["comments"]) == (2, ["anna"], ["good"])
    monkeypatch.setattr("sys.stdin", io.StringIO("1\n\n" * 500))
    assert main([*command, "--reviewer", "anna"]) == 0
    result = json.loads(capsys.readouterr().out)["review"]
    assert result["pairs"] == 60
    different = result["pairs"] - result["equal_answers"]
    assert result["judgements"] == different + min(10, (different + 1) // 2)
    assert result["criteria"][0]["win_rate"]["groups"] == 60
    assert main([*command, "--results"]) == 0
    assert json.loads(capsys.readouterr().out)["review"] == result
    assert main([*command, "--reviewer", "../anna"]) == 2


def test_an_edited_ledger_line_is_found_and_named(
    home: Path, finished: tuple[Session, Run], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    session, _ = finished
    copy = tmp_path / "runs" / "toy"
    copy.mkdir(parents=True)
    for name in ("ledger.jsonl", "ledger.head", "task.yaml", "origin.json"):
        if (session.folder.path / name).is_file():
            (copy / name).write_bytes((session.folder.path / name).read_bytes())
    lines = (copy / "ledger.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    edited = lines[1].replace("test_opened", "test_opener", 1)
    (copy / "ledger.jsonl").write_text("".join([lines[0], edited, *lines[2:]]), encoding="utf-8")
    assert main(["ledger", "verify", "toy", "--runs", str(tmp_path / "runs")]) == 1
    assert "line 2" in capsys.readouterr().err


def test_ask_answers_with_a_label_its_probability_and_training_rows(
    home: Path,
    finished: tuple[Session, Run],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    session, _ = finished
    session.folder.keep_task_file(home / "task-0.yaml")
    monkeypatch.setenv("TUNESMITH_CACHE", str(home / "cache"))
    assert main(["ask", "toy", "when will it arrive", "--runs", str(home / "runs"), "--json"]) == 0
    asked = json.loads(capsys.readouterr().out)
    assert asked["answer"] in LABELS
    assert 0 < asked["probability"] <= 1
    assert asked["nearest"][0]["source"].startswith("rows.jsonl:")


def test_the_tuned_model_is_written_as_one_folder_that_transformers_loads(
    home: Path,
    finished: tuple[Session, Run],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    session, run = finished
    session.folder.keep_task_file(home / "task-0.yaml")
    monkeypatch.setenv("TUNESMITH_CACHE", str(home / "cache"))
    command = ["merge", "toy", str(tmp_path / "model"), "--precision", "fp32", "--runs", str(home / "runs")]
    assert main([*command, "--json"]) == 0
    merged = json.loads(capsys.readouterr().out)
    assert run.train is not None
    assert merged["adapter_sha256"] == run.train.training.adapter_sha256
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    base = AutoModelForCausalLM.from_pretrained(session.base().folder)
    changed = [
        name
        for (name, weight), old in zip(model.named_parameters(), base.parameters(), strict=True)
        if not torch.allclose(weight.float(), old.float(), atol=1e-6)
    ]
    assert len(changed) == len(lora_names(Path(run.train.training.adapter_folder)))
    for folder, told in (("model", "is there already"), ("model/config.json/under", "cannot be written")):
        command[2] = str(tmp_path / folder)
        assert main(command) == 2
        assert told in capsys.readouterr().err


def lora_names(adapter: Path) -> set[str]:
    """The layers that an adapter changes."""
    return {name.split(".lora_")[0] for name in load_file(adapter / "adapter_model.safetensors")}


def test_a_run_stopped_while_training_ends_with_the_weights_of_an_uninterrupted_one(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = toy_task_file(home, learning_rate=1e-3, epochs=6, patience=1000, name="stopped", guarded=False)
    monkeypatch.setenv("TUNESMITH_CACHE", str(home / "cache"))
    command = ["train", str(task), "--runs"]
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    with _process_that_waits_for_a_command() as process:
        assert main(["opponents", str(task), "--runs", str(stopped)]) == 0  # while the process imports
        _run_until_it_trains_then_kill(process, [*command, str(stopped)], stopped)
    shutil.copytree(stopped, whole, ignore=shutil.ignore_patterns("train-*"))
    assert not list(whole.rglob("adapter_model.safetensors"))
    press = threading.Thread(target=_press_ctrl_c_when_it_trains, args=(stopped,))
    press.start()
    assert main([*command, str(stopped)]) == 130, "it had ended before it was stopped"
    press.join()
    for runs in (stopped, whole):
        assert main([*command, str(runs)]) == 0
    adapters = [next(runs.rglob("adapter/adapter_model.safetensors")) for runs in (whole, stopped)]
    assert file_sha256(adapters[0]) == file_sha256(adapters[1])


@contextmanager
def _process_that_waits_for_a_command() -> Iterator[subprocess.Popen[str]]:
    """Importing takes seconds, which go by while something else is done."""
    script = (
        "import json, sys, tunesmith.training.fit, tunesmith.stages.train; from tunesmith.cli import main; "
        "sys.exit(main(json.loads(sys.stdin.readline())))"
    )
    command = [sys.executable, "-c", script]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def _run_until_it_trains_then_kill(process: subprocess.Popen[str], command: list[str], runs: Path) -> None:
    assert process.stdin is not None
    process.stdin.write(json.dumps(command) + "\n")
    process.stdin.flush()
    _wait_for_a_new_checkpoint(runs)
    process.kill()
    assert process.wait(timeout=60) == -signal.SIGKILL, "it had ended before it was stopped"


def _press_ctrl_c_when_it_trains(runs: Path) -> None:
    _wait_for_a_new_checkpoint(runs)
    os.kill(os.getpid(), signal.SIGINT)


def _wait_for_a_new_checkpoint(runs: Path) -> None:
    """Until one is there that was not, and some moment longer."""
    before = _checkpoints(runs)
    for _ in range(1200):
        if _checkpoints(runs) - before:
            time.sleep(random.random() * 0.2)
            return
        time.sleep(0.05)
    raise AssertionError("it did not train")


def _checkpoints(runs: Path) -> set[str]:
    # Not by looking into folders: those of half-written checkpoints come and go.
    return {path.name for path in runs.glob("toy/stages/train-*/checkpoints/step-*")}


def test_prompts_race_and_one_clearly_behind_is_no_finalist(
    home: Path, finished: tuple[Session, Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    from tunesmith.candidates import prompts
    from tunesmith.candidates.forms import PromptForm
    from tunesmith.engine.scoring import LabelScores
    from tunesmith.stages import label_prompts
    from tunesmith.stages import opponents as stage

    session, run = finished
    assert run.plan is not None
    labels = run.dataset.manifest.labels
    asked: list[tuple[int, int]] = []
    right_with = {1}

    def score(prompting: object, form: PromptForm, rows: list[Row], *_: object) -> LabelScores:
        """Zero-shot is always wrong and one example at first always right, whatever the tiny model thinks."""
        asked.append((form.examples, len(rows)))
        right = np.array([labels.index(row.target) for row in rows])
        chosen = right if form.examples in right_with else (right + 1) % len(labels)
        scores = np.full((len(rows), len(labels)), -9.0)
        scores[np.arange(len(rows)), chosen] = -0.1
        return LabelScores(scores, 10 * len(rows))

    monkeypatch.setattr(prompts, "score_prompt", score)
    monkeypatch.setattr(prompts, "content_free_prior", lambda *_: [0.0] * len(labels))
    monkeypatch.setattr(label_prompts, "RACE_QUESTIONS", 52)
    result = stage._measure(session, run.dataset, run.plan.plan)
    by_examples = {card.candidate.settings.get("examples"): card for card in result.scorecards}
    assert asked == [(0, 52), (1, 52), (1, 8)]
    assert by_examples[0].stopped_after_rows == 52
    assert by_examples[0].metrics["accuracy"].rows == 52
    assert by_examples[1].stopped_after_rows is None
    assert by_examples[1].metrics["accuracy"].value == 1.0
    assert all(prediction.correct for prediction in by_examples[1].predictions)
    assert by_examples[1].candidate.id in result.finalists
    assert by_examples[0].candidate.id not in result.finalists

    # Where all prompts are clearly behind the classical model, the best of them is met on fewer test rows.
    right_with.clear()
    asked.clear()
    result = stage._measure(session, run.dataset, run.plan.plan)
    assert asked == [(0, 52), (1, 52)]
    (stopped,) = (card for card in result.scorecards if card.candidate.id in result.test_rows)
    assert (stopped.candidate.kind, stopped.stopped_after_rows) == ("prompt", 52)
    assert stopped.candidate.id in result.finalists
    assert result.leader("accuracy").kind == "classical"
