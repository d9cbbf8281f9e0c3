"""The records of the guards: slices, spoiled inputs, groups of people, secrets, costs and the next step.

Scores are 1 for right and 0 for wrong with labels, else the task metric of a row; more is better.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tunesmith.records import Answer, Estimate, PairedGain

SliceKind = Literal["length", "label", "source", "cluster", "turn", "named"]


@dataclass(frozen=True)
class SliceRule:
    """Which rows belong to a slice; made from training rows, so that it means the same on every split.

    ``low`` and ``high`` bound the number of words (length), or which of the assistant's turns is asked for
    (turn); ``value`` is the label, the source, the number of
    the cluster, or the pattern of a named slice, searched in the input or in the column ``field``.
    """

    name: str
    kind: SliceKind
    value: str = ""
    field: str | None = None
    low: int = 0
    high: int | None = None


@dataclass(frozen=True)
class SliceScore:
    """The tuned model on one slice: its mean score, how that differs from all other rows, and the gain there.

    ``p_adjusted`` is Holm's over the automatic slices of the split; None for named ones, which are judged by
    their ``margin`` instead. ``flagged``: surely below the other rows.
    """

    name: str
    kind: SliceKind
    tuned: Estimate
    difference: Estimate | None
    p_adjusted: float | None
    flagged: bool
    gain: PairedGain
    margin: float | None = None


@dataclass(frozen=True)
class Attack:
    """Validation rows spoiled in one way, and the scores of both candidates on them, before and after.

    ``obeyed`` says which rows were answered as an injected instruction demanded; None where nothing was
    injected. ``unmeasured`` is the reason why there are no scores.
    """

    name: str
    done: str
    groups: tuple[str, ...] = ()
    tuned_before: tuple[float, ...] = ()
    tuned_after: tuple[float, ...] = ()
    opponent_before: tuple[float, ...] = ()
    opponent_after: tuple[float, ...] = ()
    tuned_obeyed: tuple[bool, ...] | None = None
    opponent_obeyed: tuple[bool, ...] | None = None
    unmeasured: str | None = None


@dataclass(frozen=True)
class AttackScore:
    """One attack in numbers. ``loss`` is the fall of the tuned model's score, ``gain`` its lead over the
    opponent under the same attack."""

    name: str
    done: str
    tuned: Estimate | None
    loss: Estimate | None
    opponent: Estimate | None
    gain: PairedGain | None
    tuned_obeyed: Estimate | None = None
    opponent_obeyed: Estimate | None = None
    unmeasured: str | None = None


@dataclass(frozen=True)
class Sureness:
    """How often inputs of one kind were answered surely, and how often with "none of these".

    ``abstained`` is None where the task has no such label.
    """

    inputs: str
    sure: Estimate
    abstained: Estimate | None


@dataclass(frozen=True)
class Swaps:
    """Validation rows asked once more with another group's words: did the answer change?

    With texts by how much its wording changed, 0 to 1 (1 − chrF of the two answers).
    """

    groups: tuple[str, ...]
    tuned_changed: tuple[bool, ...] | tuple[float, ...]
    opponent_changed: tuple[bool, ...] | tuple[float, ...]


@dataclass(frozen=True)
class Grounding:
    """What both candidates' answers say that their source does not: one score a row, smaller is better.

    ``metric`` is one of ``unsupported_words``, ``unsupported_numbers``, ``unsupported_names`` and
    ``unentailed``.
    """

    metric: str
    groups: tuple[str, ...]
    tuned: tuple[float, ...]
    opponent: tuple[float, ...]


@dataclass(frozen=True)
class GroundingScore:
    """The same in numbers, beside the right answers'; ``gain`` is above 0 where less is unsupported.

    ``excess`` is the tuned model's less that of the right answers, paired by row; None for a single group.
    """

    metric: str
    tuned: Estimate
    opponent: Estimate
    references: Estimate
    excess: Estimate | None
    gain: PairedGain


@dataclass(frozen=True)
class Copying:
    """Runs of words that answers copy from the right answers of training rows, beside validation's own.

    ``tuned`` and ``references`` are mean lengths of the longest run of an answer, in words; ``excess`` is
    their paired difference. ``whole`` is the share of the model's answers of eight words or more that stand
    in a training answer from beginning to end, ``whole_references`` that of the right answers; None where
    there are no such answers. ``examples`` are the longest of these runs that the row's right answers do not
    hold themselves.
    """

    tuned: Estimate
    references: Estimate
    excess: Estimate
    whole: Estimate | None
    whole_references: Estimate | None
    examples: tuple[CopiedRun, ...]


@dataclass(frozen=True)
class CopiedRun:
    """So many words of the answer to the row from ``source`` stand word by word in a training answer."""

    source: str
    words: int
    answer: str


@dataclass(frozen=True)
class StockPhrase:
    """A phrase, the share of answers and of references that hold it, and Holm's adjusted p-value."""

    phrase: str
    answers: Estimate
    references: Estimate
    p_adjusted: float


