"""General ability and the user's own probes, of the base and of the tuned model, for the verdict."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tunesmith.records import Check, Forgetting, Plan
from tunesmith.stages.session import Session
from tunesmith.stages.train import TrainResult
from tunesmith.stats.levels import guard_level

if TYPE_CHECKING:  # torch takes seconds to import
    from tunesmith.evaluation.forgetting import GeneralScores, ProbeScores
    from tunesmith.evaluation.harness import TaskScores
    from tunesmith.evaluation.probes import ProbeItem


def general_scores(
    session: Session, plan: Plan, train: TrainResult
) -> tuple[GeneralScores, GeneralScores] | str:
    """General texts and probes as scored by the base and by the tuned model; or why they cannot be."""
    from tunesmith.candidates.tuned import put_adapter
    from tunesmith.engine.lora import lora_disabled
    from tunesmith.models.families import NO_LIKELIHOOD_OF_TEXT
    from tunesmith.stages.general import base_general_scores, tuned_general_scores

    loaded = session.loaded(plan.precision)
    if loaded.family != "decoder":
        return NO_LIKELIHOOD_OF_TEXT[loaded.family]
    tuned_model = put_adapter(loaded, Path(train.training.adapter_folder))
    with session.bar("verdict", "general ability of the base") as report, lora_disabled(loaded.model):
        base = base_general_scores(loaded, plan.precision, session.cache, report)
    with session.bar("verdict", "general ability of the tuned model") as report:
        return base, tuned_general_scores(tuned_model, base, report)


def own_probe_scores_of(
    session: Session, plan: Plan, train: TrainResult
) -> tuple[Sequence[ProbeItem], ProbeScores, ProbeScores] | None:
    """The user's own probes as scored by the base and by the tuned model; None without any."""
    from tunesmith.candidates.tuned import put_adapter
    from tunesmith.engine.lora import lora_disabled
    from tunesmith.evaluation.own_probes import read_own_probes
    from tunesmith.stages.general import own_probe_scores

    file = session.task.guards.own_probes
    if file is None:
        return None
    items = read_own_probes(session.task.resolve(file))
    loaded = session.loaded(plan.precision)
    tuned_model = put_adapter(loaded, Path(train.training.adapter_folder))
    with session.bar("verdict", "own probes") as report:
        with lora_disabled(loaded.model):
            base = own_probe_scores(loaded, items, report)
        return items, base, own_probe_scores(tuned_model, items, report)


def forgetting_of(
    session: Session,
    general: tuple[GeneralScores, GeneralScores] | str,
    own: tuple[Sequence[ProbeItem], ProbeScores, ProbeScores] | None,
    tasks: tuple[Sequence[TaskScores], Sequence[TaskScores]] | None,
    opening: int,
) -> tuple[tuple[Forgetting, ...], list[Check]]:
    """What was forgotten, with the checks on it at the level of this contest, from the scores above."""
    from tunesmith.evaluation.forgetting import (
        guard_checks,
        log_probability_check,
        measure_forgetting,
        measure_own_probes,
        unmeasured_checks,
    )
    from tunesmith.evaluation.harness import measure_tasks

    text, probes = session.task.guards.general_text, session.task.guards.probes
    certain = session.task.guards.probe_log_probability
    if isinstance(general, str):
        checks = list(unmeasured_checks(general, text.blocking, probes.blocking))
        if certain is not None:
            checks.append(log_probability_check((), certain.margin, certain.blocking))
        return (), checks
    forgetting = measure_forgetting(*general, text.margin, probes.margin, guard_level(opening))
    if own is not None:
        # Before the last, which is the change of all built-in probes.
        asked_by_user = measure_own_probes(*own, probes.margin, guard_level(opening))
        forgetting = (*forgetting[:-1], asked_by_user, forgetting[-1])
    checks = list(guard_checks(forgetting, text.blocking, probes.blocking))
    if certain is not None:
        checks.append(log_probability_check(forgetting, certain.margin, certain.blocking))
    asked = session.task.guards.lm_eval
    if tasks is not None and asked is not None:
        changes, judged = measure_tasks(*tasks, asked.margin, asked.blocking, guard_level(opening))
        forgetting = (*forgetting[:-1], *changes, forgetting[-1])
        checks += judged
    return forgetting, checks
