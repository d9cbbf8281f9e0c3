"""The settings of a task and their ranges; the rules between them are in ``rules``.

The descriptions here are the one place where a setting is explained: the JSON Schema, the comments of the
template and the messages about bad input repeat them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, model_validator

from tunesmith.task.lines import dotted
from tunesmith.task.rules import broken_rules

SLUG = r"^[a-z0-9][a-z0-9_-]{0,63}$"
NOT_BLANK = r"\S"
# What the patterns above mean, for people.
PATTERNS = {
    SLUG: "up to 64 lower-case letters, digits, - and _, beginning with a letter or digit",
    NOT_BLANK: "text (not empty)",
}

Text = Annotated[str, Field(pattern=NOT_BLANK)]
Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(gt=0, lt=1)]
Size = Count | Share


class _Section(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False)


class DataSettings(_Section):
    """Where the rows are, which columns are read, and which rows are kept."""

    package: Literal["licensedcode-data"] | None = Field(
        default=None,
        description="Data that comes as a Python package, instead of a file of your own.",
        examples=["licensedcode-data"],
    )
    path: Text | Annotated[tuple[Text, ...], Field(strict=False, min_length=1)] | None = Field(
        default=None,
        description="Your file, a folder, a glob (data/*.jsonl), or a list of these: JSON Lines, a JSON "
        "array, CSV, TSV, Parquet, exports of Label Studio and Prodigy, each also packed (gzip, zstd); or "
        "documents (text, PDF, DOCX) with their labels beside them (labels.csv with a column file, or "
        "report.json for report.pdf). hub:owner/name is a dataset on the Hub. A relative path starts at the "
        "folder of this task file.",
        examples=["tickets.jsonl"],
    )
    test_path: Text | None = Field(
        default=None,
        description="A test file of its own, where one exists. Without it the test is drawn from `path` "
        "(see split).",
        examples=["test.jsonl"],
    )
    input: Text | Annotated[tuple[Text, ...], Field(strict=False, min_length=1)] | None = Field(
        default=None,
        description="The column that holds what the model is given; a list of columns is joined by blank "
        "lines, empty ones are left out ([instruction, input]).",
        examples=["text"],
    )
    target: Text | None = Field(
        default=None, description="The column that holds the right answer.", examples=["label"]
    )
    messages: Text | None = Field(
        default=None,
        description="For chat data, instead of input and target: the column that holds the list of "
        "messages (role and content, or from and value); the last one, of the assistant, is the right "
        "answer.",
        examples=["messages"],
    )
    rejected: Text | None = Field(
        default=None,
        description="For preference pairs: the column with the answer that is not wanted. The wanted one is "
        "the target, or the end of messages.",
        examples=["rejected"],
    )
    fields: Annotated[tuple[Text, ...], Field(strict=False, min_length=1)] | None = Field(
        default=None,
        description="Further columns to keep with every row, such as dates or customers. Others are not "
        "kept, which saves memory.",
        examples=[["created_at", "customer"]],
    )
    min_words: Count | None = Field(
        default=None, description="Rows with a shorter input are set aside, and counted.", examples=[3]
    )
    max_words: Count | None = Field(
        default=None,
        description="Rows with a longer input are set aside, and counted. Lower it when training is slow or"
        " a prompt does not fit the model's context.",
        examples=[300],
    )
    most_frequent_labels: Annotated[int, Field(ge=2)] | None = Field(
        default=None,
        description="Keep only the rows of this many labels, the most frequent ones. Useful for a first try"
        " on data with a long tail of rare labels.",
        examples=[30],
    )
    near_duplicate_similarity: Annotated[float, Field(gt=0, le=1)] = Field(
        default=0.8,
        description="Two inputs whose word shingles overlap this much (Jaccard) are near-duplicates: they "
        "form one group, and a group is never split between train and test. Lower it when "
        "copies differ more.",
    )
    shingle_words: Count = Field(
        default=3,
        description="How many neighbouring words make a shingle for that comparison. 1 or 2 for very short "
        "texts.",
    )
    rows_per_group: Count | None = Field(
        default=None,
        description="Keep at most this many rows of each group; the others are set aside. 1 gives every "
        "distinct text one vote.",
        examples=[1],
    )
    plan: Text | None = Field(
        default=None,
        description="A repair plan (`tunesmith data plan` writes one): what the audit found is repaired as "
        "it says, in training rows only, before they are frozen.",
        examples=["repair-plan.yaml"],
    )
    licence: str | None = Field(
        default=None,
        description="The licence of your data. It travels with every dataset version and into the report.",
        examples=["CC-BY-4.0"],
    )
    attribution: str | None = Field(
        default=None,
        description="Whom the data's licence asks you to name.",
        examples=["Example Corp. support team"],
    )


class SplitSettings(_Section):
    """How the rows are divided. A whole number counts rows; one between 0 and 1 is a share of them."""

    train: Size | None = Field(
        default=None,
        description="What the model learns from. Leave it out for all rows that validation and test do not "
        "take.",
        examples=[0.5],
    )
    validation: Size = Field(
        description="What every choice is made on: settings, prompts, when to stop. Scored often, so a few "
        "hundred rows are a good size.",
        examples=[0.15],
    )
    test: Size | None = Field(
        default=None,
        description="Sealed, and opened once for the verdict. The more rows, the smaller the gain that can "
        "be proven (`tunesmith plan` shows it). Leave it out when data.test_path is given.",
        examples=[0.25],
    )
    seed: Annotated[int, Field(ge=0)] = Field(
        default=0, description="The seed of the draw. Another seed gives another dataset version."
    )


class GoalSettings(_Section):
    """What "better" means, and by how much. Decided before anything is trained."""

    metric: Literal["accuracy"] = Field(
        default="accuracy", description="The metric that the verdict is about."
    )
    gain: Share = Field(
        description="The smallest gain over the best opponent that is worth having: 0.02 is 2 points. Ask "
        "what running a model of your own must bring to pay off.",
        examples=[0.02],
    )
    rule: Literal["estimate", "margin"] = Field(
        default="estimate",
        description="estimate: TRAIN when the gain is surely above 0 and its estimate reaches `gain`. "
        "margin: TRAIN only when the gain is surely above `gain`; stricter, and needs more test"
        " rows.",
    )
    alpha: Annotated[float, Field(gt=0, lt=0.5)] = Field(
        default=0.05,
        description="The chance, one-sided, of calling a worthless model better. Every further contest on "
        "the same test gets a stricter one.",
    )


class GuardSettings(_Section):
    """One thing that must not get worse, and by how much it may."""

    margin: Share = Field(description="How much worse is still acceptable: 0.03 is 3 %.", examples=[0.03])
    blocking: bool = Field(
        default=False,
        description="true: the verdict is not TRAIN unless this is proven. false: it is only reported.",
    )


class GuardsSettings(_Section):
    """What must not get worse than in the base model."""

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


class OpponentSettings(_Section):
    """What the tuned model has to beat. All of them are tuned too, on validation."""

    classical: bool = Field(
        default=True,
        description="Word and character n-grams with a linear model: cheap, and often hard to beat.",
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


TrainMethod = Literal["lora", "rslora", "dora", "qlora", "full"]
# Weights that are all trained need smaller steps than a new adapter.
FULL_LEARNING_RATE = 5e-5


class TrainSettings(_Section):
    """How the model is tuned: which weights are trained, and how. The defaults are a good start."""

    method: TrainMethod = Field(
        default="lora",
        description="lora: small matrices beside the layers are trained. rslora: the same, scaled by "
        "alpha/√rank, for high ranks. dora: the size of each output is trained apart from its direction. "
        "qlora: lora on a base held in 4 bits (needs `tunesmith[qlora]`). full: all weights.",
    )
    rank: Count = Field(
        default=16,
        description="Adapter rank: the size of the adapter. 8 to 64; higher for harder tasks with more rows.",
    )
    alpha: Positive = Field(
        default=32.0,
        description="Adapter scaling. Keep it at twice the rank (rslora: at about twice its square root).",
    )
    adapter_dropout: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.0,
        description="The share of an adapter's inputs that is left out at random in each step. 0.05 to 0.1 "
        "may help when rows are few; training is slower with it.",
    )
    targets: Annotated[tuple[Text, ...], Field(strict=False, min_length=1)] | None = Field(
        default=None,
        description="The layers that get an adapter, by the ends of their names. All linear layers but the "
        "output head, unless you list some.",
        examples=[["q_proj", "v_proj"]],
    )
    modules_to_save: Annotated[tuple[Text, ...], Field(strict=False, min_length=1)] | None = Field(
        default=None,
        description="Modules that are trained whole beside the adapters and saved with them, by the ends of "
        "their names.",
        examples=[["lm_head", "embed_tokens"]],
    )
    start_from: Text | None = Field(
        default=None,
        description="An adapter folder to go on from, trained on the same base with the same method, rank, "
        "alpha and layers. A relative path starts at the folder of this task file.",
        examples=["runs/first-try/stages/train-0123456789ab/adapter"],
    )
    learning_rate: Annotated[float, Field(gt=0, lt=1)] = Field(
        default=1e-3,
        description="Peak learning rate. Lower it (3e-4, 1e-4) when the loss jumps or for larger bases. With "
        f"method full it is {FULL_LEARNING_RATE:g} unless you give one.",
    )
    epochs: Positive = Field(
        default=2.0,
        description="Passes over the training rows, at most: training stops earlier when validation stops "
        "improving.",
    )
    batch_size: Count = Field(
        default=16, description="Rows per optimiser step. Lower it when memory runs out or rows are few."
    )
    accumulate: Count = Field(
        default=1,
        description="Batches whose gradients add up to one optimiser step: batch_size 4 and accumulate 4 "
        "take the step of batch_size 16 in less memory.",
    )
    optimiser: Literal["adamw", "sgd", "adamw8bit"] = Field(
        default="adamw",
        description="adamw suits nearly everything. sgd (with momentum) needs a far larger learning rate. "
        "adamw8bit keeps its moments in 8 bits, for full fine-tuning in little memory (needs "
        "bitsandbytes: `pip install 'tunesmith[qlora]'`).",
    )
    momentum: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.9, description="With optimiser sgd: the share of the last step that is kept in the next."
    )
    schedule: Literal["linear", "constant", "cosine", "wsd"] = Field(
        default="linear",
        description="What the learning rate does after its warm-up. linear and cosine: it falls to 0. "
        "constant: it stays. wsd: it stays, then falls to 0 linearly in the last decay_share of the steps.",
    )
    decay_share: Share = Field(
        default=0.2, description="With schedule wsd: the share of the steps in which the learning rate falls."
    )
    warmup_share: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.1, description="The share of the steps in which the learning rate climbs to its peak."
    )
    weight_decay: Annotated[float, Field(ge=0)] = Field(
        default=0.0,
        description="Weight decay: decoupled with AdamW, added to the gradient with sgd; one-dimensional "
        "weights (norms, biases) are spared. 0.01 to 0.1 may help when training overfits.",
    )
    l1_penalty: Annotated[float, Field(ge=0)] = Field(
        default=0.0,
        description="Adds this times the sum of |change| to the loss: few weights change. Changes count from "
        "the base: for an adapter from zero, else from the weights at the start.",
    )
    l2_penalty: Annotated[float, Field(ge=0)] = Field(
        default=0.0,
        description="Adds half of this times the sum of change² to the loss: weights stay near the base. "
        "Changes count as for l1_penalty.",
    )
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.0,
        description="The share of each right token's weight that is spread over the whole vocabulary in "
        "training. 0.05 to 0.1 may help with noisy labels. Validation losses stay unsmoothed.",
    )
    loss_per: Literal["token", "example"] = Field(
        default="token",
        description="token: every learned token counts the same, so long answers count more. example: every "
        "row counts the same.",
    )
    max_gradient_norm: Positive = Field(
        default=1.0,
        description="Longer gradients are cut to this norm, so that one odd batch cannot wreck the model.",
    )
    validations_per_epoch: Count = Field(
        default=4,
        description="How often validation is scored in one epoch; the best of these checkpoints is kept.",
    )
    patience: Count = Field(
        default=3,
        description="Training stops after this many validations in a row without a better one (see best_by).",
    )
    watch_metric: bool = Field(
        default=False,
        description="Also measure the task metric at every validation, on a sample of up to 256 validation "
        "rows. It takes about as long as the validation loss, or longer with many labels.",
    )
    best_by: Literal["loss", "metric"] = Field(
        default="loss",
        description="What makes a checkpoint the best, and stops training early: the validation loss, or the "
        "task metric (with watch_metric: true; the loss decides between equals).",
    )
    long_rows: Literal["error", "drop", "truncate_left", "truncate_right"] = Field(
        default="error",
        description="What to do with training rows of more than max_tokens. drop: leave them out. "
        "truncate_left and truncate_right: cut the longest message of the prompt at its beginning or end. "
        "Answers are never cut, and every row dropped or cut is counted and listed.",
    )
    max_tokens: Annotated[int, Field(ge=8)] | None = Field(
        default=None,
        description="The longest training row, in tokens with prompt and answer. The base's context unless "
        "you give fewer.",
        examples=[1024],
    )
    seed: Annotated[int, Field(ge=0)] = Field(
        default=0, description="The seed of the adapter's start and of the order of the rows."
    )

    @model_validator(mode="before")
    @classmethod
    def _full_tuning_takes_smaller_steps(cls, values: Any) -> Any:
        if isinstance(values, Mapping) and values.get("method") == "full":
            return {"learning_rate": FULL_LEARNING_RATE, **values}
        return values


class Task(_Section):
    """A task: where the data is, what is asked, what "better" means, and what must not get worse."""

    name: Annotated[str, Field(pattern=SLUG)] = Field(
        description="Names the task, its results folder and its model.", examples=["support-tickets"]
    )
    kind: Literal["classify"] = Field(
        description="What the model does. classify: give each row exactly one label out of a fixed set."
    )
    description: str = Field(
        default="",
        description="One line for people; the report shows it.",
        examples=["Which team answers this ticket?"],
    )
    instruction: Text = Field(
        description="What the model is told before each row (the system message), when prompted, trained "
        "and used alike. One or two sentences on what to decide; prompts get the list of labels"
        " added.",
        examples=["Name the team that should answer this support ticket."],
    )
    data: DataSettings = Field(
        description="Where the rows are, which columns are read, and which rows are kept."
    )
    split: SplitSettings = Field(
        description="How the rows are divided; near-duplicates stay together. A whole number counts rows, a"
        " number between 0 and 1 is a share of all rows."
    )
    goal: GoalSettings = Field(
        description='What "better" means, and by how much. Decide it before you see results.'
    )
    guards: GuardsSettings = Field(
        default=GuardsSettings(),
        description="What must not get worse than in the base model, and by how much it may. blocking: true "
        "keeps the verdict from TRAIN unless that is proven; false only reports it.",
    )
    base: Text = Field(
        description="The model to start from: a name from the catalog, a Hugging Face folder, a .gguf file,"
        " or a Hub id. Try the smallest first; a larger one is slower and often better.",
        examples=["smollm2-135m-instruct"],
    )
    opponents: OpponentSettings = Field(
        default=OpponentSettings(),
        description="What the tuned model has to beat; each is tuned on validation. A constant answer "
        "always takes part.",
    )
    train: TrainSettings = Field(
        default=TrainSettings(),
        description="How the model is tuned: by default LoRA on all linear layers, a good start.",
    )

    _folder: Path = PrivateAttr(default=Path())

    @property
    def folder(self) -> Path:
        """The folder that relative paths start from: that of the task file."""
        return self._folder

    def resolve(self, path: str) -> Path:
        """``path`` (of data, or of a base) as written in the task file, made usable from anywhere.

        A dataset on the Hub (``hub:owner/name``) is left as it is.
        """
        if path.startswith("hub:"):
            return Path(path)
        return self._folder / Path(path).expanduser()

    @property
    def data_paths(self) -> tuple[Path, ...]:
        """The resolved ``data.path``; empty for a package."""
        paths = self.data.path or ()
        return tuple(self.resolve(path) for path in ([paths] if isinstance(paths, str) else paths))

    @model_validator(mode="after")
    def _obeys_the_rules(self) -> Self:
        if broken := list(broken_rules(self.model_dump())):
            raise ValueError("; ".join(f"{dotted(where)}: {text}" for where, text in broken))
        return self


def task_json_schema() -> dict[str, Any]:
    """The JSON Schema of task.yaml, for editors (completion, explanations, checks while typing)."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Task.model_json_schema(),
        "title": "Tunesmith task",
    }
