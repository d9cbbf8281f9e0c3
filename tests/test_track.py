"""A finished run is found in MLflow's own store, with the dataset's id and every number's interval."""

from __future__ import annotations

import io
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from report_samples import summary
from tiny import make_tiny_base
from tunesmith.errors import UserError
from tunesmith.pipeline import run_stages
from tunesmith.records import Dataset
from tunesmith.stages.session import Session
from tunesmith.stages.track import check_tracking, store_path, track_run
from tunesmith.task import load_task
from tunesmith.workspace import Workspace

TASK = """\
name: tickets
kind: classify
instruction: Name the team.
data: {path: rows.jsonl, input: text, target: label}
split: {train: 160, validation: 60, test: 120, seed: 1}
goal: {gain: 0.02}
base: base
track: {}
"""


def session_of(folder: Path, text: str = TASK) -> Session:
    (folder / "task.yaml").write_text(text)
    task = load_task(folder / "task.yaml")
    return Session(task, Workspace(folder / "runs").task("tickets"), Console(file=io.StringIO()), folder)


def test_nothing_is_recorded_unless_the_task_asks(tmp_path: Path) -> None:
    session = session_of(tmp_path, TASK.replace("track: {}\n", ""))
    check_tracking(session)
    assert track_run(session, Dataset("nowhere", summary().manifest), summary()) is None
    assert not (tmp_path / "runs").exists()


def test_without_the_extra_the_run_is_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tunesmith.stages.track.PACKAGES", ("mlflow_that_nobody_has",))
    with pytest.raises(UserError, match="mlflow_that_nobody_has not installed") as caught:
        run_stages(session_of(tmp_path), "report")  # there are no rows either: it does not come so far
    assert "pip install 'tunesmith[tracking]'" in caught.value.fix


def test_a_run_is_recorded_once_with_its_dataset_numbers_and_verdict(tmp_path: Path) -> None:
    pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy")
    from mlflow.tracking import MlflowClient

    make_tiny_base(tmp_path / "base")
    session, told = session_of(tmp_path), summary("DON'T")
    dataset = Dataset(str(session.folder.datasets / told.manifest.version[:12]), told.manifest)
    check_tracking(session)
    id = track_run(session, dataset, told)
    assert id is not None
    assert track_run(session, dataset, told) == id
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert store_path(session) == tmp_path / "runs" / "mlflow.db"

    client = MlflowClient(f"sqlite:///{tmp_path / 'runs' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name(told.task)
    assert experiment is not None
    run = client.get_run(id)
    assert run.info.status == "FINISHED"
    (used,) = run.inputs.dataset_inputs
    assert used.dataset.name == told.task
    assert told.manifest.version.startswith(used.dataset.digest)
    assert json.loads(used.dataset.profile)["version"] == told.manifest.version
    assert json.loads(used.dataset.source)["uri"] == dataset.folder
    tags, metrics = run.data.tags, run.data.metrics
    assert tags["verdict"] == "DON'T"
    assert tags["adapter"].endswith(told.training.adapter_folder)
    answers = [answer for name, answer in tags.items() if name.startswith("check.")]
    assert sorted(answers) == sorted(check.answer for check in told.verdict.checks)
    estimate = told.tuned_validation.metrics["accuracy"]
    names = ("", ".low", ".high", ".rows", ".groups")
    assert [metrics[f"validation/tuned/accuracy{end}"] for end in names] == [
        estimate.value, estimate.low, estimate.high, estimate.rows, estimate.groups,
    ]  # fmt: skip
    assert len([name for name in metrics if name.startswith("gain/")]) == 5 * len(told.verdict.gains)
    curve = client.get_metric_history(id, "loss/validation")
    assert [(point.step, point.value) for point in curve] == [
        (one.step, one.loss) for one in told.training.validation
    ]
    assert run.data.params["train.rank"] == "16"
    assert run.data.params["dataset_version"] == told.manifest.version

    again = track_run(session, dataset, replace(told, created="2026-11-22T00:00:00+00:00"))
    assert again != id
    assert len(client.search_runs([experiment.experiment_id])) == 2
    (tmp_path / "runs" / "broken.db").write_text("no database at all, but a text that is long enough" * 40)
    broken = session_of(tmp_path, TASK.replace("track: {}", "track: {store: broken.db}"))
    with pytest.raises(UserError, match=r"track: .*broken\.db cannot be written"):
        track_run(broken, dataset, told)
