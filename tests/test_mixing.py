"""Several tasks in one training: how they are mixed, what may not leak, and what is told afterwards."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from tiny import FP32_PLAN, load_tiny, make_tiny_base, make_tiny_bert, toy_rows
from tunesmith.data.versions import read_split
from tunesmith.errors import UserError
from tunesmith.records import Dataset
from tunesmith.report.terminal import interference_lines
from tunesmith.stages.data import make_dataset
from tunesmith.stages.session import Session
from tunesmith.stages.together import gather, interference
from tunesmith.stages.train import TrainResult, train_adapter
from tunesmith.task import load_task
from tunesmith.training.batches import epoch_batches
from tunesmith.training.long_rows import training_rows
from tunesmith.training.mixing import Mixture, mixed_batches, mixing_shares
from tunesmith.workspace import Workspace

TASK = """\
name: {name}
kind: classify
instruction: Name the {name}.
data: {{path: {name}.jsonl, input: text, target: label}}
split: {{train: {train}, validation: 50, test: 50, seed: 1}}
goal: {{gain: 0.02}}
base: {base}
opponents: {{classical: true, zero_shot: false, few_shot: []}}
train: {{rank: 2, alpha: 4, learning_rate: 1e-2, epochs: 1, batch_size: 16{more}}}
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two tasks; eight rows of the second are held-out rows of the first, and would leak."""
    folder = tmp_path_factory.mktemp("mixing")
    make_tiny_base(folder / "base")
    make_tiny_bert(folder / "bert")
    for name, labels, seed, count in (
        ("team", ("billing", "delivery"), 0, 160),
        ("mood", ("calm", "cross"), 7, 140),
    ):
        rows = [{"text": row.text, "label": row.target} for row in toy_rows(count, labels, seed)]
        (folder / f"{name}.jsonl").write_text(
            "".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8"
        )
    task(folder, "mood", train=32)
    return folder


def task(home: Path, name: str, train: int, more: str = "", base: str = "base") -> Path:
    path = home / f"{name}.yaml"
    path.write_text(TASK.format(name=name, train=train, more=more, base=base), encoding="utf-8")
    return path


def session_of(home: Path, path: Path, runs: str = "runs") -> Session:
    loaded = load_task(path)
    return Session(loaded, Workspace(home / runs).task(loaded.name), Console(quiet=True), home / "cache")


def trained(session: Session) -> tuple[Dataset, TrainResult]:
    dataset, _ = make_dataset(session)
    return dataset, train_adapter(session, dataset, FP32_PLAN)


def test_tasks_are_trained_together_watched_apart_and_compared_with_alone(home: Path) -> None:
    together = session_of(home, task(home, "team", 48, ", also: [mood.yaml], mixing: equal"))
    dataset, train = trained(together)
    assert {part.task: part.share for part in train.together} == {"team": 0.5, "mood": 0.5}
    assert all([other.task for other in point.others] == ["mood"] for point in train.training.validation)
    assert train.training.cost.rows == 80
    unknown = interference(together, dataset, FP32_PLAN, train.together)
    assert [one.task for one in unknown] == ["team", "mood"]
    assert all(one.change is None and "was not trained without" in str(one.reason) for one in unknown)

    _, alone = trained(session_of(home, home / "mood.yaml"))
    team, mood = interference(together, dataset, FP32_PLAN, train.together)
    assert team.change is None
    assert mood.change is not None
    assert mood.alone == alone.validation.metrics["accuracy"]
    assert mood.change.value == pytest.approx(mood.together.value - mood.alone.value)
    assert mood.change.low is not None
    console = Console(width=600)
    with console.capture() as capture:
        console.print(interference_lines([team, mood]))
    told = capture.get()
    assert "against alone: unmeasured, its task file was not trained without train.also" in told
    assert "mood (32 training rows, 50.0 % of an epoch), together:" in told
    assert "rows in 50 groups; alone " in told


def test_rows_like_held_out_rows_of_the_task_are_not_learned_from_another_one(home: Path) -> None:
    own = [json.loads(line) for line in (home / "team.jsonl").read_text(encoding="utf-8").splitlines()]
    copies = [{"text": f"{row['text']} indeed", "label": "calm"} for row in own]
    others = [{"text": row.text, "label": "cross"} for row in toy_rows(160, ("a", "b"), 9)]
    lines = "".join(json.dumps(row) + "\n" for row in (*copies, *others))
    (home / "copied.jsonl").write_text(lines, encoding="utf-8")
    task(home, "copied", train=120)
    session = session_of(home, task(home, "team", 48, ", also: [copied.yaml]"), "leaks")
    dataset, _ = make_dataset(session)
    loaded, settings = load_tiny(home / "base"), session.task.train
    trained_on = training_rows(loaded, session.task.instruction, read_split(dataset, "train"), settings)
    gathered = gather(loaded, session, dataset, trained_on)
    (other,) = gathered.others
    frozen = read_split(other.dataset, "train"), read_split(other.dataset, "validation")
    assert other.left_out == sum(map(len, frozen)) - len(other.train) - len(other.validation) > 20
    learned_here = {row.text for row in read_split(dataset, "train")}
    for row in other.train:  # a copy only of what this task trains on
        assert "indeed" not in row.text or row.text.removesuffix(" indeed") in learned_here
    for row in other.validation:
        assert row.text.removesuffix(" indeed") not in learned_here
    assert len(gathered.trained_on.rows) == 48 + len(other.train)


def test_a_classification_head_and_a_task_of_the_same_name_are_refused(home: Path) -> None:
    with pytest.raises(UserError, match="knows the classes of one task only"):
        trained(session_of(home, task(home, "team", 48, ", also: [mood.yaml]", "bert"), "bert"))
    path = task(home, "team", 48, ", also: [team.yaml]")
    with pytest.raises(UserError, match="another task named 'team'"):
        trained(session_of(home, path))


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 30), min_size=2, max_size=4),
    weights=st.lists(st.integers(1, 9), min_size=4, max_size=4),
    batch=st.integers(1, 8),
    seed=st.integers(0, 50),
)
def test_every_task_gets_its_share_and_repeats_no_row_before_it_has_shown_all(
    sizes: list[int], weights: list[int], batch: int, seed: int
) -> None:
    shares = tuple(weight / sum(weights[: len(sizes)]) for weight in weights[: len(sizes)])
    mixture = Mixture(tuple(map(str, sizes)), tuple(sizes), shares, ((),) * (len(sizes) - 1))
    total = sum(sizes)
    lengths = [5 + row % 7 for row in range(total)]
    seen: Counter[int] = Counter()
    epochs = [mixed_batches(mixture, lengths, batch, seed, epoch) for epoch in range(3)]
    for epoch in epochs:
        assert len(epoch) == -(-total // batch)
        assert sum(map(len, epoch)) == total
    for rows in epochs:
        seen.update(row for part in rows for row in part)
    first = 0
    for size, share in zip(sizes, shares, strict=True):
        own = [seen[row] for row in range(first, first + size)]
        assert max(own) - min(own) <= 1
        assert abs(sum(own) - 3 * share * total) <= 3
        first += size


def test_shares_are_by_rows_by_temperature_or_equal() -> None:
    assert mixing_shares([90, 10], "proportional", 2.0) == pytest.approx((0.9, 0.1))
    assert mixing_shares([90, 10], "equal", 2.0) == (0.5, 0.5)
    assert mixing_shares([90, 10], "temperature", 2.0) == pytest.approx((0.75, 0.25))
    assert mixing_shares([90, 10], "temperature", 1.0) == pytest.approx((0.9, 0.1))


def test_proportional_mixing_shows_every_row_once_an_epoch() -> None:
    mixture = Mixture(("a", "b"), (13, 5), mixing_shares([13, 5], "proportional", 2.0), ((),))
    rows = [row for batch in mixed_batches(mixture, [4] * 18, 4, seed=0, epoch=1) for row in batch]
    assert sorted(rows) == list(range(18))
    assert len(mixed_batches(mixture, [4] * 18, 4, 0, 0)) == len(epoch_batches([4] * 18, 4, 0, 0))


@pytest.mark.parametrize("seed", [20261121, 2**62])
def test_a_large_seed_draws_rows_like_any_other(seed: int) -> None:
    mixture = Mixture(("a", "b"), (12, 6), mixing_shares((12, 6), "proportional", 2.0), ((), ()))
    rows = [row for batch in mixed_batches(mixture, [4] * 18, 4, seed, epoch=0) for row in batch]
    assert sorted(rows) == list(range(18))
