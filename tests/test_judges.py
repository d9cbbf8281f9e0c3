"""Models as judges: used only where they agree with people, and nothing that was paid for is lost."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from endpoint_server import Sent, serving
from tiny import load_tiny, make_tiny_base
from tunesmith.candidates.answer_store import AnswerStore
from tunesmith.errors import UserError
from tunesmith.evaluation.judges import Comparison, Judge, ask_judge, judge_criterion, read_choice
from tunesmith.evaluation.review import Choice, Judgement, Pair
from tunesmith.models import endpoint as client
from tunesmith.people_records import JudgedCriterion
from tunesmith.stages.judge import endpoint_judge, local_judge
from tunesmith.stages.session import Session
from tunesmith.task import Task, load_task
from tunesmith.workspace import TaskFolder

TASK = """\
name: toy
kind: classify
instruction: Name the team.
data: {path: rows.jsonl, input: text, target: label}
split: {train: 160, validation: 60, test: 120}
goal: {gain: 0.02}
base: base
"""


def pairs(number: int, equal: int = 0) -> list[Pair]:
    """Pairs whose tuned answer is longer; the last ``equal`` ones have equal answers."""
    return [
        Pair(f"item {i}", f"rows.jsonl:{i}", f"question {i}", f"answer {i}", f"{other} {i}")
        for i, other in enumerate(["a"] * (number - equal) + ["answer"] * equal)
    ]


def people(several: Sequence[Pair], agree: float, seed: int = 0) -> list[Judgement]:
    """Two reviewers who see each item's true winner, each with probability ``agree``, else toss a coin."""
    draws = random.Random(seed)
    said = []
    for index, pair in enumerate(several):
        for reviewer in ("anna", "berta"):
            wins = index % 2 == 1 if draws.random() < agree else draws.random() < 0.5
            choice: Choice = "first" if wins else "second"
            said.append(Judgement(pair.item, reviewer, True, False, {"correctness": choice}, ""))
    return said


def judge_that(sees: float, seed: int = 1) -> Judge:
    """A judge that finds the true winner (odd items: the tuned, longer answer) with this probability."""
    draws = random.Random(seed)
    memory: dict[str, bool] = {}

    def one(asked: Comparison) -> Choice:
        odd = int(asked.text.split()[-1]) % 2 == 1
        wins = memory.setdefault(asked.text, odd if draws.random() < sees else draws.random() < 0.5)
        return "first" if (len(asked.first) > len(asked.second)) == wins else "second"

    return lambda several, _: [one(each) for each in several]


def always(choice: Choice | None) -> Judge:
    return lambda several, _: [choice] * len(several)


def judged(judge: Judge, several: list[Pair], said: list[Judgement]) -> JudgedCriterion:
    return judge_criterion(judge, "a model", several, said, several, "correctness")


def test_a_judge_that_agrees_with_people_as_they_do_is_accepted_and_then_asked_about_all_pairs() -> None:
    several = pairs(300)
    found = judged(judge_that(0.95), several, people(several, 0.85))
    assert found.accepted.answer == "passed", found.accepted.evidence
    assert found.agreement.position is not None
    assert found.agreement.position.value == 0
    assert found.agreement.people is not None
    assert found.agreement.people.value == pytest.approx(0.85**2, abs=0.1)
    assert found.win_rate.estimate is not None
    assert found.win_rate.estimate.value == pytest.approx(0.5, abs=0.06)
    assert found.win_rate.estimate.groups == 300


@pytest.mark.parametrize("choice", ["first", "second"])
@pytest.mark.parametrize("agree", [1.0, 0.3, 0.0])
def test_a_judge_that_always_prefers_one_position_is_refused(choice: Choice, agree: float) -> None:
    several = pairs(80)
    found = judged(always(choice), several, people(several, agree))
    assert found.accepted.answer == "failed"
    assert "position" in found.accepted.evidence
    assert found.win_rate.answer == "unmeasured"
    assert found.win_rate.estimate is None


