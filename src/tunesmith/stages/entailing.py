"""The entailment model that a task names for its guard on grounding."""

from __future__ import annotations

from collections.abc import Callable

from tunesmith.files import content_hash, file_sha256
from tunesmith.stages.session import Session
from tunesmith.task import Task
from tunesmith.task.kinds import GROUNDED_KINDS

SETTING = "guards.grounding.entailment"


def check_entailment(session: Session) -> None:
    """UserError where the task names a model that cannot tell entailment, before any work is done."""
    if (named := _named(session.task)) is not None:
        from tunesmith.models.entailment import check_entailment_model

        check_entailment_model(session.task.resolve(named), SETTING)


def entailment_of(task: Task) -> Callable[[str, str], float] | None:
    """The model, loaded; None where the task names none."""
    named = _named(task)
    if named is None:
        return None
    from tunesmith.models.entailment import load_entailment_model

    return load_entailment_model(task.resolve(named), SETTING)


def entailment_sha256(task: Task) -> str | None:
    """The hash of the model's files, for cache keys; None where there is none."""
    named = _named(task)
    if named is None:
        return None
    files = sorted(path for path in task.resolve(named).iterdir() if path.is_file())
    return content_hash([[path.name, file_sha256(path)] for path in files])


def _named(task: Task) -> str | None:
    grounding = task.guards.grounding
    return grounding.entailment if grounding is not None and task.kind in GROUNDED_KINDS else None
