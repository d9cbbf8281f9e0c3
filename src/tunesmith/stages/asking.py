"""Asking a candidate for the guards: with a progress bar, alone and timed, on rows drawn fairly."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from tunesmith.guard_records import Latency
from tunesmith.progress import silent
from tunesmith.records import Candidate, Dataset, Plan, Row
from tunesmith.run_records import Training
from tunesmith.stages.answerers import answerer
from tunesmith.stages.session import Session

if TYPE_CHECKING:  # torch takes seconds to import
    from tunesmith.candidates.answers import Answers

Ask = Callable[[Sequence[Row]], "Answers"]


def asker(
    session: Session,
    dataset: Dataset,
    plan: Plan,
    training: Training,
    candidate: Candidate,
    labels: tuple[str, ...] | None = None,
    mass: float | None = None,
) -> Ask:
    """Asks a candidate, with a progress bar where there is more than one row."""
    answer = answerer(session, dataset, plan, training, candidate, labels, mass)

    def ask(rows: Sequence[Row]) -> Answers:
        if len(rows) == 1:
            return answer(rows, silent)
        with session.bar("guards", f"{candidate.name} on {len(rows):,} inputs") as report:
            return answer(rows, report)

    return ask


def latency(candidate: Candidate, ask: Ask, rows: Sequence[Row], warm: bool = False) -> Latency:
    """Each row asked alone, after one that warms up unless the candidate is ``warm``.

    An answer of an endpoint that was kept counts with the time and the price it had.
    """
    if not warm:
        ask([rows[0]])
    seconds, tokens, spend = [], [], []
    for row in rows:
        started = time.perf_counter()
        answers = ask([row])
        elapsed = time.perf_counter() - started
        seconds.append(elapsed if answers.seconds is None else answers.seconds)
        tokens.append(answers.tokens)
        spend.append(answers.spend)
    groups = tuple(row.group for row in rows)
    return Latency(candidate.name, groups, tuple(seconds), tuple(tokens), tuple(spend) if any(spend) else ())


def drawn(rows: Sequence[Row], count: int) -> list[Row]:
    """The first ``count`` rows by the hash of their content: a fair draw, the same in every run."""
    return sorted(rows, key=lambda row: row.id)[:count]
