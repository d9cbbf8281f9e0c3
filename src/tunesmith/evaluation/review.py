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
from typing import Literal, TypeVar

from tunesmith.errors import UserError
from tunesmith.files import canonical_json, content_hash, write_text
from tunesmith.records import Estimate, Row
from tunesmith.stats.review import Drift, drift, win_rate

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


@dataclass(frozen=True)
class CriterionResult:
    """One criterion over all reviewers; ``win_rate`` counts ties, and equal answers, as one half."""

    criterion: str
    win_rate: Estimate | None
    drifts: tuple[Drift, ...]


@dataclass(frozen=True)
class ReviewResult:
    """All that people said so far. ``equal_answers``: pairs that were ties without anybody looking."""

    tuned: str
    opponent: str
    pairs: int
    equal_answers: int
    reviewers: tuple[str, ...]
    judgements: int
    criteria: tuple[CriterionResult, ...]
    comments: tuple[str, ...]


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
            choice = _choice(criterion, ask, say)
            if choice is None:
                return number - 1
            choices[criterion] = choice
        comment = _line("comment (Enter for none): ", ask)
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
) -> ReviewResult:
    """Win rates by criterion, with intervals over items and reviewers, and each reviewer's drift.

    Every reviewer who judged at all is taken to call equal answers a tie. A repeated item counts once, by
    its first judgement.
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
        rate = win_rate(outcomes, items, names) if len(set(items)) >= 2 else None
        drifts = tuple(_drift(judgements, reviewer, criterion) for reviewer in reviewers)
        results.append(CriterionResult(criterion, rate, drifts))
    comments = tuple(judgement.comment for judgement in judgements if judgement.comment)
    return ReviewResult(
        tuned, opponent, len(pairs), len(equal), reviewers, len(judgements), tuple(results), comments
    )


def write_pairs(path: Path, pairs: Sequence[Pair]) -> None:
    """One JSON line a pair, atomically."""
    write_text(path, "".join(canonical_json(pair) + "\n" for pair in pairs))


def read_pairs(path: Path) -> list[Pair]:
    """Raises UserError naming the line that is not a pair."""
    return [_parsed(path, number, line, Pair) for number, line in _lines(path)]


def append_judgement(path: Path, judgement: Judgement) -> None:
    """One JSON line at the end, on disk when this returns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as stream:
        stream.write(canonical_json(judgement) + "\n")
        stream.flush()
        os.fsync(stream.fileno())


def read_judgements(path: Path) -> list[Judgement]:
    """All whole lines; none when there is no file. A last line without its end (a crash) is cut off.

    Raises UserError naming the line that is not a judgement.
    """
    if not path.is_file():
        return []
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if whole != content:
        with path.open("rb+") as stream:
            stream.truncate(len(whole))
    return [_parsed(path, number, line, Judgement) for number, line in _lines(path)]


def _lines(path: Path) -> list[tuple[int, str]]:
    texts = path.read_text(encoding="utf-8", errors="replace").split("\n")
    return [(number, text) for number, text in enumerate(texts, start=1) if text]


def _parsed(path: Path, number: int, line: str, record_type: type[RecordType]) -> RecordType:
    from pydantic import TypeAdapter

    try:
        return TypeAdapter(record_type).validate_python(json.loads(line))
    except ValueError as error:
        raise UserError(
            f"{path}:{number}: not a {record_type.__name__.lower()}", "restore the line, or delete it"
        ) from error


def _drift(judgements: Sequence[Judgement], reviewer: str, criterion: str) -> Drift:
    own = [each for each in judgements if each.reviewer == reviewer and criterion in each.choices]
    first = {each.item: each.outcome(criterion) for each in own if not each.again}
    later = {each.item: each.outcome(criterion) for each in own if each.again and each.item in first}
    return drift(reviewer, [first[item] for item in later], list(later.values()))


def _choice(criterion: str, ask: Callable[[str], str], say: Callable[[str], None]) -> Choice | None:
    while (line := _line(f"{criterion} [1/2/t/q]: ", ask)) is not None:
        key = line.strip().lower()
        if key in KEYS:
            return KEYS[key]
        if key == "q":
            return None
        say("please type 1, 2, t or q")
    return None


def _line(prompt: str, ask: Callable[[str], str]) -> str | None:
    try:
        return ask(prompt)
    except EOFError:
        return None
