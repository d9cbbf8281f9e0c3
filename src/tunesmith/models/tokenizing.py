"""A base's tokenizer and chat template without its weights: enough to render rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from transformers import AddedToken, AutoConfig, AutoTokenizer

from tunesmith.errors import UserError
from tunesmith.models.adapters import read_new_tokens
from tunesmith.models.catalog import Base
from tunesmith.models.chat import ChatFormat, chat_format
from tunesmith.models.families import Family, family_of
from tunesmith.models.loading import LoadedModel, first_line
from tunesmith.models.plain_input import plain_input


@dataclass(frozen=True)
class BaseTokenizer:
    """What renders rows for a base, named as in LoadedModel."""

    base: Base
    tokenizer: Any
    chat: ChatFormat
    end_token: int
    pad_token: int
    context_tokens: int
    family: Family = "decoder"
    labels: tuple[str, ...] = ()


Growing = TypeVar("Growing", BaseTokenizer, LoadedModel)


def base_family(base: Base) -> Family:
    """The family of ``base`` by its config.json. Raises UserError where it cannot be read."""
    try:
        config = AutoConfig.from_pretrained(base.folder, trust_remote_code=False, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            f"base: the config of {base.name} cannot be read from {base.folder} ({first_line(error)})",
            fix="put the model's own config.json in that folder",
        ) from error
    return family_of(config)


def load_tokenizer(base: Base) -> BaseTokenizer:
    """Read the tokenizer of ``base``, and from its config the longest row it takes.

    Raises UserError where files are missing or damaged, or nothing could ever end an answer.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(base.folder, trust_remote_code=False, local_files_only=True)
        config: Any = AutoConfig.from_pretrained(base.folder, trust_remote_code=False, local_files_only=True)
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"base: the tokenizer of {base.name} cannot be loaded from {base.folder} ({first})",
            fix="put the model's own tokenizer files and its config.json in that folder",
        ) from error
    family = family_of(config)
    if family == "decoder":
        chat = chat_format(tokenizer, base.name, read_new_tokens(Path(base.folder))[0])
    else:
        chat = plain_input(tokenizer, base.name)
    pad_token = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else chat.end_token
    context = getattr(config.get_text_config(), "max_position_embeddings", None)
    return BaseTokenizer(
        base, tokenizer, chat, chat.end_token, pad_token, int(context or tokenizer.model_max_length), family
    )


def add_tokens(renderer: Growing, tokens: Sequence[str]) -> Growing:
    """``renderer`` with ``tokens`` in its vocabulary, after all others; the tokenizer is changed in place.

    They are read in rows like other text, never as control tokens. Raises UserError where one is known.
    """
    if not tokens:
        return renderer
    tokenizer = renderer.tokenizer
    vocabulary = tokenizer.get_vocab()
    if known := [token for token in tokens if token in vocabulary]:
        raise UserError(
            f"train.add_tokens: {known[0]!r} is a token of {renderer.base.name} already",
            fix="leave it out of train.add_tokens",
        )
    tokenizer.add_tokens([AddedToken(token, normalized=False, special=False) for token in tokens])
    ordinary = (*renderer.chat.ordinary, *tokens)
    return replace(renderer, chat=chat_format(tokenizer, renderer.base.name, ordinary))
