"""Operating characteristics of the verdict: how often whole projects go wrong when the truth is known.

    python studies/operating_characteristics/run.py          # under ten minutes; writes docs/, results.json
    python studies/operating_characteristics/run.py --quick  # under 20 s; writes nothing

Exit code 1 when a rate misses its target by more than the simulation's own error (two standard errors).
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from coverage import INTERVALS, Coverage, measure
from pages import Findings, write_pages
from projects import GuardOutcome, Outcome, Setting, simulate, simulate_guard
from tunesmith.files import write_json

FOLDER = Path(__file__).parent
DOCS = FOLDER.parent.parent / "docs"
MOST_FALSE_SHIPS = 0.05
LEAST_COVERAGE = 0.935


@dataclass(frozen=True)
class Sizes:
    """How much is simulated."""

    projects: int
    repetitions: int
    guard_projects: int
    project_groups: tuple[int, ...]
    coverage_groups: tuple[int, ...]
    true_gains: tuple[float, ...]


FULL = Sizes(
    projects=2000,
    repetitions=4000,
    guard_projects=2000,
    project_groups=(50, 100, 200, 500, 1000, 2000),
    coverage_groups=(100, 200, 500, 2000),
    true_gains=(-0.05, -0.02, 0, 0.02, 0.05, 0.10),
)
QUICK = Sizes(200, 300, 150, (50, 200), (100,), (0, 0.10))


def study(sizes: Sizes) -> Findings:
    projects, guards, coverage = [], [], []
    seed = 0
    for groups in sizes.project_groups:
        for clustered in (False, True):
            for true_gain in sizes.true_gains:
                seed += 1
                projects.append(simulate(Setting(groups, clustered, true_gain), sizes.projects, seed))
                _say(f"{projects[-1].setting}")
    for kind in ("text", "probe"):
        seed += 1
        guards.append(simulate_guard(kind, 1.0, sizes.guard_projects, seed))
        _say(f"{kind} guard at its margin")
    for name, draw in INTERVALS.items():
        for groups in sizes.coverage_groups:
            for clustered in (False, True):
                seed += 1
                coverage.append(measure(name, draw, groups, clustered, sizes.repetitions, seed))
        _say(name)
    missed = tuple(_missed(projects, guards, coverage))
    return Findings(tuple(projects), tuple(guards), tuple(coverage), missed)


def _missed(projects: list[Outcome], guards: list[GuardOutcome], coverage: list[Coverage]) -> list[str]:
    missed = [
        f"{outcome.setting}, rule {rule}: {shipped[-1]} of {outcome.projects} ship"
        for outcome in projects
        for rule, shipped in outcome.shipped_by.items()
        if _surely_above(shipped[-1], outcome.projects, MOST_FALSE_SHIPS)
    ]
    missed += [
        f"{guard.guard} guard at its margin: {guard.shipped_by[-1]} of {guard.projects} ship"
        for guard in guards
        if _surely_above(guard.shipped_by[-1], guard.projects, MOST_FALSE_SHIPS)
    ]
    for interval in coverage:
        outside = interval.repetitions - interval.covered
        if _surely_above(outside, interval.repetitions, 1 - LEAST_COVERAGE):
            missed.append(f"{interval}: {interval.covered} of {interval.repetitions} hold the truth")
    return missed


def _surely_above(count: int, of: int, rate: float) -> bool:
    return count / of > rate + 2 * math.sqrt(rate * (1 - rate) / of)


def _say(message: str) -> None:
    sys.stderr.write(f"{time.process_time():7.1f} s  {message}\n")


def main() -> int:
    parser = argparse.ArgumentParser(description="Operating characteristics of the verdict.")
    parser.add_argument("--quick", action="store_true", help="a short version that writes nothing")
    quick = parser.parse_args().quick
    results = study(QUICK if quick else FULL)
    if not quick:
        write_json(FOLDER / "results.json", results)
        write_pages(results, DOCS)
    for miss in results.missed:
        sys.stdout.write(f"missed its target: {miss}\n")
    rates = len(results.coverage) + len(results.guards) + sum(len(o.shipped_by) for o in results.projects)
    sys.stdout.write(f"{rates - len(results.missed)} of {rates} rates on target\n")
    return 1 if results.missed else 0


if __name__ == "__main__":
    sys.exit(main())
