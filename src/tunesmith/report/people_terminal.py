"""What people said, in lines for the terminal."""

from __future__ import annotations

from tunesmith.people_records import CriterionResult, Drift, JudgeResult, Labour, People, ReviewResult
from tunesmith.records import Estimate
from tunesmith.report import numbers
from tunesmith.task.kinds import metric_title

COMMENTS_SHOWN = 10


def people_lines(people: People) -> list[str]:
    """Reviews, working time and the judge: everything that there is."""
    return [
        *(review_lines(people.review) if people.review else ()),
        *(labour_lines(people.labour) if people.labour else ()),
        *(judge_lines(people.judge) if people.judge else ()),
    ]


def review_lines(result: ReviewResult) -> list[str]:
    """Who judged what, and what each criterion came to."""
    who = f"{len(result.reviewers)} ({', '.join(result.reviewers)})" if result.reviewers else "none yet"
    lines = [
        f"{result.tuned} against {result.opponent}",
        f"{result.pairs} pairs ({result.form}), {result.equal_answers} with equal answers (ties); reviewers: "
        f"{who}; {result.judgements} judgements",
    ]
    for criterion in result.criteria:
        lines += _criterion(criterion)
        lines += [f"  {_drift(drift)}" for drift in criterion.drifts]
    lines += [f"“{comment}”" for comment in result.comments[:COMMENTS_SHOWN]]
    more = len(result.comments) - COMMENTS_SHOWN
    return [*lines, f"… and {more:,} more comments"] if more > 0 else lines


def labour_lines(labour: Labour) -> list[str]:
    """The time an item takes, what the model's answer saves, and what it does to answers."""
    who = f"{len(labour.reviewers)} reviewers" if len(labour.reviewers) != 1 else labour.reviewers[0]
    if labour.saved is None or labour.without is None or labour.ratio is None or labour.score is None:
        return [f"working time ({who}): unmeasured, {labour.unmeasured}"]
    saved, ratio, score = labour.saved, labour.ratio, labour.score
    aside = f"; {labour.capped} long times counted as their limit, {labour.paused} paused left out"
    return [
        f"working time ({who}): an item takes {_minutes(labour.without)} without the model's answer, which "
        f"saves {_minutes(saved)}, to {ratio.value:.0%} [{100 * ratio.low:.0f}, {100 * ratio.high:.0f}] of "
        f"it; {labour.times_with} times with and {labour.times_without} without, {saved.groups} items ("
        f"{saved.method}){aside}",
        f"people's answers with it: {100 * score.value:+.1f} points "
        f"{numbers.bounds(score.low, score.high)} of {metric_title(labour.metric)}",
    ]


def judge_lines(result: JudgeResult) -> list[str]:
    """Whether the judge may stand in for people, and what it says if so."""
    lines = []
    for one in result.criteria:
        lines.append(f"{one.accepted.name}: {one.accepted.answer}; {one.accepted.evidence}")
        lines.append(f"{one.win_rate.name}: {one.win_rate.answer}; {one.win_rate.evidence}")
    spent = f"{result.judge}: {result.spend:.4f} spent on this review"
    return [*lines, spent] if result.spend else lines


def _criterion(criterion: CriterionResult) -> list[str]:
    rate, check = criterion.win_rate, criterion.check
    if rate is None:
        return [f"{criterion.criterion}: unmeasured, {check.evidence}"]
    lines = [
        f"{criterion.criterion}: tuned preferred {rate.value:.1%} [{100 * rate.low:.1f}, "
        f"{100 * rate.high:.1f}] ({rate.rows} judgements of {rate.groups} items; {rate.method})",
        f"  {check.answer}: {check.evidence.partition('; ')[2] or check.question}",
    ]
    if criterion.agreement is None:
        lines.insert(1, f"  Krippendorff's alpha: not defined, {criterion.no_agreement}")
    if (gain := criterion.grade_gain) is not None:
        lines.insert(1, f"  grades of 1 to 5: {gain.value:+.2f} [{gain.low:+.2f}, {gain.high:+.2f}]")
    return lines


def _drift(drift: Drift) -> str:
    if drift.same is None or drift.shift is None:
        return f"{drift.reviewer}: {drift.repeats} repeated items, too few to tell how steady"
    same, shift = drift.same, drift.shift
    return (
        f"{drift.reviewer}: the same on {same.value:.0%} [{100 * same.low:.0f}, {100 * same.high:.0f}] of "
        f"{drift.repeats} repeated items; shift to the tuned answer {100 * shift.value:+.0f} "
        f"[{100 * shift.low:+.0f}, {100 * shift.high:+.0f}] points"
    )


def _minutes(seconds: Estimate) -> str:
    if max(abs(seconds.low), abs(seconds.high)) < 10:
        return f"{seconds.value:.1f} s [{seconds.low:.1f}, {seconds.high:.1f}]"
    value, low, high = (each / 60 for each in (seconds.value, seconds.low, seconds.high))
    return f"{value:.2f} min [{low:.2f}, {high:.2f}]"
