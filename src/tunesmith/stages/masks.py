"""Rows as they are trained on: every token rendered, and which of them are learned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from tunesmith.errors import UserError
from tunesmith.records import Dataset, Row
from tunesmith.stages.answering import cutting_of
from tunesmith.stages.session import Session

if TYPE_CHECKING:
    from tunesmith.models.rendering import Renderer, Tokens


@dataclass(frozen=True)
class Part:
    """Neighbouring tokens as text, all of them learned or none."""

    text: str
    learned: bool


@dataclass(frozen=True)
class MaskedRow:
    """One row as the model sees it, control tokens and all."""

    source: str
    tokens: int
    learned_tokens: int
    parts: tuple[Part, ...]


def dataset_to_show(session: Session, version: str | None) -> Dataset:
    """The version that begins so, or the last one; where none is frozen yet, the data is frozen now."""
    from tunesmith.stages.data import make_dataset
    from tunesmith.stages.versions import find_version

    if version is None and not any(session.folder.datasets.glob("*/manifest.json")):
        return make_dataset(session)[0]
    return find_version(session.folder, version)


def masked_rows(session: Session, rows: Sequence[Row]) -> list[MaskedRow]:
    """Render ``rows`` as training does. Only the base's tokenizer is read, not its weights."""
    from tunesmith.data.windowed import in_windows
    from tunesmith.models.rendering import instructed, render_row
    from tunesmith.models.tokenizing import add_tokens, load_tokenizer

    renderer = add_tokens(load_tokenizer(session.base()), session.task.train.add_tokens or ())
    if renderer.family == "encoder":
        raise UserError(
            f"base: {renderer.base.name} answers by a classification head, which learns classes, not tokens",
            fix="leave --mask out; every row of such a base teaches its label alone",
        )
    masked = []
    for row in in_windows(rows, cutting_of(session.task)).rows:
        tokens = render_row(renderer, instructed(session.task.instruction, row), row.target)
        masked.append(
            MaskedRow(row.source, len(tokens.ids), sum(tokens.learn), tuple(_parts(renderer, tokens)))
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
