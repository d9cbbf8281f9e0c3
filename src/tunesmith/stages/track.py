"""A finished run recorded in an MLflow store on SQLite, where the task asks for it (``track``)."""

from __future__ import annotations

import importlib.util
import json
import logging
import math
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith.errors import UserError
from tunesmith.files import content_hash
from tunesmith.records import Dataset, Estimate, Scorecard
from tunesmith.run_records import RunSummary
from tunesmith.stages.session import Session

if TYPE_CHECKING:
    from mlflow.entities import Metric, Param, RunTag

# What MLflow's SQLite store is made of beside the client itself.
PACKAGES = ("mlflow", "sqlalchemy", "alembic", "cryptography")
METRICS_AT_ONCE = 1000  # MLflow takes no more in one call
PARAMS_AT_ONCE = 100
TEXT_CHARACTERS = 5000
DIGEST_CHARACTERS = 36  # the longest that MLflow keeps

SUMMARY_TAG = "tunesmith.summary_sha256"


def check_tracking(session: Session) -> None:
    """UserError where the task wants its runs recorded and MLflow, or what its store needs, is missing."""
    if session.task.track is None:
        return
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(
            f"track: {', '.join(missing)} not installed, which the MLflow store needs",
            fix="pip install 'tunesmith[tracking]', or leave track out of the task",
        )


def store_path(session: Session) -> Path:
    """The SQLite file that runs of the task are recorded in."""
    assert session.task.track is not None  # asked for
    return session.folder.path.parent.absolute() / Path(session.task.track.store).expanduser()


def track_run(session: Session, dataset: Dataset, summary: RunSummary) -> str | None:
    """Record ``summary`` in the store; the id of its MLflow run. None where the task asks for no record.

    The same summary is recorded once. The dataset's digest is the beginning of its version's name, which
    `tunesmith data show` takes as well; its whole name is in the tags. Weights stay where they are: the run
    names their folder. Raises UserError where the store cannot be written.
    """
    if session.task.track is None:
        return None
    # Before MLflow is imported: nothing about the run is sent to anyone.
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    from mlflow.entities import Dataset as TrackedDataset
    from mlflow.entities import DatasetInput, InputTag
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient
    from sqlalchemy.exc import SQLAlchemyError

    for name in ("mlflow", "alembic"):  # how the tables are made is of no interest
        logging.getLogger(name).setLevel(logging.WARNING)
    store = store_path(session)
    sha256 = content_hash(summary)
    try:
        store.parent.mkdir(parents=True, exist_ok=True)
        client = MlflowClient(tracking_uri=f"sqlite:///{store}")
        found = client.get_experiment_by_name(summary.task)
        if found is None:
            # Only named: nothing is copied there.
            experiment = client.create_experiment(summary.task, str(store.with_suffix(".artifacts")))
        else:
            experiment = found.experiment_id
        known = client.search_runs([experiment], f"tags.`{SUMMARY_TAG}` = '{sha256}'", max_results=1)
        if known:
            return str(known[0].info.run_id)
        run = client.create_run(experiment, run_name=f"{summary.verdict.decision} {summary.created}")
        id = str(run.info.run_id)
        params, tags = list(_params(session, summary)), list(_tags(session, summary))
        metrics = [*_metrics(summary), *_curves(summary)]
        for start in range(0, len(params), PARAMS_AT_ONCE):
            client.log_batch(id, params=params[start : start + PARAMS_AT_ONCE])
        for start in range(0, len(metrics), METRICS_AT_ONCE):
            client.log_batch(id, metrics=metrics[start : start + METRICS_AT_ONCE])
        manifest = dataset.manifest
        counts = {name: {"rows": one.rows, "groups": one.groups} for name, one in manifest.splits.items()}
        tracked = TrackedDataset(
            name=summary.task,
            digest=manifest.version[:DIGEST_CHARACTERS],
            source_type="local",
            source=json.dumps({"uri": str(Path(dataset.folder).absolute())}),
            profile=json.dumps({"version": manifest.version, "test_sha256": manifest.test_sha256} | counts),
        )
        context = [InputTag("mlflow.data.context", "train, validation and sealed test")]
        client.log_inputs(id, [DatasetInput(tracked, context)])
        client.set_terminated(id)
        # Last, so that a run that was cut off in recording is not taken for a record.
        client.log_batch(id, tags=tags)
        client.set_tag(id, SUMMARY_TAG, sha256)
    except (MlflowException, SQLAlchemyError, OSError) as error:
        raise UserError(
            f"track: {store} cannot be written: {str(error).splitlines()[0]}",
            fix="name another file as track.store, or leave track out; the run itself is finished and kept",
        ) from error
    return id


