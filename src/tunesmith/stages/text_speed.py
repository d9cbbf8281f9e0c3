"""How long the kinds that write texts will take on this machine, from a few answers written and timed."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from tunesmith.records import Row
from tunesmith.stages.answering import writing_of
from tunesmith.stages.session import Session

if TYPE_CHECKING:
    from tunesmith.evaluation.judging import Judging
    from tunesmith.models.loading import LoadedModel

PROBED_ANSWERS = 32
PROBED_TOKENS = 12


def seconds_by_row(
    session: Session,
    loaded: LoadedModel,
    judging: Judging,
    train: Sequence[Row],
    rows: Sequence[Row],
    read_tokens_per_second: float,
) -> tuple[tuple[float, ...], float]:
    """Seconds for one row of each prompt, and of the tuned model, whose answers are as long as the targets.

    An untuned base is taken to write up to the limit. ``rows`` are of validation. Raises UserError where the
    limit is too short for any answer of the schema.
    """
    from tunesmith.candidates.forms import PromptForm, found_by_words, own_forms
    from tunesmith.candidates.texts import answer_by_tuned, prompt_lengths
    from tunesmith.engine.generation import check_answer_fits
    from tunesmith.models.rendering import render_answer

    some = rows[:: max(1, len(rows) // PROBED_ANSWERS)][:PROBED_ANSWERS]
    writing = writing_of(session, loaded, judging, train)
    check_answer_fits(writing.grammar, writing.max_new_tokens)
    started = time.perf_counter()
    # Held to no schema, which could not end so early.
    limit = min(PROBED_TOKENS, writing.max_new_tokens)
    short = replace(writing, max_new_tokens=limit, schema=None, labels=())
    written = answer_by_tuned(short, some).labels
    seconds = time.perf_counter() - started
    asked = prompt_lengths(writing, PromptForm(), some)
    generated = sum(min(short.max_new_tokens, len(render_answer(loaded, text))) for text in written)
    by_written = max(seconds - sum(asked) / read_tokens_per_second, 0.1 * seconds) / generated
    prompts = tuple(
        statistics.mean(prompt_lengths(writing, found_by_words(form), some)) / read_tokens_per_second
        + writing.max_new_tokens * by_written
        for form in own_forms(session.task.opponents)
    )
    target = statistics.mean(len(render_answer(loaded, row.target)) for row in some)
    return prompts, statistics.mean(asked) / read_tokens_per_second + target * by_written
