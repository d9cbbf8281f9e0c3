"""Working time: people do items of the task, at random with or without the model's answer before them."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Protocol

import numpy as np

from tunesmith.evaluation.review import read_line
from tunesmith.files import content_hash
from tunesmith.people_records import Labour
from tunesmith.records import Row
from tunesmith.stats.labour import FEWEST_IN_CONDITION, FEWEST_TIMES, contrast, time_saved, usable

STOP, PAUSE = "/q", "/p"
Score = Callable[[Sequence[str], Sequence[str]], Sequence[float]]


class Edit(Protocol):
    """Asks for a line that begins as ``draft``; raises EOFError at the end of the input."""

    def __call__(self, prompt: str, draft: str) -> str: ...


@dataclass(frozen=True)
class TimedItem:
    """One input, and what the tuned model answers to it."""

    item: str
    source: str
    text: str
    answer: str


@dataclass(frozen=True)
class Turn:
    """One item as one reviewer gets to do it."""

    item: TimedItem
    with_answer: bool


@dataclass(frozen=True)
class TimedAnswer:
    """What one reviewer answered in the end, and after how long. ``paused``: the time means nothing."""

    item: str
    reviewer: str
    with_answer: bool
    answer: str
    seconds: float
    paused: bool


def draw_items(
    rows: Sequence[Row], tuned: Sequence[str], seen: Sequence[str], number: int, seed: int
) -> list[TimedItem]:
    """``number`` rows at random, of those that are not among ``seen`` ids as long as there are any.

    Who has judged both answers to an item no longer does it as if it were new. Raises ValueError when there
    is not one answer for each row.
    """
    items = [TimedItem(row.id, row.source, row.text, answer) for row, answer in zip(rows, tuned, strict=True)]
    drawn = random.Random(f"timed {seed}")
    drawn.shuffle(items)
    met = set(seen)
    return sorted(items, key=lambda item: item.item in met)[:number]


def turns(items: Sequence[TimedItem], reviewer: str) -> list[Turn]:
    """This reviewer's order and conditions, the same each time, another for each reviewer.

    Conditions are drawn in blocks of two, one of each, so that practice and fatigue fall on both alike and a
    review that is stopped early is balanced too.
    """
    drawn = random.Random(content_hash(["timed", reviewer, [asdict(item) for item in items]]))
    order = list(items)
    drawn.shuffle(order)
    conditions: list[bool] = []
    while len(conditions) < len(order):
        conditions += drawn.sample((True, False), 2)
    return [Turn(item, condition) for item, condition in zip(order, conditions, strict=False)]


def time_answers(
    waiting: Sequence[Turn],
    reviewer: str,
    read: Callable[[str], str | None],
    ask: Edit,
    say: Callable[[str], None],
    save: Callable[[TimedAnswer], None],
    clock: Callable[[], float],
) -> int:
    """Have every turn done, timed by ``clock`` (seconds) from its showing to its answer; returns how many.

    ``ask`` is given a prompt and a draft that the reviewer may change; an empty line takes the model's
    answer where it is shown. ``read`` turns what was typed into an answer, or None where it is none. ``/p``
    pauses, and the time of that item is not used; ``/q``, or the end of the input, stops.
    """
    for number, turn in enumerate(waiting, start=1):
        shown = f"\nmodel's answer: {turn.item.answer}" if turn.with_answer else ""
        say(f"\n[{number} of {len(waiting)}]\n{turn.item.text}\n{shown}")
        draft = turn.item.answer if turn.with_answer and "\n" not in turn.item.answer else ""
        started, paused, answer = clock(), False, None
        while answer is None:
            line = read_line("answer: ", partial(ask, draft=draft))
            if line is None or line.strip() == STOP:
                return number - 1
            text = line.strip()
            if text == PAUSE:
                paused = True
                if read_line("paused; Enter goes on ", partial(ask, draft="")) is None:
                    return number - 1
            elif not text and turn.with_answer:
                answer = turn.item.answer
            elif text:
                answer = read(text)
                if answer is None:
                    say("that is no label of this task")
        save(TimedAnswer(turn.item.item, reviewer, turn.with_answer, answer, clock() - started, paused))
    return len(waiting)


def labour(answers: Sequence[TimedAnswer], candidate: str, metric: str, score: Score) -> Labour:
    """What the model's answer saves, and what it does to people's answers.

    ``score`` gives each answer's score, 0 to 1 and larger when better, from item ids and answers.
    """
    timed = [one for one in answers if not one.paused]
    helped = [one.with_answer for one in timed]
    items, reviewers = [one.item for one in timed], [one.reviewer for one in timed]
    saved = time_saved([max(one.seconds, 1e-3) for one in timed], helped, items, reviewers) if timed else None
    better = None
    if saved is not None:
        conditions = np.array(helped)
        used = usable(conditions, reviewers)
        kept = [one for one, keep in zip(timed, used, strict=True) if keep]
        better = contrast(
            score([one.item for one in kept], [one.answer for one in kept]),
            conditions[used],
            [one.item for one in kept],
            [one.reviewer for one in kept],
            span=1.0,
        )
    return Labour(
        candidate=candidate,
        reviewers=tuple(sorted({one.reviewer for one in answers})),
        times_with=sum(helped),
        times_without=len(helped) - sum(helped),
        capped=saved.capped if saved else 0,
        paused=len(answers) - len(timed),
        without=saved.without if saved else None,
        saved=saved.saved if saved else None,
        ratio=saved.ratio if saved else None,
        score=better,
        metric=metric,
        unmeasured=None
        if saved
        else f"{sum(helped)} times with and {len(helped) - sum(helped)} without the model's answer; "
        f"{FEWEST_TIMES} of each are needed, {FEWEST_IN_CONDITION} by every reviewer",
    )
