"""What a prompt is made of, for every model alike: the request, examples from training rows, the row."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tunesmith.candidates.nearest import nearest
from tunesmith.models.rendering import instructed
from tunesmith.records import Message, Row, Settings
from tunesmith.task.opponent_settings import EndpointSettings, OpponentSettings


@dataclass(frozen=True)
class PromptForm:
    """One way of prompting: ``examples`` training rows are shown, the nearest ones, the nearest last."""

    examples: int = 0


@dataclass(frozen=True)
class Shown:
    """What a prompt shows for one row, beside the row itself."""

    examples: tuple[Row, ...] = ()


def own_forms(opponents: OpponentSettings) -> list[PromptForm]:
    """The prompts that a task tries on its base."""
    counts = [*([0] if opponents.zero_shot else []), *opponents.few_shot]
    return [PromptForm(count) for count in counts]


def endpoint_forms(endpoint: EndpointSettings) -> list[PromptForm]:
    """The prompts that a task tries on an endpoint."""
    return [PromptForm(count) for count in endpoint.few_shot]


def form_name(form: PromptForm) -> str:
    """``zero-shot`` or ``3-shot nearest``."""
    return f"{form.examples}-shot nearest" if form.examples else "zero-shot"


def form_settings(form: PromptForm) -> Settings:
    """The form as settings of a candidate; :func:`form_of` reads them."""
    return {"examples": form.examples}


def form_of(settings: Settings) -> PromptForm:
    """The form of a candidate that was made with :func:`form_settings`."""
    return PromptForm(int(str(settings["examples"])))


def shown_with(form: PromptForm, train: Sequence[Row], rows: Sequence[Row]) -> list[Shown]:
    """What ``form`` shows for each of ``rows``; never a row itself, nor a near-duplicate of its group."""
    if not form.examples:
        return [Shown() for _ in rows]
    return [Shown(tuple(near)) for near in nearest(train, rows, form.examples)]


def label_request(labels: Sequence[str]) -> str:
    """``Answer with exactly one of: …``; one label a line where commas would not part them."""
    commas = any("," in label for label in labels)
    listed = "\n".join(["", *labels]) if commas else f" {', '.join(labels)}"
    return f"Answer with exactly one of:{listed}"


def text_request(schema: Mapping[str, Any] | None, has_examples: bool) -> str:
    """What a text looks like: like the examples, else as the schema says; empty where there is neither."""
    if has_examples:
        return "Answer like the examples."
    return "" if schema is None else f"Answer with JSON of this schema: {schema_text(schema)}"


def schema_text(schema: Mapping[str, Any]) -> str:
    """A JSON Schema as text, in the order of its file, which is that of the answers."""
    return json.dumps(schema, ensure_ascii=False)


def turns_of(instruction: str, request: str, row: Row, shown: Shown) -> tuple[Message, ...]:
    """The messages of a prompt. ``request`` says what answers look like, and may be empty."""
    turns = instructed(f"{instruction}\n{request}" if request else instruction, row)
    examples = [turn for example in shown.examples for turn in example_turns(example)]
    return (turns[0], *examples, *turns[1:])


def example_turns(row: Row) -> tuple[Message, ...]:
    """A training row as turns of a prompt: what was asked, and its answer."""
    asked = (message for message in row.messages if message.role != "system")
    return (*asked, Message("assistant", row.target))