def test_a_judge_that_tosses_coins_or_says_nothing_that_can_be_read_is_refused() -> None:
    several = pairs(300)
    said = people(several, 0.9)
    assert judged(judge_that(0.0), several, said).accepted.answer == "failed"
    unread = judged(always(None), several, said)
    assert unread.accepted.answer == "failed"
    assert unread.unread == 600
    assert "600 answers could not be read" in unread.accepted.evidence


def test_people_who_disagree_at_random_few_items_or_one_reviewer_leave_a_judge_unmeasured() -> None:
    several = pairs(100)
    found = judged(judge_that(1.0), several, people(several, 0.0))
    assert found.accepted.answer == "unmeasured"
    assert "chance" in found.accepted.evidence
    few = several[:49]
    assert judged(judge_that(1.0), few, people(few, 1.0)).accepted.answer == "unmeasured"
    alone = [each for each in people(several, 1.0) if each.reviewer == "anna"]

    def not_asked(*_: object) -> list[Choice | None]:
        raise AssertionError("a judge that cannot be held to people costs nothing")

    assert judged(not_asked, several, alone).accepted.answer == "unmeasured"
    assert judged(not_asked, few, people(few, 1.0)).accepted.answer == "unmeasured"


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        ("1", "first"),
        (" 2.\n", "second"),
        ("**Tie**", "tie"),
        ("Answer 1 is longer, but answer 2 is right.\nAnswer: 2", "second"),
        ("1 or 2", None),
        ("12", None),
        ("", None),
    ],
)
def test_what_a_judge_writes_is_read_from_its_last_line(text: str, choice: Choice | None) -> None:
    assert read_choice(text) == choice


@pytest.fixture
def session(tmp_path: Path) -> Session:
    path = tmp_path / "task.yaml"
    path.write_text(TASK)
    task: Task = load_task(path)
    return Session(task, TaskFolder(tmp_path / "runs"), Console(quiet=True), tmp_path / "cache")


def test_an_endpoint_that_fails_half_way_loses_no_answer_and_goes_on_where_it_was(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNESMITH_TEST_KEY", "sk-test-0123456789")
    monkeypatch.setattr(client, "FIRST_WAIT_SECONDS", 0.001)
    several, broken = pairs(20), True

    def reply(body: dict[str, Any], number: int) -> Sent:
        if broken and number >= 13:
            return Sent(status=400, text=None, raw=b"no such model any more")
        asked = body["messages"][-1]["content"]
        first, second = (asked.partition(f"Answer {n}:\n")[2].splitlines()[0] for n in (1, 2))
        return Sent(text="1" if len(first) > len(second) else "2")

    path = tmp_path / "judge.jsonl"
    with serving(reply) as server:
        endpoint = server.endpoint(requests_at_once=1)
        judge = endpoint_judge(session, endpoint, "Prefer the longer.", AnswerStore(path))
        with pytest.raises(
            UserError, match=r"review\.judge\.endpoint: local: rows\.jsonl:6: HTTP 400"
        ) as told:
            ask_judge(judge, several, "length")
        assert told.value.exit_code == 3
        assert len(AnswerStore(path).answers) == 13
        before, broken = len(server.requests), False
        store = AnswerStore(path)
        outcomes, unread = ask_judge(
            endpoint_judge(session, endpoint, "Prefer the longer.", store), several, "length"
        )
        assert len(server.requests) - before == 40 - 13  # each pair in both orders, none twice
        assert set(outcomes.values()) == {(1.0, 1.0)}
        assert unread == 0
        assert store.spent == pytest.approx(40 * 12)
        sent = server.requests[0][2]["messages"]
        assert "Prefer the longer." in sent[0]["content"]
        assert "length" in sent[0]["content"]
        assert "Name the team." in sent[1]["content"]


def test_a_local_base_can_judge_and_a_random_one_is_not_accepted(session: Session, tmp_path: Path) -> None:
    make_tiny_base(tmp_path / "base")
    judge = local_judge(session, load_tiny(tmp_path / "base"), "Prefer the longer.")
    several = pairs(52)
    found = judged(judge, several, people(several, 1.0))
    assert found.unread == 0
    assert found.accepted.answer in ("failed", "unmeasured")
    assert found.win_rate.answer == "unmeasured"
