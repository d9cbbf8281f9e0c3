"""From messages to tokens and a learn mask. The only such code: training, scoring and serving share it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import TemplateError

from tunesmith.errors import UserError
from tunesmith.models.loading import LoadedModel
from tunesmith.records import Message, Row

# For bases without a chat template of their own; the end token closes the answer.
PLAIN_TEMPLATE = (
    "{% for message in messages %}{{ message['content'] }}\n"
    "{% if message['role'] == 'user' %}Answer: {% endif %}{% endfor %}"
)


@dataclass(frozen=True)
class Tokens:
    """A rendered row. ``learn[i]`` marks the tokens whose prediction is trained and scored."""

    ids: tuple[int, ...]
    learn: tuple[bool, ...]


def render_prompt(loaded: LoadedModel, messages: Sequence[Message]) -> list[int]:
    """The tokens of ``messages`` up to the point where the answer begins."""
    return encode(loaded, _prompt_text(loaded.tokenizer, messages))


def render_answer(loaded: LoadedModel, answer: str) -> list[int]:
    """The tokens of an answer, the end token included."""
    return [*encode(loaded, answer), loaded.end_token]


def render_row(loaded: LoadedModel, messages: Sequence[Message], answer: str) -> Tokens:
    """Prompt and answer in one sequence; exactly the answer and its end token are learned."""
    prompt = render_prompt(loaded, messages)
    completion = render_answer(loaded, answer)
    return Tokens(ids=(*prompt, *completion), learn=(*[False] * len(prompt), *[True] * len(completion)))


def encode(loaded: LoadedModel, text: str) -> list[int]:
    """Token ids of ``text`` as it stands: special tokens written in it count, none are added."""
    ids: list[int] = loaded.tokenizer.encode(text, add_special_tokens=False)
    return ids


def instructed(instruction: str, row: Row) -> tuple[Message, ...]:
    """The row's messages under the task's instruction as the system message."""
    own = row.messages
    if own and own[0].role == "system":
        return (Message("system", f"{instruction}\n{own[0].content}"), *own[1:])
    return (Message("system", instruction), *own)


def check_lengths(loaded: LoadedModel, rows: Sequence[Row], lengths: Sequence[int], what: str) -> None:
    """Refuse rows longer than the base's context; nothing is ever cut silently.

    ``lengths`` are tokens per row with the answer. Raises UserError naming the rows and their number.
    """
    limit = loaded.context_tokens
    long = [(row.source, length) for row, length in zip(rows, lengths, strict=True) if length > limit]
    if long:
        listed = ", ".join(f"{source} ({length:,} tokens)" for source, length in long[:20])
        more = f" and {len(long) - 20:,} more" if len(long) > 20 else ""
        raise UserError(
            f"{what}: {len(long):,} of {len(rows):,} rows do not fit {loaded.base.name}'s context of "
            f"{limit:,} tokens: {listed}{more}",
            fix="set data.max_words to leave long rows out (they are counted), shorten them, or choose a base "
            "with a longer context",
        )


def check_rendering(loaded: LoadedModel, tokens: Sequence[Tokens], rows: Sequence[Row]) -> None:
    """Refuse a row that would train on nothing, or whose end of answer is not learned."""
    for rendered, row in zip(tokens, rows, strict=True):
        if not any(rendered.learn):
            raise UserError(
                f"{row.source}: nothing in this row would be learned (its answer was cut away or is empty)",
                fix="give the row an answer, or leave it out",
            )
        if rendered.ids[-1] != loaded.end_token or not rendered.learn[-1]:
            raise UserError(
                f"{row.source}: the end of the answer would not be learned, so the model would never stop",
                fix="keep the whole answer: set data.max_words so that rows fit the context",
            )


def _prompt_text(tokenizer: Any, messages: Sequence[Message]) -> str:
    turns = [{"role": message.role, "content": message.content} for message in messages]
    template = None if tokenizer.chat_template else PLAIN_TEMPLATE
    try:
        text: str = tokenizer.apply_chat_template(
            turns, chat_template=template, tokenize=False, add_generation_prompt=True
        )
    except TemplateError as error:
        if turns and turns[0]["role"] == "system":
            # Some templates (Gemma's) know no system turn: its text then opens the first user turn.
            merged = [Message("user", "\n\n".join(m.content for m in messages[:2])), *messages[2:]]
            return _prompt_text(tokenizer, merged)
        raise UserError(
            f"base: the chat template fails on this task's messages ({error})",
            fix="check the roles of the messages, or choose a base with another chat template",
        ) from error
    return text
