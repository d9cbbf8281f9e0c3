"""Guards of the model as such, tuned against base: planted secrets and refusals."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tunesmith.guard_records import Exposure, Refusal
from tunesmith.records import Plan
from tunesmith.stages.session import Session
from tunesmith.stages.train import TrainResult

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tunesmith.models.loading import LoadedModel


def measure_secrets(session: Session, plan: Plan, train: TrainResult) -> Exposure | None:
    """How far the planted secrets stand out; None where fewer than two were planted."""
    from tunesmith.candidates.tuned import put_adapter
    from tunesmith.engine.lora import lora_disabled
    from tunesmith.evaluation.memorisation import exposure

    count = session.task.guards.canaries
    if count < 2:
        return None
    loaded = session.loaded(plan.precision)
    tuned = put_adapter(loaded, Path(train.training.adapter_folder))
    own = _log_probabilities(tuned, session.task.instruction, count)
    with lora_disabled(loaded.model):
        return exposure(own, _log_probabilities(loaded, session.task.instruction, count))


def measure_refusals(session: Session, plan: Plan, train: TrainResult) -> tuple[Refusal, ...]:
    """Which built-in requests the base and the tuned model refuse; empty where the task does not ask."""
    from tunesmith.candidates.tuned import put_adapter
    from tunesmith.engine.lora import lora_disabled
    from tunesmith.evaluation.refusals import refusals
    from tunesmith.stages.general import refused_requests

    if session.task.guards.refusals is None:
        return ()
    loaded = session.loaded(plan.precision)
    tuned = put_adapter(loaded, Path(train.training.adapter_folder))
    with session.bar("guards", "requests to refuse or to answer") as report:
        own = refused_requests(tuned, report)
        with lora_disabled(loaded.model):
            return refusals(refused_requests(loaded, report), own)


def _log_probabilities(loaded: LoadedModel, instruction: str, count: int) -> NDArray[np.float64]:
    """[secrets, 1 + alternatives]: log p of its own code, then of the codes that were not planted."""
    import numpy as np

    from tunesmith.candidates.answers import task_tree
    from tunesmith.engine.scoring import score_labels
    from tunesmith.evaluation.memorisation import planted_rows, secrets_and_alternatives
    from tunesmith.models.rendering import instructed, render_prompt

    secrets, others = secrets_and_alternatives(count)
    tree = task_tree(loaded, (*secrets, *others))
    prompts = [render_prompt(loaded, instructed(instruction, row)) for row in planted_rows(count)]
    scores = score_labels(loaded.model, prompts, tree, loaded.pad_token, None).log_probabilities
    own = scores[np.arange(count), np.arange(count)][:, None]
    return np.concatenate([own, scores[:, count:]], axis=1)
