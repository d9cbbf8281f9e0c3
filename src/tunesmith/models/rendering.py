"""From messages to tokens and a learn mask. The only such code: training, scoring and serving share it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tunesmith.errors import UserError
from tunesmith.models.loading import LoadedModel
from tunesmith.models.tokenizing import BaseTokenizer
from tunesmith.records import Message, Row

ROWS_LISTED = 20

# Rows are rendered by a loaded base, or by its tokenizer alone.
Renderer = LoadedModel | BaseTokenizer


@dataclass(frozen=True)
class Tokens:
    """A rendered row. ``learn[i]`` marks the tokens whose prediction is trained and scored.

    ``weight`` multiplies the row's loss in training, and nowhere else.
    """

    ids: tuple[int, ...]
    learn: tuple[bool, ...]
    weight: float = 1.0


def render_prompt(loaded: Renderer, messages: Sequence[Message]) -> list[int]:
    """The tokens of ``messages`` up to the point where the answer begins."""
    return loaded.chat.prompt(messages)


def render_answer(loaded: Renderer, answer: str) -> list[int]:
    """The tokens of an answer, the end token included; for a classification head the class's number alone.

    Raises UserError where the head has no such class.
    """
    if loaded.labels:
        if answer not in loaded.labels:
            raise UserError(
                f"{answer!r} is none of the {len(loaded.labels)} classes of {loaded.base.name}'s head",
                fix="train again on data with this label",
            )
        return [loaded.labels.index(answer)]
    return [*loaded.chat.answer(answer), loaded.end_token]


def render_row(loaded: Renderer, messages: Sequence[Message], answer: str) -> Tokens:
    """Prompt and answer in one sequence; exactly the answer and its end token are learned.

    An encoder is later given what is not learned: the answer is its decoder's, or its head's class.
    """
    prompt = render_prompt(loaded, messages)
    completion = render_answer(loaded, answer)
    return Tokens(ids=(*prompt, *completion), learn=(*[False] * len(prompt), *[True] * len(completion)))


def encode(loaded: Renderer, text: str) -> list[int]:
    """Token ids of ``text`` as ordinary characters: special tokens are neither added nor read from it."""
    return loaded.chat.plain_text(text)


def encode_all(loaded: Renderer, texts: Sequence[str]) -> list[list[int]]:
    """:func:`encode` of each of many texts, several times as fast."""
    return loaded.chat.plain_texts(texts)


def label_tokens(loaded: Renderer, labels: Sequence[str]) -> list[list[int]]:
    """The tokens of every label, without the end token.

    Raises UserError where a label has no tokens, or two labels have the same ones, so that the base
    could not tell them apart.
    """
    if loaded.labels:
        return [render_answer(loaded, label) for label in labels]
    label_of: dict[tuple[int, ...], str] = {}
    for label in labels:
        ids = tuple(loaded.chat.answer(label))
        if not ids:
            raise UserError(
                f"label {label!r} has no tokens: the tokenizer of {loaded.base.name} drops all of it",
                fix="rename the label in the data, or choose another base",
            )
        if loaded.end_token in ids:
            raise UserError(
                f"label {label!r} holds the text that ends an answer of {loaded.base.name}",
                fix="rename the label in the data",
            )
        if ids in label_of:
            raise UserError(
                f"labels {label_of[ids]!r} and {label!r} are the same tokens to {loaded.base.name}, which "
                "cannot tell them apart",
                fix="rename one of the two in the data, or choose another base",
            )
        label_of[ids] = label
    return [list(ids) for ids in label_of]


def instructed(instruction: str, row: Row) -> tuple[Message, ...]:
    """The row's messages under the task's instruction as the system message."""
    own = row.messages
    if own and own[0].role == "system":
        return (Message("system", f"{instruction}\n{own[0].content}"), *own[1:])
    return (Message("system", instruction), *own)


def check_lengths(loaded: Renderer, rows: Sequence[Row], lengths: Sequence[int], what: str) -> None:
    """Refuse rows longer than the base's context; nothing is ever cut silently.

    ``lengths`` are tokens per row with the answer. Raises UserError naming the rows and their number.
    """
    limit = loaded.context_tokens
    long = [(row.source, length) for row, length in zip(rows, lengths, strict=True) if length > limit]
    if long:
        listed = ", ".join(f"{source} ({length:,} tokens)" for source, length in long[:ROWS_LISTED])
        more = f" and {len(long) - ROWS_LISTED:,} more" if len(long) > ROWS_LISTED else ""
        raise UserError(
            f"{what}: {len(long):,} of {len(rows):,} rows do not fit {loaded.base.name}'s context of "
            f"{limit:,} tokens: {listed}{more}",
            fix="set data.max_words to leave long rows out (they are counted), shorten them, or choose a "
            "base with a longer context",
        )


def check_rendering(loaded: Renderer, tokens: Sequence[Tokens], rows: Sequence[Row]) -> None:
    """Refuse rows whose answer is not learned whole, and templates that write answers in another way.

    For one row of every target, prompt and answer must be the chat template's own rendering of the whole
    conversation up to the end token: whoever serves the model with that template then gives it the
    tokens it was trained on. Raises UserError naming the row.
    """
    for rendered, row in zip(tokens, rows, strict=True):
        if not any(rendered.learn):
            raise UserError(
                f"{row.source}: nothing in this row would be learned (its answer was cut away or is empty)",
                fix="give the row an answer, or leave it out",
            )
        if loaded.labels:
            continue  # a class has no end
        if rendered.ids[-1] != loaded.end_token or not rendered.learn[-1]:
            raise UserError(
                f"{row.source}: the end of the answer would not be learned, so the model would never stop",
                fix="keep the whole answer: set data.max_words so that rows fit the context",
            )
    if loaded.chat.own_template:
        for row in {row.target: row for row in reversed(rows)}.values():
            _check_against_template(loaded, row)


def _check_against_template(loaded: Renderer, row: Row) -> None:
    chat = loaded.chat
    if chat.control.search(row.target):
        return  # the template's text is then encoded in pieces: the same characters in other tokens
    messages = instructed("Answer.", row)
    ours = list(render_row(loaded, messages, row.target).ids)
    theirs = chat.conversation([*messages, Message("assistant", row.target)])
    if not chat.closes_answers:
        ours = ours[:-1]
    if theirs[: len(ours)] != ours:
        written = chat.tokenizer.decode(theirs[len(render_prompt(loaded, messages)) :])[:80]
        raise UserError(
            f"{row.source}: training and serving renderings differ: the chat template of {loaded.base.name} "
            f"does not write the answer {row.target!r} directly after its prompt (it writes {written!r})",
            fix="remove spaces and line breaks around the target, or choose a base with another template",
        )
