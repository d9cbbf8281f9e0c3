"""A model as judge: asked in both orders, and used only where it has been shown to agree with people."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tunesmith.evaluation.review import Choice, Judgement, Pair
from tunesmith.records import Answer, Check, Estimate
from tunesmith.stats.review import JudgeAgreement, by_item, judge_agreement, win_rate

# Input, first answer, second answer, criterion: which is better?
Judge = Callable[[str, str, str, str], Choice]


def ask_judge(judge: Judge, pairs: Sequence[Pair], criterion: str) -> dict[str, tuple[float, float]]:
    """For each item the outcome with the tuned answer shown first, and with it shown second."""
    answers = {}
    for pair in pairs:
        forward = _outcome(judge(pair.text, pair.tuned, pair.opponent, criterion))
        backward = 1 - _outcome(judge(pair.text, pair.opponent, pair.tuned, criterion))
        answers[pair.item] = (forward, backward)
    return answers


def accept_judge(
    judge: Judge, pairs: Sequence[Pair], judgements: Sequence[Judgement], criterion: str
) -> tuple[JudgeAgreement, Check]:
    """Ask ``judge`` about the pairs that people have judged, and answer whether it may stand in for them."""
    known = [each for each in judgements if criterion in each.choices and not each.again]
    people = by_item(
        [each.outcome(criterion) for each in known],
        [each.item for each in known],
        [each.reviewer for each in known],
    )
    judged = [pair for pair in pairs if len(people.get(pair.item, [])) >= 2]
    agreement = judge_agreement(people, ask_judge(judge, judged, criterion))
    difference, position = agreement.difference, agreement.position
    numbers = ""
    if difference is not None and position is not None:
        numbers = (
            f"; agreement with people minus theirs {_points(difference)}, "
            f"first over second position {_points(position)}"
        )
    return agreement, Check(
        name=f"the judge agrees with people: {criterion}",
        question="Does the judge ignore positions, and agree with people as they agree with each other?",
        answer=agreement.answer,
        evidence=f"{agreement.reason}{numbers}; {agreement.items} items",
        blocking=True,
        estimate=difference,
    )


def judged_win_rate(
    judge: Judge, name: str, pairs: Sequence[Pair], judgements: Sequence[Judgement], criterion: str
) -> Check:
    """The tuned candidate's win rate by an accepted judge; *unmeasured* where the judge is not accepted."""
    agreement, accepted = accept_judge(judge, pairs, judgements, criterion)
    question = f"How often does {name} prefer the tuned answer for {criterion}?"
    if agreement.answer != "passed":
        return Check(f"win rate by {name}", question, "unmeasured", accepted.evidence, blocking=True)
    answers = ask_judge(judge, pairs, criterion)
    rate = win_rate([sum(both) / 2 for both in answers.values()], list(answers), [name] * len(answers))
    shown = f"{rate.value:.1%} [{100 * rate.low:.1f}, {100 * rate.high:.1f}], {rate.rows} items"
    answer: Answer = "passed" if rate.low > 0.5 else "failed" if rate.high < 0.5 else "unmeasured"
    return Check(f"win rate by {name}", question, answer, shown, blocking=True, estimate=rate)


def _outcome(choice: Choice) -> float:
    return {"first": 1.0, "second": 0.0, "tie": 0.5}[choice]


def _points(share: Estimate) -> str:
    return f"{100 * share.value:+.1f} [{100 * share.low:+.1f}, {100 * share.high:+.1f}] points"
