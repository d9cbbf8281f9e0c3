"""The table of all examples: what `tunesmith run` decided on each, on real data.

    tunesmith run examples/e2e-extract/task.yaml
    python studies/examples/examples_page.py --keep runs/e2e-extract --how "beside another run, on one core"
    python studies/examples/examples_page.py          # docs/examples.md from the results that are kept

What is kept of a run are aggregates only: no text of a row, and nothing of a sealed test but its scores.
"""

from __future__ import annotations

import argparse
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template

from tunesmith.files import read_record, write_json, write_text
from tunesmith.records import Estimate, PairedGain, Scorecard
from tunesmith.report import numbers
from tunesmith.run_records import RunSummary
from tunesmith.task.kinds import metric_title

FOLDER = Path(__file__).parent
RESULTS = FOLDER / "results"
PAGE = FOLDER.parent.parent / "docs" / "examples.md"


@dataclass(frozen=True)
class Score:
    """A candidate in the goal's metric; ``test`` is None where it was no finalist."""

    candidate: str
    validation: Estimate | None
    test: Estimate | None


@dataclass(frozen=True)
class KeptRun:
    """One example's run. ``rows`` are (train, validation, test); ``peak_memory_mb`` is the process's."""

    task: str
    kind: str
    created: str
    commit: str
    how: str
    description: str
    metric: str
    goal_gain: float
    rows: tuple[int, int, int]
    test_groups: int
    scores: tuple[Score, ...]
    gains: tuple[PairedGain, ...]
    decision: str
    sentence: str
    rows_needed: tuple[int, int] | None
    stage_seconds: dict[str, float]
    tokens_per_second: float
    peak_memory_mb: float
    machine: dict[str, str]
    versions: dict[str, str]
    # Where other work took part of the machine, so that the time that went by says little.
    processor_minutes: float | None = None


def kept(summary: RunSummary, how: str, commit: str, processor_minutes: float | None = None) -> KeptRun:
    """What the table needs of a finished run."""
    metric = summary.verdict.metric
    on_test = {card.candidate.name: card.metrics[metric] for card in summary.test_scorecards}
    cards: list[Scorecard] = [summary.tuned_validation, *summary.opponents]
    splits = summary.manifest.splits
    return KeptRun(
        task=summary.task,
        kind=summary.kind,
        created=summary.created,
        commit=commit,
        how=how,
        description=summary.description,
        metric=metric,
        goal_gain=summary.verdict.goal_gain,
        rows=(splits["train"].rows, splits["validation"].rows, splits["test"].rows),
        test_groups=splits["test"].groups,
        scores=tuple(
            Score(card.candidate.name, card.metrics.get(metric), on_test.get(card.candidate.name))
            for card in cards
        ),
        gains=summary.verdict.gains,
        decision=summary.verdict.decision,
        sentence=summary.verdict.sentence,
        rows_needed=summary.verdict.rows_needed,
        stage_seconds=summary.stage_seconds,
        tokens_per_second=summary.training.tokens_per_second,
        peak_memory_mb=max(card.cost.peak_memory_mb for card in cards),
        machine=summary.machine,
        versions=summary.versions,
        processor_minutes=processor_minutes,
    )


def page(runs: Sequence[KeptRun]) -> str:
    """docs/examples.md."""
    ordered = sorted(runs, key=lambda run: run.task)
    table = [
        "| example | kind | rows: train, validation, test | tuned, test | best opponent, test | gain "
        "| verdict | minutes |",
        "|---|---|---|---|---|---|---|---|",
        *(_line(run) for run in ordered),
    ]
    decisions = sorted({run.decision for run in runs})
    template = Template((FOLDER / "examples.md").read_text(encoding="utf-8"))
    return template.substitute(
        runs="1 run" if len(runs) == 1 else f"{len(runs)} runs",
        decisions=", ".join(f"{sum(run.decision == name for run in runs)} × {name}" for name in decisions),
        table="\n".join(table),
        details="\n\n".join(_details(run) for run in ordered),
    )


def _line(run: KeptRun) -> str:
    tuned, against = run.scores[0], min(run.gains, key=lambda gain: gain.value)
    opponent = next(score.test for score in run.scores if score.candidate == against.opponent)
    cells = [
        f"[{run.task}](../examples/{run.task}/task.yaml)",
        run.kind,
        ", ".join(numbers.number(count) for count in run.rows),
        _shown(tuned.test, run),
        f"{_shown(opponent, run)} ({against.opponent})",
        numbers.gain(against, run.metric),
        f"**{run.decision}**",
        _minutes(run) if run.processor_minutes is None else f"{run.processor_minutes:.0f} (processor)",
    ]
    return f"| {' | '.join(cells)} |"


def _details(run: KeptRun) -> str:
    lines = [
        f"### {run.task}",
        "",
        f"{run.description} The goal: {numbers.points(run.goal_gain, run.metric)} of "
        f"{metric_title(run.metric)} over the best opponent. {run.rows[2]:,} test rows in "
        f"{run.test_groups:,} groups.",
        "",
        "| candidate | validation | sealed test |",
        "|---|---|---|",
        *(
            f"| {score.candidate} | {_shown(score.validation, run)} | {_shown(score.test, run)} |"
            for score in run.scores
        ),
        "",
        f"> {run.sentence}",
        "",
        f"{_minutes(run)} minutes ({_stages(run)}), {run.how}; at most {numbers.memory(run.peak_memory_mb)}; "
        f"training at {run.tokens_per_second:,.0f} tokens/s; {run.created[:10]}, commit {run.commit}, "
        f"{run.machine['processor']}, PyTorch {run.versions['torch']}.",
    ]
    return "\n".join(lines)


def _shown(value: Estimate | None, run: KeptRun) -> str:
    return "" if value is None else numbers.estimate(value, run.metric)


def _minutes(run: KeptRun) -> str:
    return f"{sum(run.stage_seconds.values()) / 60:.0f}"


def _stages(run: KeptRun) -> str:
    return ", ".join(f"{name} {numbers.duration(seconds)}" for name, seconds in run.stage_seconds.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--keep", type=Path, metavar="RUN", help="a finished run's folder, to be kept")
    parser.add_argument("--how", default="alone on the machine", help="what else the machine did in that run")
    parser.add_argument("--processor-minutes", type=float, help="of a run beside other work")
    asked = parser.parse_args()
    if asked.keep:
        head = ["git", "rev-parse", "--short", "HEAD"]
        commit = subprocess.run(
            head, cwd=asked.keep, capture_output=True, text=True, check=True
        ).stdout.strip()
        run = kept(
            read_record(asked.keep / "summary.json", RunSummary), asked.how, commit, asked.processor_minutes
        )
        write_json(RESULTS / f"{run.task}.json", run)
    write_text(PAGE, page([read_record(path, KeptRun) for path in sorted(RESULTS.glob("*.json"))]))


if __name__ == "__main__":
    main()
