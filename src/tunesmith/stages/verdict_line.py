"""What the ledger says of a verdict: enough to know it again on disk, and what it was reached for."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith import ledger
from tunesmith.files import content_hash
from tunesmith.records import Dataset
from tunesmith.stages.session import Session
from tunesmith.task import Task

if TYPE_CHECKING:
    from tunesmith.stages.train import TrainResult
    from tunesmith.stages.verdict import VerdictResult

# The settings that decide who is judged, and on what; goal and guards are in the stored result.
ASKED = (
    "kind",
    "instruction",
    "data",
    "split",
    "base",
    "max_new_tokens",
    "json_schema",
    "none_of_these",
    "opponents",
    "train",
)


def note_verdict(
    session: Session,
    dataset: Dataset,
    contest: str,
    train: TrainResult,
    result: VerdictResult,
    folder: Path,
) -> None:
    """Write the ledger's line of a verdict, unless its last one is the same.

    ``folder`` is the verdict's stage, ``train`` the model it allows. A verdict that was reached before is
    told again where another came between: the last line is the one that holds.
    """
    verdict = result.verdict
    told = {
        "test_sha256": dataset.manifest.test_sha256,
        "contest_id": contest,
        "decision": verdict.decision,
        "sentence": verdict.sentence,
        "goal_gain": verdict.goal_gain,
        "rule": verdict.rule,
        "candidate": train.validation.candidate.id,
        "adapter_sha256": train.training.adapter_sha256,
        "asked": asked_of(session.task),
        "result": folder.name,
        "result_sha256": content_hash(result),
        "result_names": free_names(result),
    }
    before = [line.data for line in ledger.read(session.folder.ledger) if line.event == "verdict"]
    if not before or before[-1] != told:
        ledger.append(session.folder.ledger, "verdict", told)


def asked_of(task: Task) -> dict[str, str]:
    """The settings that decide who is judged and on what, each as a hash."""
    settings = task.model_dump(mode="json", include=set(ASKED))
    for unread in ("licence", "attribution"):
        settings["data"].pop(unread)
    return {name: content_hash(settings[name]) for name in ASKED}


def free_names(record: Any, where: str = "") -> list[str]:
    """The keys in a record that its type does not know: those of metrics and settings, each with its path.

    The ledger keeps them, so that one that is lost from the stored result is missed.
    """
    names: list[str] = []
    if is_dataclass(record):
        for field in fields(record):
            names += free_names(getattr(record, field.name), f"{where}.{field.name}" if where else field.name)
    elif isinstance(record, dict):
        for key, value in record.items():
            names += [f"{where}.{key}", *free_names(value, f"{where}.{key}")]
    elif isinstance(record, (list, tuple)):
        for index, value in enumerate(record):
            names += free_names(value, f"{where}[{index}]")
    return names
