"""The guards of a task as checks, at the level of the contest that asks for them."""

from __future__ import annotations

from tunesmith.evaluation.fairness import fairness_check
from tunesmith.evaluation.grounding import grounding_checks
from tunesmith.evaluation.refusals import refusal_checks
from tunesmith.evaluation.robustness import robustness_checks
from tunesmith.guard_records import GuardEvidence
from tunesmith.records import Check
from tunesmith.task.guard_settings import GROUNDING_IF_LEFT_OUT, GuardsSettings
from tunesmith.task.kinds import GROUNDED_KINDS, Kind


def evidence_checks(
    evidence: GuardEvidence | None,
    settings: GuardsSettings,
    alpha_one_sided: float,
    kind: Kind = "classify",
) -> tuple[Check, ...]:
    """Robustness, fairness, refusals and grounding as checks, whether they were measured or not.

    What was not measured is unmeasured: it blocks where the task asks for it. Grounding is asked only of the
    kinds whose answers must rest on their source.
    """
    evidence = evidence or GuardEvidence("the opponent", (), None, (), ())
    robustness, fairness = settings.robustness, settings.fairness
    grounding = settings.grounding or GROUNDING_IF_LEFT_OUT
    return (
        *robustness_checks(
            evidence.attacks, evidence.opponent, robustness.margin, robustness.blocking, alpha_one_sided
        ),
        fairness_check(
            evidence.swaps, evidence.opponent, fairness.margin, fairness.blocking, alpha_one_sided
        ),
        *(
            refusal_checks(
                evidence.refusals, settings.refusals.margin, settings.refusals.blocking, alpha_one_sided
            )
            if settings.refusals
            else ()
        ),
        *(
            grounding_checks(
                evidence.grounding,
                evidence.opponent,
                grounding.margin,
                grounding.blocking,
                alpha_one_sided,
                grounding.entailment is not None,
            )
            if kind in GROUNDED_KINDS
            else ()
        ),
    )
