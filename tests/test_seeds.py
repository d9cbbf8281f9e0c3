"""Several seeds are one study: each is trained, one goes on by its rule, and their spread is told."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from scipy import stats

from tiny import FP32_PLAN, make_tiny_base, toy_rows
from tunesmith.errors import UserError
from tunesmith.evaluation.seeds import seed_check
from tunesmith.records import Estimate, PairedGain
from tunesmith.report.terminal import training_lines
from tunesmith.run_records import SeedRun, SeedStudy
from tunesmith.stages.data import make_dataset
from tunesmith.stages.seeds import train_seeds
from tunesmith.stages.session import Session
from tunesmith.stages.train import TrainResult
from tunesmith.stats.seeds import beyond_seed_noise, mean_over_seeds, seed_noise, spread_over_seeds
from tunesmith.task import load_task
from tunesmith.workspace import Workspace

TASK = """\
name: toy
kind: classify
instruction: Name the team.
data: {{path: rows.jsonl, input: text, target: label}}
split: {{train: 48, validation: 50, test: 50, seed: 1}}
goal: {{gain: 0.02}}
base: base
opponents: {{classical: true, zero_shot: false, few_shot: []}}
train: {{rank: 2, alpha: 4, learning_rate: 1e-2, epochs: 1, batch_size: 16, {seeds}}}
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("seeds")
    make_tiny_base(folder / "base")
    rows = [{"text": row.text, "label": row.target} for row in toy_rows(160, ("billing", "delivery"), seed=0)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder


def trained(home: Path, seeds: str) -> TrainResult:
    path = home / "task.yaml"
    path.write_text(TASK.format(seeds=seeds), encoding="utf-8")
    folder = Workspace(home / "runs").task("toy")
    session = Session(load_task(path), folder, Console(quiet=True), home / "cache")
    dataset, _ = make_dataset(session)
    return train_seeds(session, dataset, FP32_PLAN)


def test_every_seed_is_trained_and_the_best_on_validation_goes_on(home: Path) -> None:
    alone = trained(home, "seed: 4")
    run = trained(home, "seeds: [3, 4]")
    study = run.training.seeds
    assert study is not None
    by_seed = {one.seed: one for one in study.runs}
    # What was trained alone is that seed's part of the study, and not trained again.
    assert by_seed[4].adapter_sha256 == alone.training.adapter_sha256
    assert len(list((home / "runs" / "toy" / "stages").glob("train-*"))) == 2
    assert by_seed[3].adapter_sha256 != by_seed[4].adapter_sha256
    assert study.chosen == min(by_seed, key=lambda seed: by_seed[seed].loss)
    assert run.training.adapter_sha256 == by_seed[study.chosen].adapter_sha256
    assert run.training.cost.seconds > alone.training.cost.seconds
    console = Console(width=400)
    with console.capture() as capture:
        console.print(training_lines(run.training))
    assert "2 seeds (3, 4): accuracy on validation" in capture.get()
    assert f"seed {study.chosen} goes to the test (lowest validation loss)" in capture.get()


def test_a_seed_given_twice_is_refused(home: Path) -> None:
    with pytest.raises(UserError, match="a seed is given twice"):
        trained(home, "seeds: [1, 1]")


def test_mean_and_spread_over_seeds_are_the_textbook_intervals() -> None:
    scores = [0.81, 0.84, 0.80, 0.86]
    mean, spread = mean_over_seeds(scores), spread_over_seeds(scores)
    error = np.std(scores, ddof=1) / 2
    assert (mean.low, mean.high) == pytest.approx(stats.t.interval(0.95, 3, np.mean(scores), error))
    variance = np.var(scores, ddof=1)
    limits = np.sqrt(3 * variance / stats.chi2.ppf([0.975, 0.025], 3))
    assert (spread.low, spread.high) == pytest.approx(tuple(limits))
    assert spread.low < spread.value < spread.high


def test_another_seed_stays_within_the_noise_as_often_as_it_says() -> None:
    draws = np.random.default_rng(0).normal(0.8, 0.02, size=(4000, 5))
    inside = [one[-1] > np.mean(one[:-1]) - seed_noise(one[:-1].tolist()) for one in draws]
    assert np.mean(inside) == pytest.approx(0.95, abs=0.012)


@pytest.mark.parametrize(
    ("scores", "gain", "answer"),
    [
        ([0.80, 0.81, 0.80], 0.05, "passed"),
        ([0.70, 0.85, 0.78], 0.05, "failed"),
        ([0.80, 0.80], 0.05, "unmeasured"),
        ([0.80, 0.80, 0.80], 0.0, "failed"),
    ],
)
def test_the_verdict_says_whether_a_gain_is_within_seed_noise(
    scores: list[float], gain: float, answer: str
) -> None:
    assert beyond_seed_noise(gain, scores) == answer
    estimate = Estimate(0.8, 0.7, 0.9, 50, 50, 0.95, "")
    runs = tuple(
        SeedRun(seed, 4, 0.1, Estimate(score, 0.7, 0.9, 50, 50, 0.95, ""), f"{seed}")
        for seed, score in enumerate(scores)
    )
    study = SeedStudy(runs, "accuracy", 0, "lowest validation loss", estimate, estimate)
    paired = PairedGain("best", gain, -0.1, 0.2, 0.9, 60, 60, 9, 6, 0.2, 1.0, 0.05, None)
    easier = PairedGain("worse", gain + 0.3, 0.1, 0.5, 0.9, 60, 60, 9, 6, 0.2, 1.0, 0.05, None)
    (check,) = seed_check(study, [easier, paired])
    assert (check.answer, check.blocking) == (answer, False)
    assert "over best more than" in check.question
    assert seed_check(None, [paired]) == ()
