"""The chat template: from messages to tokens, without letting data write control tokens.

Texts of rows may hold ``<|im_end|>`` and the like. Transformers' ``sanitize_control_tokens`` encodes them
as the ordinary characters they are; only what the template itself writes becomes a control token.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tunesmith.errors import UserError
from tunesmith.records import Message

# For bases without a chat template of their own. Transformers trims newlines after block tags.
PLAIN_TEMPLATE = (
    "{% for message in messages %}{{ message['content'] + '\\n' }}"
    "{% if message['role'] == 'user' %}{{ 'Answer:\\n' }}{% else %}{{ '\\n' }}{% endif %}{% endfor %}"
)

# No template may write today's date, or a model would be served other prompts than it was trained on.
_NO_DATE = "{% macro strftime_now(format) %}1 January 2026{% endmacro %}"

# Private characters with which Transformers marks control tokens found in data; it drops them from the data.
MARKERS = "\U000f0000\U000f0001"

_SYSTEM, _QUESTION, _ANSWER = "system sentinel", "question sentinel", "answer sentinel"


@dataclass(frozen=True)
class ChatFormat:
    """How a base writes a conversation.

    ``own_template`` is False where the tokenizer has none and the plain one is used. ``system_turns`` is
    False where the template refuses or drops system messages. ``end_token`` closes an answer;
    ``closes_answers`` tells whether the template writes it itself. ``lead`` is what a prompt ends with after
    the last question, and ``gap`` what the template puts before an answer. ``control`` finds texts that look
    like control tokens; ``ordinary`` added tokens (train.add_tokens) do not.
    """

    tokenizer: Any
    template: str
    own_template: bool
    system_turns: bool
    end_token: int
    closes_answers: bool
    lead: str
    gap: str
    control: re.Pattern[str]
    ordinary: tuple[str, ...] = ()

    def prompt(self, messages: Sequence[Message]) -> list[int]:
        """The tokens of ``messages`` up to where the answer begins."""
        return self._tokens(messages, prompting=True)

    def conversation(self, messages: Sequence[Message]) -> list[int]:
        """The tokens of a whole conversation as the template writes it, with all that follows an answer."""
        return self._tokens(messages, prompting=False)

    def answer(self, text: str) -> list[int]:
        """The tokens of an answer as they stand after a prompt, the end token not included."""
        # Some tokenizers put a space before whatever begins a text; an answer never begins one.
        if not self.control.search(text):
            lead: list[int] = self.tokenizer.encode(self.lead, add_special_tokens=False)
            ids: list[int] = self.tokenizer.encode(f"{self.lead}{self.gap}{text}", add_special_tokens=False)
            if ids[: len(lead)] == lead:
                return ids[len(lead) :]
        return self.plain_text(f"{self.gap}{text}")

    def plain_text(self, text: str) -> list[int]:
        """The tokens of ``text`` as ordinary characters; no special token is added or read from it."""
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)
        return ids

    def plain_texts(self, texts: Sequence[str]) -> list[list[int]]:
        """:meth:`plain_text` of each, in one call of the tokenizer."""
        if not texts:
            return []
        ids: list[list[int]] = self.tokenizer(
            list(texts), add_special_tokens=False, split_special_tokens=True, return_attention_mask=False
        )["input_ids"]
        return ids

    def _tokens(self, messages: Sequence[Message], prompting: bool) -> list[int]:
        turns = messages if self.system_turns else _without_system_turn(messages)
        # Without control tokens in the data both ways are the same, and the plain one is far faster where
        # a tokenizer has thousands of added tokens.
        sanitize = any(self.control.search(message.content) for message in turns)
        try:
            ids: list[int] = _apply(
                self.tokenizer,
                self.template,
                turns,
                prompting,
                tokenize=True,
                return_dict=False,
                sanitize_control_tokens=sanitize,
            )
        except Exception as error:  # a template's own code can raise anything
            raise UserError(
                f"base: the chat template fails on this task's messages ({error or type(error).__name__})",
                fix="check the roles and texts of the messages, or choose a base with another chat template",
            ) from error
        return ids


def chat_format(tokenizer: Any, name: str, ordinary: Sequence[str] = ()) -> ChatFormat:
    """Learn from ``tokenizer`` how conversations are written.

    Its ``ordinary`` added tokens are text that rows may hold, and control nothing.
    Raises UserError where nothing could ever end an answer.
    """
    own_template = bool(tokenizer.chat_template)
    if own_template:
        template = tokenizer.get_chat_template()
        template = (_NO_DATE if "strftime_now" in template else "") + template
    else:
        begins = tokenizer.encode("")[:1] == [tokenizer.bos_token_id]
        template = ("{{ bos_token }}" if begins else "") + PLAIN_TEMPLATE
    added = {token.content: number for number, token in tokenizer.added_tokens_decoder.items()}
    spelled = sorted(
        (content for content in added if not content.isspace() and content not in ordinary),
        key=len,
        reverse=True,
    )
    question = Message("user", _QUESTION)
    prompt = _text(tokenizer, template, [question], prompting=True)
    answered, _, closing = _text(tokenizer, template, [question, Message("assistant", _ANSWER)]).rpartition(
        _ANSWER
    )
    closer = next((content for content in spelled if closing.startswith(content)), None)
    end_token = tokenizer.eos_token_id if closer is None else added[closer]
    if end_token is None:
        raise UserError(
            f"base: the tokenizer of {name} has no end token, so an answer could never stop",
            fix="set eos_token in the model's tokenizer_config.json",
        )
    return ChatFormat(
        tokenizer=tokenizer,
        template=template,
        own_template=own_template,
        system_turns=_SYSTEM in _text(tokenizer, template, [Message("system", _SYSTEM), question]),
        end_token=int(end_token),
        closes_answers=closer is not None,
        lead=prompt.rpartition(_QUESTION)[2],
        gap=answered.removeprefix(prompt) if answered.startswith(prompt) else "",
        control=re.compile("|".join([f"[{MARKERS}]", *map(re.escape, spelled)])),
        ordinary=tuple(ordinary),
    )


def _without_system_turn(messages: Sequence[Message]) -> list[Message]:
    """The system message's text at the head of the first user turn, where a template knows no other place."""
    if not messages or messages[0].role != "system":
        return list(messages)
    if len(messages) > 1 and messages[1].role == "user":
        merged = Message("user", f"{messages[0].content}\n\n{messages[1].content}")
        return [merged, *messages[2:]]
    return [Message("user", messages[0].content), *messages[1:]]


def _text(tokenizer: Any, template: str, messages: Sequence[Message], prompting: bool = False) -> str:
    """The template's text, empty where it refuses the messages."""
    try:
        text: str = _apply(tokenizer, template, messages, prompting, tokenize=False)
    except Exception:  # a template's own code can raise anything
        return ""
    return text


def _apply(
    tokenizer: Any, template: str, messages: Sequence[Message], prompting: bool, **options: Any
) -> Any:
    return tokenizer.apply_chat_template(
        [{"role": message.role, "content": message.content} for message in messages],
        chat_template=template,
        add_generation_prompt=prompting,
        enable_thinking=False,  # read by some templates (Qwen 3, SmolLM 3): the answer and nothing before it
        **options,
    )
