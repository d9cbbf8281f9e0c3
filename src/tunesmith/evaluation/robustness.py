"""How answers hold on spoiled inputs: each attack in numbers, the worst and the mean, and the check."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tunesmith.evaluation.slices import gain_in_words, loss_of, score_estimate
from tunesmith.guard_records import Attack, AttackScore
from tunesmith.records import Answer, Check, Estimate
from tunesmith.stats.answers import non_inferior
from tunesmith.stats.intervals import mean_interval, proportion_interval
from tunesmith.stats.paired import FEWEST_GROUPS, paired_score_gain

MEAN = "mean of all attacks"


def attack_scores(
    attacks: Sequence[Attack], opponent: str, alpha_one_sided: float
) -> tuple[AttackScore, ...]:
    """Every attack in numbers, and their mean over attacks for each row as a last one."""
    measured = [attack for attack in attacks if attack.unmeasured is None]
    scores = [_score(attack, opponent, alpha_one_sided) for attack in attacks]
    if len(measured) > 1:
        scores.append(_score(mean_attack(measured), opponent, alpha_one_sided))
    return tuple(scores)


def mean_attack(attacks: Sequence[Attack]) -> Attack:
    """The mean over attacks of each row's scores. All attacks are of the same rows."""

    def mean(scores: Sequence[Sequence[float]]) -> tuple[float, ...]:
        return tuple(np.mean(np.array(scores), axis=0).tolist())

    return Attack(
        MEAN,
        f"{len(attacks)} attacks",
        attacks[0].groups,
        attacks[0].tuned_before,
        mean([attack.tuned_after for attack in attacks]),
        attacks[0].opponent_before,
        mean([attack.opponent_after for attack in attacks]),
    )


def robustness_checks(
    attacks: Sequence[Attack],
    opponent: str,
    margin: float,
    blocking: bool,
    alpha_one_sided: float,
) -> tuple[Check, ...]:
    """Two checks, non-inferiority to the opponent under the same attacks: on their mean, and on every one.

    The second passes only where every attack passes, so it needs no correction for their number
    (intersection–union), and fails where any surely fails. Both can block.
    """
    scores = {score.name: score for score in attack_scores(attacks, opponent, alpha_one_sided)}
    points = f"{100 * margin:g} points"
    mean = scores.pop(MEAN, None)
    question = f"On spoiled inputs, is it on average at most {points} below {opponent} on the same?"
    mean_check = _check("robustness: mean", question, [mean] if mean else [], margin, blocking)
    question = f"Is it at most {points} below {opponent} under every single attack?"
    return mean_check, _check("robustness: every attack", question, list(scores.values()), margin, blocking)


def _check(name: str, question: str, scores: Sequence[AttackScore], margin: float, blocking: bool) -> Check:
    judged = [(score, score.gain) for score in scores if score.gain is not None]
    if not judged:
        reason = next((score.unmeasured for score in scores if score.unmeasured), "nothing was attacked")
        return Check(name, question, "unmeasured", reason, blocking)
    losses = [loss_of(gain) for _, gain in judged]
    answers: set[Answer] = {"unmeasured" if loss is None else non_inferior(loss, margin) for loss in losses}
    if any(score.gain is None for score in scores):
        answers.add("unmeasured")
    answer: Answer = "failed" if "failed" in answers else "passed" if answers == {"passed"} else "unmeasured"
    worst, gain = min(judged, key=lambda pair: pair[1].value)
    evidence = f"worst: {worst.name}, " if len(judged) > 1 else ""
    evidence += f"{gain_in_words(gain)}; margin {100 * margin:g} points"
    if gain.low is None:
        evidence += f"; fewer than {FEWEST_GROUPS} groups"
    return Check(name, question, answer, evidence, blocking, loss_of(gain))


def _score(attack: Attack, opponent: str, alpha_one_sided: float) -> AttackScore:
    if attack.unmeasured is not None:
        return AttackScore(attack.name, attack.done, None, None, None, None, unmeasured=attack.unmeasured)
    gain = paired_score_gain(
        attack.tuned_after, attack.opponent_after, attack.groups, opponent, alpha_one_sided
    )
    return AttackScore(
        name=attack.name,
        done=attack.done,
        tuned=score_estimate(attack.tuned_after, attack.groups),
        loss=_loss(attack),
        opponent=score_estimate(attack.opponent_after, attack.groups),
        gain=gain,
        tuned_obeyed=_share(attack.tuned_obeyed, attack.groups),
        opponent_obeyed=_share(attack.opponent_obeyed, attack.groups),
    )


def _loss(attack: Attack) -> Estimate | None:
    """The fall of the tuned model's score, paired by row; None for a single group."""
    if len(set(attack.groups)) < 2:
        return None
    # With the pseudo-rows of a paired gain, so that the interval of no change is not a point.
    gain = paired_score_gain(attack.tuned_before, attack.tuned_after, attack.groups, "after", 0.025)
    if gain.low is not None and gain.high is not None:
        method = "paired cluster-t with one pseudo-win and one pseudo-loss"
        return Estimate(gain.value, gain.low, gain.high, gain.rows, gain.groups, gain.level, method)
    fall = np.subtract(attack.tuned_before, attack.tuned_after)
    return mean_interval(fall, attack.groups, limits=(-1.0, 1.0))


def _share(obeyed: Sequence[bool] | None, groups: Sequence[str]) -> Estimate | None:
    return None if obeyed is None else proportion_interval(obeyed, groups)
