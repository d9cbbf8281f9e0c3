"""A model as judge: asked in both orders, and used only where it has been shown to agree with people."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tunesmith.evaluation.review import Choice, Judgement, Pair
from tunesmith.evaluation.wording import signed
from tunesmith.people_records import JudgeAgreement, JudgedCriterion
from tunesmith.records import Answer, Check, Estimate, Message, Row
from tunesmith.stats.review import FEWEST_JUDGED, by_item, judge_agreement, win_rate

JUDGE_LABELS = ("1", "2", "tie")
_LABEL: dict[str, Choice] = {"1": "first", "2": "second", "tie": "tie"}
_WORD = re.compile(r"\b(1|2|tie)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Comparison:
    """Two answers to one input, in the order in which a judge is shown them. ``source`` names the row."""

    text: str
    first: str
    second: str
    source: str


# Which is better, for each comparison, by this criterion? None: what the judge said cannot be read.
Judge = Callable[[Sequence[Comparison], str], Sequence[Choice | None]]


def comparison_row(comparison: Comparison, instruction: str) -> Row:
    """A comparison as a row to be classified as ``1``, ``2`` or ``tie``: so any candidate can be a judge."""
    text = (
        f"What was asked:\n{instruction}\n\nInput:\n{comparison.text}\n\n"
        f"Answer 1:\n{comparison.first}\n\nAnswer 2:\n{comparison.second}\n\nWhich answer is better?"
    )
    return Row(comparison.source, comparison.source, (Message("user", text),), "")


def judge_instruction(rubric: str, criterion: str) -> str:
    """What the judge is told before every comparison."""
    return f"{rubric}\nJudge by this alone: {criterion}."


def read_choice(text: str) -> Choice | None:
    """``1``, ``2`` or ``tie``, alone or as the only one of them in the last line that has one."""
    for line in reversed(text.strip().splitlines()):
        found = {match.lower() for match in _WORD.findall(line)}
        if found:
            return _LABEL[found.pop()] if len(found) == 1 else None
    return None


def judge_criterion(
    judge: Judge,
    name: str,
    known: Sequence[Pair],
    judgements: Sequence[Judgement],
    pairs: Sequence[Pair],
    criterion: str,
) -> JudgedCriterion:
    """Hold the judge to people on the pairs they judged (``known``); where accepted, ask it about ``pairs``.

    Until then nothing else is asked of it, as its answers cost money and mean nothing; nor anything at all
    where too few pairs were judged by two people to tell.
    """
    once = [each for each in judgements if criterion in each.choices and not each.again]
    people = by_item(
        [each.outcome(criterion) for each in once],
        [each.item for each in once],
        [each.reviewer for each in once],
    )
    shared = [pair for pair in known if not pair.same and len(people.get(pair.item, [])) >= 2]
    if len(shared) < FEWEST_JUDGED:
        why = (
            f"{len(shared)} pairs of different answers were judged by two people; {FEWEST_JUDGED} are needed"
        )
        agreement, unread = JudgeAgreement("unmeasured", why, len(shared), None, None, None, None), 0
    else:
        answers, unread = ask_judge(judge, shared, criterion)
        agreement = judge_agreement(people, answers)
    accepted = _accepted(agreement, name, criterion, unread)
    if agreement.answer != "passed":
        return JudgedCriterion(criterion, accepted, agreement, _not_used(name, criterion, accepted), unread)
    # Equal answers are a tie that nobody need look at.
    different = [pair for pair in pairs if not pair.same]
    said, more_unread = ask_judge(judge, different, criterion)
    outcomes = {pair.item: sum(said[pair.item]) / 2 if not pair.same else 0.5 for pair in pairs}
    rate = win_rate(list(outcomes.values()), list(outcomes), [name] * len(outcomes))
    return JudgedCriterion(
        criterion, accepted, agreement, _win_check(name, criterion, rate), unread + more_unread
    )


def ask_judge(
    judge: Judge, pairs: Sequence[Pair], criterion: str
) -> tuple[dict[str, tuple[float, float]], int]:
    """For each item the outcome with the tuned answer shown first, and with it shown second; and how many
    answers of the judge could not be read, which count as ties."""
    asked = [
        Comparison(pair.text, *(shown if tuned_first else shown[::-1]), pair.source)
        for pair in pairs
        for shown in [(pair.tuned, pair.opponent)]
        for tuned_first in (True, False)
    ]
    said = list(judge(asked, criterion)) if asked else []
    outcomes = [{"first": 1.0, "second": 0.0}.get(choice or "tie", 0.5) for choice in said]
    by_pair = {
        pair.item: (outcomes[2 * place], 1 - outcomes[2 * place + 1]) for place, pair in enumerate(pairs)
    }
    return by_pair, sum(choice is None for choice in said)


def _accepted(agreement: JudgeAgreement, name: str, criterion: str, unread: int) -> Check:
    difference, position = agreement.difference, agreement.position
    numbers = ""
    if difference is not None and position is not None:
        numbers = (
            f"; agreement with people minus theirs {_points(difference)}, "
            f"first over second position {_points(position)}"
        )
    if unread:
        numbers += f"; {unread} answers could not be read and count as ties"
    return Check(
        name=f"judge {name}: {criterion}",
        question="Does the judge ignore positions, and agree with people as they agree with each other?",
        answer=agreement.answer,
        evidence=f"{agreement.reason}{numbers}; {agreement.items} items",
        blocking=False,
        estimate=difference,
    )


def _not_used(name: str, criterion: str, accepted: Check) -> Check:
    question = f"Does {name} prefer the tuned model's answers for {criterion}?"
    why = f"the judge is not used: {accepted.evidence}"
    return Check(f"preferred by {name}: {criterion}", question, "unmeasured", why, blocking=False)


def _win_check(name: str, criterion: str, rate: Estimate) -> Check:
    shown = f"{rate.value:.1%} [{100 * rate.low:.1f}, {100 * rate.high:.1f}], {rate.rows} items"
    answer: Answer = "passed" if rate.low > 0.5 else "failed" if rate.high < 0.5 else "unmeasured"
    question = f"Does {name} prefer the tuned model's answers for {criterion}?"
    return Check(f"preferred by {name}: {criterion}", question, answer, shown, blocking=False, estimate=rate)


def _points(share: Estimate) -> str:
    value, low, high = (signed(100 * number) for number in (share.value, share.low, share.high))
    return f"{value} [{low}, {high}] points"
