"""The guard on what answers say that their source does not, against the opponent on the same rows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tunesmith.data.questions import Questions
from tunesmith.evaluation.slices import loss_of, score_estimate
from tunesmith.guard_records import Grounding, GroundingScore
from tunesmith.records import Check, PairedGain
from tunesmith.stats.answers import non_inferior
from tunesmith.stats.intervals import mean_interval
from tunesmith.stats.paired import FEWEST_GROUPS, paired_score_gain
from tunesmith.task.kinds import GROUNDED_KINDS, GROUNDING_METRICS, Kind

_WHAT = {
    "unsupported_words": "content words that its source does not hold",
    "unsupported_numbers": "answers with a number that their source does not hold",
    "unsupported_names": "answers with a name that their source does not hold",
}


def measure_grounding(
    asked: Questions, tuned: Sequence[str], opponent: Sequence[str], kind: Kind
) -> tuple[Grounding, ...]:
    """One record for each of the three metrics; none for kinds whose answers need no source."""
    if kind not in GROUNDED_KINDS:
        return ()
    groups = tuple(row.group for row in asked.rows)
    return tuple(
        Grounding(metric, groups, unsupported(asked, tuned, metric), unsupported(asked, opponent, metric))
        for metric in GROUNDING_METRICS
    )


def unsupported(asked: Questions, answers: Sequence[str], metric: str) -> tuple[float, ...]:
    """One of the three metrics for every row by itself, in 0 to 1."""
    from tunesmith.evaluation.metrics.answered import Answered, RowScores
    from tunesmith.evaluation.metrics.measure import measured

    found = measured(metric, Answered(asked.rows, answers, references=asked.references))
    assert isinstance(found, RowScores)  # all three are means over rows
    return tuple(found.scores.tolist())


def grounding_scores(
    records: Sequence[Grounding], asked: Questions, opponent: str, alpha_one_sided: float
) -> tuple[GroundingScore, ...]:
    """In numbers, beside those of the right answers, which need not be 0 either."""
    return tuple(_score(one, asked, opponent, alpha_one_sided) for one in records)


def grounding_checks(
    records: Sequence[Grounding],
    opponent: str,
    margin: float,
    blocking: bool,
    alpha_one_sided: float,
) -> tuple[Check, ...]:
    """For each metric: is at most ``margin`` more unsupported than in the opponent's answers?

    Unmeasured without records, and with fewer than 50 groups of rows.
    """
    found = {one.metric: one for one in records}
    points = f"{100 * margin:g} points"
    checks = []
    for metric in GROUNDING_METRICS:
        name = f"grounding: {metric.removeprefix('unsupported_')}"
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
        more = f"{100 * loss.value:+.1f} points [{100 * loss.low:.1f}, {100 * loss.high:.1f}]"
        sample = f"{loss.rows:,} rows in {loss.groups:,} groups"
        evidence = f"{shares}; {more.replace('-', '−')} beside the opponent, {sample}; margin {points}"
        checks.append(Check(name, question, non_inferior(loss, margin), evidence, blocking, loss))
    return tuple(checks)


def _score(record: Grounding, asked: Questions, opponent: str, alpha_one_sided: float) -> GroundingScore:
    usual = unsupported(asked, [right[0] for right in asked.references], record.metric)
    several = len(set(record.groups)) > 1
    return GroundingScore(
        record.metric,
        score_estimate(record.tuned, record.groups),
        score_estimate(record.opponent, record.groups),
        score_estimate(usual, record.groups),
        mean_interval(np.subtract(record.tuned, usual), record.groups) if several else None,
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
