"""What the tuned model has to beat: the settings of ``opponents`` in a task file."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tunesmith.task.sections import SLUG, Count, Positive, Section, Text

# What a template may hold in braces.
PLACEHOLDERS = ("instruction", "labels", "input")
# The prompts of an endpoint that names none, by their numbers of examples.
ENDPOINT_FEW_SHOT = (0, 3)

ExampleChoice = Literal["nearest", "embeddings", "fixed", "random"]
FoundBy = Literal["bm25", "embeddings"]
Price = Annotated[float, Field(ge=0)]


class EndpointSettings(Section):
    """A model behind an OpenAI-compatible API. Rows of the task are sent there, and nowhere else."""

    name: Annotated[str, Field(pattern=SLUG)] = Field(
        description="What results call it, and the name of the file with its answers.", examples=["gpt"]
    )
    url: Text = Field(
        description="The base URL, up to and without /chat/completions.",
        examples=["https://api.openai.com/v1"],
    )
    model: Text = Field(description="The model's name there.", examples=["gpt-4o-mini"])
    key_env: Text | None = Field(
        default=None,
        description="The environment variable that holds the key. The key itself is never written anywhere.",
        examples=["OPENAI_API_KEY"],
    )
    price_in: Price = Field(
        description="Price of a million tokens read, in your currency; 0 for a server of your own.",
        examples=[0.15],
    )
    price_out: Price = Field(description="Price of a million tokens written.", examples=[0.6])
    spend_cap: Positive | None = Field(
        default=None,
        description="The most that this task may spend there in all, validation and test together. Nothing "
        "is sent that could go beyond it.",
        examples=[5.0],
    )
    few_shot: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(strict=False, min_length=1)] = Field(
        default=ENDPOINT_FEW_SHOT,
        description="Each number is one prompt with that many training examples; 0 is none (zero-shot).",
    )
    chain_of_thought: bool = Field(
        default=True,
        description="One more prompt: think step by step, then answer (classify, tag, extract, answer). "
        "Its answers are longer, and cost more.",
    )
    samples: Count = Field(
        default=1,
        description="How many answers are drawn for each row and voted on (self-consistency; classify, tag "
        "and extract). Needs a temperature above 0, and costs as many times more.",
    )
    max_tokens: Count = Field(default=512, description="The most tokens of an answer.")
    limit_name: Literal["max_tokens", "max_completion_tokens"] = Field(
        default="max_tokens",
        description="What the API calls that limit; OpenAI's reasoning models want max_completion_tokens.",
    )
    temperature: Annotated[float, Field(ge=0)] | None = Field(
        default=0.0, description="Sent with every request; null for models that refuse it."
    )
    timeout_seconds: Positive = Field(default=60.0, description="How long the server may be silent.")
    requests_at_once: Count = Field(default=4, description="The most requests under way at one time.")


class RetrievalSettings(Section):
    """Prompts that show passages found for each row."""

    documents: Text | None = Field(
        default=None,
        description="A folder of documents (text, PDF, DOCX) to find passages in. Left out: training rows "
        "with their answers.",
        examples=["handbook"],
    )
    k: Annotated[tuple[Count, ...], Field(strict=False)] = Field(
        default=(),
        description="Each number is one opponent with up to that many passages; validation finds the best. "
        "[] for none.",
    )
    by: Annotated[tuple[FoundBy, ...], Field(strict=False, min_length=1)] = Field(
        default=("bm25",),
        description="How passages are found: by their words (bm25), or by what they mean (embeddings, which "
        "needs opponents.embeddings). Each is tried with each number.",
    )
    with_tuned: bool = Field(
        default=False,
        description="The tuned model is shown passages (found by BM25) as well, and goes on with them where "
        "it is better so on validation. It is trained without them.",
    )


class ReasoningSettings(Section):
    """A base that thinks step by step before it answers (classify, tag, extract, answer)."""

    chain_of_thought: bool | None = Field(
        default=None,
        description="One more prompt on each base: think step by step, then answer. Left out: on bases of "
        "1B parameters or more; true: on smaller ones as well, which seldom gain by it.",
    )
    samples: Count = Field(
        default=1,
        description="How many answers are drawn for each row and voted on (self-consistency; classify, tag "
        "and extract). It takes as many times longer.",
    )
    temperature: Positive = Field(default=0.7, description="At which several samples are drawn.")
    max_tokens: Annotated[int, Field(ge=16)] = Field(
        default=256, description="The most tokens of thoughts and answer together."
    )


class OpponentSettings(Section):
    """What the tuned model has to beat. All of them are tuned too, on validation."""

    classical: bool = Field(
        default=True,
        description="Word and character n-grams with a linear model, cheap and often hard to beat, and the "
        "label of the nearest training rows. For texts: the answer of the nearest training row, the first "
        "sentences (summarise), templates (generate), a linear model for each field (extract).",
    )
    classical_lower_case: bool = Field(
        default=True, description="false: classical models tell upper and lower case apart."
    )
    classical_stop_words: Text | None = Field(
        default=None,
        description="Words that classical models do not see: english, or a file with one word a line. "
        "Language models always get the whole text: small words carry meaning for them.",
        examples=["english"],
    )
    classical_spelling: Text | None = Field(
        default=None,
        description="Mends spelling for classical models by the words that are known: train (those of the "
        "training rows), or a file with one word a line. Language models get the text as it is.",
        examples=["train"],
    )
    embeddings: Text | None = Field(
        default=None,
        description="An encoder that turns texts into vectors (BERT, RoBERTa, MPNet and their like): a "
        "folder or a Hub id with its revision. Gives one more classical model with classify and tag, and "
        "what few_shot_choice and retrieval.by call embeddings.",
        examples=["../models/all-MiniLM-L6-v2"],
    )
    zero_shot: bool = Field(
        default=True, description="The base model, asked with the instruction and the list of labels."
    )
    few_shot: Annotated[tuple[Count, ...], Field(strict=False)] = Field(
        default=(3,),
        description="The base model, shown the nearest training examples as well: each number in the list "
        "is one opponent with that many examples. [] for none; more examples make longer, "
        "slower prompts.",
    )
    few_shot_choice: Annotated[tuple[ExampleChoice, ...], Field(strict=False, min_length=1)] = Field(
        default=("nearest",),
        description="Which training rows are shown: those most like the row by their words (nearest) or by "
        "opponents.embeddings (embeddings), the same ones for every row (each answer in turn), or random "
        "ones. Several are tried one by one.",
    )
    templates: Annotated[tuple[Text, ...], Field(strict=False)] = Field(
        default=(),
        description="Other wordings of the prompt, tried like the plain one: a persona, a tone, a format. "
        "{instruction}, {labels} and {input} are filled in; one without {input} takes the place of the "
        "instruction.",
    )
    retrieval: RetrievalSettings = Field(
        default=RetrievalSettings(),
        description="The base model, shown passages that are found for each row: of a folder of documents, "
        "or of the training rows.",
    )
    reasoning: ReasoningSettings = Field(
        default=ReasoningSettings(),
        description="The base model, and those under bases, thinking step by step before they answer.",
    )
    bases: Annotated[tuple[Text, ...], Field(strict=False)] = Field(
        default=(),
        description="Larger local models, prompted like the base, one after the other: each a name from the "
        "catalog, a Hugging Face folder, a .gguf file, or a Hub id with its revision (owner/name@commit).",
        examples=[["../models/larger-instruct"]],
    )
    endpoints: Annotated[tuple[EndpointSettings, ...], Field(strict=False)] = Field(
        default=(),
        description="Models behind OpenAI-compatible APIs, prompted like the base: the strong opponents. "
        "Inputs of your rows are sent there. Each is a section with name, url, model, key_env, price_in, "
        "price_out and spend_cap (docs/opponents.md).",
    )
