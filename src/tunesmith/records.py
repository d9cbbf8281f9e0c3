"""The nouns of Tunesmith as frozen, typed records. They flow through every stage.

The sixth noun, Task, is the validated ``task.yaml`` and lives in ``task/settings.py``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from tunesmith.plan_records import PlannedMethod
from tunesmith.power_records import JointPower, PowerPoint

Role = Literal["system", "user", "assistant"]
SplitName = Literal["train", "validation", "test"]
Answer = Literal["passed", "failed", "unmeasured"]
Decision = Literal["TRAIN", "DON'T", "CANNOT TELL YET"]
CandidateKind = Literal["constant", "classical", "prompt", "endpoint", "tuned"]

# JSON-like settings of a candidate; only the code that made them reads them again.
Settings = dict[str, str | int | float | bool | list[str] | list[int] | list[float] | None]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class Row:
    """One example: the turns before the answer, and the answer that is wanted.

    ``source`` says where it came from (``tickets.jsonl:118``); ``group`` is shared by rows that must not
    be separated (near-duplicates); ``conflict`` marks a row that others of its group contradict.
    ``fields`` are other columns of the source as (name, text), sorted by name; they are no part of the id.
    ``rejected`` is the answer not wanted, of a preference pair. ``annotations`` are (annotator, answer)
    where several people annotated the row; the target is then what most of them said.
    """

    id: str
    source: str
    messages: tuple[Message, ...]
    target: str
    group: str = ""
    conflict: bool = False
    fields: tuple[tuple[str, str], ...] = ()
    rejected: str | None = None
    annotations: tuple[tuple[str, str], ...] = ()

    def field(self, name: str) -> str | None:
        """The field of that name without the spaces around it, or None."""
        return next((value.strip() for own, value in self.fields if own == name), None)

    @property
    def text(self) -> str:
        """The input as one string, for duplicates, classical models and people."""
        return "\n".join(message.content for message in self.messages)


@dataclass(frozen=True)
class SetAside:
    """Rows that were read but are in no split, and why."""

    reason: str
    rows: int
    groups: int


@dataclass(frozen=True)
class MadeRows:
    """Training rows that no person wrote or labelled, by how they were made (weak label, swap, …).

    ``weight`` is what they count for together; ``rows`` where each counts as one.
    """

    how: str
    rows: int
    weight: float | None = None


@dataclass(frozen=True)
class SplitCounts:
    """How much one split holds."""

    rows: int
    groups: int
    conflict_rows: int


@dataclass(frozen=True)
class SourceFile:
    """A file the data came from."""

    name: str
    sha256: str
    rows: int


@dataclass(frozen=True)
class AuditAnswer:
    """What one check of the audit answered: how many findings it had, and how many rows they speak of."""

    check: str
    answer: Answer
    findings: int
    rows: int


@dataclass(frozen=True)
class Manifest:
    """What a frozen dataset version holds. ``version`` is the hash of its content.

    ``test_sha256`` names the sealed test by its rows alone: two versions that differ only in training
    rows share it, and so share the count of test openings. ``unmeasured_labels`` have too few groups to
    be tested: they are trained on, and nothing is claimed about them. ``parents`` are the versions that it
    was made from by a repair plan; what the plan changed is in its ``changes.parquet``. ``date_ranges``: of
    a split by time, the first and last date of each split. ``made`` counts those training
    rows that were made, not written by people. ``folds``: of a version that is cross-fitted, the versions of
    its folds; it has no test then, and ``test_sha256`` names the rows of all folds. ``checks`` are what
    the audit answered about the source, before repair, as far as it was run when the version was frozen; they
    are no part of its name.
    """

    version: str
    task: str
    labels: tuple[str, ...]
    unmeasured_labels: tuple[str, ...]
    source_rows: int
    rows: int
    groups: int
    conflict_groups: int
    splits: dict[SplitName, SplitCounts]
    set_aside: tuple[SetAside, ...]
    sources: tuple[SourceFile, ...]
    test_sha256: str
    licence: str
    attribution: str
    recipe: Settings
    leaks: int
    files: tuple[FileHash, ...] = ()
    parents: tuple[str, ...] = ()
    made: tuple[MadeRows, ...] = ()
    date_ranges: dict[SplitName, tuple[str, str]] = field(default_factory=dict)
    folds: tuple[str, ...] = ()
    checks: tuple[AuditAnswer, ...] = ()


@dataclass(frozen=True)
class Dataset:
    """An immutable, content-addressed version on disk. Test rows are reached only by ``open_test``."""

    folder: str
    manifest: Manifest


@dataclass(frozen=True)
class Estimate:
    """A number with its interval. ``level`` is two-sided (0.95); ``rows`` and ``groups`` are its n."""

    value: float
    low: float
    high: float
    rows: int
    groups: int
    level: float
    method: str


@dataclass(frozen=True)
class PairedGain:
    """How much better the candidate is than the opponent in one metric, paired and clustered by group.

    ``value`` is above 0 where the candidate is better, also in metrics that should be small. ``low`` and
    ``high`` are at two-sided ``level`` = 1 − 2·one-sided alpha; both are None when there are too few groups
    to measure them. ``wins`` and ``losses`` are the rows that speak for and against the candidate.
    ``discordant`` is the share of rows where exactly one of the two is right; in a metric with more than two
    scores a row the mean squared difference of a row, which enters the variance in the same place.
    ``design_effect`` is the factor by which clustering inflates the variance.
    """

    opponent: str
    value: float
    low: float | None
    high: float | None
    level: float
    rows: int
    groups: int
    wins: int
    losses: int
    discordant: float
    design_effect: float
    standard_error: float | None
    mcnemar_p: float | None


@dataclass(frozen=True)
class Candidate:
    """Anything that can answer the task. ``id`` is the hash of everything that decides its answers."""

    id: str
    kind: CandidateKind
    name: str
    settings: Settings
    base: str | None = None


@dataclass(frozen=True)
class Prediction:
    """One answer. ``probability`` is normalised over the label set; None where a candidate has none.

    ``correct``: a text is correct where it equals a right answer. ``score`` is the goal's metric of this row
    alone, larger when better; None with labels, and where a row alone has none.
    """

    row_id: str
    answer: str
    probability: float | None
    correct: bool
    score: float | None = None


@dataclass(frozen=True)
class Cost:
    """What scoring or training took. ``tokens`` counts useful (non-padding) tokens, 0 without a model.

    ``spend`` is what an endpoint charged, in the currency of the task's prices.
    """

    seconds: float
    rows: int
    tokens: int
    peak_memory_mb: float
    spend: float = 0.0

    def plus(self, other: Cost) -> Cost:
        """The cost of both, one after the other."""
        return Cost(
            self.seconds + other.seconds,
            self.rows + other.rows,
            self.tokens + other.tokens,
            max(self.peak_memory_mb, other.peak_memory_mb),
            self.spend + other.spend,
        )


@dataclass(frozen=True)
class Scorecard:
    """One candidate on one split. On the sealed test ``predictions`` is empty: aggregates only.

    ``metrics_before_review`` are those on the test as it was before people's answers in the review queue
    changed rows of it; empty where they changed none. ``stopped_after_rows``: it was clearly behind another
    candidate on validation, and scored on so many rows only.
    """

    candidate: Candidate
    split: SplitName
    metrics: dict[str, Estimate]
    metrics_without_conflicts: dict[str, Estimate]
    predictions: tuple[Prediction, ...]
    cost: Cost
    stopped_after_rows: int | None = None
    metrics_before_review: dict[str, Estimate] = field(default_factory=dict)


@dataclass(frozen=True)
class CrossfitPlan:
    """All rows judged in folds in place of a test: what that can tell, and how long training takes.

    ``chosen``: the task asks for it; else it is proposed, and ``smallest_gain`` is what gets TRAIN 8 times in
    10 in a metric without a formula.
    """

    folds: int
    rows: int
    groups: int
    chosen: bool
    power: tuple[PowerPoint, ...]
    train_seconds: float
    smallest_gain: float | None = None


@dataclass(frozen=True)
class Plan:
    """What can be known before anything is trained. Times and memory are for this machine.

    ``power`` is empty where nothing is known of ``metric`` before there are answers to look at (a pilot).
    ``strong_opponents`` are endpoints, and prompted models of a billion parameters or more.
    To fit the memory ``micro_batch_tokens`` are held for the backward pass at once, and with ``recompute``
    layers keep only their inputs. With cross-fitting the test is the rows of all folds, ``power`` is with the
    error raised for it, and estimated seconds are of all folds and the model to be used together.
    """

    test_rows: int
    test_groups: int
    design_effect: float
    goal_gain: float
    alpha_one_sided: float
    power: tuple[PowerPoint, ...]
    precision: str
    matmul_gflops: float
    tokens_per_second: float
    train_tokens: int
    estimated_train_seconds: float
    estimated_opponents_seconds: float
    estimated_verdict_seconds: float
    estimated_peak_memory_mb: float
    available_memory_mb: float
    micro_batch_tokens: int = 2048
    recompute: bool = False
    guards: tuple[JointPower, ...] = ()  # one for each spread that is assumed; empty when none blocks
    metric: str = "accuracy"
    strong_opponents: tuple[str, ...] = ()
    crossfit: CrossfitPlan | None = None
    rows_needed: tuple[int, int] | None = None  # of the test; None without a formula
    methods: tuple[PlannedMethod, ...] = ()  # trained for comparison; counted in what training takes


@dataclass(frozen=True)
class Check:
    """One question put to the evidence, with exactly one answer. Unmeasured blocks where it is asked for."""

    name: str
    question: str
    answer: Answer
    evidence: str
    blocking: bool
    estimate: Estimate | None = None


@dataclass(frozen=True)
class Verdict:
    """The decision reached from the checks, in words and numbers.

    ``rows_needed`` is the range of test rows that would tell, only with CANNOT TELL YET.
    ``opening`` is k: this is the k-th distinct contest on this sealed test.
    """

    decision: Decision
    sentence: str
    use_instead: str | None
    checks: tuple[Check, ...]
    gains: tuple[PairedGain, ...]
    rows_needed: tuple[int, int] | None
    opening: int
    alpha_one_sided: float
    rule: str
    goal_gain: float
    metric: str = "accuracy"


@dataclass(frozen=True)
class Forgetting:
    """General ability of the tuned model against its base, by text domain and by probe.

    ``bits_per_byte_change`` is relative: 0.01 is one per cent more bits than the base needs.
    ``margin`` is the largest such change the task calls "not worse"; None where it states none.
    """

    domain: str
    kind: Literal["text", "probe"]
    items: int
    base: Estimate
    tuned: Estimate
    change: Estimate
    log_probability_change: Estimate | None = None
    at_chance: bool = False
    margin: float | None = None


@dataclass(frozen=True)
class FileHash:
    """One file behind a result."""

    name: str
    sha256: str
    size_bytes: int
