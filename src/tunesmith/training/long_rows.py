"""Training rows above the limit of tokens: refused, left out or cut as the task says, never silently."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tunesmith.data.made import row_weight
from tunesmith.data.windowed import Cutting, in_windows
from tunesmith.errors import UserError
from tunesmith.models.rendering import ROWS_LISTED, Renderer, Tokens, instructed, render_row
from tunesmith.records import Message, Row
from tunesmith.run_records import LongRow
from tunesmith.task.train_settings import TrainSettings


@dataclass(frozen=True)
class TrainingRows:
    """The rows that are trained on, as they are trained on, and those that were too long."""

    rows: list[Row]
    tokens: list[Tokens]
    long: tuple[LongRow, ...]


def training_rows(
    loaded: Renderer,
    instruction: str,
    rows: Sequence[Row],
    settings: TrainSettings,
    cutting: Cutting | None = None,
) -> TrainingRows:
    """Render ``rows`` and treat those above ``settings.max_tokens`` as ``settings.long_rows`` says.

    With ``cutting`` each window of a long document is a row, and these are what is too long or not.
    A cut shortens the longest message of the prompt, never an answer: the chat template's frame, the
    instruction and all that is learned stay whole, and a row that is too long even so is dropped. Raises
    UserError where rows are too long and nothing was chosen, where no row is left, or where the limit is
    above the base's context.
    """
    limit = longest_row(loaded, settings)
    rows = in_windows(rows, cutting).rows
    kept: list[Row] = []
    tokens: list[Tokens] = []
    long: list[LongRow] = []
    for row in rows:
        rendered = _render(loaded, instruction, row)
        if len(rendered.ids) <= limit:
            kept.append(row)
            tokens.append(rendered)
            continue
        shorter = cut_row(loaded, instruction, row, settings)
        if shorter is not None:
            kept.append(shorter[0])
            tokens.append(shorter[1])
        left = len(shorter[1].ids) if shorter is not None else None
        long.append(LongRow(row.id, row.source, len(rendered.ids), left))
    if long and settings.long_rows == "error":
        raise _too_long(loaded, long, len(rows), limit)
    if rows and not kept:
        raise UserError(
            f"train.long_rows: all {len(rows):,} training rows have more than {limit:,} tokens: none is left",
            fix="raise train.max_tokens, shorten the rows, or choose a base with a longer context",
        )
    return TrainingRows(kept, tokens, tuple(long))


def longest_row(loaded: Renderer, settings: TrainSettings) -> int:
    """The tokens a training row may have. Raises UserError where that is above the base's context."""
    if settings.max_tokens is None:
        return loaded.context_tokens
    if settings.max_tokens > loaded.context_tokens:
        raise UserError(
            f"train.max_tokens: {settings.max_tokens:,} is above {loaded.base.name}'s context of "
            f"{loaded.context_tokens:,} tokens",
            fix=f"lower it to {loaded.context_tokens}, or leave it out",
        )
    return settings.max_tokens


def _render(loaded: Renderer, instruction: str, row: Row) -> Tokens:
    rendered = render_row(loaded, instructed(instruction, row), row.target)
    weight = row_weight(row)
    return rendered if weight == 1 else replace(rendered, weight=weight)


def cut_row(
    loaded: Renderer, instruction: str, row: Row, settings: TrainSettings
) -> tuple[Row, Tokens] | None:
    """A too long row with as much of its longest message as fits; None where it is not to be cut, or where
    not one character would fit.
    """
    if settings.long_rows not in ("truncate_left", "truncate_right"):
        return None
    limit, at_start = longest_row(loaded, settings), settings.long_rows == "truncate_left"
    prompts = [index for index, message in enumerate(row.messages) if message.role != "assistant"]
    if not prompts:
        return None
    longest = max(prompts, key=lambda index: len(row.messages[index].content))
    text = row.messages[longest].content
    best, low, high = None, 1, len(text) - 1
    while low <= high:
        count = (low + high) // 2
        part = text[len(text) - count :] if at_start else text[:count]
        messages = list(row.messages)
        messages[longest] = Message(row.messages[longest].role, part)
        shorter = replace(row, messages=tuple(messages))
        rendered = _render(loaded, instruction, shorter)
        if len(rendered.ids) <= limit:
            best, low = (shorter, rendered), count + 1
        else:
            high = count - 1
    return best


def _too_long(loaded: Renderer, long: Sequence[LongRow], rows: int, limit: int) -> UserError:
    listed = ", ".join(f"{row.source} ({row.tokens:,} tokens)" for row in long[:ROWS_LISTED])
    more = f" and {len(long) - ROWS_LISTED:,} more" if len(long) > ROWS_LISTED else ""
    what = f"{loaded.base.name}'s context" if limit == loaded.context_tokens else "train.max_tokens"
    return UserError(
        f"train rows: {len(long):,} of {rows:,} rows do not fit {what} of {limit:,} tokens: {listed}{more}",
        fix="set train.long_rows to drop, truncate_left or truncate_right (each such row is listed), set "
        "data.max_words to leave long rows out of every split, or choose a base with a longer context",
    )
