"""The guard on what answers say that their source does not, against the opponent on the same rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from tunesmith.data.questions import Questions
from tunesmith.evaluation.slices import loss_of, score_estimate
from tunesmith.evaluation.wording import plain, signed
from tunesmith.guard_records import Grounding, GroundingScore
from tunesmith.records import Check, Estimate, PairedGain
from tunesmith.stats.answers import non_inferior
from tunesmith.stats.intervals import mean_interval
from tunesmith.stats.paired import FEWEST_GROUPS, paired_score_gain
from tunesmith.task.kinds import GROUNDED_KINDS, GROUNDING_METRICS, UNENTAILED, Kind

Entails = Callable[[str, str], float]

_WHAT = {
    "unsupported_words": "content words that its source does not hold",
    "unsupported_numbers": "answers with a number that their source does not hold",
    "unsupported_names": "answers with a name that their source does not hold",
    UNENTAILED: "statements that its source does not entail",
}


def measure_grounding(
    asked: Questions,
    tuned: Sequence[str],
    opponent: Sequence[str],
    kind: Kind,
    entails: Entails | None = None,
) -> tuple[Grounding, ...]:
    """One record for each of the three metrics, and one of statements where there is a model for it; none
    for kinds whose answers need no source."""
    if kind not in GROUNDED_KINDS:
        return ()
    groups = tuple(row.group for row in asked.rows)
    return tuple(
        Grounding(
            metric,
            groups,
            unsupported(asked, tuned, metric, entails),
            unsupported(asked, opponent, metric, entails),
        )
        for metric in grounding_metrics(entails is not None)
    )


def grounding_metrics(entailment: bool) -> tuple[str, ...]:
    """What is guarded: three metrics by spelling, and statements where a model judges them."""
    return (*GROUNDING_METRICS, UNENTAILED) if entailment else GROUNDING_METRICS


def unsupported(
    asked: Questions, answers: Sequence[str], metric: str, entails: Entails | None = None
) -> tuple[float, ...]:
    """One of these metrics for every row by itself, in 0 to 1."""
    from tunesmith.evaluation.metrics.answered import Answered, RowScores
    from tunesmith.evaluation.metrics.measure import measured

    answered = Answered(asked.rows, answers, references=asked.references, entails=entails)
    found = measured("entailed" if metric == UNENTAILED else metric, answered)
    assert isinstance(found, RowScores)  # all of them are means over rows
    return tuple((1 - found.scores if metric == UNENTAILED else found.scores).tolist())


def grounding_scores(
    records: Sequence[Grounding],
    asked: Questions,
    opponent: str,
    alpha_one_sided: float,
    entails: Entails | None = None,
) -> tuple[GroundingScore, ...]:
    """In numbers, beside those of the right answers, which need not be 0 either."""
    usual = [right[0] for right in asked.references]
    return tuple(
        _score(one, unsupported(asked, usual, one.metric, entails), opponent, alpha_one_sided)
        for one in records
    )


def grounding_checks(
    records: Sequence[Grounding],
    opponent: str,
    margin: float,
    blocking: bool,
    alpha_one_sided: float,
    entailment: bool = False,
) -> tuple[Check, ...]:
    """For each metric: is at most ``margin`` more unsupported than in the opponent's answers?

    Unmeasured without records, and with fewer than 50 groups of rows.
    """
    found = {one.metric: one for one in records}
    points = f"{100 * margin:g} points"
    checks = []
    for metric in grounding_metrics(entailment):
        what = "statements" if metric == UNENTAILED else metric.removeprefix("unsupported_")
        name = f"grounding: {what}"
        question = f"Are there at most {points} more {_WHAT[metric]} than with {opponent}?"
        if metric not in found:
            checks.append(Check(name, question, "unmeasured", "no answer was looked at", blocking))
            continue
        gain = _gain(found[metric], opponent, alpha_one_sided)
        loss = loss_of(gain)
        own = score_estimate(found[metric].tuned, found[metric].groups)
        shares = f"{own.value:.1%} [{own.low:.1%}, {own.high:.1%}]"
        if loss is None:
            few = f"{shares}; {gain.groups} groups of rows, and {FEWEST_GROUPS} are needed"
            checks.append(Check(name, question, "unmeasured", few, blocking))
            continue
        more = f"{signed(100 * loss.value)} points [{plain(100 * loss.low)}, {plain(100 * loss.high)}]"
        sample = f"{loss.rows:,} rows in {loss.groups:,} groups"
        evidence = f"{shares}; {more} beside the opponent, {sample}; margin {points}"
        checks.append(Check(name, question, non_inferior(loss, margin), evidence, blocking, loss))
    return tuple(checks)


def _score(
    record: Grounding, usual: tuple[float, ...], opponent: str, alpha_one_sided: float
) -> GroundingScore:
    more: Estimate | None = None
    if len(set(record.groups)) > 1:
        more = mean_interval(np.subtract(record.tuned, usual), record.groups, limits=(-1.0, 1.0))
    return GroundingScore(
        record.metric,
        score_estimate(record.tuned, record.groups),
        score_estimate(record.opponent, record.groups),
        score_estimate(usual, record.groups),
        more,
        _gain(record, opponent, alpha_one_sided),
    )


def _gain(record: Grounding, opponent: str, alpha_one_sided: float) -> PairedGain:
    """Above 0 where less is unsupported than in the opponent's answers."""
    return paired_score_gain(
        [1 - score for score in record.tuned],
        [1 - score for score in record.opponent],
        record.groups,
        opponent,
        alpha_one_sided,
    )
