"""How often the interval of cross-fitting holds a recipe's gain: real recipes that learn, three metrics.

    python studies/operating_characteristics/crossfitting.py          # ten minutes; writes docs/ and results
    python studies/operating_characteristics/crossfitting.py --quick  # under 10 s; writes nothing

Two recipes learn alike from inputs of their own: of equal worth (the true gain is exactly 0), or of unequal
worth (the true gain is that over many training sets and rows, drawn anew). Exit code 1 when a rate misses its
target by more than the simulation's own error (two standard errors).
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tunesmith.files import write_json, write_text
from tunesmith.records import PairedGain
from tunesmith.stats.answers import worth_it
from tunesmith.stats.crossfit import crossfit_gain, inflation, outer_folds, raised_gain
from tunesmith.stats.jackknife import jackknife_gain, statistic_of_sums
from tunesmith.stats.paired import paired_score_gain

FOLDER = Path(__file__).parent
PAGE = FOLDER.parent.parent / "docs" / "few-rows-simulated.md"
LEAST_COVERAGE = 0.935
MOST_FALSE_SHIPS = 0.05
FOLDS = 5
TAGS = 6
FEATURES = 6
GOAL = 0.02
# Worth of the inputs that the candidate and its opponent learn from.
EQUAL, UNEQUAL = (0.45, 0.45), (0.55, 0.4)

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Codes = npt.NDArray[np.intp]
# Learn from inputs and tags, answer other inputs.
Learner = Callable[[Floats, Bools, Floats], Bools]


@dataclass(frozen=True)
class Setting:
    """``metric``: right answers (one tag), the mean F1 of rows, or the micro-F1 of all rows' tags."""

    learner: str
    metric: str
    groups: int
    equal: bool


@dataclass(frozen=True)
class Outcome:
    """Of ``projects``: how many 95 % intervals held the true gain, also without the raised error, and (equal
    recipes) how many would have been told to train."""

    setting: Setting
    true_gain: float
    projects: int
    held: int
    held_plain: int
    shipped: int


def nearest_mean(inputs: Floats, tags: Bools, asked: Floats) -> Bools:
    """Of each tag by itself: with or without it, whichever mean is nearer."""
    columns = []
    for own in tags.T:
        if own.all() or not own.any():
            columns.append(np.full(len(asked), bool(own[0])))
            continue
        one, other = inputs[own].mean(axis=0), inputs[~own].mean(axis=0)
        columns.append((asked - (one + other) / 2) @ (one - other) > 0)
    return np.column_stack(columns)


def nearest_row(inputs: Floats, tags: Bools, asked: Floats) -> Bools:
    """The tags of the one nearest neighbour: answers change a lot with the training rows."""
    distances = (inputs**2).sum(axis=1) - 2 * asked @ inputs.T
    return np.asarray(tags[distances.argmin(axis=1)])


LEARNERS: dict[str, Learner] = {"nearest mean": nearest_mean, "nearest row": nearest_row}
METRICS = ("right answers", "mean F1 of rows", "micro-F1 of all rows")


def draw(random: np.random.Generator, groups: int, worth: tuple[float, float]) -> tuple[Floats, Bools, Codes]:
    """Rows in groups of 1 to 3 that share their tags and half of their noise; inputs of both recipes.

    A recipe's inputs tell each of the tags by ``FEATURES`` noisy numbers. Shapes (rows, 2·TAGS·FEATURES),
    (rows, TAGS), (rows,).
    """
    codes = np.repeat(np.arange(groups), random.integers(1, 4, groups))
    tags = (random.random((groups, TAGS)) < 0.4)[codes]
    width = 2 * TAGS * FEATURES
    noise = random.standard_normal((groups, width))[codes] + random.standard_normal((len(codes), width))
    told = np.repeat(2.0 * tags - 1, FEATURES, axis=1)
    return noise / math.sqrt(2) + np.hstack([worth[0] * told, worth[1] * told]), tags, codes


def answered(learner: Learner, inputs: Floats, tags: Bools, folds: Codes) -> Bools:
    """Each row's tags, as learned from the rows of the other folds."""
    answers = np.empty_like(tags)
    for fold in range(FOLDS):
        test = folds == fold
        answers[test] = learner(inputs[~test], tags[~test], inputs[test])
    return answers


def counts(answers: Bools, tags: Bools) -> Floats:
    """Of each row twice the tags that are right, and all that were answered and wanted; shape (rows, 2)."""
    both = (answers & tags).sum(axis=1)
    return np.column_stack([2.0 * both, answers.sum(axis=1) + tags.sum(axis=1)])


def row_scores(answers: Bools, tags: Bools) -> Floats:
    parts = counts(answers, tags)
    return np.where(parts[:, 1] > 0, parts[:, 0] / np.maximum(parts[:, 1], 1), 1.0)


def micro_f1(sums: Floats) -> Floats:
    return np.asarray(sums[:, 0] / np.maximum(sums[:, 1], 1))


def value(metric: str, answers: Bools, tags: Bools) -> float:
    if metric == "right answers":
        return float((answers[:, 0] == tags[:, 0]).mean())
    if metric == "mean F1 of rows":
        return float(row_scores(answers, tags).mean())
    return float(micro_f1(counts(answers, tags).sum(axis=0, keepdims=True))[0])


