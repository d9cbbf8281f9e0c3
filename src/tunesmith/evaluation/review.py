"""Blind review by people: pairs of answers in random order, judged one by one, and what came of it.

Reading and writing is passed in, so the same functions stand behind the terminal and behind a page.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from tunesmith.errors import UserError
from tunesmith.files import canonical_json, content_hash, record_parser, write_text
from tunesmith.people_records import CriterionResult, Drift, ReviewResult
from tunesmith.records import Answer, Check, Estimate, Row
from tunesmith.stats.agreement import krippendorff_alpha
from tunesmith.stats.paired import FEWEST_GROUPS
from tunesmith.stats.review import by_item, drift, win_rate

Choice = Literal["first", "second", "tie"]
RecordType = TypeVar("RecordType")
KEYS: dict[str, Choice] = {"1": "first", "2": "second", "t": "tie"}


@dataclass(frozen=True)
class Pair:
    """Two answers to one input. People are never told which is which."""

    item: str
    source: str
    text: str
    tuned: str
    opponent: str

    @property
    def same(self) -> bool:
        """Equal answers are a tie that nobody need look at."""
        return self.tuned.strip() == self.opponent.strip()


@dataclass(frozen=True)
class Showing:
    """One pair as one reviewer gets to see it. ``again``: shown before, with the positions the other way."""

    pair: Pair
    tuned_first: bool
    again: bool

    @property
    def answers(self) -> tuple[str, str]:
        shown = (self.pair.tuned, self.pair.opponent)
        return shown if self.tuned_first else shown[::-1]


@dataclass(frozen=True)
class Judgement:
    """What one reviewer said about one showing, by criterion."""

    item: str
    reviewer: str
    tuned_first: bool
    again: bool
    choices: dict[str, Choice]
    comment: str

    def outcome(self, criterion: str) -> float:
        """1 when the tuned answer was preferred, 0 when the opponent's was, 0.5 for a tie."""
        choice = self.choices[criterion]
        return 0.5 if choice == "tie" else float((choice == "first") == self.tuned_first)


def draw_pairs(
    rows: Sequence[Row], tuned: Sequence[str], opponent: Sequence[str], items: int, seed: int
) -> list[Pair]:
    """``items`` rows at random, equal answers included: only so is a win rate one over all rows.

    Raises ValueError when there is not one answer of each candidate for each row.
    """
    pairs = [
        Pair(row.id, row.source, row.text, own, other)
        for row, own, other in zip(rows, tuned, opponent, strict=True)
    ]
    return random.Random(seed).sample(pairs, min(items, len(pairs)))


