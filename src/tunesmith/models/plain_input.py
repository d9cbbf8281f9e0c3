"""How encoders are given a conversation: instruction and texts one a line, no chat template."""

from __future__ import annotations

import re
from typing import Any

from tunesmith.errors import UserError
from tunesmith.models.chat import MARKERS, ChatFormat

_LINES = (
    "{% for message in messages %}{{ message['content'] }}{% if not loop.last %}{{ '\\n' }}{% endif %}"
    "{% endfor %}"
)


def plain_input(tokenizer: Any, name: str) -> ChatFormat:
    """The input of an encoder: the messages' texts between the special tokens the tokenizer puts there.

    T5 reads ``text</s>``, BERT ``[CLS] text [SEP]``. An answer stands alone, in the decoder. Raises UserError
    where nothing could ever end an answer.
    """
    end_token = tokenizer.eos_token_id if tokenizer.eos_token_id is not None else tokenizer.sep_token_id
    if end_token is None:
        raise UserError(
            f"base: the tokenizer of {name} has no end token, so an answer could never stop",
            fix="set eos_token (of an encoder-only model: sep_token) in the model's tokenizer_config.json",
        )
    around: list[int] = tokenizer.encode("")
    opening, closing = around[:-1], around[-1:] or [end_token]
    spelled = sorted(
        (token.content for token in tokenizer.added_tokens_decoder.values() if not token.content.isspace()),
        key=len,
        reverse=True,
    )
    return ChatFormat(
        tokenizer=tokenizer,
        template=f"{_written(tokenizer, opening)}{_LINES}{_written(tokenizer, closing)}",
        own_template=False,
        system_turns=True,
        end_token=int(end_token),
        closes_answers=False,
        lead="",
        gap="",
        control=re.compile("|".join([f"[{MARKERS}]", *map(re.escape, spelled)])),
    )


def _written(tokenizer: Any, ids: list[int]) -> str:
    """Special tokens as a template writes them."""
    return "".join(f"{{{{ {token!r} }}}}" for token in tokenizer.convert_ids_to_tokens(ids))
