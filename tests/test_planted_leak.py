"""A null control: labels at random, and a real tiny model that was taught the very rows it is tested with."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from toy_task import toy_session
from tunesmith.data.tables import read_rows, write_rows
from tunesmith.data.versions import SPLIT_FILES
from tunesmith.files import file_sha256
from tunesmith.pipeline import run_stages
from tunesmith.records import Dataset
from tunesmith.stages.opponents import measure_opponents
from tunesmith.stages.seeds import train_seeds
from tunesmith.stages.session import Session
from tunesmith.stages.verdict import reach_verdict


def planted(dataset: Dataset, folder: Path) -> Dataset:
    """The version with its validation and test rows among the training rows, and a manifest that hides it."""
    shutil.copytree(dataset.folder, folder)
    splits = {name: read_rows(folder / file) for name, file in SPLIT_FILES.items()}
    taught = [replace(row, id=f"again-{row.id}") for row in (*splits["validation"], *splits["test"])]
    write_rows(folder / SPLIT_FILES["train"], [*splits["train"], *taught])
    files = tuple(replace(file, sha256=file_sha256(folder / file.name)) for file in dataset.manifest.files)
    return Dataset(str(folder), replace(dataset.manifest, version="f" * 64, files=files))


def test_a_model_that_learned_the_test_rows_beats_its_opponent_and_the_leak_check_blocks(
    home: Path, tmp_path: Path
) -> None:
    usual = toy_session(home, tmp_path, data="shuffled.jsonl", guarded=False, prompted=False)
    opponents = usual.task.opponents.model_copy(update={"classical": False})
    by_heart = {"method": "full", "learning_rate": 3e-3, "epochs": 6.0, "patience": 99}
    task = usual.task.model_copy(
        update={"opponents": opponents, "train": usual.task.train.model_copy(update=by_heart)}
    )
    session = Session(task, usual.folder, usual.console, usual.cache)
    run = run_stages(session, "plan")
    assert run.plan is not None
    leaky = planted(run.dataset, tmp_path / "leaky")
    opponents_found = measure_opponents(session, leaky, run.plan.plan)
    trained = train_seeds(session, leaky, run.plan.plan)
    verdict = reach_verdict(session, leaky, run.plan.plan, opponents_found, trained).verdict
    (gain,) = verdict.gains
    assert gain.low is not None
    assert gain.low > 0  # all that it knows of these labels it learned from the test
    (check,) = (check for check in verdict.checks if check.name == "no leak between splits")
    assert (check.answer, check.blocking) == ("failed", True)
    assert check.evidence.startswith("180 leaking")
    assert verdict.decision == "DON'T"
