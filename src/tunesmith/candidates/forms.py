"""What a prompt is made of, for every model alike: the request, examples, passages, a template, the row."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from tunesmith.models.rendering import instructed
from tunesmith.records import Message, Row, Settings
from tunesmith.task.kinds import REASONED_KINDS, Kind
from tunesmith.task.opponent_settings import (
    PLACEHOLDERS,
    EndpointSettings,
    ExampleChoice,
    FoundBy,
    OpponentSettings,
)

REASONING_REQUEST = (
    "Think step by step first. Then write your answer alone on the last line, after the word Answer and a "
    "colon."
)


@dataclass(frozen=True)
class PromptForm:
    """One way of prompting: so many training rows as examples, so many passages, a template of the task.

    Without ``template`` the instruction is the system message. ``reasoning``: the model first thinks step by
    step (chain of thought, Wei et al. 2022, arXiv 2201.11903).
    """

    examples: int = 0
    choice: ExampleChoice = "nearest"
    template: str | None = None
    passages: int = 0
    reasoning: bool = False
    found_by: FoundBy = "bm25"

    @property
    def embeds(self) -> bool:
        """Whether what it shows is found by embeddings."""
        by_examples = self.examples > 0 and self.choice == "embeddings"
        return by_examples or (self.passages > 0 and self.found_by == "embeddings")


@dataclass(frozen=True)
class Shown:
    """What a prompt shows for one row, beside the row itself; what is most like the row comes last."""

    examples: tuple[Row, ...] = ()
    passages: tuple[str, ...] = ()


def own_forms(opponents: OpponentSettings) -> list[PromptForm]:
    """The prompts that a task tries on its base."""
    return _forms([*([0] if opponents.zero_shot else []), *opponents.few_shot], opponents)


def endpoint_forms(opponents: OpponentSettings, endpoint: EndpointSettings, kind: Kind) -> list[PromptForm]:
    """The prompts that a task of this kind tries on an endpoint."""
    forms = _forms(endpoint.few_shot, opponents)
    if endpoint.chain_of_thought and kind in REASONED_KINDS:
        forms.append(PromptForm(reasoning=True))
    return forms


def _forms(counts: Sequence[int], opponents: OpponentSettings) -> list[PromptForm]:
    plain = [
        PromptForm(count, choice)
        for count in counts
        for choice in (opponents.few_shot_choice if count else ("nearest",))
    ]
    return [
        *plain,
        *(replace(form, template=template) for template in opponents.templates for form in plain),
        *(
            PromptForm(passages=count, found_by=by)
            for by in opponents.retrieval.by
            for count in opponents.retrieval.k
        ),
    ]


def form_name(form: PromptForm) -> str:
    """``zero-shot``, ``3-shot nearest``, ``5 passages``, ``zero-shot, template "You are a patient …"``."""
    choice = "nearest by embeddings" if form.choice == "embeddings" else form.choice
    name = f"{form.examples}-shot {choice}" if form.examples else "zero-shot"
    if form.passages:
        passages = f"{form.passages} passages" if form.passages > 1 else "1 passage"
        passages += " by embeddings" if form.found_by == "embeddings" else ""
        name = f"{name} + {passages}" if form.examples else passages
    if form.reasoning:
        name += ", step by step"
    if form.template is not None:
        words = " ".join(form.template.split())
        name += f', template "{words if len(words) <= 40 else words[:39] + "…"}"'
    return name


def form_settings(form: PromptForm) -> Settings:
    """The form as settings of a candidate, without what is as usual; :func:`form_of` reads them."""
    settings: Settings = {"examples": form.examples}
    if form.examples and form.choice != "nearest":
        settings["choice"] = form.choice
    if form.template is not None:
        settings["template"] = form.template
    if form.passages:
        settings["passages"] = form.passages
    if form.passages and form.found_by != "bm25":
        settings["found_by"] = form.found_by
    if form.reasoning:
        settings["reasoning"] = True
    return settings


def form_of(settings: Settings) -> PromptForm:
    """The form of a candidate that was made with :func:`form_settings`."""
    template = settings.get("template")
    return PromptForm(
        int(str(settings["examples"])),
        cast(ExampleChoice, settings.get("choice", "nearest")),
        None if template is None else str(template),
        int(str(settings.get("passages", 0))),
        bool(settings.get("reasoning", False)),
        cast(FoundBy, settings.get("found_by", "bm25")),
    )


def found_by_words(form: PromptForm) -> PromptForm:
    """The form without embeddings: what it shows is about as long, and known sooner."""
    return replace(form, choice="nearest" if form.choice == "embeddings" else form.choice, found_by="bm25")


def listed(labels: Sequence[str]) -> str:
    """The labels parted by commas; one a line, on lines of their own, where commas would not part them."""
    commas = any("," in label for label in labels)
    return "\n".join(["", *labels]) if commas else f" {', '.join(labels)}"


def label_request(labels: Sequence[str]) -> str:
    """``Answer with exactly one of: …``."""
    return f"Answer with exactly one of:{listed(labels)}"


def label_list_request(labels: Sequence[str]) -> str:
    """``Answer with a JSON list of those that fit, …``."""
    return (
        "Answer with a JSON list of those that fit, in alphabetical order, such as "
        f'["first label", "second label"], or [] where none fits:{listed(labels)}'
    )


def text_request(schema: Mapping[str, Any] | None, has_examples: bool) -> str:
    """What a text looks like: like the examples, else as the schema says; empty where there is neither."""
    if has_examples:
        return "Answer like the examples."
    return "" if schema is None else f"Answer with JSON of this schema: {schema_text(schema)}"


def schema_text(schema: Mapping[str, Any]) -> str:
    """A JSON Schema as text, in the order of its file, which is that of the answers."""
    return json.dumps(schema, ensure_ascii=False)


@dataclass(frozen=True)
class Wording:
    """The words of a prompt. ``request`` says what answers look like, and may be empty."""

    instruction: str
    request: str
    labels: Sequence[str] = ()
    template: str | None = None


def turns_of(wording: Wording, row: Row, shown: Shown) -> tuple[Message, ...]:
    """The messages of a prompt: instruction, examples, and the row, its passages before it.

    A template stands in place of the instruction; one with ``{input}`` makes the user's turns as well. The
    request follows it, unless the template lists the labels itself.
    """
    template = wording.template
    if template is None:
        instruction = f"{wording.instruction}\n{wording.request}" if wording.request else wording.instruction
        return _joined(instructed(instruction, row), shown)
    if wording.request and "{labels}" not in template:
        template = f"{template}\n{wording.request}"
    if "{input}" not in template:
        return _joined(instructed(_filled(template, wording, ""), row), shown)
    examples = tuple(_worded(example, template, wording) for example in shown.examples)
    own = _worded(row, template, wording)
    return _joined(own.messages, replace(shown, examples=examples))


def _joined(turns: Sequence[Message], shown: Shown) -> tuple[Message, ...]:
    first = 1 if turns and turns[0].role == "system" else 0
    examples = [turn for example in shown.examples for turn in example_turns(example)]
    own = [*turns[first:]]
    if shown.passages:
        passages = "\n\n".join(f"[{number}] {text}" for number, text in enumerate(shown.passages, start=1))
        own[-1] = replace(own[-1], content=f"Passages that may help:\n\n{passages}\n\n{own[-1].content}")
    return (*turns[:first], *examples, *own)


def _worded(row: Row, template: str, wording: Wording) -> Row:
    """The row with its last turn put into the template."""
    last = row.messages[-1]
    return replace(
        row,
        messages=(*row.messages[:-1], replace(last, content=_filled(template, wording, last.content))),
    )


def _filled(template: str, wording: Wording, text: str) -> str:
    values = {
        "instruction": wording.instruction,
        "labels": listed(wording.labels).removeprefix(" "),
        "input": text,
    }
    names = "|".join(PLACEHOLDERS)
    return re.sub(rf"\{{({names})\}}", lambda match: values[match[1]], template)


def example_turns(row: Row) -> tuple[Message, ...]:
    """A training row as turns of a prompt: what was asked, and its answer."""
    asked = (message for message in row.messages if message.role != "system")
    return (*asked, Message("assistant", row.target))
