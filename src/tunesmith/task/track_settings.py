"""Where runs are recorded besides the report: the section ``track`` of a task file."""

from __future__ import annotations

from pydantic import Field

from tunesmith.task.sections import Section, Text


class TrackSettings(Section):
    """Each finished run is recorded in an MLflow store (needs `tunesmith[tracking]`)."""

    store: Text = Field(
        default="mlflow.db",
        description="The SQLite file of the MLflow store, made where there is none. A relative path starts "
        "at the runs folder, so that all tasks share one store. Look at it with `mlflow ui "
        "--backend-store-uri sqlite:///runs/mlflow.db`.",
        examples=["mlflow.db"],
    )
