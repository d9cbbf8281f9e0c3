"""One run on a tiny real model with every guard asked: what is measured, what blocks, what is shown."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from tiny import toy_rows
from toy_task import LABELS
from tunesmith.data.versions import read_split
from tunesmith.errors import UserError
from tunesmith.evaluation.memorisation import exposure, longest_copies, planted_rows, secrets_and_alternatives
from tunesmith.evaluation.own_probes import read_own_probes
from tunesmith.evaluation.refusals import refusal_checks, refusal_requests, refusals
from tunesmith.evaluation.slices import slice_checks
from tunesmith.evaluation.verdict import decide
from tunesmith.files import read_record
from tunesmith.guard_records import PromptedTuned
from tunesmith.pipeline import Run
from tunesmith.records import Estimate, PairedGain, Row
from tunesmith.report import numbers
from tunesmith.report.guard_terminal import closing_lines, guard_lines
from tunesmith.run_records import RunSummary
from tunesmith.stages.attacking import Before, attack
from tunesmith.stages.session import Session
from tunesmith.stages.verdict import leak_check
from tunesmith.task.guard_settings import SliceSettings


def test_guards_that_are_asked_for_reach_the_verdict(finished: tuple[Session, Run]) -> None:
    _, run = finished
    assert run.verdict is not None
    checks = {check.name: check for check in run.verdict.verdict.checks}
    assert checks["slice: nobody"].answer == "unmeasured"
    assert checks["slice: north"].answer in ("passed", "failed", "unmeasured")
    assert checks["slice: north"].estimate is not None
    assert checks["fairness: exchanged groups"].answer == "unmeasured"  # no toy row names people
    assert checks["robustness: mean"].estimate is not None
    assert not checks["robustness: mean"].blocking
    for requests in ("harmful", "harmless"):
        estimate = checks[f"refusals: {requests} requests"].estimate
        assert estimate is not None
        assert estimate.groups >= 50
    assert "own probes" in {item.domain for item in run.verdict.forgetting}
    assert run.verdict.forgetting[-1].domain == "all probes"


def test_a_slice_that_must_pass_without_rows_and_a_leak_keep_a_sure_gain_from_train(
    finished: tuple[Session, Run],
) -> None:
    _, run = finished
    assert run.verdict is not None
    judged = run.verdict.verdict
    blocking = SliceSettings(name="nobody", pattern="no such words", margin=0.1, blocking=True)
    (check,) = slice_checks(run.verdict.slices, [blocking])
    tuned, *opponents = run.verdict.scorecards
    sure = [replace(gain, value=0.5, low=0.4, high=0.6) for gain in judged.gains]
    decisions = [
        decide(
            sure,
            guards,
            goal_gain=0.02,
            rule="estimate",
            alpha_one_sided=judged.alpha_one_sided,
            opening=1,
            tuned=tuned.metrics["accuracy"],
            opponents=opponents,
        ).decision
        for guards in ([], [check], [leak_check(0)], [leak_check(1)])
    ]
    assert decisions == ["TRAIN", "CANNOT TELL YET", "TRAIN", "DON'T"]


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
    assert run.summary is not None
    stored = read_record(session.folder.summary, RunSummary)
    assert replace(stored, people=run.summary.people) == run.summary  # people may have said something since


def test_forgetting_is_followed_while_training(finished: tuple[Session, Run]) -> None:
    session, run = finished
    assert run.train is not None
    points = run.train.training.validation
    changes = [point.general_text for point in points if point.general_text is not None]
    assert len(changes) == len(points) > 1
    assert any(abs(change.value) > 1e-4 for change in changes)
    assert all(change.low <= change.value <= change.high for change in changes)
    assert "Gain and forgetting while training" in session.folder.report.read_text(encoding="utf-8")


def test_the_tuned_model_is_measured_with_and_without_the_engineered_prompt(
    finished: tuple[Session, Run],
) -> None:
    session, run = finished
    assert run.guards is not None
    assert run.train is not None
    found = run.guards.guarded.prompted
    assert found is not None
    assert found.prompt in ("zero-shot", "1-shot nearest")
    assert found.plain.value == run.train.validation.metrics["accuracy"].value
    assert found.gain.value == pytest.approx(found.prompted.value - found.plain.value)
    assert found.gain.rows == 60
    assert "Does fine-tuning replace prompting?" in session.folder.report.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("low", "high", "told"),
    [(0.02, 0.2, "still needs"), (-0.2, -0.02, "better without"), (-0.1, 0.1, "proves no difference")],
)
def test_what_a_prompt_still_brings_is_told_in_words(low: float, high: float, told: str) -> None:
    share = Estimate(0.8, 0.7, 0.9, 60, 60, 0.95, "t")
    gain = PairedGain("itself", (low + high) / 2, low, high, 0.95, 60, 60, 5, 5, 0.1, 1.0, 0.05, None)
    assert told in numbers.prompted(PromptedTuned("3-shot nearest", share, share, gain))


def test_planted_secrets_are_in_no_split(finished: tuple[Session, Run]) -> None:
    _, run = finished
    planted = {row.target for row in planted_rows(6)}
    for split in ("train", "validation"):
        assert planted.isdisjoint(row.target for row in read_split(run.dataset, split))
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
    assert "Not trained here: QLoRA (qlora), full fine-tuning (full)" in page


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


def test_a_model_that_refuses_everything_fails_only_where_it_should_answer() -> None:
    should = [harmful for _, harmful in refusal_requests()]
    lazy = refusal_checks(refusals(should, [True] * len(should)), 0.1, True, 0.05)
    assert [check.answer for check in lazy] == ["passed", "failed"]
    harmful = refusal_checks(refusals(should, [False] * len(should)), 0.1, True, 0.05)
    assert [check.answer for check in harmful] == ["failed", "passed"]
    assert {check.answer for check in refusal_checks((), 0.1, True, 0.05)} == {"unmeasured"}


def test_a_base_that_refuses_everything_has_nothing_to_lose_where_it_should_answer() -> None:
    always = [True] * len(refusal_requests())
    checks = refusal_checks(refusals(always, always), 0.1, True, 0.05)
    assert [check.answer for check in checks] == ["passed", "unmeasured"]
    assert "no more than that to lose" in checks[1].evidence


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
