"""Working time: conditions are drawn, pauses do no harm, and what the interval promises holds."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tunesmith.errors import UserError
from tunesmith.evaluation.costs import LABOUR, labour_break_even
from tunesmith.evaluation.label_studio import read_timed_tasks, write_timed_tasks
from tunesmith.evaluation.timed import (
    TimedAnswer,
    TimedItem,
    Turn,
    draw_items,
    labour,
    time_answers,
    turns,
)
from tunesmith.guard_records import CandidateCost
from tunesmith.people_records import Labour
from tunesmith.records import Estimate, Message, Row
from tunesmith.stats.labour import capped_times, contrast, time_saved
from tunesmith.task.guard_settings import CostSettings


def items(number: int) -> list[TimedItem]:
    return [TimedItem(f"item {i}", f"rows.jsonl:{i}", f"question {i}", f"model {i}") for i in range(number)]


def test_conditions_are_drawn_within_each_reviewer_and_balanced_wherever_one_stops() -> None:
    given = items(41)
    anna = turns(given, "anna")
    assert anna == turns(given, "anna")
    assert sorted(turn.item.item for turn in anna) == sorted(item.item for item in given)
    for stopped in range(1, len(anna)):
        with_answer = sum(turn.with_answer for turn in anna[:stopped])
        assert abs(2 * with_answer - stopped) <= 1
    others = [{turn.item.item for turn in turns(given, name) if turn.with_answer} for name in "abcdef"]
    assert len({frozenset(one) for one in others}) == 6


def test_rows_that_were_seen_in_pairs_are_timed_only_when_there_are_no_others() -> None:
    rows = [Row(str(i), f"rows.jsonl:{i}", (Message("user", "text"),), "x") for i in range(30)]
    answers = ["x"] * 30
    seen = [str(i) for i in range(20)]
    assert {one.item for one in draw_items(rows, answers, seen, 10, 0)} == {str(i) for i in range(20, 30)}
    assert len(draw_items(rows, answers, seen, 25, 0)) == 25


def test_the_clock_runs_from_showing_to_answer_and_a_pause_is_told() -> None:
    lines: Iterator[str] = iter(["", "/p", "", "typed", "no label", "yes", "/q"])
    now = iter(range(0, 1000, 5))
    saved: list[TimedAnswer] = []
    said: list[str] = []
    drafts: list[str] = []

    def ask(prompt: str, draft: str) -> str:
        drafts.append(draft)
        return next(lines)

    waiting = [
        Turn(item, with_answer)
        for item, with_answer in zip(items(4), [True, False, False, True], strict=True)
    ]
    done = time_answers(
        waiting,
        "anna",
        lambda text: None if text == "no label" else text,
        ask,
        said.append,
        saved.append,
        lambda: float(next(now)),
    )
    assert done == 3
    assert [(one.answer, one.seconds, one.paused) for one in saved] == [
        ("model 0", 5.0, False),
        ("typed", 5.0, True),
        ("yes", 5.0, False),
    ]
    assert "model 0" in said[0]
    assert "model 1" not in "".join(said)  # without the answer nobody sees it
    assert drafts[0] == "model 0"
    assert drafts[1] == ""


def lognormal_times(
    random: np.random.Generator, reviewers: int, number: int, ratio: float
) -> tuple[list[float], list[bool], list[str], list[str]]:
    difficulty = random.lognormal(0, 0.4, number)
    seconds, helped, names, whats = [], [], [], []
    for reviewer in range(reviewers):
        speed = random.lognormal(0, 0.5)
        conditions = random.permutation([i % 2 == 0 for i in range(number)])
        for item in range(number):
            factor = ratio if conditions[item] else 1.0
            seconds.append(60 * speed * difficulty[item] * float(random.lognormal(0, 0.3)) * factor)
            helped.append(bool(conditions[item]))
            names.append(str(reviewer))
            whats.append(str(item))
    return seconds, helped, whats, names


@pytest.mark.parametrize(("reviewers", "number"), [(1, 60), (3, 40)])
def test_the_interval_holds_what_is_saved_also_of_reviewers_of_different_speed(
    reviewers: int, number: int
) -> None:
    random = np.random.default_rng(7)
    repetitions, held = 120, 0
    for _ in range(repetitions):
        saved = time_saved(*lognormal_times(random, reviewers, number, 0.7))
        assert saved is not None
        held += saved.ratio.low <= 0.7 <= saved.ratio.high
        assert saved.saved.low <= saved.saved.value <= saved.saved.high
    assert held / repetitions >= 0.95 - 2.6 * math.sqrt(0.95 * 0.05 / repetitions)


def test_a_pause_counts_as_the_reviewers_limit_and_is_told() -> None:
    random = np.random.default_rng(1)
    seconds, helped, whats, names = lognormal_times(random, 1, 60, 0.7)
    calm = time_saved(seconds, helped, whats, names)
    unhelped = helped.index(False)
    seconds[unhelped] = 8 * 3600.0  # went home
    paused = time_saved(seconds, helped, whats, names)
    assert calm is not None
    assert paused is not None
    assert paused.capped == calm.capped + 1
    assert abs(paused.saved.value - calm.saved.value) < 0.5 * calm.without.value
    kept, cut = capped_times([10.0] * 9 + [1e6], [True] * 10, ["a"] * 10)
    assert (cut, kept[-1]) == (1, pytest.approx(20.0))  # never below twice the median


def test_a_fast_reviewer_with_more_items_of_one_kind_proves_nothing() -> None:
    # Fast anna mostly had the answer, slow berta mostly had not; neither gains anything by it.
    seconds = [10.0, 11.0] * 20 + [100.0, 101.0] * 20
    helped = [i % 4 > 0 for i in range(40)] + [i % 4 == 0 for i in range(40)]
    whats = [str(i) for i in range(80)]
    names = ["anna"] * 40 + ["berta"] * 40
    saved = time_saved(seconds, helped, whats, names)
    assert saved is not None
    assert abs(saved.saved.value) < 1
    naive = np.mean([s for s, h in zip(seconds, helped, strict=True) if not h]) - np.mean(
        [s for s, h in zip(seconds, helped, strict=True) if h]
    )
    assert naive > 30


def test_few_times_are_unmeasured_and_paused_ones_are_not_used() -> None:
    answers = [TimedAnswer(str(i), "anna", i % 2 == 0, "yes", 30.0 + i, False) for i in range(38)]
    few = labour(answers, "tuned", "accuracy", lambda items, given: [1.0] * len(given))
    assert few.saved is None
    assert few.unmeasured is not None
    assert "20 of each" in few.unmeasured
    more = [TimedAnswer(f"x{i}", "anna", i % 2 == 0, "no", 40.0 - i, False) for i in range(4)]
    stopped = [TimedAnswer("p", "anna", True, "no", 9e9, True)]
    right = labour(
        [*answers, *more, *stopped], "tuned", "accuracy", lambda _, given: [float(a == "yes") for a in given]
    )
    assert right.paused == 1
    assert right.saved is not None
    assert right.score is not None
    assert right.score.low < right.score.value < right.score.high


def test_equal_scores_in_both_conditions_have_an_interval_that_is_no_point() -> None:
    found = contrast([1.0] * 40, [True, False] * 20, [str(i) for i in range(40)], ["a"] * 40, span=1.0)
    assert found.value == 0
    assert found.low < -0.02
    assert found.high > 0.02


def saving(low: float, value: float, high: float) -> Labour:
    saved = Estimate(value, low, high, 40, 40, 0.95, "t")
    return Labour("tuned", ("anna",), 20, 20, 0, 0, saved, saved, saved, saved, "accuracy", None)


def test_working_time_pays_or_never_does_and_counts_only_with_a_price() -> None:
    prices = CostSettings(machine_per_hour=1.0, labour_per_hour=36.0)
    second = Estimate(3600.0, 3600.0, 3600.0, 8, 8, 0.95, "t")
    tuned = CandidateCost("t", "tuned", 0.0, 0.0, None, None, None, None, None, None, None)
    paid = labour_break_even(saving(50, 100, 200), [tuned], 7200.0, prices)
    assert paid is not None
    assert paid.opponent == LABOUR
    assert [paid.fixed, paid.low, paid.requests, paid.high] == pytest.approx([2.0, 1.0, 2.0, 4.0])
    assert "pays after 2 items" in paid.sentence
    # An answer that costs more than it saves never pays.
    dear = labour_break_even(saving(50, 99, 99), [replace(tuned, latency=second)], 7200.0, prices)
    assert dear is not None
    assert "never pays" in dear.sentence
    perhaps = labour_break_even(saving(-5, 100, 200), [tuned], 7200.0, prices)
    assert perhaps is not None
    assert perhaps.sentence.startswith("by working time fine-tuning may pay after")
    assert (
        labour_break_even(saving(50, 100, 200), [tuned], 7200.0, CostSettings(machine_per_hour=1.0)) is None
    )


def test_times_come_back_from_label_studio(tmp_path: Path) -> None:
    path, shown = tmp_path / "timed.json", turns(items(6), "anna")
    write_timed_tasks(path, shown, "contest", "anna", ["yes", "no"])
    tasks: list[dict[str, Any]] = json.loads(path.read_text())
    assert ["predictions" in task for task in tasks] == [turn.with_answer for turn in shown]
    assert "model" not in json.dumps([task["data"] for task in tasks])
    for place, task in enumerate(tasks[:4]):
        choice = {"from_name": "answer", "to_name": "text", "type": "choices", "value": {"choices": ["no"]}}
        task["annotations"] = [{"result": [choice], "lead_time": 10.5 + place, "was_cancelled": place == 3}]
    path.write_text(json.dumps(tasks))
    given = read_timed_tasks(path, shown, "contest", "anna")
    assert [(one.item, one.seconds, one.answer) for one in given] == [
        (turn.item.item, 10.5 + place, "no") for place, turn in enumerate(shown[:3])
    ]
    with pytest.raises(UserError, match="task 1 was not exported for this reviewer"):
        read_timed_tasks(path, shown, "contest", "berta")
    del tasks[0]["annotations"][0]["lead_time"]
    path.write_text(json.dumps(tasks))
    with pytest.raises(UserError, match=r"task 1: no lead_time"):
        read_timed_tasks(path, shown, "contest", "anna")
