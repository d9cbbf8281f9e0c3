"""What several seeds and several tasks add to the report and to the terminal."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from rich.console import Console

from report_samples import gain, share, summary
from tunesmith.curve_records import DataCurve, DataPoint
from tunesmith.evaluation.costs import decision_table
from tunesmith.evaluation.seeds import seed_check
from tunesmith.method_records import MethodComparison, MethodLine
from tunesmith.records import Estimate
from tunesmith.report.page import write_report
from tunesmith.report.terminal import print_summary
from tunesmith.run_records import Interference, RunSummary, SeedRun, SeedStudy, TaskLoss
from tunesmith.stats.seeds import mean_over_seeds, spread_over_seeds


def studied() -> RunSummary:
    """A run with three seeds and two tasks, one of which was never trained alone."""
    run = summary()
    scores = [0.88, 0.87, 0.89]
    runs = tuple(
        SeedRun(seed, 40, 0.2, share(score, 400, 300), f"sha-{seed}") for seed, score in enumerate(scores)
    )
    study = SeedStudy(
        runs, "accuracy", 2, "lowest validation loss", mean_over_seeds(scores), spread_over_seeds(scores)
    )
    points = tuple(replace(point, others=(TaskLoss("<mood>", 0.75),)) for point in run.training.validation)
    change = gain("alone", -0.02, 3, 7)
    interference = (
        Interference("notices", 1500, 0.75, 0, share(0.88, 400, 300), None, None, "it was not trained alone"),
        Interference(
            "<mood>",
            500,
            0.25,
            7,
            share(0.7, 200, 150),
            share(0.72, 200, 150),
            change,
            None,
        ),
    )
    checks = (*run.verdict.checks, *seed_check(study, run.verdict.gains))
    return replace(
        run,
        training=replace(run.training, seeds=study, validation=points),
        interference=interference,
        data_curve=DataCurve(
            "accuracy",
            tuple(
                DataPoint(part, round(1500 * part), share(0.8 + 0.09 * part, 400, 300), f"sha-{part}")
                for part in (0.25, 0.5, 1.0)
            ),
            gain("the model of 750 rows", 0.045, 20, 2),
            Estimate(0.03, 0.01, 0.05, 400, 300, 0.95, "power law"),
        ),
        verdict=replace(run.verdict, checks=checks),
    )


def compared() -> RunSummary:
    """A run whose method was put beside full fine-tuning."""
    run = summary()
    lora = MethodLine(
        method="lora",
        name="<base> + LoRA",
        chosen=True,
        learning_rate=1e-3,
        trainable_parameters=1000,
        steps=40,
        best_step=40,
        train_seconds=30.0,
        memory_mb=900.0,
        latency=Estimate(0.02, 0.01, 0.03, 8, 8, 0.95, "t"),
        score=share(0.88, 400, 300),
        gain=None,
        forgetting=Estimate(0.002, 0.001, 0.003, 177, 155, 0.95, "t"),
        loss_gap=Estimate(0.12, 0.05, 0.19, 464, 364, 0.95, "MOVER"),
        adapter_sha256="a",
    )
    full = replace(
        lora,
        method="full",
        name="<base> + full fine-tuning",
        chosen=False,
        learning_rate=5e-5,
        gain=gain("<base> + LoRA", 0.02, 15, 7),
        forgetting=None,
    )
    costs = decision_table(
        run.opponents, run.tuned_validation, run.training, (), (), (), None, None, ["QLoRA (qlora)"]
    )
    return replace(
        run,
        methods=MethodComparison("accuracy", 0, 3, 2.0, (lora, full)),
        costs=costs,
    )


def test_the_decision_table_shows_other_methods_and_how_to_measure_those_that_were_not(
    tmp_path: Path,
) -> None:
    write_report(compared(), tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8").replace("\u00a0", " ")
    assert "&lt;base&gt; + LoRA<small>the chosen method, learning rate 0.001" in page
    assert "&lt;base&gt; + full fine-tuning<small>learning rate 5e-05" in page
    assert '<td class="num" data-label="its gain over the chosen one">+2.0 points' in page
    assert '<td class="num" data-label="forgetting">unmeasured</td>' in page
    assert "+0.120<small>[0.050, 0.190]</small>" in page
    assert "the sealed test is opened for the chosen method only" in page
    assert "The chosen one is the best of 3 seeds" in page
    assert "Not trained here: QLoRA (qlora); what train.compare_methods names is trained" in page
    write_report(summary(), tmp_path / "report.html")
    assert "Method of tuning" not in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_the_page_tells_the_spread_over_seeds_and_what_training_together_did(tmp_path: Path) -> None:
    write_report(studied(), tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8").replace("\u00a0", " ")
    assert "3 seeds (0, 1, 2): accuracy on validation 88.0 % [85.5, 90.5] on average" in page
    assert "standard deviation 1.0 [0.5, 6.3] points over seeds; seed 2 goes to the test" in page
    assert "more than training with another seed may take away?" in page
    assert "against alone: unmeasured, it was not trained alone" in page
    assert "50.0 % of the groups (750 rows) 84.5 %" in page
    assert "twice the rows would bring about 3.0 points [1.0, 5.0]" in page
    assert "7 left out as they are like this task" in page
    assert "&lt;mood&gt;" in page
    assert "<mood>" not in page
    assert page.count("<td>0.750</td>") == len(studied().training.validation)


def test_the_terminal_tells_both(tmp_path: Path) -> None:
    console = Console(width=500)
    with console.capture() as capture:
        print_summary(studied(), console)
    told = capture.get()
    assert "3 seeds (0, 1, 2)" in told
    assert "The second half brought +4.5" in told
    assert "gain beyond seed noise: " in told
    assert "alone 72.0 %" in told
    assert "change −2.0 points" in told


def test_a_run_of_one_seed_and_one_task_says_nothing_of_either(tmp_path: Path) -> None:
    write_report(summary(), tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "seed noise" not in page
    assert "Interference" not in page
