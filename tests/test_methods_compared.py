"""Other methods beside the chosen one: trained alike, judged on validation, the chosen one as it was."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from tiny import FP32_PLAN, link_base, make_tiny_bert, toy_rows
from tunesmith.errors import UserError
from tunesmith.pipeline import run_stages
from tunesmith.progress import Report
from tunesmith.report.method_terminal import method_lines
from tunesmith.stages.data import make_dataset
from tunesmith.stages.methods import check_methods, compare_methods
from tunesmith.stages.plan import make_plan
from tunesmith.stages.session import Session
from tunesmith.stages.train import stored_training, train_adapter
from tunesmith.stats.watch import WatchedLosses, loss_gap
from tunesmith.task import load_task
from tunesmith.task.compared_methods import compared_settings
from tunesmith.task.train_settings import TrainSettings
from tunesmith.workspace import Workspace

LABELS = ("billing", "delivery", "refund", "greeting")
TASK = """\
name: toy
kind: classify
instruction: Name the team.
data: {{path: rows.jsonl, input: text, target: label}}
split: {{train: 80, validation: 50, test: 60, seed: 1}}
goal: {{gain: 0.02}}
base: {base}
opponents: {{classical: true, zero_shot: false, few_shot: []}}
train: {{rank: 4, alpha: 8, learning_rate: 1.0e-2, epochs: 1, batch_size: 8{train}}}
"""
COMPARED = ", compare_methods: [qlora, full], compare_learning_rates: {full: 2.0e-3}"


@pytest.fixture(scope="module")
def home(general_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("methods")
    link_base(general_base, folder)
    rows = [{"text": row.text, "label": row.target} for row in toy_rows(190, LABELS, seed=0)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder


def session_of(home: Path, train: str, runs: str, base: str = "base") -> Session:
    path = home / "task.yaml"
    path.write_text(TASK.format(train=train, base=base), encoding="utf-8")
    folder = Workspace(home / runs).task("toy")
    return Session(load_task(path), folder, Console(quiet=True), home / "cache")


@contextmanager
def ctrl_c_while(training: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Ctrl-C at the third step that the bar of this training shows."""
    shown = Session.bar

    @contextmanager
    def bar(session: Session, stage: str, what: str) -> Iterator[Report]:
        with shown(session, stage, what) as report:
            steps = 0

            def pressed(done: int, total: int, note: str = "") -> None:
                nonlocal steps
                steps += 1
                if what.endswith(training) and steps == 3:
                    signal.raise_signal(signal.SIGINT)
                report(done, total, note)

            yield pressed

    with monkeypatch.context() as patch:
        patch.setattr(Session, "bar", bar)
        yield


