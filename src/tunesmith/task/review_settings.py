"""What people are asked when they compare answers, and the model that may judge beside them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tunesmith.task.opponent_settings import EndpointSettings
from tunesmith.task.sections import Section, Text

RUBRIC = (
    "You compare two answers to the same input. Prefer the one that does better what was asked; length, "
    "style and order do not matter. If neither is better, say tie."
)


class JudgeSettings(Section):
    """A model that judges pairs like people do. What it says counts only where it agrees with them."""

    endpoint: EndpointSettings | None = Field(
        default=None,
        description="A model behind an OpenAI-compatible API, with the settings of opponents.endpoints, "
        "less few_shot: a judge is shown no examples. Inputs and answers are sent there.",
    )
    base: Text | None = Field(
        default=None,
        description="In place of an endpoint a local model: a name from the catalog, a Hugging Face folder, "
        "a .gguf file, or a Hub id with its revision (owner/name@commit).",
        examples=["smollm2-135m-instruct"],
    )
    rubric: Text = Field(default=RUBRIC, description="What the judge is told before every pair.")
    items: Annotated[int, Field(ge=2)] = Field(
        default=200,
        description="How many validation rows it judges once it is accepted; before that only those that "
        "two people have judged.",
    )


class ReviewSettings(Section):
    """What people are asked when they compare answers blindly (`tunesmith review`)."""

    criteria: Annotated[tuple[Text, ...], Field(strict=False, min_length=1)] = Field(
        default=("correctness",),
        description="What an answer is better or worse at. Each is asked for each pair of answers.",
        examples=[["correctness", "relevance", "fluency", "tone"]],
    )
    form: Literal["pairs", "single"] = Field(
        default="pairs",
        description="pairs: two answers side by side, which is better? single: every answer alone, graded 1 "
        "to 5; takes about twice as long, and tells how good answers are.",
    )
    items: Annotated[int, Field(ge=2)] = Field(
        default=60,
        description="How many validation rows are drawn for review. Equal answers count as ties unseen.",
    )
    repeats: Annotated[int, Field(ge=0)] = Field(
        default=10,
        description="How many pairs each reviewer sees a second time, positions swapped, to see how steady "
        "the answers are.",
    )
    blocking: bool = Field(
        default=False,
        description="true: `tunesmith gate` passes only where people surely prefer the tuned model's "
        "answers, for every criterion. false: it is only reported.",
    )
    judge: JudgeSettings | None = Field(
        default=None,
        description="A model that judges beside people (`tunesmith review --judge`): a section with "
        "endpoint or base, and a rubric (docs/people.md).",
    )
