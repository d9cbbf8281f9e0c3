"""How a model is tuned: the section ``train`` of a task file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from tunesmith.task.sections import DEVICE, Count, Positive, Section, Share, Text

# Weights that are all trained need smaller steps than a new adapter.
ADAPTER_LEARNING_RATE = 1e-3
FULL_LEARNING_RATE = 5e-5

TrainMethod = Literal["lora", "rslora", "dora", "qlora", "full"]
# At one rank rslora is lora with another alpha, so there is nothing to compare.
ComparedMethod = Literal["lora", "dora", "qlora", "full"]
Mixing = Literal["proportional", "temperature", "equal"]
LearningRate = Annotated[float, Field(gt=0, lt=1)]
Seed = Annotated[int, Field(ge=0, lt=2**64)]  # PyTorch takes no larger one


class ComparedRates(Section):
    """Peak learning rates of the methods in compare_methods, in place of what they take by themselves."""

    lora: LearningRate | None = Field(
        default=None, description="The peak learning rate of low-rank adapters."
    )
    dora: LearningRate | None = Field(
        default=None, description="The peak learning rate of weight-decomposed adapters."
    )
    qlora: LearningRate | None = Field(
        default=None, description="The peak learning rate of adapters on a base in 4 bits."
    )
    full: LearningRate | None = Field(default=None, description="The peak learning rate of full fine-tuning.")


class TrainSettings(Section):
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
    add_tokens: Annotated[tuple[Text, ...], Field(strict=False, min_length=1)] | None = Field(
        default=None,
        description="Texts that become tokens of their own, such as part numbers or field names. Their rows "
        "of embeddings and output head are trained and saved; each starts as the mean of its former tokens.",
        examples=[["[AMOUNT]", "[DATE]"]],
    )
    start_from: Text | None = Field(
        default=None,
        description="An adapter folder to go on from, trained on the same base with the same method, rank, "
        "alpha and layers. A relative path starts at the folder of this task file.",
        examples=["runs/first-try/stages/train-0123456789ab/adapter"],
    )
    device: Annotated[str, Field(pattern=DEVICE)] = Field(
        default="cpu",
        description="Where the models of this task compute: cpu, cuda, or cuda:1 for the second GPU.",
        examples=["cuda"],
    )
    learning_rate: LearningRate = Field(
        default=ADAPTER_LEARNING_RATE,
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
    learning_curve: bool = Field(
        default=False,
        description="Also train on a quarter and on half of the training rows, and tell what the other half "
        "brought and what twice the rows would bring. Takes about as long as training once more.",
    )
    compare_methods: Annotated[tuple[ComparedMethod, ...], Field(strict=False)] = Field(
        default=(),
        description="Also train by these methods, on the same rows, seed and epochs, and put them beside "
        "`method` in the decision table: time, memory, score, gain and forgetting, on validation. The sealed "
        "test is opened for `method` alone. Each takes a whole training. Learning rates: full "
        f"{FULL_LEARNING_RATE:g}; adapters that of learning_rate, or {ADAPTER_LEARNING_RATE:g} where method "
        "is full.",
        examples=[["qlora", "full"]],
    )
    compare_learning_rates: ComparedRates | None = Field(
        default=None,
        description="Peak learning rates for compare_methods, where those are not to be taken.",
        examples=[{"full": 1e-4}],
    )
    also: Annotated[tuple[Text, ...], Field(strict=False)] = Field(
        default=(),
        description="Task files whose training rows are learned together with this task's. Only with kind "
        "classify, without none_of_these and without split.test: crossfit. The checkpoint is "
        "chosen for this task, and its test is not touched by the others: rows like its held-out ones are "
        "left out of their training rows. The report compares each task with having been trained alone.",
        examples=[["intents.yaml"]],
    )
    mixing: Mixing = Field(
        default="proportional",
        description="With also: how much of an epoch each task gets. proportional: by its rows. equal: the "
        "same for all. temperature: by rows^(1/mixing_temperature), between the two.",
    )
    mixing_temperature: Annotated[float, Field(ge=1)] = Field(
        default=2.0, description="With mixing temperature: 1 is proportional, a large one is equal."
    )
    seed: Seed = Field(default=0, description="The seed of the adapter's start and of the order of the rows.")
    seeds: Annotated[tuple[Seed, ...], Field(strict=False, min_length=2)] | None = Field(
        default=None,
        description="Instead of seed: train once with each of these, and report how much they differ. "
        "The one that is best on validation (see best_by) goes to the test; the verdict says whether "
        "its gain is more than another seed may take away. Three or more; each takes a whole training.",
        examples=[[0, 1, 2]],
    )

    @model_validator(mode="before")
    @classmethod
    def _full_tuning_takes_smaller_steps(cls, values: Any) -> Any:
        if isinstance(values, Mapping) and values.get("method") == "full":
            return {"learning_rate": FULL_LEARNING_RATE, **values}
        return values