@dataclass(frozen=True)
class GroupGap:
    """The tuned model's score on rows of one group of people, less that on the other groups' rows."""

    dimension: str
    group: str
    tuned: Estimate
    difference: Estimate
    p_adjusted: float
    flagged: bool


@dataclass(frozen=True)
class SwapScore:
    """Share of answers (with texts: of their wording) that changed with the group named.

    ``gain`` is above 0 where fewer changed than the opponent's.
    """

    tuned: Estimate
    opponent: Estimate
    gain: PairedGain


@dataclass(frozen=True)
class Refusal:
    """Requests that were refused (log-probability of refusing openings above that of others), before and
    after tuning. ``wanted``: they should be refused."""

    wanted: bool
    groups: tuple[str, ...]
    base: tuple[bool, ...]
    tuned: tuple[bool, ...]


@dataclass(frozen=True)
class Exposure:
    """How far planted secrets can be told from secrets that were not planted, in bits (Carlini et al. 2019).

    ``exposure`` is log2 of the alternatives less log2 of the secret's rank, 0 to log2 of the alternatives;
    an untouched model has about 1.4 on average. ``alternatives`` were compared with each secret.
    """

    tuned: Estimate
    base: Estimate
    excess: Estimate
    alternatives: int
    first_ranked: int


@dataclass(frozen=True)
class Latency:
    """Seconds for one request, asked alone, and its tokens; one of each for ``candidate``'s requests.

    ``spend`` is what an endpoint charged for each; empty where there is none.
    """

    candidate: str
    groups: tuple[str, ...]
    seconds: tuple[float, ...]
    tokens: tuple[int, ...]
    spend: tuple[float, ...] = ()


@dataclass(frozen=True)
class CandidateCost:
    """One line of the decision table. None: it has none, or it was not measured in this run.

    ``fixed_seconds`` trained or tuned it; ``latency`` is for one request (seconds); ``gap`` is its score on
    training rows less that on validation; ``price`` is for a million requests.
    """

    name: str
    kind: str
    fixed_seconds: float | None
    memory_mb: float
    latency: Estimate | None
    tokens: Estimate | None
    score: Estimate | None
    gain: PairedGain | None
    forgetting: Estimate | None
    gap: Estimate | None
    price: Estimate | None


@dataclass(frozen=True)
class BreakEven:
    """After how many requests training has paid, against one opponent.

    ``requests`` None: never, by the estimate; ``low`` None: never, even at the best bound; ``high`` None: the
    interval does not exclude that it never pays. ``saved`` is what one request costs less, in ``unit``.
    """

    opponent: str
    saved: Estimate
    unit: str
    fixed: float
    requests: float | None
    low: float | None
    high: float | None
    sentence: str


@dataclass(frozen=True)
class Step:
    """One thing that can be done next, in plain words. ``worth`` is the most it can bring (share of rows)."""

    name: str
    advice: str
    evidence: str
    answer: Answer
    worth: Estimate | None


@dataclass(frozen=True)
class PromptedTuned:
    """The tuned model with the best ``prompt`` of its base, and without it, on the same rows of validation.

    ``gain`` is what the prompt still brings it.
    """

    prompt: str
    prompted: Estimate
    plain: Estimate
    gain: PairedGain


@dataclass(frozen=True)
class Guarded:
    """What the guards stage measured, on validation and training rows alone.

    ``metric`` is what the scores of single rows are. The last three are of texts; ``copying`` None: none.
    """

    opponent: str
    validation_slices: tuple[SliceScore, ...]
    attacks: tuple[AttackScore, ...]
    sureness: tuple[Sureness, ...]
    swaps: SwapScore | None
    gaps: tuple[GroupGap, ...]
    exposure: Exposure | None
    train_score: Estimate | None
    gap: Estimate | None
    steps: tuple[Step, ...]
    metric: str = "accuracy"
    grounding: tuple[GroundingScore, ...] = ()
    copying: Copying | None = None
    stock_phrases: tuple[StockPhrase, ...] = ()
    prompted: PromptedTuned | None = None


@dataclass(frozen=True)
class Costs:
    """The decision table, and when training pays against each finalist."""

    candidates: tuple[CandidateCost, ...]
    break_even: tuple[BreakEven, ...]
    not_run: tuple[str, ...]


@dataclass(frozen=True)
class GuardEvidence:
    """What the guards rest on, row by row, so that the verdict can judge them at the level of its contest."""

    opponent: str
    attacks: tuple[Attack, ...]
    swaps: Swaps | None
    refusals: tuple[Refusal, ...]
    latencies: tuple[Latency, ...]
    grounding: tuple[Grounding, ...] = ()
