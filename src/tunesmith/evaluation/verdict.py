"""The verdict: TRAIN, DON'T or CANNOT TELL YET, from the gains over the finalists and the guards."""

from __future__ import annotations

from collections.abc import Sequence

from tunesmith.evaluation.wording import (
    gain_method,
    gain_words,
    goal_words,
    level_words,
    rows_words,
    value_words,
)
from tunesmith.records import Answer, Check, Decision, Estimate, PairedGain, Scorecard, Verdict
from tunesmith.stats.answers import Rule, worth_it
from tunesmith.stats.paired import FEWEST_GROUPS
from tunesmith.stats.power import discordance_range, rows_needed
from tunesmith.task.kinds import SMALLER_IS_BETTER


def decide(
    gains: Sequence[PairedGain],
    guards: Sequence[Check],
    *,
    goal_gain: float,
    rule: Rule,
    alpha_one_sided: float,
    opening: int,
    tuned: Estimate,
    opponents: Sequence[Scorecard],
    metric: str = "accuracy",
    strong_opponents: Sequence[str] = (),
    rows_called: str = "test rows",
) -> Verdict:
    """Reach the verdict on the tuned candidate from its test results.

    ``gains``: one per finalist, at two-sided level 1 − 2·``alpha_one_sided``. ``guards``: the other checks
    (leaks, forgetting); only blocking ones count, and an unmeasured one blocks like a failed one.
    ``metric``: the goal's. ``tuned``: the tuned model in it on the sealed test. ``opponents``: the finalists'
    scorecards on it, with that metric; their candidates' names are the gains' opponents.
    ``strong_opponents``: what was tried of endpoints and large models, finalist or not; TRAIN tells of it.
    ``rows_called``: what the rows of the verdict are, for the words about how many more would tell.

    TRAIN when every gain is worth it by ``rule`` and every blocking guard passed. DON'T when the upper bound
    of any gain is below ``goal_gain`` (``use_instead``: the best of those finalists) or a blocking guard
    failed (the best finalist). Otherwise CANNOT TELL YET.
    Raises ValueError when there is no finalist, when gains and opponents do not match one to one, or when a
    gain was computed at another level.
    """
    reached = {card.candidate.name: card.metrics[metric] for card in opponents}
    names = [gain.opponent for gain in gains]
    if not gains or sorted(names) != sorted(reached) or len(reached) != len(opponents):
        raise ValueError(f"need exactly one gain per finalist: gains {names}, finalists {list(reached)}")
    if any(abs(gain.level - (1 - 2 * alpha_one_sided)) > 1e-9 for gain in gains):
        raise ValueError(f"every gain must be at the level of one-sided {alpha_one_sided}")

    answers = {gain.opponent: worth_it(gain, goal_gain, rule) for gain in gains}
    sign = -1 if metric in SMALLER_IS_BETTER else 1
    ranked = sorted(gains, key=lambda gain: sign * reached[gain.opponent].value, reverse=True)
    failed_gains = [gain for gain in ranked if answers[gain.opponent] == "failed"]
    open_gains = [gain for gain in ranked if answers[gain.opponent] == "unmeasured"]
    failed_guards = [guard for guard in guards if guard.blocking and guard.answer == "failed"]
    open_guards = [guard for guard in guards if guard.blocking and guard.answer == "unmeasured"]

    use_instead: str | None = None
    rows: tuple[int, int] | None = None
    decision: Decision
    if failed_gains or failed_guards:
        decision = "DON'T"
        instead = failed_gains[0] if failed_gains else ranked[0]
        use_instead = instead.opponent
        sentence = _dont(instead, reached[use_instead], tuned, goal_gain, failed_gains, failed_guards, metric)
    elif open_gains or open_guards:
        decision = "CANNOT TELL YET"
        rows = _rows_that_would_tell(open_gains, goal_gain, alpha_one_sided)
        sentence = _cannot_tell(open_gains, open_guards, rows, tuned, goal_gain, rule, metric, rows_called)
    else:
        decision = "TRAIN"
        best = ranked[0]
        sentence = (
            f"TRAIN. Tuned {value_words(tuned, metric)}; gain over the best opponent ({best.opponent}) "
            f"{gain_words(best, goal_gain, metric)}. {_beaten(opponents, strong_opponents)}"
        )
    return Verdict(
        decision=decision,
        sentence=f"{sentence} {level_words(alpha_one_sided, opening)}",
        use_instead=use_instead,
        checks=(
            *(_beats(gain, answers[gain.opponent], goal_gain, rule, metric) for gain in gains),
            *guards,
        ),
        gains=tuple(gains),
        rows_needed=rows,
        opening=opening,
        alpha_one_sided=alpha_one_sided,
        rule=rule,
        goal_gain=goal_gain,
        metric=metric,
    )