def _params(session: Session, summary: RunSummary) -> Iterator[Param]:
    from mlflow.entities import Param

    task, base = session.task, session.base()
    said: dict[str, Any] = {
        "kind": task.kind,
        "instruction": task.instruction,
        "base": base.name,
        "base_sha256": base.sha256,
        "dataset_version": summary.manifest.version,
        "goal.metric": task.metric,
        "precision": summary.plan.precision,
    }
    said |= {f"goal.{name}": value for name, value in task.goal.model_dump(exclude={"metric"}).items()}
    said |= {f"train.{name}": value for name, value in task.train.model_dump().items()}
    for name, value in said.items():
        yield Param(name, str(value)[:TEXT_CHARACTERS])


def _tags(session: Session, summary: RunSummary) -> Iterator[RunTag]:
    from mlflow.entities import RunTag

    verdict, training = summary.verdict, summary.training
    said = {
        "verdict": verdict.decision,
        "verdict.sentence": verdict.sentence,
        "adapter": str(session.folder.trained(training.adapter_folder).absolute()),
        "adapter_sha256": training.adapter_sha256,
        "dataset_version": summary.manifest.version,
        "dataset_folder": str(session.folder.datasets.absolute()),
        "test_sha256": summary.manifest.test_sha256,
        "report": str(session.folder.report.absolute()),
        "tuned": summary.tuned_validation.candidate.name,
        "mlflow.note.content": f"{verdict.decision}: {verdict.sentence}",
    }
    said |= {f"check.{_key(check.name)}": check.answer for check in verdict.checks}
    for name, value in said.items():
        yield RunTag(name, value[:TEXT_CHARACTERS])


def _metrics(summary: RunSummary) -> Iterator[Metric]:
    """Every number with its interval and n: ``test/NAME/accuracy``, ``….low``, ``….high``, ``….rows``."""
    cards: list[Scorecard] = [*summary.opponents, summary.tuned_validation, *summary.test_scorecards]
    tuned = summary.tuned_validation.candidate.id
    for card in cards:
        name = "tuned" if card.candidate.id == tuned else _key(card.candidate.name)
        for metric, estimate in card.metrics.items():
            yield from _estimate(f"{card.split}/{name}/{_key(metric)}", estimate)
    for gain in summary.verdict.gains:
        place = f"gain/{_key(gain.opponent)}/{_key(summary.verdict.metric)}"
        values = {
            "": gain.value,
            ".low": gain.low,
            ".high": gain.high,
            ".rows": gain.rows,
            ".groups": gain.groups,
        }
        for end, value in values.items():
            if value is not None:
                yield from _point(place + end, value, 0)
    for one in summary.forgetting:
        yield from _estimate(f"forgetting/{one.kind}/{_key(one.domain)}", one.change)
    yield from _point("train_seconds", summary.training.cost.seconds, 0)
    yield from _point("trained_tokens", summary.training.trained_tokens, 0)


def _curves(summary: RunSummary) -> Iterator[Metric]:
    for step in summary.training.train:
        yield from _point("loss/train_step", step.loss, step.step)
    for seen in summary.training.validation:
        yield from _point("loss/validation", seen.loss, seen.step)


def _estimate(name: str, estimate: Estimate) -> Iterator[Metric]:
    values = {"": estimate.value, ".low": estimate.low, ".high": estimate.high}
    for end, value in (values | {".rows": estimate.rows, ".groups": estimate.groups}).items():
        yield from _point(name + end, value, 0)


def _point(name: str, value: float, step: int) -> Iterator[Metric]:
    from mlflow.entities import Metric

    if math.isfinite(value):
        yield Metric(name, float(value), int(time.time() * 1000), step)


def _key(name: str) -> str:
    """A name with what MLflow's keys do not allow replaced."""
    return re.sub(r"[^\w\-. ]+", "_", name, flags=re.ASCII).strip("_ ")[:120]