def test_other_methods_are_trained_alike_resumed_and_compared_and_the_chosen_one_stays_as_it_is(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = session_of(home, "", "runs")
    dataset, _ = make_dataset(alone)
    chosen = train_adapter(alone, dataset, FP32_PLAN)
    weights = {path: path.read_bytes() for path in (home / "runs").rglob("*.safetensors")}

    session = session_of(home, COMPARED, "runs")
    assert stored_training(session, dataset, FP32_PLAN) == chosen
    with ctrl_c_while("full fine-tuning", monkeypatch), pytest.raises(KeyboardInterrupt):
        compare_methods(session, dataset, FP32_PLAN, chosen)
    found = compare_methods(session, dataset, FP32_PLAN, chosen)
    assert found is not None
    lora, qlora, full = found.lines
    assert [line.method for line in found.lines] == ["lora", "qlora", "full"]
    assert [line.learning_rate for line in found.lines] == [1e-2, 1e-2, 2e-3]
    assert lora.score == chosen.validation.metrics["accuracy"]
    assert lora.gain is None
    for line in (qlora, full):
        assert line.gain is not None
        assert line.gain.value == pytest.approx(line.score.value - lora.score.value)
        assert line.gain.opponent == lora.name
    for line in found.lines:
        assert line.train_seconds > 0
        assert line.memory_mb > 100
        assert line.latency is not None
        assert 0 < line.latency.value < 10
        assert line.forgetting is not None
        assert line.forgetting.low < line.forgetting.value < line.forgetting.high
        assert line.loss_gap is not None
        assert line.steps == 10
    assert full.trainable_parameters > 10 * lora.trainable_parameters

    # Kept: a second call trains nothing, and nothing that was there before has changed.
    stamps = {path: path.stat().st_mtime_ns for path in (home / "runs").rglob("*.json")}
    assert compare_methods(session, dataset, FP32_PLAN, chosen) == found
    assert {path: path.stat().st_mtime_ns for path in (home / "runs").rglob("*.json")} == stamps
    assert all(path.read_bytes() == content for path, content in weights.items())
    assert "opened" not in session.folder.ledger.read_text(encoding="utf-8")
    assert compare_methods(alone, dataset, FP32_PLAN, chosen) is None

    # Whoever then chooses another method finds it trained, and resumed to the bits of one never stopped.
    other = session_of(home, ", method: full", "runs")
    settings = other.task.train.model_copy(update={"learning_rate": 2e-3})
    other = other.beside(other.task.model_copy(update={"train": settings}), other.folder)
    kept = stored_training(other, dataset, FP32_PLAN)
    assert kept is not None
    assert kept.training.adapter_sha256 == full.adapter_sha256
    never_stopped = other.beside(other.task, Workspace(home / "elsewhere").task("toy"))
    again = train_adapter(never_stopped, dataset, FP32_PLAN)
    assert again.training.adapter_sha256 == full.adapter_sha256

    console = Console(width=200)
    with console.capture() as capture:
        console.print(method_lines(found))
    told = capture.get()
    assert "lora (learning rate 0.01), chosen" in told
    assert "full (learning rate 0.002)" in told
    assert "the sealed test is opened for the chosen method only" in " ".join(told.split())


def test_the_plan_counts_every_method(home: Path) -> None:
    session = session_of(home, COMPARED, "planned")
    plan = make_plan(session, make_dataset(session)[0]).plan
    qlora, full = plan.methods
    assert (qlora.method, full.method) == ("qlora", "full")
    assert full.learning_rate == 2e-3
    assert plan.estimated_train_seconds > qlora.estimated_seconds + full.estimated_seconds > 0
    assert plan.estimated_peak_memory_mb >= full.estimated_peak_memory_mb > 0


def test_a_method_that_does_not_fit_the_memory_is_refused_by_the_plan(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = session_of(home, ", seed: 8, compare_methods: [full]", "planned")
    dataset, _ = make_dataset(session)
    left = iter([1e6, 20.0])  # room for the chosen method, and little for the next
    monkeypatch.setattr("tunesmith.stages.plan_methods.available_mb", lambda: next(left))
    with pytest.raises(UserError, match=r"train.compare_methods: full: .* needs at least") as caught:
        make_plan(session, dataset)
    assert caught.value.fix == "leave full out of train.compare_methods"


def test_qlora_is_refused_before_any_data_is_read_where_it_cannot_run(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_tiny_bert(home / "bert")
    encoder = session_of(home, ", compare_methods: [qlora]", "refused", base="bert")
    with pytest.raises(UserError, match=r"train.compare_methods: qlora is not for bert"):
        run_stages(encoder, "plan")
    check_methods(session_of(home, ", compare_methods: [full, dora]", "refused", base="bert"))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"train.compare_methods: qlora needs bitsandbytes") as caught:
        run_stages(session_of(home, COMPARED, "refused"), "plan")
    assert "leave qlora out" in caught.value.fix
    assert not (home / "refused" / "toy" / "datasets").exists()


def test_each_method_has_a_learning_rate_of_its_own_and_full_has_no_adapter_settings() -> None:
    chosen = TrainSettings(
        learning_rate=3e-4,
        adapter_dropout=0.1,
        targets=("q_proj",),
        compare_methods=("dora", "qlora", "full", "lora"),
        seeds=(4, 5),
    )
    dora, qlora, full = compared_settings(chosen, seed=5)
    assert [one.method for one in (dora, qlora, full)] == ["dora", "qlora", "full"]
    assert [one.learning_rate for one in (dora, qlora, full)] == [3e-4, 3e-4, 5e-5]
    assert {one.seed for one in (dora, qlora, full)} == {5}
    assert full.targets is None
    assert full.adapter_dropout == 0
    (adapter,) = compared_settings(TrainSettings(method="full", compare_methods=("lora",)))
    assert adapter.learning_rate == 1e-3
    # alpha/√rank of the one is alpha/rank of the other.
    (scaled,) = compared_settings(TrainSettings(method="rslora", alpha=8.0, compare_methods=("lora",)))
    assert scaled.alpha / scaled.rank == pytest.approx(8.0 / 4)


@pytest.mark.parametrize(
    ("train", "told"),
    [
        (", compare_methods: [full, full]", "train.compare_methods: a method is given twice"),
        (", compare_methods: [lora]", "lora is the task's own method: name another one"),
        (", compare_methods: [rslora]", "allowed: .*lora or dora or qlora or full"),
        (", compare_methods: [full], start_from: there", "not together with train.start_from"),
        (", compare_learning_rates: {full: 1.0e-4}", "full is not compared: add it"),
        (", compare_methods: [full], compare_learning_rates: {lora: 0.1}", "set train.learning_rate"),
    ],
)
def test_what_cannot_be_compared_is_told_with_its_line(home: Path, train: str, told: str) -> None:
    with pytest.raises(UserError, match=told):
        session_of(home, train, "refused")


def losses(means: list[float], rows: int, seed: int) -> WatchedLosses:
    """Skewed losses of rows of 3 to 8 tokens, each a group; ``means`` [validations] are per token."""
    random = np.random.default_rng(seed)
    tokens = random.integers(3, 9, rows)
    hard = random.gamma(2.0, 0.5, rows)
    names = [f"{seed}-{row}" for row in range(rows)]
    return WatchedLosses([(mean * hard * tokens).tolist() for mean in means], tokens.tolist(), names)


def test_the_gap_between_the_losses_is_held_by_its_interval_as_often_as_it_says() -> None:
    held = 0
    for seed in range(300):
        found = loss_gap(losses([9.0, 0.5], 200, 2 * seed), losses([9.0, 0.3], 64, 2 * seed + 1), at=1)
        assert found is not None
        held += found.low <= 0.2 <= found.high
    assert 0.92 <= held / 300 <= 0.99
    one = losses([0.5], 5, 0)
    alone = WatchedLosses(one.losses, one.tokens, ["same"] * 5)
    assert loss_gap(alone, one, at=0) is None
