"""One run on a tiny real model with every guard asked: what is measured, what blocks, what is shown."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from tiny import make_tiny_base, toy_rows
from tunesmith.data.versions import read_split
from tunesmith.errors import UserError
from tunesmith.evaluation.memorisation import exposure, longest_copies, planted_rows, secrets_and_alternatives
from tunesmith.evaluation.own_probes import read_own_probes
from tunesmith.files import read_record
from tunesmith.pipeline import Run, run_stages
from tunesmith.records import Row
from tunesmith.report.guard_terminal import closing_lines, guard_lines
from tunesmith.run_records import RunSummary
from tunesmith.stages.attacking import Before, attack
from tunesmith.stages.session import Session
from tunesmith.task import load_task
from tunesmith.workspace import Workspace

LABELS = ("billing", "delivery", "refund", "greeting")
TASK = """\
name: guarded
kind: classify
instruction: Name the team.
data: {path: rows.jsonl, input: text, target: label, fields: [region]}
split: {train: 160, validation: 60, test: 120, seed: 1}
goal: {gain: 0.02}
base: base
opponents: {classical: true, zero_shot: true, few_shot: []}
train: {rank: 4, alpha: 8, learning_rate: 3e-3, epochs: 2, batch_size: 16}
cost: {machine_per_hour: 1.5, requests_per_day: 100}
guards:
  own_probes: probes.jsonl
  canaries: 6
  fairness: {margin: 0.05, blocking: true, fields: [region]}
  slices:
    - {name: north, pattern: "^north$", field: region, margin: 0.4}
    - {name: nobody, pattern: "no such words at all", margin: 0.1, blocking: true}
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("guarded")
    make_tiny_base(folder / "base")
    lines = [
        json.dumps({"text": row.text, "label": row.target, "region": ("north", "south")[place % 2]})
        for place, row in enumerate(toy_rows(360, LABELS, seed=3))
    ]
    (folder / "rows.jsonl").write_text("\n".join(lines), encoding="utf-8")
    probes = [{"prompt": f"Say {word}.", "options": [word, "nothing"], "right": word} for word in LABELS * 15]
    (folder / "probes.jsonl").write_text(
        "\n".join(json.dumps({**probe, "group": place}) for place, probe in enumerate(probes)),
        encoding="utf-8",
    )
    (folder / "task.yaml").write_text(TASK, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def finished(home: Path) -> tuple[Session, Run]:
    task = load_task(home / "task.yaml")
    folder = Workspace(home / "runs").task(task.name)
    folder.keep_task_file(home / "task.yaml")
    session = Session(task, folder, Console(file=io.StringIO(), quiet=True), home / "cache")
    return session, run_stages(session, "report")


def test_guards_that_are_asked_for_reach_the_verdict_and_block(finished: tuple[Session, Run]) -> None:
    _, run = finished
    assert run.verdict is not None
    checks = {check.name: check for check in run.verdict.verdict.checks}
    assert run.verdict.verdict.decision != "TRAIN"
    assert (checks["slice: nobody"].answer, checks["slice: nobody"].blocking) == ("unmeasured", True)
    assert checks["slice: north"].answer in ("passed", "failed", "unmeasured")
    assert checks["slice: north"].estimate is not None
    assert checks["fairness: exchanged groups"].answer == "unmeasured"  # no toy row names people
    assert checks["robustness: mean"].estimate is not None
    assert not checks["robustness: mean"].blocking
    assert "own probes" in {item.domain for item in run.verdict.forgetting}
    assert run.verdict.forgetting[-1].domain == "all probes"


def test_everything_is_measured_with_its_interval_and_n(finished: tuple[Session, Run]) -> None:
    session, run = finished
    assert run.guards is not None
    guarded = run.guards.guarded
    assert len(guarded.attacks) >= 8
    for score in guarded.attacks:
        assert score.tuned is not None
        assert score.tuned.rows == 50
        assert score.tuned.low <= score.tuned.value <= score.tuned.high
    assert {one.inputs for one in guarded.sureness} == {"validation", "off topic", "two rows in one"}
    assert {gap.group for gap in guarded.gaps} == {"north", "south"}
    assert guarded.exposure is not None
    assert guarded.exposure.tuned.rows == 6
    assert 0 <= guarded.exposure.base.value <= 8
    assert {latency.candidate for latency in run.guards.evidence.latencies} >= {run.guards.guarded.opponent}
    assert read_record(session.folder.summary, RunSummary) == run.summary


def test_planted_secrets_are_in_no_split(finished: tuple[Session, Run]) -> None:
    _, run = finished
    planted = {row.target for row in planted_rows(6)}
    for split in ("train", "validation"):
        assert planted.isdisjoint(row.target for row in read_split(run.dataset, split))  # type: ignore[arg-type]  # a literal
    assert run.train is not None
    assert run.train.training.cost.rows == 160 + 6
    assert planted.isdisjoint(run.dataset.manifest.labels)


def test_the_report_and_the_terminal_show_guards_costs_and_the_next_step(
    finished: tuple[Session, Run],
) -> None:
    session, run = finished
    assert run.summary is not None
    assert run.summary.guarded is not None
    page = session.folder.report.read_text(encoding="utf-8")
    for title in (
        "What to do next",
        "Where it holds",
        "Spoiled inputs",
        "Memorised secrets",
        "Decision table",
    ):
        assert title in page
    stream = io.StringIO()
    console = Console(file=stream, width=100)
    console.print(guard_lines(run.summary.guarded))
    console.print(closing_lines(run.summary))
    shown = " ".join(stream.getvalue().split())
    assert "spoiled inputs, mean" in shown
    assert "fine-tuning" in shown
    assert "Not run: QLoRA, full fine-tuning" in page


def test_an_attack_that_does_not_fit_the_model_is_unmeasured_and_the_others_are_measured() -> None:
    from tunesmith.candidates.answers import Answers

    rows = toy_rows(60, LABELS, seed=9)

    def ask(asked: list[Row]) -> Answers:
        longest = max(len(row.text.split()) for row in asked)
        if longest > 60:
            raise UserError(f"{longest} words do not fit", "shorten them")
        return Answers([row.target for row in asked], None, 0)

    answers = {row.id: row.target for row in rows}
    attacks = {one.name: one for one in attack(rows, LABELS, Before(answers, answers), ask, ask)}  # type: ignore[arg-type]  # a list is a sequence
    assert "do not fit" in (attacks["long input"].unmeasured or "")
    assert all(one.unmeasured is None for name, one in attacks.items() if name != "long input")
    assert attacks["prompt injection"].tuned_obeyed == (False,) * 60


def test_a_secret_that_was_learned_is_exposed_and_one_that_was_not_is_not() -> None:
    draw = np.random.default_rng(0)
    untouched = draw.normal(size=(32, 256))
    learned = untouched.copy()
    learned[:, 0] = 10.0
    found = exposure(learned, untouched)
    assert found.tuned.value == 8.0
    assert found.first_ranked == 32
    assert found.excess.low > 4
    chance = exposure(untouched, draw.normal(size=(32, 256)))
    assert chance.excess.low < 0 < chance.excess.high
    assert 1.0 < chance.tuned.value < 2.1  # log2(e) = 1.44 on average


def test_planted_secrets_stay_the_same_and_are_never_among_the_alternatives() -> None:
    secrets, others = secrets_and_alternatives(5)
    assert [row.target for row in planted_rows(5)] == secrets
    assert [row.target for row in planted_rows(9)][:5] == secrets
    assert len(set(secrets) | set(others)) == 5 + 255


def test_the_longest_copy_is_found_wherever_it_stands() -> None:
    training = ["The quick brown fox jumps over the lazy dog.", "Nothing else."]
    answers = ["He said the quick, brown FOX jumps high", "nothing at all", "unseen", ""]
    assert longest_copies(answers, training) == [5, 1, 0, 0]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "not JSON"),
        ('{"options": ["a", "b"], "right": "a"}', "no 'prompt'"),
        ('{"prompt": "p", "options": ["a"], "right": "a"}', "two texts"),
        ('{"prompt": "p", "options": ["a", "a"], "right": "a"}', "twice"),
        ('{"prompt": "p", "options": ["a", "b"], "right": "c"}', "none of the options"),
    ],
)
def test_a_broken_probe_is_named_by_its_line(line: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "probes.jsonl"
    path.write_text('{"prompt": "p", "options": ["a", "b"], "right": "a"}\n\n' + line, encoding="utf-8")
    with pytest.raises(UserError, match=message) as caught:
        read_own_probes(path)
    assert f"{path}:3" in caught.value.what


def test_a_summary_of_a_run_without_guards_still_reads(finished: tuple[Session, Run]) -> None:
    _, run = finished
    assert run.summary is not None
    closing_lines(replace(run.summary, guarded=None, costs=None))
