"""Whole projects, simulated: the rows are drawn, everything that is decided about them is the real code.

A row is right or wrong by a latent normal score. A share of it is the row's difficulty, common to all
candidates; the rest is the candidate's own. Where rows come in groups, half of each part is shared by the
group. All latent scores have variance 1, so a candidate with threshold Φ⁻¹(p) is right on a share p of all
rows there are: the true gain is exact, not estimated.

Least favourable choices: one finalist only (a second one can but stop a TRAIN), and candidates that share
nothing but the difficulty of the rows (candidates that resemble each other ship together or not at all).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from tunesmith.evaluation.forgetting import ALL_PROBES, ALL_TEXT, guard_checks
from tunesmith.evaluation.verdict import decide
from tunesmith.records import Candidate, Check, Cost, Decision, Estimate, Forgetting, PairedGain, Scorecard
from tunesmith.stats.answers import Rule
from tunesmith.stats.intervals import relative_change_interval
from tunesmith.stats.levels import alpha_for_opening, guard_level
from tunesmith.stats.paired import paired_gain

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]

RULES: tuple[Rule, ...] = ("estimate", "margin")
GOAL = 0.02
OPPONENT_ACCURACY = 0.80
COMMON_DIFFICULTY = 0.8  # candidates of equal accuracy then disagree on about 15 % of the rows
GROUP_SHARE = 0.5
MOST_OPENINGS = 10
TEXT_MARGIN, PROBE_MARGIN = 0.03, 0.02
PROBE_ITEMS = 1000
TEXT_DOCUMENTS = 300

# The decision reads values, levels and names; what a test accuracy is exactly only enters its sentence.
_CARD = Estimate(OPPONENT_ACCURACY, 0.78, 0.82, 100, 100, 0.95, "Wilson")
_OPPONENT = Scorecard(
    Candidate("0", "classical", "opponent", {}), "test", {"accuracy": _CARD}, {}, (), Cost(0, 0, 0, 0)
)


@dataclass(frozen=True)
class Setting:
    """One kind of project. ``groups`` is the n of its sealed test; a group is one row unless clustered."""

    groups: int
    clustered: bool
    true_gain: float


@dataclass(frozen=True)
class Outcome:
    """What became of the projects of one setting; counts are projects, by rule.

    ``decisions``: at the first opening. ``trained_at_ten``: the same candidate at the level of the tenth
    opening. ``shipped_by``: a TRAIN at opening 1, 2, … (cumulative), each opening judging another candidate
    with the same true gain until one ships; simulated for true gains of 0 or less. ``covered``: how many
    gain intervals at the first opening's level held the truth.
    """

    setting: Setting
    projects: int
    rows: float
    discordant: float
    covered: int
    decisions: dict[Rule, dict[Decision, int]]
    trained_at_ten: dict[Rule, int]
    shipped_by: dict[Rule, list[int]]


def simulate(setting: Setting, projects: int, seed: int) -> Outcome:
    """Run ``projects`` projects of this setting: one opening, or up to ten where no candidate is better."""
    random = np.random.default_rng(seed)
    decisions: dict[Rule, dict[Decision, int]] = {
        rule: {"TRAIN": 0, "DON'T": 0, "CANNOT TELL YET": 0} for rule in RULES
    }
    trained_at_ten = dict.fromkeys(RULES, 0)
    shipped = {rule: [0] * MOST_OPENINGS for rule in RULES}
    covered = 0
    rows = discordant = 0.0
    for _ in range(projects):
        codes = draw_groups(random, setting.groups, setting.clustered)
        names = codes.astype(str).tolist()
        difficulty = latent(random, codes, setting.clustered)
        opponent = right(random, difficulty, codes, setting.clustered, OPPONENT_ACCURACY)
        accuracy = OPPONENT_ACCURACY + setting.true_gain
        tuned = right(random, difficulty, codes, setting.clustered, accuracy)
        first = paired_gain(tuned, opponent, names, "opponent", alpha_for_opening(1))
        tenth = paired_gain(tuned, opponent, names, "opponent", alpha_for_opening(MOST_OPENINGS))
        waiting: list[Rule] = []
        for rule in RULES:
            decision = judge(first, (), rule, 1)
            decisions[rule][decision] += 1
            trained_at_ten[rule] += judge(tenth, (), rule, MOST_OPENINGS) == "TRAIN"
            shipped[rule][0] += decision == "TRAIN"
            if decision != "TRAIN":
                waiting.append(rule)
        rows += len(codes)
        discordant += first.discordant
        assert first.low is not None
        assert first.high is not None
        covered += first.low <= setting.true_gain <= first.high
        for opening in range(2, MOST_OPENINGS + 1 if setting.true_gain <= 0 else 0):
            tuned = right(random, difficulty, codes, setting.clustered, accuracy)
            gain = paired_gain(tuned, opponent, names, "opponent", alpha_for_opening(opening))
            for rule in tuple(waiting):
                if judge(gain, (), rule, opening) == "TRAIN":
                    shipped[rule][opening - 1] += 1
                    waiting.remove(rule)
            if not waiting:
                break
    shipped_by = {rule: np.cumsum(counts).tolist() for rule, counts in shipped.items()}
    return Outcome(
        setting, projects, rows / projects, discordant / projects, covered, decisions, trained_at_ten,
        shipped_by if setting.true_gain <= 0 else {},
    )  # fmt: skip


def judge(gain: PairedGain, guards: tuple[Check, ...], rule: Rule, opening: int) -> Decision:
    """The real decision on one finalist."""
    return decide(
        [gain],
        guards,
        goal_gain=GOAL,
        rule=rule,
        alpha_one_sided=alpha_for_opening(opening),
        opening=opening,
        tuned=_CARD,
        opponents=[_OPPONENT],
    ).decision


@dataclass(frozen=True)
class GuardOutcome:
    """Projects with a real gain whose ``guard`` is truly ``beyond`` times its margin.

    ``shipped_by``: how many had a TRAIN at opening 1, 2, … (cumulative).
    """

    guard: str
    beyond: float
    projects: int
    shipped_by: list[int]


def simulate_guard(kind: str, beyond: float, projects: int, seed: int) -> GuardOutcome:
    """A gain of 10 points on 1,000 rows, and one blocking guard at ``beyond`` × its margin."""
    random = np.random.default_rng(seed)
    shipped = [0] * MOST_OPENINGS
    codes = np.arange(1000)
    names = codes.astype(str).tolist()
    for _ in range(projects):
        difficulty = latent(random, codes, clustered=False)
        opponent = right(random, difficulty, codes, False, OPPONENT_ACCURACY)
        measure = _text_guard(random, beyond) if kind == "text" else _probe_guard(random, beyond)
        for opening in range(1, MOST_OPENINGS + 1):
            tuned = right(random, difficulty, codes, False, OPPONENT_ACCURACY + 0.10)
            gain = paired_gain(tuned, opponent, names, "opponent", alpha_for_opening(opening))
            guards = guard_checks([measure(opening)], text_blocking=True, probe_blocking=True)
            if judge(gain, guards, "estimate", opening) == "TRAIN":
                shipped[opening - 1] += 1
                break
    return GuardOutcome(kind, beyond, projects, np.cumsum(shipped).tolist())


def _text_guard(random: np.random.Generator, beyond: float) -> Callable[[int], Forgetting]:
    """Bits of passages, one to three a document; every tuned model moves each document in its own way."""
    codes = np.repeat(np.arange(TEXT_DOCUMENTS), random.integers(1, 4, TEXT_DOCUMENTS))
    names = codes.astype(str).tolist()
    base = random.lognormal(7, 0.6, len(codes))

    def measure(opening: int) -> Forgetting:
        moved = 0.03 * (random.gamma(2, 1, TEXT_DOCUMENTS) - 2)[codes] / np.sqrt(2)
        moved += random.normal(0, 0.03, len(codes))
        tuned = base * (1 + beyond * TEXT_MARGIN + moved)
        change = relative_change_interval(tuned, base, names, guard_level(opening))
        return Forgetting(ALL_TEXT, "text", len(codes), _CARD, _CARD, change, margin=TEXT_MARGIN)

    return measure


def _probe_guard(random: np.random.Generator, beyond: float) -> Callable[[int], Forgetting]:
    codes = np.arange(PROBE_ITEMS)
    names = codes.astype(str).tolist()
    difficulty = latent(random, codes, clustered=False)
    base = right(random, difficulty, codes, False, OPPONENT_ACCURACY)

    def measure(opening: int) -> Forgetting:
        level = guard_level(opening)
        accuracy = OPPONENT_ACCURACY - beyond * PROBE_MARGIN
        tuned = right(random, difficulty, codes, False, accuracy)
        gain = paired_gain(tuned, base, names, "base", (1 - level) / 2)
        assert gain.low is not None
        assert gain.high is not None
        change = Estimate(gain.value, gain.low, gain.high, gain.rows, gain.groups, level, "paired cluster-t")
        return Forgetting(ALL_PROBES, "probe", PROBE_ITEMS, _CARD, _CARD, change, margin=PROBE_MARGIN)

    return measure


def draw_groups(random: np.random.Generator, groups: int, clustered: bool) -> Codes:
    """The group of each row: single rows, or 1 to 8 rows a group, two on average."""
    if not clustered:
        return np.arange(groups)
    return np.repeat(np.arange(groups), np.minimum(random.geometric(0.5, groups), 8))


def latent(random: np.random.Generator, codes: Codes, clustered: bool) -> Floats:
    """One standard normal a row; half of its variance belongs to the group where rows are clustered."""
    own = random.standard_normal(len(codes))
    if not clustered:
        return own
    shared: Floats = random.standard_normal(int(codes[-1]) + 1)[codes]
    return math.sqrt(GROUP_SHARE) * shared + math.sqrt(1 - GROUP_SHARE) * own


def right(
    random: np.random.Generator, difficulty: Floats, codes: Codes, clustered: bool, accuracy: float
) -> Bools:
    """Where a candidate of this true accuracy is right."""
    own = latent(random, codes, clustered)
    score = math.sqrt(COMMON_DIFFICULTY) * difficulty + math.sqrt(1 - COMMON_DIFFICULTY) * own
    return np.asarray(score < NormalDist().inv_cdf(accuracy))