def _beaten(opponents: Sequence[Scorecard], strong: Sequence[str]) -> str:
    """Whom it beat, each with the model behind it, and whether that says much."""
    candidates = [card.candidate for card in opponents]
    names = [
        one.name if one.base is None or one.name.endswith(one.base) else f"{one.name} on {one.base}"
        for one in candidates
    ]
    sentence = f"It beat: {'; '.join(names)}."
    if strong:
        return f"{sentence} Strong opponents that were tried: {', '.join(strong)}."
    return f"{sentence} No strong opponent (an endpoint, or a base of 1B parameters or more) was tried."


def _dont(
    instead: PairedGain,
    reached: Estimate,
    tuned: Estimate,
    goal_gain: float,
    failed_gains: Sequence[PairedGain],
    failed_guards: Sequence[Check],
    metric: str,
) -> str:
    sentence = (
        f"DON'T train: use {instead.opponent} ({value_words(reached, metric)}). "
        f"Tuned {value_words(tuned, metric)}; gain over it {gain_words(instead, goal_gain, metric)}"
    )
    if failed_gains:
        sentence += f": even the upper bound is below the goal of {goal_words(goal_gain, metric)}."
    else:
        sentence += "."
    return " ".join([sentence, *(f"Failed: {guard.name} ({guard.evidence})." for guard in failed_guards)])


def _cannot_tell(
    open_gains: Sequence[PairedGain],
    open_guards: Sequence[Check],
    rows: tuple[int, int] | None,
    tuned: Estimate,
    goal_gain: float,
    rule: Rule,
    metric: str,
    rows_called: str,
) -> str:
    parts = [f"CANNOT TELL YET. Tuned {value_words(tuned, metric)}."]
    if open_gains:
        # The gain that is furthest from being worth it is the one in the way.
        least = min(open_gains, key=lambda gain: gain.value)
        bar = "for its lower bound" if rule == "margin" else "and a lower bound above 0"
        parts.append(
            f"Gain over {least.opponent} {gain_words(least, goal_gain, metric)}; "
            f"the goal is {goal_words(goal_gain, metric)} {bar}."
        )
        few = [gain for gain in open_gains if gain.low is None]
        if rows:
            parts.append(f"{rows_words(rows)} {rows_called} would tell a gain of 0 from the goal.")
        elif few:
            parts.append(
                f"The test has {few[0].groups} groups; below {FEWEST_GROUPS} no interval is trustworthy, "
                f"nor a number of rows that would tell. Collect test rows in at least {FEWEST_GROUPS} groups."
            )
        elif goal_gain > 0:
            parts.append(
                f"These {least.rows:,} {rows_called} are enough to tell a gain of 0 from the goal, so the "
                "true gain probably lies between them; no number of rows is promised to tell."
            )
        else:
            parts.append("With a goal of 0 no number of rows is promised to tell.")
    parts.extend(f"Unmeasured, and it blocks: {guard.name} ({guard.evidence})." for guard in open_guards)
    if open_guards and not open_gains:
        parts.append(f"Measure that; more {rows_called} alone would not tell.")
    return " ".join(parts)


def _rows_that_would_tell(
    open_gains: Sequence[PairedGain], goal_gain: float, alpha_one_sided: float
) -> tuple[int, int] | None:
    """The range for all open gains together; None when it is unknown or this test already has the rows."""
    if not open_gains or goal_gain <= 0 or any(gain.low is None for gain in open_gains):
        return None
    ranges = [
        rows_needed(*discordance_range(gain), gain.design_effect, goal_gain, alpha_one_sided)
        for gain in open_gains
    ]
    present = open_gains[0].rows
    low, high = max(low for low, _ in ranges), max(high for _, high in ranges)
    return (max(low, present + 1), high) if high > present else None


def _beats(gain: PairedGain, answer: Answer, goal_gain: float, rule: Rule, metric: str) -> Check:
    wanted = (
        f"is the lower bound of the gain at least {goal_words(goal_gain, metric)}"
        if rule == "margin"
        else f"is the gain at least {goal_words(goal_gain, metric)} and its lower bound above 0"
    )
    estimate = None
    if gain.low is not None and gain.high is not None:
        estimate = Estimate(
            gain.value, gain.low, gain.high, gain.rows, gain.groups, gain.level, gain_method(metric)
        )
    return Check(
        name=f"beats {gain.opponent}",
        question=f"Against {gain.opponent}, {wanted}?",
        answer=answer,
        evidence=(
            f"{gain_words(gain, goal_gain, metric)}; {gain.wins} won, {gain.losses} lost "
            f"of {gain.rows:,} rows in {gain.groups:,} groups"
        ),
        blocking=True,
        estimate=estimate,
    )
