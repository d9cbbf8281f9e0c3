"""Between opponents and training: the power of the test where it could not be planned before any answer."""

from __future__ import annotations

from dataclasses import dataclass

from tunesmith.records import Dataset
from tunesmith.run_records import PilotPower
from tunesmith.stages.answering import judging_identity, judging_of
from tunesmith.stages.crossfit_plan import judged_counts, power_with_raised_variance, raised_variance
from tunesmith.stages.opponents import OpponentsResult
from tunesmith.stages.session import Session
from tunesmith.stats.levels import alpha_for_opening
from tunesmith.workspace import cached, stage_key

PACKAGES = (
    "tunesmith.evaluation.metrics",
    "tunesmith.evaluation.judging",
    "tunesmith.evaluation.pilot",
    "tunesmith.data.questions",
    "tunesmith.task.kinds",
    "tunesmith.stats",
    "tunesmith.stages.crossfit_plan",
    "tunesmith.stages.pilot",
)


@dataclass(frozen=True)
class PilotResult:
    """None where the opponents' answers say nothing about power."""

    power: PilotPower | None


def run_pilot(session: Session, dataset: Dataset, opponents: OpponentsResult) -> PilotPower | None:
    """The power of the sealed test in the goal's metric, from the two best opponents' answers on validation.

    None for accuracy, whose power the plan has told already.
    """
    if session.task.metric == "accuracy":
        return None
    inputs = {
        "dataset": dataset.manifest.version,
        "opponents": [card.candidate.id for card in opponents.scorecards],
        "judging": judging_identity(session.task),
        "goal": session.task.goal.model_dump(),
    }
    folder = session.folder.stage("pilot", stage_key("pilot", inputs, PACKAGES))
    return cached(folder, PilotResult, lambda _: _measure(session, dataset, opponents))[0].power


def _measure(session: Session, dataset: Dataset, opponents: OpponentsResult) -> PilotResult:
    from tunesmith.data.versions import load_folds, read_split
    from tunesmith.evaluation.judging import questions
    from tunesmith.evaluation.pilot import pilot_power

    goal = session.task.goal
    judging = judging_of(session.task, dataset.manifest.labels)
    folds = load_folds(dataset)
    whole = [card for card in opponents.scorecards if card.stopped_after_rows is None]
    asked = questions(judging, read_split(dataset, "validation"))
    alpha = alpha_for_opening(1, goal.alpha)
    power = power_with_raised_variance(
        lambda groups: pilot_power(judging, asked, whole, groups, goal.gain, alpha, goal.rule),
        judged_counts(dataset, folds).groups,
        raised_variance(folds),
    )
    return PilotResult(power)
