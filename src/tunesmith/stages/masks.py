"""Rows as they are trained on: every token rendered, and which of them are learned."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from tunesmith.data_records import MaskedRow, Part
from tunesmith.errors import UserError
from tunesmith.records import Dataset, Row
from tunesmith.stages.answering import cutting_of, judging_of
from tunesmith.stages.session import Session

if TYPE_CHECKING:
    from tunesmith.models.rendering import Renderer, Tokens


_VISIBLE = {code: 0x2400 + code for code in range(32) if chr(code) not in "\n\t"} | {127: 0x2421}
# What becomes of a training row that is too long and not cut, by whether train.long_rows is error.
_LONG = {True: "training will refuse it (train.long_rows)", False: "not trained on"}


def dataset_to_show(session: Session, version: str | None) -> Dataset:
    """The version that begins so, or the last one; where none is frozen yet, the data is frozen now."""
    from tunesmith.stages.data import make_dataset
    from tunesmith.stages.versions import find_version

    if version is None and not any(session.folder.datasets.glob("*/manifest.json")):
        return make_dataset(session)[0]
    return find_version(session.folder, version)


def visible(text: str) -> str:
    """``text`` with control characters as their pictures: they would steer a terminal, and break a page."""
    return text.translate(_VISIBLE)


def masked_rows(session: Session, rows: Sequence[Row], trained: bool) -> list[MaskedRow]:
    """Render ``rows`` as the model is given them. Only the base's tokenizer is read, not its weights.

    Rows that are ``trained`` on are cut where the task says so, and noted where they are too long.
    """
    from tunesmith.data.windowed import in_windows
    from tunesmith.evaluation.judging import learned_rows
    from tunesmith.models.rendering import instructed, render_row
    from tunesmith.models.tokenizing import add_tokens, load_tokenizer
    from tunesmith.training.long_rows import cut_row, longest_row

    instruction, settings = session.task.instruction, session.task.train
    renderer = add_tokens(load_tokenizer(session.base()), settings.add_tokens or ())
    if renderer.family == "encoder":
        raise UserError(
            f"base: {renderer.base.name} answers by a classification head, which learns classes, not tokens",
            fix="leave --mask out; every row of such a base teaches its label alone",
        )
    limit = longest_row(renderer, settings)
    learned = learned_rows(judging_of(session.task), rows)
    masked = []
    for row in in_windows(learned, cutting_of(session.task)).rows:
        tokens, note = render_row(renderer, instructed(instruction, row), row.target), ""
        if trained and len(tokens.ids) > limit:
            note = f"above the limit of {limit:,}: {_LONG[settings.long_rows == 'error']}"
            if cut := cut_row(renderer, instruction, row, settings):
                note, tokens = f"cut from {len(tokens.ids):,}", cut[1]
        masked.append(
            MaskedRow(row.source, len(tokens.ids), sum(tokens.learn), tuple(_parts(renderer, tokens)), note)
        )
    return masked


def _parts(renderer: Renderer, tokens: Tokens) -> list[Part]:
    parts: list[Part] = []
    done, written = 0, ""
    for learned, run in groupby(tokens.learn):
        done += len(list(run))
        # Decoded from the start: some tokenizers write a token's space only in its place.
        text = renderer.tokenizer.decode(
            tokens.ids[:done], skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
        parts.append(Part(text.removeprefix(written), learned))
        written = text
    return parts
