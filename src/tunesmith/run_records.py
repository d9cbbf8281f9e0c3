"""The records of one run: how a model was trained, and everything that its report tells."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from tunesmith.curve_records import DataCurve
from tunesmith.data_records import DataCare, VersionStory
from tunesmith.guard_records import Costs, Guarded, SliceScore
from tunesmith.method_records import MethodComparison
from tunesmith.people_records import People
from tunesmith.records import (
    Cost,
    Estimate,
    FileHash,
    Forgetting,
    Manifest,
    PairedGain,
    Plan,
    Scorecard,
    SplitCounts,
    Verdict,
)

SEED_NOISE = "gain beyond seed noise"  # the check that several seeds make possible
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
class TaskLoss:
    """The validation loss of another task that is trained along, per supervised token, in nats."""

    task: str
    loss: float


@dataclass(frozen=True)
class ValidationPoint:
    """Validation while training. Losses are per supervised token, in nats; ``metric`` where it is watched.

    ``general_text`` is the relative change of the bits for some general texts since before training;
    ``others`` are the other tasks of a training of several.
    """

    step: int
    epoch: float
    loss: float
    train_loss: float | None = None
    metric: Estimate | None = None
    general_text: Estimate | None = None
    others: tuple[TaskLoss, ...] = ()


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
class TaskPart:
    """One task of a training of several, and the tuned model on that task's validation rows.

    ``rows`` are its training rows, ``share`` its part of an epoch; ``left_out`` of its rows were like rows of
    the run's own task.
    """

    task: str
    rows: int
    share: float
    left_out: int
    card: Scorecard


@dataclass(frozen=True)
class Interference:
    """One task of a training of several: its accuracy on validation, trained together and alone.

    ``rows`` are its training rows, ``share`` its part of an epoch, ``left_out`` what was like rows of the
    run's own task. ``change`` is together minus alone, paired; None where it is not known, for ``reason``.
    """

    task: str
    rows: int
    share: float
    left_out: int
    together: Estimate
    alone: Estimate | None
    change: PairedGain | None
    reason: str | None


@dataclass(frozen=True)
class SeedRun:
    """One of several trainings that differ in their seed only, on validation."""

    seed: int
    best_step: int
    loss: float
    score: Estimate
    adapter_sha256: str


@dataclass(frozen=True)
class SeedStudy:
    """Several seeds: ``chosen`` went to the test by ``rule``.

    ``mean`` and ``spread`` (standard deviation) are of the validation scores in ``metric``, over seeds.
    """

    runs: tuple[SeedRun, ...]
    metric: str
    chosen: int
    rule: str
    mean: Estimate
    spread: Estimate


@dataclass(frozen=True)
class Training:
    """How a tuned candidate came to be. With full fine-tuning ``adapter_folder`` holds the whole model.

    ``long_rows`` are training rows that were dropped or cut; ``seeds`` is there where several were tried.
    ``loss_gap`` is the validation loss less that on training rows at ``best_step``, in nats per token.
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
    seeds: SeedStudy | None = None
    loss_gap: Estimate | None = None


@dataclass(frozen=True)
class Confusion:
    """How often validation rows of ``target`` were answered ``answer``; ``share`` is that of all rows."""

    target: str
    answer: str
    rows: int
    share: Estimate | None = None


@dataclass(frozen=True)
class LabelScore:
    """How validation rows were answered with regard to one label, which so many ``rows`` have."""

    label: str
    rows: int
    precision: Estimate
    recall: Estimate
    f1: Estimate


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
class FoldScore:
    """One recipe in one fold: what it chose on the other folds, and its score on this fold's rows.

    ``score`` is in the goal's metric, with the interval of one model on these rows; None where it has none.
    """

    recipe: str
    chosen: str
    score: Estimate | None


@dataclass(frozen=True)
class Fold:
    """One fold of cross-fitting: its rows, and what was made of the others; the tuned recipe first."""

    version: str
    judged: SplitCounts
    train_rows: int
    validation_rows: int
    best_step: int
    adapter_sha256: str
    scores: tuple[FoldScore, ...]
    opponents_seconds: float
    train_seconds: float


@dataclass(frozen=True)
class Crossfit:
    """How a verdict was reached without a test of its own. ``inflation``: of the standard error."""

    folds: tuple[Fold, ...]
    inflation: float


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
    interference: tuple[Interference, ...] = ()
    notes: tuple[str, ...] = field(default_factory=tuple)
    kind: str = "classify"
    pilot: PilotPower | None = None
    guarded: Guarded | None = None
    test_slices: tuple[SliceScore, ...] = ()
    costs: Costs | None = None
    data_care: DataCare | None = None
    label_scores: tuple[LabelScore, ...] = ()
    crossfit: Crossfit | None = None
    people: People | None = None
    data_curve: DataCurve | None = None
    version_story: VersionStory | None = None
    methods: MethodComparison | None = None