def showings(pairs: Sequence[Pair], reviewer: str, repeats: int) -> list[Showing]:
    """What this reviewer sees, in this order: each pair once, then up to ``repeats`` of the early ones again.

    Order and positions are drawn from the reviewer's name and the pairs: the same each time, another for
    each reviewer. Equal answers are not shown.
    """
    drawn = random.Random(content_hash([reviewer, [asdict(pair) for pair in pairs]]))
    different = [pair for pair in pairs if not pair.same]
    drawn.shuffle(different)
    once = [Showing(pair, drawn.random() < 0.5, again=False) for pair in different]
    # From the first half only, so that time passes before an item comes back.
    early = once[: (len(once) + 1) // 2]
    again = [Showing(shown.pair, not shown.tuned_first, again=True) for shown in early]
    return [*once, *drawn.sample(again, min(repeats, len(again)))]


def review(
    shown: Sequence[Showing],
    done: Sequence[Judgement],
    criteria: Sequence[str],
    reviewer: str,
    ask: Callable[[str], str],
    say: Callable[[str], None],
    save: Callable[[Judgement], None],
) -> int:
    """Ask about every showing that is not ``done``; each judgement is saved before the next question.

    Returns how many were judged now. ``q``, or the end of the input, stops; KeyboardInterrupt passes through,
    and loses only the item that is open.
    """
    judged = {(judgement.item, judgement.again) for judgement in done}
    waiting = [showing for showing in shown if (showing.pair.item, showing.again) not in judged]
    say(f"{len(shown) - len(waiting)} of {len(shown)} judged. 1 or 2: that answer is better; t: tie; q: stop")
    for number, showing in enumerate(waiting, start=1):
        first, second = showing.answers
        say(f"\n[{number} of {len(waiting)}]\n{showing.pair.text}\n\n1: {first}\n2: {second}\n")
        choices: dict[str, Choice] = {}
        for criterion in criteria:
            key = key_pressed(criterion, tuple(KEYS), ask, say)
            if key is None:
                return number - 1
            choices[criterion] = KEYS[key]
        comment = read_line("comment (Enter for none): ", ask)
        if comment is None:
            return number - 1
        save(
            Judgement(
                showing.pair.item, reviewer, showing.tuned_first, showing.again, choices, comment.strip()
            )
        )
    return len(waiting)


def summarise_review(
    pairs: Sequence[Pair],
    judgements: Sequence[Judgement],
    criteria: Sequence[str],
    tuned: str,
    opponent: str,
    form: str = "pairs",
    blocking: bool = False,
) -> ReviewResult:
    """Win rates by criterion, with intervals over items and reviewers, how far reviewers agree, and drift.

    Every reviewer who judged at all is taken to call equal answers a tie; those say nothing about agreement.
    A repeated item counts once, by its first judgement.
    """
    reviewers = tuple(sorted({judgement.reviewer for judgement in judgements}))
    equal = [pair.item for pair in pairs if pair.same]
    once = [judgement for judgement in judgements if not judgement.again]
    results = []
    for criterion in criteria:
        known = [judgement for judgement in once if criterion in judgement.choices]
        ties = [(item, reviewer) for reviewer in reviewers for item in equal]
        outcomes = [*(judgement.outcome(criterion) for judgement in known), *(0.5 for _ in ties)]
        items = [*(judgement.item for judgement in known), *(item for item, _ in ties)]
        names = [*(judgement.reviewer for judgement in known), *(reviewer for _, reviewer in ties)]
        rate = win_rate(outcomes, items, names) if known and len(set(items)) >= 2 else None
        agreement, unknown = _agreement(known, criterion)
        drifts = tuple(_drift(judgements, reviewer, criterion) for reviewer in reviewers)
        check = human_check(criterion, rate, agreement, unknown, blocking)
        results.append(CriterionResult(criterion, rate, agreement, unknown, None, drifts, check))
    comments = tuple(judgement.comment for judgement in judgements if judgement.comment)
    return ReviewResult(
        tuned,
        opponent,
        form,
        len(pairs),
        len(equal),
        reviewers,
        len(judgements),
        tuple(results),
        comments,
    )


UNANIMOUS = "all said the same"


def _agreement(known: Sequence[Judgement], criterion: str) -> tuple[Estimate | None, str | None]:
    """Krippendorff's alpha of win, loss and tie by item, or why there is none."""
    outcomes = by_item(
        [judgement.outcome(criterion) for judgement in known],
        [judgement.item for judgement in known],
        [judgement.reviewer for judgement in known],
    )
    shared = [[str(outcome) for outcome in given] for given in outcomes.values() if len(given) > 1]
    if len(shared) < 2:
        return None, "fewer than two items were judged by two people"
    alpha = krippendorff_alpha(shared)
    return (alpha, None) if alpha is not None else (None, UNANIMOUS)


def human_check(
    criterion: str, rate: Estimate | None, agreement: Estimate | None, unknown: str | None, blocking: bool
) -> Check:
    """Do people prefer the tuned candidate's answers?

    Passed when the whole interval of the win rate lies above one half, failed when it lies below.
    Unmeasured between, with fewer than 50 items, with one reviewer, and where reviewers do not surely agree
    beyond chance: what they say is then no property of the answers.
    """

    def found(answer: Answer, reason: str) -> Check:
        evidence = "nobody has judged" if rate is None else _in_words(rate, agreement)
        return Check(
            f"people: {criterion}",
            f"Do people prefer the tuned model's answers for {criterion}?",
            answer,
            f"{evidence}; {reason}" if reason else evidence,
            blocking,
            rate,
        )

    if rate is None:
        return found("unmeasured", "")
    if rate.groups < FEWEST_GROUPS:
        return found("unmeasured", f"{rate.groups} items, and {FEWEST_GROUPS} are needed")
    if agreement is None and unknown != UNANIMOUS:
        return found("unmeasured", f"agreement is not known: {unknown}")
    if agreement is not None and agreement.low <= 0:
        return found("unmeasured", "reviewers do not surely agree beyond chance")
    if rate.low > 0.5:
        return found("passed", "")
    return found("failed", "") if rate.high < 0.5 else found("unmeasured", "either may be better")


def _in_words(rate: Estimate, agreement: Estimate | None) -> str:
    told = (
        f"preferred in {rate.value:.1%} [{100 * rate.low:.1f}, {100 * rate.high:.1f}] of "
        f"{rate.rows} judgements of {rate.groups} items"
    )
    if agreement is None:
        return told
    return f"{told}; alpha {agreement.value:.2f} [{agreement.low:.2f}, {agreement.high:.2f}]"


def write_records(path: Path, records: Sequence[Any]) -> None:
    """One JSON line a record, atomically."""
    write_text(path, "".join(canonical_json(record) + "\n" for record in records))


def append_record(path: Path, record: Any) -> None:
    """One JSON line at the end, on disk when this returns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as stream:
        stream.write(canonical_json(record) + "\n")
        stream.flush()
        os.fsync(stream.fileno())


def read_records(path: Path, record_type: type[RecordType]) -> list[RecordType]:
    """All whole lines; none when there is no file. A last line without its end (a crash) is cut off.

    Raises UserError naming the line that is no such record.
    """
    if not path.is_file():
        return []
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if whole != content:
        with path.open("rb+") as stream:
            stream.truncate(len(whole))
    return [_parsed(path, number, line, record_type) for number, line in _lines(path)]


def _lines(path: Path) -> list[tuple[int, str]]:
    texts = path.read_text(encoding="utf-8", errors="replace").split("\n")
    return [(number, text) for number, text in enumerate(texts, start=1) if text]


def _parsed(path: Path, number: int, line: str, record_type: type[RecordType]) -> RecordType:
    try:
        return record_parser(record_type).validate_python(json.loads(line))
    except ValueError as error:
        raise UserError(
            f"{path}:{number}: not a {record_type.__name__.lower()}", "restore the line, or delete it"
        ) from error


def _drift(judgements: Sequence[Judgement], reviewer: str, criterion: str) -> Drift:
    own = [each for each in judgements if each.reviewer == reviewer and criterion in each.choices]
    first = {each.item: each.outcome(criterion) for each in own if not each.again}
    later = {each.item: each.outcome(criterion) for each in own if each.again and each.item in first}
    return drift(reviewer, [first[item] for item in later], list(later.values()))


def key_pressed(
    criterion: str, keys: Sequence[str], ask: Callable[[str], str], say: Callable[[str], None]
) -> str | None:
    """One of ``keys``, asked for until it comes; None for ``q`` and at the end of the input."""
    known = [*keys, "q"]
    while (line := read_line(f"{criterion} [{'/'.join(known)}]: ", ask)) is not None:
        key = line.strip().lower()
        if key in known:
            return None if key == "q" else key
        say(f"please type {', '.join(known[:-1])} or q")
    return None


def read_line(prompt: str, ask: Callable[[str], str]) -> str | None:
    """What was typed; None at the end of the input."""
    try:
        return ask(prompt)
    except EOFError:
        return None
