"""The tuned model as one folder of weights, for programs that load models of Transformers and no adapters."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tunesmith.errors import UserError
from tunesmith.stages.ask import finished_run
from tunesmith.stages.session import Session


@dataclass(frozen=True)
class Merged:
    """Where the merged weights lie, their hash, and what the run decided about this model."""

    folder: str
    sha256: str
    precision: str
    adapter_sha256: str
    verdict: str


def merge(session: Session, folder: Path, precision: str) -> Merged:
    """Write the adapter of the task's finished run, merged into its base, to ``folder``.

    ``precision`` is bf16 or fp32. Raises UserError without a finished run, after full fine-tuning (its folder
    is a whole model already), where ``folder`` exists or cannot be written, and where the base's weights have
    changed.
    """
    from tunesmith.engine.precision import DTYPES
    from tunesmith.models.merging import merge_adapter

    summary = finished_run(session)
    adapter = session.folder.trained(summary.training.adapter_folder)
    if not (adapter / "adapter_config.json").is_file():
        raise UserError(
            f"{session.task.name}: all weights were trained, so that there is no adapter to merge",
            fix=f"load the model as it is, from {adapter}",
        )
    if precision not in DTYPES:
        raise UserError(f"--precision: {precision!r} is unknown", fix=f"use one of {', '.join(DTYPES)}")
    if folder.exists():  # before the base is loaded, too
        raise UserError(f"{folder}: is there already", fix="give a folder that does not exist yet")
    try:
        sha256 = merge_adapter(session.base(), adapter, folder, DTYPES[precision])
    except OSError as error:
        raise UserError(
            f"{folder}: cannot be written ({error.strerror or error})",
            fix="give a folder that you may write to, on a disk with room for the model",
        ) from error
    return Merged(str(folder), sha256, precision, summary.training.adapter_sha256, summary.verdict.decision)