def gains(
    metric: str, own: Bools, other: Bools, tags: Bools, codes: Codes, folds: Codes, alpha: float
) -> tuple[PairedGain, PairedGain]:
    """The gain with its raised error, as the verdict computes it, and the same without."""
    names: list[str] = codes.astype(str).tolist()
    if metric == "right answers":
        right = [(answers[:, 0] == tags[:, 0]).astype(np.float64) for answers in (own, other)]
        raised = crossfit_gain(right[0], right[1], names, folds, "rival", alpha)
        return raised, paired_score_gain(right[0], right[1], names, "rival", alpha)
    if metric == "mean F1 of rows":
        scores = [row_scores(answers, tags) for answers in (own, other)]
        plain = paired_score_gain(scores[0], scores[1], names, "rival", alpha)
    else:
        sums = [statistic_of_sums(counts(answers, tags), micro_f1) for answers in (own, other)]
        plain = jackknife_gain(sums[0], sums[1], names, "rival", alpha)
    return raised_gain(plain, FOLDS), plain


def true_gain(setting: Setting, worth: tuple[float, float], draws: int) -> float:
    """Of recipes that learn from 4 of 5 groups, over ``draws`` training sets, each asked 600 groups."""
    if setting.equal:
        return 0.0
    learner, differences = LEARNERS[setting.learner], []
    random = np.random.default_rng(987)
    half = TAGS * FEATURES
    for _ in range(draws):
        train, tags, _ = draw(random, setting.groups * (FOLDS - 1) // FOLDS, worth)
        asked, wanted, _ = draw(random, 600, worth)
        values = [
            value(setting.metric, learner(train[:, part], tags, asked[:, part]), wanted)
            for part in (slice(half), slice(half, None))
        ]
        differences.append(values[0] - values[1])
    return float(np.mean(differences))


def simulate(setting: Setting, projects: int, truth_draws: int, seed: int) -> Outcome:
    worth = EQUAL if setting.equal else UNEQUAL
    truth = true_gain(setting, worth, truth_draws)
    random = np.random.default_rng(seed)
    learner, half = LEARNERS[setting.learner], TAGS * FEATURES
    held = held_plain = shipped = 0
    for number in range(projects):
        inputs, tags, codes = draw(random, setting.groups, worth)
        folds = outer_folds(codes.astype(str).tolist(), FOLDS, number)
        own = answered(learner, inputs[:, :half], tags, folds)
        other = answered(learner, inputs[:, half:], tags, folds)
        raised, plain = gains(setting.metric, own, other, tags, codes, folds, 0.025)
        held += _holds(raised, truth)
        held_plain += _holds(plain, truth)
        judged, _ = gains(setting.metric, own, other, tags, codes, folds, 0.05)
        shipped += worth_it(judged, GOAL, "estimate") == "passed"
    return Outcome(setting, truth, projects, held, held_plain, shipped)


def _holds(gain: PairedGain, truth: float) -> bool:
    assert gain.low is not None
    assert gain.high is not None
    return gain.low <= truth <= gain.high


def missed(outcome: Outcome) -> list[str]:
    found = []
    if _surely_above(outcome.projects - outcome.held, outcome.projects, 1 - LEAST_COVERAGE):
        found.append(f"{outcome.setting}: {outcome.held} of {outcome.projects} intervals hold the truth")
    if outcome.setting.equal and _surely_above(outcome.shipped, outcome.projects, MOST_FALSE_SHIPS):
        found.append(f"{outcome.setting}: {outcome.shipped} of {outcome.projects} ship")
    return found


def _surely_above(count: int, of: int, rate: float) -> bool:
    return count / of > rate + 2 * math.sqrt(rate * (1 - rate) / of)


def page(outcomes: list[Outcome]) -> str:
    lines = [
        "# Cross-fitting, simulated",
        "",
        f"{outcomes[0].projects:,} projects a line, {FOLDS} folds, groups of 1 to 3 rows; two recipes that",
        "learn alike, from inputs of their own. Made by `studies/operating_characteristics/crossfitting.py`,",
        f"on the functions that the verdict uses. The error is raised {inflation(FOLDS):.2f} times;",
        "beside it what the plain paired interval would hold. False TRAINs: of equal recipes, one-sided 5 %,",
        "with a goal of 2 points by the rule `estimate`.",
        "",
        "| recipes learn by | metric | groups | true gain, points | 95 % interval holds it | not raised "
        "| false TRAINs |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in outcomes:
        setting = one.setting
        ships = f"{one.shipped / one.projects:.1%}" if setting.equal else ""
        lines.append(
            f"| {setting.learner} | {setting.metric} | {setting.groups} | {100 * one.true_gain:+.1f} | "
            f"{one.held / one.projects:.1%} | {one.held_plain / one.projects:.1%} | {ships} |"
        )
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description="Coverage of cross-fitting.")
    parser.add_argument("--quick", action="store_true", help="a short version that writes nothing")
    quick = parser.parse_args().quick
    sizes = (80,) if quick else (60, 200)
    projects, draws = (100, 60) if quick else (2000, 2000)
    outcomes: list[Outcome] = []
    for equal in (True, False):
        for learner in LEARNERS:
            for metric in METRICS:
                for groups in sizes:
                    setting = Setting(learner, metric, groups, equal)
                    outcomes.append(simulate(setting, projects, draws, len(outcomes)))
                    sys.stderr.write(f"{outcomes[-1]}\n")
    if not quick:
        write_json(FOLDER / "crossfitting.json", outcomes)
        write_text(PAGE, page(outcomes))
    misses = [miss for outcome in outcomes for miss in missed(outcome)]
    for miss in misses:
        sys.stdout.write(f"missed its target: {miss}\n")
    sys.stdout.write(f"{len(outcomes) - len(misses)} of {len(outcomes)} settings on target\n")
    return 1 if misses else 0


if __name__ == "__main__":
    sys.exit(main())
