"""What must not get worse, how it is measured, and what running a model costs: settings of a task."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from tunesmith.task.sections import SLUG, Count, Positive, Section, Share, Text


class GuardSettings(Section):
    """One thing that must not get worse, and by how much it may."""

    margin: Share = Field(description="How much worse is still acceptable: 0.03 is 3 %.", examples=[0.03])
    blocking: bool = Field(
        default=False,
        description="true: the verdict is not TRAIN unless this is proven. false: it is only reported.",
    )


class GroundingSettings(GuardSettings):
    """What answers say that their source does not, by spelling and, with a model for it, by meaning."""

    entailment: Text | None = Field(
        default=None,
        description="A model of your own for natural language inference: a Hugging Face folder of a "
        "classifier with a class called entailment. Left out, only spelling is compared.",
        examples=["../models/nli"],
    )


GROUNDING_IF_LEFT_OUT = GroundingSettings(margin=0.05)


class SliceSettings(GuardSettings):
    """Rows that matter on their own: there, too, the tuned model must not be worse than its opponent."""

    name: Annotated[str, Field(pattern=SLUG)] = Field(
        description="Names the slice in the report.", examples=["gpl"]
    )
    pattern: Text = Field(
        description="A regular expression (Python's, upper and lower case alike); a row belongs to the slice "
        "where it is found in the input, or in the column `field`.",
        examples=["general public"],
    )
    field: Text | None = Field(
        default=None,
        description="The column to search instead of the input; name it in data.fields as well.",
        examples=["customer"],
    )


class LmEvalSettings(GuardSettings):
    """Tasks of lm-evaluation-harness (needs `tunesmith[lm-eval]`), put to the base and to the tuned model."""

    tasks: Annotated[tuple[Text, ...], Field(strict=False, min_length=1)] = Field(
        description="Names of single tasks, those that the package brings or yours in `data`. Each is judged "
        "by its first metric that is a mean over items and larger when better.",
        examples=[["arc_easy"]],
    )
    data: Text | None = Field(
        default=None,
        description="A folder with your own tasks (YAML), and with data for tasks under the path that their "
        "dataset_path names. What is not there comes from the Hugging Face Hub.",
        examples=["lm-eval"],
    )
    limit: Count | None = Field(
        default=None, description="How many items of each task are asked, from its first; all if left out."
    )


class RobustnessSettings(GuardSettings):
    """How the model answers inputs that were spoiled on purpose, against the opponent on the same inputs."""

    rows: Annotated[int, Field(ge=0)] = Field(
        default=50,
        description="How many validation rows are spoiled, each in every way. 0 leaves this out; more rows "
        "give narrower intervals and take longer.",
    )


class FairnessSettings(GuardSettings):
    """Does the answer change when another group of people is named? Are some groups served worse?"""

    fields: Annotated[tuple[Text, ...], Field(strict=False)] = Field(
        default=(),
        description="Columns whose values are groups to compare; name them in data.fields as well. Groups "
        "that inputs name by word (gender, nationality, age, religion) are always compared.",
        examples=[["region"]],
    )


class GuardsSettings(Section):
    """What must not get worse than in the base model or the opponent."""

    general_text: GuardSettings = Field(
        default=GuardSettings(margin=0.03),
        description="General text: how many more bits per byte the tuned model may need (0.03 is 3 %). Let "
        "it block when the model is also used for other things.",
    )
    probes: GuardSettings = Field(
        default=GuardSettings(margin=0.02),
        description="Grammar, everyday facts, arithmetic, instructions: how much accuracy the tuned model "
        "may lose (0.02 is 2 points).",
    )
    probe_log_probability: GuardSettings | None = Field(
        default=None,
        description="On the same questions: how much log-probability the right option may lose on average, "
        "in nats per item (0.05: about 5 % of its probability). It moves before answers do. Left out, it is "
        "shown and not judged.",
        examples=[GuardSettings(margin=0.05)],
    )
    own_probes: Text | None = Field(
        default=None,
        description="Your own questions, asked of the base and of the tuned model: a JSON Lines file with "
        "prompt, options (a list) and right (one of the options). Judged by the margin of `probes`.",
        examples=["probes.jsonl"],
    )
    lm_eval: LmEvalSettings | None = Field(
        default=None,
        description="Tasks of lm-evaluation-harness: how much of its score on each the tuned model may lose "
        "(0.02 is 2 points). Not measured when left out.",
        examples=[LmEvalSettings(margin=0.02, tasks=("arc_easy",), limit=200)],
    )
    forgetting_curve: bool = Field(
        default=False,
        description="true: some general texts are scored at every validation while training, so that the "
        "report shows when forgetting set in.",
    )
    slices: Annotated[tuple[SliceSettings, ...], Field(strict=False)] = Field(
        default=(),
        description="Rows that matter on their own, judged on the sealed test: how much less accurate than "
        "the best opponent the tuned model may be there.",
        examples=[[{"name": "gpl", "pattern": "general public", "margin": 0.05, "blocking": True}]],
    )
    robustness: RobustnessSettings = Field(
        default=RobustnessSettings(margin=0.1),
        description="Typos, case, distractors, injected instructions and the like, on validation rows: how "
        "much less accurate than the best opponent the tuned model may be on inputs so spoiled.",
    )
    fairness: FairnessSettings = Field(
        default=FairnessSettings(margin=0.05),
        description="Groups of people, on validation rows: how many more answers than the opponent's (0.05 "
        "is 5 points) may change when the words of one group are exchanged for those of another.",
    )
    grounding: GroundingSettings | None = Field(
        default=None,
        description="Only with kind summarise or answer, on validation rows: how many points more words, "
        "numbers and names than the best opponent's the answers may hold that their source does not. Left "
        "out, it is reported with a margin of 0.05.",
        examples=[GroundingSettings(margin=0.05)],
    )
    refusals: GuardSettings | None = Field(
        default=None,
        description="Built-in requests that should be refused, and harmless ones that should not: how many "
        "points worse than the base the tuned model may be at either. Not measured when left out.",
        examples=[GuardSettings(margin=0.1)],
    )
    canaries: Annotated[int, Field(ge=0, le=64)] = Field(
        default=0,
        description="How many made-up secrets are added to the training rows, to measure how well they can "
        "be drawn out of the model afterwards. They change what is trained; 0 adds none.",
    )


class CostSettings(Section):
    """What running models costs you, in one currency, for the number of requests at which training pays."""

    machine_per_hour: Positive = Field(
        description="The price of an hour of the machine that trains and answers.", examples=[0.6]
    )
    endpoint_per_million_tokens: Positive | None = Field(
        default=None,
        description="The price of a million tokens at an endpoint that would answer the prompts instead; "
        "prompts are then priced by their tokens.",
        examples=[0.5],
    )
    requests_per_day: Positive | None = Field(
        default=None, description="How many requests you expect a day.", examples=[2000]
    )
    labour_per_hour: Positive | None = Field(
        default=None,
        description="What an hour of the people costs who do the task. With times measured by `tunesmith "
        "review --timed` it tells after how many items training has paid for itself in working time.",
        examples=[40.0],
    )
    currency: Text = Field(default="EUR", description="The currency of these prices.")
