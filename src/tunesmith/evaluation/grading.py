"""Blind review of single answers: each is graded alone, 1 to 5, by people who are not told whose it is."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace

from tunesmith.evaluation.review import Choice, Judgement, Pair, key_pressed, read_line, summarise_review
from tunesmith.files import content_hash
from tunesmith.people_records import ReviewResult
from tunesmith.records import Estimate
from tunesmith.stats.review import win_rate

GRADES = ("1", "2", "3", "4", "5")
_SPAN = len(GRADES) - 1


@dataclass(frozen=True)
class Single:
    """One answer as one reviewer gets to see it: the tuned candidate's, or the opponent's."""

    pair: Pair
    tuned: bool
    again: bool

    @property
    def answer(self) -> str:
        return self.pair.tuned if self.tuned else self.pair.opponent


@dataclass(frozen=True)
class Grade:
    """What one reviewer said about one answer: 1 (bad) to 5 (good), by criterion."""

    item: str
    reviewer: str
    tuned: bool
    again: bool
    grades: dict[str, int]
    comment: str


def singles(pairs: Sequence[Pair], reviewer: str, repeats: int) -> list[Single]:
    """What this reviewer sees, in this order: both answers of each pair, then those of up to ``repeats``
    early pairs again.

    One answer of every pair comes in the first half and the other in the second, at random, so that the two
    are seldom near each other. Equal answers are not shown.
    """
    drawn = random.Random(content_hash(["single", reviewer, [asdict(pair) for pair in pairs]]))
    different = [pair for pair in pairs if not pair.same]
    drawn.shuffle(different)
    first = [Single(pair, drawn.random() < 0.5, again=False) for pair in different]
    second = [replace(one, tuned=not one.tuned) for one in first]
    drawn.shuffle(second)
    early = drawn.sample(first, min(repeats, len(first)))
    again = [Single(one.pair, tuned, again=True) for one in early for tuned in (True, False)]
    drawn.shuffle(again)
    return [*first, *second, *again]


def grade(
    shown: Sequence[Single],
    done: Sequence[Grade],
    criteria: Sequence[str],
    reviewer: str,
    ask: Callable[[str], str],
    say: Callable[[str], None],
    save: Callable[[Grade], None],
) -> int:
    """Ask for the grades of every answer that is not ``done``; as ``review`` does for pairs."""
    known = {(one.item, one.tuned, one.again) for one in done}
    waiting = [one for one in shown if (one.pair.item, one.tuned, one.again) not in known]
    say(f"{len(shown) - len(waiting)} of {len(shown)} graded. 1 (bad) to 5 (good); q: stop")
    for number, one in enumerate(waiting, start=1):
        say(f"\n[{number} of {len(waiting)}]\n{one.pair.text}\n\nanswer: {one.answer}\n")
        grades: dict[str, int] = {}
        for criterion in criteria:
            key = key_pressed(criterion, GRADES, ask, say)
            if key is None:
                return number - 1
            grades[criterion] = int(key)
        comment = read_line("comment (Enter for none): ", ask)
        if comment is None:
            return number - 1
        save(Grade(one.pair.item, reviewer, one.tuned, one.again, grades, comment.strip()))
    return len(waiting)


def judgements_of(grades: Sequence[Grade]) -> list[Judgement]:
    """Both grades of a reviewer for an item as one judgement: the higher is the preferred, equals are a tie.

    Items of which only one answer was graded so far are left out.
    """
    found: dict[tuple[str, str, bool], dict[bool, Grade]] = {}
    for one in grades:
        found.setdefault((one.item, one.reviewer, one.again), {})[one.tuned] = one
    judgements = []
    for (item, reviewer, again), both in found.items():
        if len(both) == 2:
            choices = {
                criterion: _choice(given, both[False].grades[criterion])
                for criterion, given in both[True].grades.items()
                if criterion in both[False].grades
            }
            comments = [both[tuned].comment for tuned in (True, False) if both[tuned].comment]
            judgements.append(Judgement(item, reviewer, True, again, choices, " / ".join(comments)))
    return judgements


def summarise_grades(
    pairs: Sequence[Pair],
    grades: Sequence[Grade],
    criteria: Sequence[str],
    tuned: str,
    opponent: str,
    blocking: bool = False,
) -> ReviewResult:
    """As ``summarise_review``, with how many grades the tuned candidate's answers are better on average."""
    result = summarise_review(
        pairs, judgements_of(grades), criteria, tuned, opponent, "single answers", blocking
    )
    return replace(
        result,
        criteria=tuple(
            replace(one, grade_gain=_grade_gain(pairs, grades, one.criterion)) for one in result.criteria
        ),
    )


def _grade_gain(pairs: Sequence[Pair], grades: Sequence[Grade], criterion: str) -> Estimate | None:
    """Equal answers differ by nothing, for every reviewer."""
    first = {
        (one.item, one.reviewer, one.tuned): one.grades[criterion]
        for one in grades
        if not one.again and criterion in one.grades
    }
    both = [
        (item, reviewer, given - first[item, reviewer, False])
        for (item, reviewer, tuned), given in first.items()
        if tuned and (item, reviewer, False) in first
    ]
    if not both:
        return None
    equal = [pair.item for pair in pairs if pair.same]
    both += [(item, reviewer, 0) for reviewer in sorted({who for _, who, _ in both}) for item in equal]
    if len({item for item, _, _ in both}) < 2:
        return None
    # A difference of −4 to 4 as an outcome of 0 to 1, whose interval is known, and back.
    rate = win_rate(
        [(gain / _SPAN + 1) / 2 for _, _, gain in both],
        [item for item, _, _ in both],
        [reviewer for _, reviewer, _ in both],
    )
    value, low, high = (_SPAN * (2 * each - 1) for each in (rate.value, rate.low, rate.high))
    return replace(rate, value=value, low=low, high=high)


def _choice(tuned: int, opponent: int) -> Choice:
    return "tie" if tuned == opponent else "first" if tuned > opponent else "second"
