"""Planted secrets put to the tuned model and to its base."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tunesmith.guard_records import Exposure
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
