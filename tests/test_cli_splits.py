"""Columns that split the data, from the task file to a frozen version; and the rules between the settings."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from tunesmith.cli import main
from tunesmith.errors import UserError
from tunesmith.task import load_task

Captured = pytest.CaptureFixture[str]

TASK = """\
name: clauses
kind: classify
instruction: Does the clause hold?
data:
  path: clauses.jsonl
  input: [question, text]
  target: answer
split:
  SPLIT
goal:
  gain: 0.02
base: smollm2-135m-instruct
"""
DRAWN = "validation: 0.15\n  test: 0.45"


@pytest.fixture
def clauses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """120 documents with 3 questions each; document 1 amends document 0."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TUNESMITH_RUNS", raising=False)
    chance, lines = random.Random(3), []
    texts = [" ".join(f"w{chance.randrange(900)}" for _ in range(50)) for _ in range(120)]
    texts[1] = texts[0] + " as amended"
    for number, text in enumerate(texts):
        for question in range(3):
            line = {
                "question": f"question {question}",
                "text": text,
                "answer": chance.choice(["yes", "no"]),
                "contract": number,
                "signed": f"2024-{1 + number % 12:02}-{1 + number % 28:02}",
                "part": "test" if number < 60 else "dev" if number < 80 else "train",
            }
            lines.append(json.dumps(line) + "\n")
    Path("clauses.jsonl").write_text("".join(lines))
    return tmp_path


def freeze(split: str, capsys: Captured) -> dict[str, Any]:
    """The manifest of the version frozen with these settings of the split."""
    Path("task.yaml").write_text(TASK.replace("SPLIT", split))
    assert main(["data", "freeze", "task.yaml", "--json"]) == 0, capsys.readouterr().err
    manifest: dict[str, Any] = json.loads(capsys.readouterr().out)["manifest"]
    return manifest


def test_documents_dates_and_given_splits_reach_the_frozen_version(clauses: Path, capsys: Captured) -> None:
    kept = freeze(f"{DRAWN}\n  keep_together: [contract]", capsys)
    assert kept["groups"] == 119
    assert kept["conflict_groups"] == 0
    assert kept["recipe"]["keep_together"] == ["contract"]
    assert "time" not in kept["recipe"]
    assert sum(counts["rows"] for counts in kept["splits"].values()) == 360

    timed = freeze(f"{DRAWN}\n  keep_together: [contract]\n  time: signed", capsys)
    ranges = timed["date_ranges"]
    assert ranges["train"][1] <= ranges["validation"][1] <= ranges["test"][0] <= ranges["test"][1]
    assert timed["recipe"]["time"] == "signed"

    given = freeze("keep_together: [contract]\n  given: part", capsys)
    assert {name: counts["rows"] for name, counts in given["splits"].items()} == {
        "train": 120,
        "validation": 60,
        "test": 180,
    }
    assert len({kept["version"], timed["version"], given["version"]}) == 3
    assert main(["data", "diff", "task.yaml", kept["version"][:12], timed["version"][:12], "--json"]) == 0
    reasons = {row["why"] for row in json.loads(capsys.readouterr().out)["rows"] if row["what"] == "moved"}
    assert reasons == {"drawn for another split (other settings: time)"}


def test_a_misspelt_column_is_named_with_its_setting(clauses: Path, capsys: Captured) -> None:
    Path("task.yaml").write_text(TASK.replace("SPLIT", f"{DRAWN}\n  keep_together: [contracts]"))
    assert main(["data", "freeze", "task.yaml"]) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "no field 'contracts'" in told
    assert "Set split.keep_together: contract" in told


def test_questions_about_one_document_are_no_conflicts_in_the_audit(clauses: Path, capsys: Captured) -> None:
    kinds = []
    for setting in ("", "\n  keep_together: [contract]"):
        Path("task.yaml").write_text(TASK.replace("SPLIT", DRAWN + setting))
        main(["data", "audit", "task.yaml", "--check", "duplicates", "--json"])
        (result,) = json.loads(capsys.readouterr().out)["results"]
        kinds.append({finding["kind"] for finding in result["findings"]})
    assert kinds == [{"near-duplicates", "near-duplicates, different targets"}, {"near-duplicates"}]


@pytest.mark.parametrize(
    ("split", "told"),
    [
        ("test: 0.4", "split: split.validation is missing"),
        ("given: part\n  validation: 0.2", "split.validation: nothing is drawn where the splits are given"),
        ("given: part\n  train: 100", "split.train: nothing is drawn"),
        ("given: part\n  test: 100", "split.test: nothing is drawn"),
        ("given: part\n  time: signed", "split.time: nothing is drawn"),
        ("given: part\n  seed: 3", "split.seed: nothing is drawn"),
        ("given: answer", "split.given: names the column of the right answer"),
        (f"{DRAWN}\n  time: answer", "split.time: names the column of the right answer"),
        (f"{DRAWN}\n  keep_together: [a, a]", "split.keep_together: a column is named twice"),
        (f"{DRAWN}\n  keep_together: []", "split.keep_together: found"),
    ],
)
def test_settings_of_the_split_that_contradict_each_other_are_refused(
    tmp_path: Path, split: str, told: str
) -> None:
    path = tmp_path / "task.yaml"
    path.write_text(TASK.replace("SPLIT", split))
    with pytest.raises(UserError) as caught:
        load_task(path)
    assert told in caught.value.what


def test_a_package_and_a_test_file_bring_their_own(tmp_path: Path) -> None:
    path = tmp_path / "task.yaml"
    rows = "path: clauses.jsonl\n  input: [question, text]\n  target: answer"
    assert rows in TASK
    text = TASK.replace("SPLIT", f"{DRAWN}\n  keep_together: [contract]")
    for old, new, told in (
        (rows, "package: licensedcode-data", "split.keep_together: not together with data.package"),
        (
            f"{DRAWN}\n  keep_together: [contract]",
            "given: part",
            "split.given: not together with data.test_path",
        ),
    ):
        changed = text.replace(old, new)
        path.write_text(
            changed if "package" in new else changed.replace(rows, f"{rows}\n  test_path: t.jsonl")
        )
        with pytest.raises(UserError) as caught:
            load_task(path)
        assert told in caught.value.what
