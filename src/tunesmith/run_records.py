"""The records of one run: how a model was trained, and everything that its report tells."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from tunesmith.records import (
    Cost,
    Estimate,
    FileHash,
    Forgetting,
    Manifest,
    PairedGain,
    Plan,
    Scorecard,
    Verdict,
)

Course = Literal["still learning", "converged", "overfitting", "diverging", "unmeasured"]


@dataclass(frozen=True)
class TrainPoint:
    """One optimiser step."""

    step: int
    epoch: float
    loss: float
    learning_rate: float
    gradient_norm: float
    tokens_per_second: float


@dataclass(frozen=True)
class ValidationPoint:
    """Validation while training. Losses are per supervised token, in nats; ``metric`` where it is watched."""

    step: int
    epoch: float
    loss: float
    train_loss: float | None = None
    metric: Estimate | None = None


@dataclass(frozen=True)
class LongRow:
    """A training row of too many ``tokens``: cut to ``kept_tokens``, or dropped (None)."""

    row_id: str
    source: str
    tokens: int
    kept_tokens: int | None


@dataclass(frozen=True)
class WatchedCourse:
    """Where training was heading when it ended, by the rule in ``stats/watch.py``, with its evidence.

    Changes of the loss (nats per token): ``rise`` from its lowest to the last validation, ``training_rise``
    the same on watched training rows, ``recent`` over about the last quarter. None: nothing to compare.
    """

    course: Course
    sentence: str
    since_step: int | None
    rise: Estimate | None
    recent: Estimate | None
    training_rise: Estimate | None


@dataclass(frozen=True)
class Agreement:
    """How far our log-probabilities of a few rows' answers lie from those of others, in nats, at most.

    ``peft`` is from the saved adapter by PEFT's arithmetic (None without an adapter), ``merged`` from the
    weights that Transformers loads. In bf16 rounding alone makes some tenths, and more where merging rounds.
    """

    rows: int
    peft: float | None
    merged: float


@dataclass(frozen=True)
class Training:
    """How a tuned candidate came to be. With full fine-tuning ``adapter_folder`` holds the whole model.

    ``long_rows`` are training rows that were dropped or cut.
    """

    train: tuple[TrainPoint, ...]
    validation: tuple[ValidationPoint, ...]
    best_step: int
    stopped_early: bool
    steps: int
    trained_tokens: int
    supervised_tokens: int
    trainable_parameters: int
    total_parameters: int
    tokens_per_second: float
    precision: str
    threads: int
    fast_paths: tuple[str, ...]
    cost: Cost
    adapter_folder: str
    adapter_sha256: str
    long_rows: tuple[LongRow, ...] = ()
    course: WatchedCourse | None = None
    agreement: Agreement | None = None


@dataclass(frozen=True)
class Confusion:
    """How often validation rows of ``target`` were answered ``answer``."""

    target: str
    answer: str
    rows: int


@dataclass(frozen=True)
class ExampleDuel:
    """A validation row on which the tuned candidate and the best opponent differ, in correctness or in score.

    ``target`` is a right answer, ``other_targets`` counts further ones; the scores are the goal's metric of
    this row alone, None with labels.
    """

    source: str
    text: str
    target: str
    tuned_answer: str
    tuned_probability: float | None
    opponent_answer: str
    other_targets: int = 0
    tuned_score: float | None = None
    opponent_score: float | None = None


@dataclass(frozen=True)
class PilotPower:
    """What the test can tell in a metric without a formula, from two opponents' answers to validation rows.

    ``smallest_gain_with_80_percent`` would get TRAIN in 8 of 10 tests of ``groups`` groups; ``groups_needed``
    would show in 8 of 10 that a true gain of the goal is above 0.
    """

    metric: str
    better: str
    worse: str
    pilot_groups: int
    groups: int
    standard_error: float
    chance_of_train_at_goal: float
    chance_bound_above_zero_at_goal: float
    smallest_gain_with_80_percent: float
    groups_needed: int


@dataclass(frozen=True)
class ComparedBase:
    """One base on a few validation rows, under the best of the task's prompts on the first half of them.

    ``dropped`` says why it is off the shortlist. ``gain`` is over the best base, on the rows that both
    answered. What is None was not measured, as the base was dropped before.
    """

    name: str
    licence: str
    parameters: int
    dropped: str | None
    context_tokens: int | None = None
    longest_row_tokens: int | None = None
    prompt: str | None = None
    quality: Estimate | None = None
    gain: PairedGain | None = None
    seconds_per_row: float | None = None
    peak_memory_mb: float | None = None


@dataclass(frozen=True)
class Comparison:
    """Bases shortlisted on the same ``rows`` of validation, in ``metric``; the best first."""

    metric: str
    rows: int
    groups: int
    precision: str
    bases: tuple[ComparedBase, ...]


@dataclass(frozen=True)
class RunSummary:
    """Everything a report shows; written last, so its existence means the run is complete."""

    task: str
    description: str
    created: str
    manifest: Manifest
    plan: Plan
    opponents: tuple[Scorecard, ...]
    finalists: tuple[str, ...]
    training: Training
    tuned_validation: Scorecard
    test_scorecards: tuple[Scorecard, ...]
    verdict: Verdict
    forgetting: tuple[Forgetting, ...]
    confusions: tuple[Confusion, ...]
    wins: tuple[ExampleDuel, ...]
    losses: tuple[ExampleDuel, ...]
    stage_seconds: dict[str, float]
    versions: dict[str, str]
    machine: dict[str, str]
    files: tuple[FileHash, ...]
    base_licence: str = ""
    notes: tuple[str, ...] = field(default_factory=tuple)
    kind: str = "classify"
    pilot: PilotPower | None = None
