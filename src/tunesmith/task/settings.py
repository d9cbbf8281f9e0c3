"""The settings of a task and their ranges; the rules between them are in ``rules``.

The descriptions here are the one place where a setting is explained: the JSON Schema, the comments of the
template and the messages about bad input repeat them.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, PrivateAttr, model_validator

from tunesmith.task.audit_settings import AuditSettings
from tunesmith.task.guard_settings import CostSettings, GuardsSettings
from tunesmith.task.kinds import GOAL_METRICS, Kind
from tunesmith.task.lines import dotted
from tunesmith.task.opponent_settings import OpponentSettings
from tunesmith.task.review_settings import ReviewSettings
from tunesmith.task.rules import broken_rules
from tunesmith.task.scope_settings import NoneOfTheseSettings
from tunesmith.task.sections import SLUG, Count, Section, Share, Text
from tunesmith.task.split_settings import SplitSettings
from tunesmith.task.track_settings import TrackSettings
from tunesmith.task.train_settings import TrainSettings


class DataSettings(Section):
    """Where the rows are, which columns are read, and which rows are kept."""

    package: Literal["licensedcode-data"] | None = Field(
        default=None,
        description="Data that comes as a Python package, instead of a file of your own.",
        examples=["licensedcode-data"],
    )
    path: Text | Annotated[tuple[Text, ...], Field(strict=False, min_length=1)] | None = Field(
        default=None,
        description="Your file, a folder, a glob (data/*.jsonl), or a list of these: JSON Lines, a JSON "
        "array, CSV, TSV, Parquet, exports of Label Studio and Prodigy; or documents (text, PDF, DOCX) with "
        "their labels beside them (labels.csv with a column file, or report.json for report.pdf). Text "
        "formats also packed (gzip, zstd). hub:owner/name is a dataset on the Hub. A relative path starts at "
        "the folder of this task file.",
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
    label_separator: Text | None = Field(
        default=None,
        description="For kind tag, where the target is text and no list (CSV): the sign that parts the "
        "labels of a row. An empty cell is then a row that no label fits.",
        examples=[";"],
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
        description="For preference pairs: the column with the answer that is not wanted. It is kept, "
        "audited and exported; training learns the wanted one only, which is the target, or the end of "
        "messages.",
        examples=["rejected"],
    )
    fields: Annotated[tuple[Text, ...], Field(strict=False, min_length=1)] | None = Field(
        default=None,
        description="Further columns to keep with every row, such as dates or customers. Others are not "
        "kept, which saves memory.",
        examples=[["created_at", "customer"]],
    )
    unusable: Literal["refuse", "set_aside"] = Field(
        default="refuse",
        description="What happens to records that are no rows: broken, without input or answer, turns in the "
        "wrong order. refuse: nothing is frozen until they are corrected. set_aside: they are left out, "
        "named and counted; a file of which half is unusable is refused all the same.",
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
    window_words: Annotated[int, Field(ge=2)] | None = Field(
        default=None,
        description="Models read inputs with more words than this in overlapping windows. In training each "
        "is a row with the answer of the whole (spans are cut with their text); in answering one answer is "
        "made of theirs. Split, measured and shown are whole documents.",
        examples=[300],
    )
    window_overlap_words: Count = Field(
        default=50, description="How many words a window shares with the next; fewer than window_words."
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
    train_extra: Text | Annotated[tuple[Text, ...], Field(strict=False, min_length=1)] | None = Field(
        default=None,
        description="Rows made by `tunesmith data weak` or `tunesmith data augment`. They are only ever "
        "trained on, never validated or tested with; what is like a validation or test row is left out.",
        examples=["weak.jsonl"],
    )
    weigh_weak_labels: bool = Field(
        default=True,
        description="A row of train_extra with a weak label counts in training as much as its label is "
        "probable: with 0.7 seven tenths of a row labelled by people. Language and classical models heed it. "
        "false: every row counts the same.",
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


class GoalSettings(Section):
    """What "better" means, and by how much. Decided before anything is trained."""

    metric: Text | None = Field(
        default=None,
        description="The metric that the verdict is about: one that fits the kind (docs/metrics.md), or a "
        "function of your own as file.py:function. Left out: accuracy for classify, jaccard for tag, "
        "field_f1 for extract, chrf for generate and chat, rouge_l for summarise and answer.",
        examples=["macro_f1"],
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


class Task(Section):
    """A task: where the data is, what is asked, what "better" means, and what must not get worse."""

    name: Annotated[str, Field(pattern=SLUG)] = Field(
        description="Names the task, its results folder and its model.", examples=["support-tickets"]
    )
    kind: Kind = Field(
        description="What the model does. classify: give each row exactly one label out of a fixed set. "
        "tag: give each row all labels that fit, out of a fixed set: none, one or several. "
        "extract: fields of a text as JSON. generate: a text from attributes; several rows with the same "
        "input are several references. summarise: a short text from a long one. answer: a question about a "
        "given text (input: [passage, question]). chat: the next turn of a conversation."
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
    audit: AuditSettings = Field(
        default=AuditSettings(),
        description="What `tunesmith data audit` compares the rows with.",
    )
    goal: GoalSettings = Field(
        description='What "better" means, and by how much. Decide it before you see results.'
    )
    guards: GuardsSettings = Field(
        default=GuardsSettings(),
        description="What must not get worse than in the base model or the opponent, and by how much it may. "
        "blocking: true keeps the verdict from TRAIN unless that is proven; false only reports it.",
    )
    base: Text = Field(
        description="The model to start from: a name from the catalog, a Hugging Face folder, a .gguf file,"
        " or a Hub id with its revision (owner/name@commit). Try the smallest first; a larger one is slower "
        "and often better.",
        examples=["smollm2-135m-instruct"],
    )
    max_new_tokens: Count | None = Field(
        default=None,
        description="For kinds that write texts: the most tokens of an answer, for every candidate alike. "
        "Left out: as many as 99 of 100 training answers have, with tag as the longest has.",
        examples=[64],
    )
    json_schema: Text | None = Field(
        default=None,
        description="For extract: a JSON Schema file. Every answer is held to it while it is written, and "
        "every target must obey it. A field that may be absent has the type [string, null].",
        examples=["schema.json"],
    )
    none_of_these: NoneOfTheseSettings | None = Field(
        default=None,
        description="For classify: some rows fit no label, and every candidate may say so.",
        examples=[NoneOfTheseSettings(label="out_of_scope")],
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

    review: ReviewSettings = Field(
        default=ReviewSettings(),
        description="Blind comparison by people of the tuned model's answers with the best opponent's "
        "(`tunesmith review`).",
    )
    cost: CostSettings | None = Field(
        default=None,
        description="What running models costs you: after how many requests does fine-tuning pay?",
        examples=[CostSettings(machine_per_hour=0.6)],
    )
    track: TrackSettings | None = Field(
        default=None,
        description="Record each finished run in an MLflow store as well (needs `tunesmith[tracking]`).",
        examples=[TrackSettings()],
    )

    _folder: Path = PrivateAttr(default=Path())

    @property
    def metric(self) -> str:
        """The metric that the verdict is about: ``goal.metric``, or the default of the kind."""
        return self.goal.metric or GOAL_METRICS[self.kind][0]

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

    @property
    def extra_paths(self) -> tuple[Path, ...]:
        """The resolved ``data.train_extra``."""
        paths = self.data.train_extra or ()
        return tuple(self.resolve(path) for path in ([paths] if isinstance(paths, str) else paths))

    @property
    def benchmark_paths(self) -> tuple[Path, ...]:
        """The resolved ``audit.benchmarks``."""
        return tuple(self.resolve(path) for path in self.audit.benchmarks or ())

    @model_validator(mode="after")
    def _obeys_the_rules(self) -> Self:
        if broken := list(broken_rules(self.model_dump())):
            raise ValueError("; ".join(f"{dotted(where)}: {text}" for where, text in broken))
        return self


@cache
def task_json_schema() -> dict[str, Any]:
    """The JSON Schema of task.yaml, for editors (completion, explanations, checks while typing).

    Made once, and not to be changed.
    """
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Task.model_json_schema(),
        "title": "Tunesmith task",
    }
