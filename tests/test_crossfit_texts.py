"""Cross-fitting of texts with several references, and of several labels: each question judged in one fold."""

from __future__ import annotations

import io
import json
from collections import Counter
from itertools import product
from pathlib import Path

import pytest
from rich.console import Console

from tiny import make_tiny_t5
from tunesmith.data.folds import split_folds
from tunesmith.data.label_sets import label_set_text, labels_of
from tunesmith.data.splits import SplitSpec
from tunesmith.data.versions import load_folds
from tunesmith.files import read_record
from tunesmith.pipeline import Run, run_stages
from tunesmith.records import Message, Row
from tunesmith.report.terminal import plan_lines
from tunesmith.stages.session import Session
from tunesmith.stages.verdict import SealedAnswers
from tunesmith.stats.crossfit import inflation
from tunesmith.task import load_task
from tunesmith.workspace import Workspace

NAMES = ("coffee", "garden", "river", "hotel", "piano", "engine", "kitten", "school", "street", "letter")
PLACES = ("river road", "old town", "white house", "night market")
COLOURS = ("green", "yellow", "light", "large", "small", "young")
INPUTS = 120
TASK = """\
name: texts
kind: generate
instruction: Write a sentence.
data: {path: texts.jsonl, input: given, target: text, near_duplicate_similarity: 1.0}
split: {SPLIT}
goal: {gain: 0.02, metric: chrf}
base: t5
opponents: {classical: true, zero_shot: false, few_shot: []}
max_new_tokens: 12
train: {rank: 4, alpha: 8, learning_rate: 0.003, epochs: 1, batch_size: 32, validations_per_epoch: 1}
guards: {robustness: {margin: 0.1, rows: 0}}
"""


def texts_session(home: Path, split: str, places: int = 2) -> Session:
    """60 inputs for each place, every third of them with two right answers."""
    lines = []
    for number, (name, colour, place) in enumerate(product(NAMES, COLOURS, PLACES[:places])):
        given = f"name[{name}], colour[{colour}], near[{place}]"
        lines.append({"given": given, "text": f"the {colour} {name} near {place}"})
        if number % 3 == 0:
            lines.append({"given": given, "text": f"near {place} a {name} that is {colour}"})
    (home / "texts.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n", encoding="utf-8")
    path = home / "texts.yaml"
    path.write_text(TASK.replace("{SPLIT}", split), encoding="utf-8")
    folder = Workspace(home / "runs").task("texts")
    folder.keep_task_file(path)
    return Session(load_task(path), folder, Console(file=io.StringIO(), width=300), home / "cache")


@pytest.fixture(scope="module")
def crossfitted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Session, Run]:
    home = tmp_path_factory.mktemp("texts")
    make_tiny_t5(home / "t5")
    session = texts_session(home, "{test: crossfit, folds: 3, validation: 0.3}")
    return session, run_stages(session, "report")


def test_every_input_is_answered_once_and_judged_by_all_its_right_answers(
    crossfitted: tuple[Session, Run],
) -> None:
    session, run = crossfitted
    assert run.verdict is not None
    assert run.verdict.crossfit is not None
    for card in run.verdict.scorecards:
        assert card.metrics["chrf"].rows == INPUTS
        assert "widened" in card.metrics["chrf"].method
        assert not card.predictions
    sealed = [read_record(path, SealedAnswers) for path in session.folder.sealed.glob("*.json")]
    assert sum(len(one.answers) for one in sealed) == 2 * INPUTS
    (gain,) = run.verdict.verdict.gains
    assert (gain.rows, gain.groups) == (INPUTS, INPUTS)
    assert gain.low is not None
    assert gain.low >= -1  # chrF lies between 0 and 1
    judged = [fold.manifest.splits["test"].rows for fold in load_folds(run.dataset)]
    assert sum(judged) == 160
    # References that lay in another fold would leave each of these inputs one only.
    assert "3-fold cross-fitting: each of 160 rows once" in run.verdict.verdict.sentence


def test_the_report_names_recipes_of_texts_and_their_metric(crossfitted: tuple[Session, Run]) -> None:
    session, _ = crossfitted
    page = session.folder.report.read_text(encoding="utf-8")
    assert "The folds" in page
    assert "best way without a language model" in page
    assert "chrF on the rows of each fold" in page
    stream = session.console.file
    assert isinstance(stream, io.StringIO)
    assert "best way without a language model" in stream.getvalue()


def test_few_texts_are_proposed_to_be_cross_fitted_in_their_own_metric(tmp_path: Path) -> None:
    make_tiny_t5(tmp_path / "t5")
    session = texts_session(tmp_path, "{test: 0.25, validation: 0.3}", places=4)
    planned = run_stages(session, "plan").plan
    assert planned is not None
    assert planned.pilot is not None
    proposed = planned.plan.crossfit
    assert proposed is not None
    assert (proposed.groups, proposed.chosen, proposed.power) == (240, False, ())
    assert proposed.smallest_gain is not None
    # A test of a quarter of the rows against all of them with the error raised: 1.5 · √0.25 times as much.
    ratio = proposed.smallest_gain / planned.pilot.smallest_gain_with_80_percent
    assert ratio == pytest.approx(0.75, abs=0.08)
    console = Console(width=300, file=io.StringIO())
    with console.capture() as caught:
        console.print(plan_lines(planned.plan))
    assert "of chrF on, and the model to be used learns from all rows" in caught.get()


def test_rows_with_several_labels_are_dealt_by_their_rarest_label_and_every_label_is_measured() -> None:
    rows = []
    for place in range(120):
        labels = ["common", *(["rare"] if place % 12 == 0 else []), *(["odd"] if place % 2 else [])]
        message = Message("user", f"text number {place}")
        rows.append(Row(f"r{place:03}", "s", (message,), label_set_text(labels), f"g{place:03}"))
    spec = SplitSpec(None, 0.2, None, 0, None, folds=4, label_sets=True)
    dealt = split_folds(rows, spec)
    assert set(dealt.whole.labels) == {"common", "odd", "rare"}
    assert dealt.whole.unmeasured_labels == ()
    for part in dealt.parts:
        judged = Counter(label for row in part.test for label in labels_of(row.target))
        assert judged["rare"] in (2, 3)
        assert 14 <= judged["odd"] <= 16


def test_an_error_is_raised_alike_in_every_metric() -> None:
    assert inflation(3) == pytest.approx((1 + 3 / 2) ** 0.5)
