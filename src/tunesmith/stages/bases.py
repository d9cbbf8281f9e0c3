"""Other bases beside the task's own: where they are, whether they fit into memory, and their prompts."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tunesmith.errors import UserError
from tunesmith.models.catalog import Base
from tunesmith.models.size import count_parameters
from tunesmith.records import Row, Scorecard
from tunesmith.stages.label_prompts import label_prompt_cards
from tunesmith.stages.memory import available_mb
from tunesmith.stages.reasoning import reasoned_cards
from tunesmith.stages.session import Session
from tunesmith.stages.text_opponents import text_prompt_cards

if TYPE_CHECKING:  # torch takes seconds to import
    from tunesmith.data.questions import Questions
    from tunesmith.evaluation.judging import Judging
    from tunesmith.models.loading import LoadedModel

BYTES_PER_WEIGHT = {"bf16": 2, "fp32": 4}
# Keys, values and activations, beside the weights.
_MORE_THAN_WEIGHTS = 1.25


def other_bases(session: Session) -> tuple[Base, ...]:
    """The bases of ``opponents.bases``, fetched and converted on first use.

    Raises UserError where two, or one and the task's base, have the same name, or one cannot be found.
    """
    found = tuple(session.find_base(name) for name in session.task.opponents.bases)
    names = [base.name for base in (session.base(), *found)] if found else []
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(
            f"opponents.bases: two bases are called {twice}", "rename a folder or file, or leave one out"
        )
    return found


def memory_needed_mb(base: Base, precision: str) -> float:
    """About what the base takes in memory (MiB) while it answers."""
    weights = count_parameters(Path(base.folder)) * BYTES_PER_WEIGHT[precision]
    return weights * _MORE_THAN_WEIGHTS / 2**20


def check_memory(base: Base, precision: str) -> None:
    """UserError where the base does not fit into the memory that is free."""
    needed, free = memory_needed_mb(base, precision), available_mb()
    if free and needed > free:
        raise UserError(
            f"{base.name} needs about {needed / 1024:,.1f} GiB of memory in {precision}; "
            f"{free / 1024:,.1f} GiB are free",
            "free memory, leave this base out, name a smaller one, or reach it through opponents.endpoints",
        )


@contextmanager
def loaded_base(session: Session, base: Base, precision: str) -> Iterator[LoadedModel]:
    """Another base in memory within the block, and let go of afterwards. UserError where it does not fit."""
    check_memory(base, precision)
    session.say(f"loading {base.name}")
    yield session.load_again(precision, base)
    gc.collect()  # a model holds itself through its modules


def prompt_cards(
    session: Session,
    loaded: LoadedModel,
    judging: Judging,
    train: Sequence[Row],
    asked: Questions,
    rivals: Sequence[Scorecard] = (),
) -> list[Scorecard]:
    """A scorecard on validation for every prompt of the task; none where the model reads no prompts.

    A label prompt clearly behind one of ``rivals`` is scored no further either.
    """
    if loaded.family == "encoder":
        return []
    if session.task.kind == "classify":
        cards = label_prompt_cards(session, loaded, judging, train, asked, rivals)
    else:
        cards = text_prompt_cards(session, loaded, judging, train, asked)
    return cards + reasoned_cards(session, loaded, judging, asked, [*rivals, *cards])


def other_base_cards(
    session: Session, precision: str, judging: Judging, train: Sequence[Row], asked: Questions
) -> list[Scorecard]:
    """The same for every base of ``opponents.bases``, one after the other; their names say which base."""
    cards: list[Scorecard] = []
    for base in other_bases(session):
        with loaded_base(session, base, precision) as loaded:
            for card in prompt_cards(session, loaded, judging, train, asked):
                named = replace(card.candidate, name=f"{card.candidate.name} on {base.name}")
                cards.append(replace(card, candidate=named))
    return cards
