"""People's part of a finished run, from the command line: to and from Label Studio, report and gate."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tunesmith.cli import main
from tunesmith.data.versions import read_split
from tunesmith.evaluation.grading import GRADES, Grade, grade, judgements_of, singles, summarise_grades
from tunesmith.evaluation.label_studio import (
    CHOICES,
    read_pair_tasks,
    read_single_tasks,
    write_pair_tasks,
    write_single_tasks,
)
from tunesmith.evaluation.review import Judgement, Pair, human_check, showings, summarise_review
from tunesmith.pipeline import Run
from tunesmith.records import Estimate
from tunesmith.stages.gate import check_gate
from tunesmith.stages.people import people_checks
from tunesmith.stages.plan_power import planned_guards
from tunesmith.stages.review import finished_run, import_review
from tunesmith.stages.session import Session
from tunesmith.task import Task
from tunesmith.task.guard_settings import GuardsSettings
from tunesmith.task.review_settings import ReviewSettings
from tunesmith.workspace import TaskFolder

Captured = pytest.CaptureFixture[str]


def pairs(number: int, equal: int = 0) -> list[Pair]:
    return [
        Pair(f"item {i}", f"rows.jsonl:{i}", f"question {i}", f"long answer {i}", f"{other} {i}")
        for i, other in enumerate(["a"] * (number - equal) + ["long answer"] * equal)
    ]


def answered(task: dict[str, Any], values: dict[str, Any], seconds: float = 5.0) -> dict[str, Any]:
    """A task as Label Studio exports it."""
    kinds = {"choices": list, "rating": int, "text": list}
    results = []
    for name, value in values.items():
        kind = next(
            k for k, t in kinds.items() if isinstance(value, t) and (k == "text") == (name == "comment")
        )
        results.append({"from_name": name, "to_name": "text", "type": kind, "value": {kind: value}})
    return task | {"annotations": [{"result": results, "lead_time": seconds, "was_cancelled": False}]}


def test_pairs_go_to_label_studio_blind_and_come_back(tmp_path: Path) -> None:
    path, shown = tmp_path / "anna.json", showings(pairs(8), "anna", 2)
    write_pair_tasks(path, shown, "contest", "anna", ["tone", "a & b"])
    tasks = json.loads(path.read_text())
    assert [set(task["data"]) for task in tasks] == [{"key", "text", "first", "second"}] * 10
    config = path.with_suffix(".config.xml").read_text()
    assert 'value="a &amp; b"' in config
    done = [
        answered(
            task,
            {
                "criterion_0": ["1 is better" if task["data"]["first"].startswith("long") else "2 is better"],
                "criterion_1": ["tie"],
                "comment": ["why"],
            },
        )
        for task in tasks
    ]
    done[3]["annotations"][0]["was_cancelled"] = True
    path.write_text(json.dumps(done))
    given = read_pair_tasks(path, shown, "contest", "anna", ["tone", "a & b"])
    assert len(given) == 9
    assert {one.outcome("tone") for one in given} == {1.0}
    assert {one.outcome("a & b") for one in given} == {0.5}
    assert given[0].comment == "why"
    assert [one.again for one in given[-2:]] == [True, True]
    del done[5]["annotations"][0]["result"][1]
    path.write_text(json.dumps(done))
    with pytest.raises(Exception, match="task 6: no answer to criterion_1"):
        read_pair_tasks(path, shown, "contest", "anna", ["tone", "a & b"])
    assert len(CHOICES) == 3


def test_single_answers_are_shown_apart_graded_and_come_to_preferences(tmp_path: Path) -> None:
    several = pairs(20, equal=4)
    shown = singles(several, "anna", 3)
    assert len(shown) == 2 * 16 + 2 * 3
    first = [one.pair.item for one in shown[:16]]
    assert len(set(first)) == 16  # the other answer comes in the second half
    saved: list[Grade] = []
    lines = [line for one in shown for line in ("5" if one.tuned else "3", "")]
    asked = iter(lines)
    assert grade(shown, [], ["tone"], "anna", lambda _: next(asked), lambda _: None, saved.append) == 38
    assert grade(shown, saved, ["tone"], "anna", lambda _: "q", lambda _: None, saved.append) == 0
    judgements = judgements_of(saved)
    assert {one.outcome("tone") for one in judgements} == {1.0}
    result = summarise_grades(several, saved, ["tone"], "tuned", "rival")
    gain, rate = result.criteria[0].grade_gain, result.criteria[0].win_rate
    assert gain is not None
    assert gain.value == pytest.approx(2 * 16 / 20)  # equal answers differ by nothing
    assert rate is not None
    assert rate.value == pytest.approx((16 + 4 / 2) / 20)
    assert judgements_of(saved[:1]) == []  # one of two answers

    path = tmp_path / "anna.json"
    write_single_tasks(path, shown, "contest", "anna", ["tone"])
    tasks = json.loads(path.read_text())
    path.write_text(json.dumps([answered(task, {"criterion_0": 4}) for task in tasks]))
    back = read_single_tasks(path, shown, "contest", "anna", ["tone"])
    assert [(one.item, one.tuned, one.again) for one in back] == [
        (one.pair.item, one.tuned, one.again) for one in shown
    ]
    assert {one.grades["tone"] for one in back} == {4}
    assert GRADES[-1] == "5"


def said(several: list[Pair], reviewer: str, wins: list[bool]) -> list[Judgement]:
    return [
        Judgement(pair.item, reviewer, True, False, {"tone": "first" if win else "second"}, "")
        for pair, win in zip(several, wins, strict=True)
    ]


def test_two_reviewers_who_disagree_at_random_leave_the_human_check_unmeasured() -> None:
    import random

    several, draws = pairs(100), random.Random(5)
    # Both like the tuned answers in four of five cases, but not in the same ones.
    mostly = [[draws.random() < 0.8 for _ in several] for _ in range(2)]
    at_random = [*said(several, "anna", mostly[0]), *said(several, "berta", mostly[1])]
    result = summarise_review(several, at_random, ["tone"], "tuned", "rival", blocking=True).criteria[0]
    assert result.agreement is not None
    assert abs(result.agreement.value) < 0.2
    assert result.win_rate is not None
    assert result.win_rate.low > 0.5
    assert result.check.answer == "unmeasured"
    assert result.check.blocking
    assert "beyond chance" in result.check.evidence
    together = [*said(several, "anna", mostly[0]), *said(several, "berta", mostly[0])]
    assert summarise_review(several, together, ["tone"], "t", "r").criteria[0].check.answer == "passed"
    alone = said(several, "anna", mostly[0])
    assert "two people" in summarise_review(several, alone, ["tone"], "t", "r").criteria[0].check.evidence


def test_the_human_check_fails_where_the_opponent_is_preferred_and_waits_for_50_items() -> None:
    alpha = Estimate(0.6, 0.4, 0.8, 120, 60, 0.95, "")
    for low, high, answer in ((0.55, 0.7, "passed"), (0.2, 0.4, "failed"), (0.4, 0.6, "unmeasured")):
        rate = Estimate((low + high) / 2, low, high, 120, 60, 0.95, "")
        assert human_check("tone", rate, alpha, None, True).answer == answer
    few = Estimate(0.9, 0.8, 1.0, 98, 49, 0.95, "")
    assert human_check("tone", few, alpha, None, True).answer == "unmeasured"


def test_what_people_say_reaches_report_costs_and_gate(
    finished: tuple[Session, Run], tmp_path: Path, capsys: Captured
) -> None:
    session, _ = finished
    runs = tmp_path / "runs"
    shutil.copytree(session.folder.path, runs / "toy", ignore=shutil.ignore_patterns("review*"))
    folder = TaskFolder(runs / "toy")

    def run(*words: str) -> int:
        return main(["review", "toy", "--runs", str(runs), *words])

    def gate(**review: Any) -> tuple[str, dict[str, str]]:
        settings = ReviewSettings.model_validate({"blocking": True} | review)
        task: Task = session.task.model_copy(update={"review": settings})
        found = check_gate(task, folder)
        return found.answer, {check.name: check.answer for check in found.checks}

    assert gate()[1]["people: correctness"] == "unmeasured"
    assert "people: correctness" not in gate(blocking=False)[1]
    for reviewer in ("anna", "berta"):
        file = tmp_path / f"{reviewer}.json"
        capsys.readouterr()
        assert run("--reviewer", reviewer, "--export", str(file), "--json") == 0
        done = [answered(task, {"criterion_0": ["1 is better"]}) for task in json.loads(file.read_text())]
        assert json.loads(capsys.readouterr().out) == {"file": str(file), "tasks": len(done)}
        file.write_text(json.dumps(done))
        assert import_review(session.task, folder, reviewer, file) == len(done) > 10
        assert import_review(session.task, folder, reviewer, file) == 0
    adapter = finished_run(session.task, folder).training.adapter_sha256
    assert [check.name for check in people_checks(session.task, folder, adapter)] == ["people: correctness"]
    assert people_checks(session.task, folder, "another model") == ()
    # Who always takes the first answer takes either model's, so that the check is not passed.
    assert gate()[1]["people: correctness"] == "unmeasured"
    assert gate()[0] != "passed"

    file = tmp_path / "timed.json"
    assert run("--reviewer", "anna", "--timed", "--export", str(file)) == 0
    timed = [
        answered(task, {"answer": ["billing"]}, seconds=30.0 if "predictions" in task else 90.0)
        for task in json.loads(file.read_text())
    ]
    file.write_text(json.dumps(timed))
    assert run("--reviewer", "anna", "--timed", "--import", str(file)) == 0
    told = capsys.readouterr().out
    assert "which saves 1.00 min" in told
    assert "reviewers: 2 (anna, berta)" in told
    page = folder.report.read_text(encoding="utf-8")
    assert "What people say" in page
    assert "Working time" in page
    assert "names no price of working time" in page
    assert main(["review", "toy", "--runs", str(runs), "--judge"]) == 2
    assert "names no judge" in capsys.readouterr().err


def test_the_plan_asks_every_blocking_guard_and_names_what_can_never_pass(
    finished: tuple[Session, Run],
) -> None:
    session, run = finished
    block = {"margin": 0.2, "blocking": True}
    guards = GuardsSettings.model_validate(
        {
            "general_text": block,
            "probes": block,
            "own_probes": "probes.jsonl",
            "probe_log_probability": block,
            "slices": [
                {"name": "north", "pattern": "^north$", "field": "region", **block},
                {"name": "nobody", "pattern": "no such words at all", **block},
            ],
            "robustness": {"rows": 55, **block},
            "fairness": block,
            "refusals": block,
        }
    )
    task = session.task.model_copy(update={"guards": guards})
    asked = Session(task, session.folder, session.console, session.cache)
    calm, rough = planned_guards(
        asked, run.dataset.manifest.splits["test"], read_split(run.dataset, "validation")
    )
    found = {guard.guard: guard for guard in calm.guards}
    assert found["log-probability of all probes"].items > 1000
    own = {"own probes", "slice: north", "slice: nobody", "fairness", "refusals: harmful requests"}
    assert own | {"refusals: harmless requests", "robustness: typos"} <= set(found)
    assert sum(name.startswith("robustness: ") for name in found) >= 8
    assert found["slice: nobody"].chance_if_unchanged == 0
    assert found["slice: north"].items == pytest.approx(60, abs=15)
    assert found["robustness: typos"].items == 55
    assert found["refusals: harmful requests"].chance_if_unchanged > 0.9
    assert calm.if_independent == rough.if_independent == 0  # nobody belongs to one slice
    for one, other in zip(calm.guards, rough.guards, strict=True):
        assert one.chance_if_unchanged >= other.chance_if_unchanged
    nothing = session.task.model_copy(update={"guards": GuardsSettings()})
    unblocked = Session(nothing, session.folder, session.console, session.cache)
    assert planned_guards(unblocked, run.dataset.manifest.splits["test"], ()) == ()
