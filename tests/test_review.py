"""Blind review: nobody is told whose answer it is, nothing judged is lost, and no biased judge stands in."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from tunesmith.errors import UserError
from tunesmith.evaluation.review import (
    Choice,
    Judgement,
    Pair,
    append_record,
    draw_pairs,
    read_records,
    review,
    showings,
    summarise_review,
    write_records,
)
from tunesmith.records import Message, Row
from tunesmith.report.people_terminal import review_lines
from tunesmith.stats.review import drift, win_rate

CRITERIA = ("relevance", "correctness")


def pairs(number: int, equal: int = 0) -> list[Pair]:
    """Pairs whose tuned answer is longer; the last ``equal`` ones have equal answers."""
    return [
        Pair(f"item {i}", f"rows.jsonl:{i}", f"question {i}", f"answer {i}", f"{other} {i}")
        for i, other in enumerate(["a"] * (number - equal) + ["answer"] * equal)
    ]


def judged(pair: Pair, reviewer: str, outcome: float, again: bool = False) -> Judgement:
    choice: Choice = "tie" if outcome == 0.5 else "first" if outcome == 1 else "second"
    return Judgement(pair.item, reviewer, True, again, dict.fromkeys(CRITERIA, choice), "")


def test_pairs_are_drawn_from_all_rows_with_equal_answers_among_them() -> None:
    rows = [Row(str(i), f"rows.jsonl:{i}", (Message("user", f"text {i}"),), "x") for i in range(30)]
    answers = [str(i % 3) for i in range(30)]
    drawn = draw_pairs(rows, answers, ["0"] * 30, 20, seed=1)
    assert len({pair.item for pair in drawn}) == 20
    assert 0 < sum(pair.same for pair in drawn) < 20
    assert drawn == draw_pairs(rows, answers, ["0"] * 30, 20, seed=1)
    assert all(pair.tuned == str(int(pair.item) % 3) for pair in drawn)
    assert len(draw_pairs(rows, answers, answers, 99, seed=1)) == 30


def test_order_and_position_are_random_differ_by_reviewer_and_repeats_swap_positions() -> None:
    several = pairs(40, equal=4)
    anna, berta = showings(several, "anna", 8), showings(several, "berta", 8)
    assert anna == showings(several, "anna", 8)
    assert [each.pair.item for each in anna] != [each.pair.item for each in berta]
    assert len(anna) == 36 + 8
    assert not any(each.pair.same for each in anna)
    firsts = [each.tuned_first for each in anna if not each.again]
    assert 8 < sum(firsts) < 28
    for repeat in anna[36:]:
        (once,) = [each for each in anna[:36] if each.pair == repeat.pair]
        assert repeat.again
        assert repeat.tuned_first != once.tuned_first
        assert anna.index(once) < 18


def test_a_reviewer_never_sees_which_candidate_an_answer_is_from() -> None:
    said: list[str] = []
    shown = showings(pairs(10), "anna", 0)
    review(shown, [], CRITERIA, "anna", lambda _: "1", said.append, lambda _: None)
    text = "\n".join(said)
    assert all(pair.text in text for pair in pairs(10))
    assert "tuned" not in text
    assert "opponent" not in text


def _say(key: str, _: str) -> str:
    return key


def test_the_preferred_candidate_is_found_whatever_its_position(tmp_path: Path) -> None:
    several, saved = pairs(30), list[Judgement]()
    for showing in showings(several, "anna", 5):
        # Anna always prefers the longer answer, which is the tuned one.
        first, second = showing.answers
        key = "1" if len(first) > len(second) else "2"
        review([showing], [], CRITERIA, "anna", partial(_say, key), lambda _: None, saved.append)
    assert len(saved) == 35
    result = summarise_review(several, saved, CRITERIA, "tuned", "rival")
    for criterion in result.criteria:
        assert criterion.win_rate is not None
        assert criterion.win_rate.value == 1
        assert criterion.win_rate.low < 1
        assert criterion.win_rate.rows == 30
        assert criterion.drifts[0].same is not None
        assert criterion.drifts[0].same.value == 1


def test_a_stopped_review_goes_on_where_it_was_and_loses_only_the_open_item(tmp_path: Path) -> None:
    shown, path = showings(pairs(12), "anna", 0), tmp_path / "judgements-anna.jsonl"
    asked = 0

    def interrupted(_: str) -> str:
        nonlocal asked
        asked += 1
        if asked == 3 * 5 + 2:  # two criteria and a comment an item: in the middle of the sixth
            raise KeyboardInterrupt
        return "2"

    def save(judgement: Judgement) -> None:
        append_record(path, judgement)

    with pytest.raises(KeyboardInterrupt):
        review(shown, [], CRITERIA, "anna", interrupted, lambda _: None, save)
    assert len(read_records(path, Judgement)) == 5
    with path.open("a") as stream:
        stream.write('{"again":fal')  # a crash in the middle of a line
    done = read_records(path, Judgement)
    assert len(done) == 5
    assert review(shown, done, CRITERIA, "anna", lambda _: "t", lambda _: None, save) == 7
    assert [each.item for each in read_records(path, Judgement)] == [each.pair.item for each in shown]
    assert (
        review(shown, read_records(path, Judgement), CRITERIA, "anna", interrupted, lambda _: None, save) == 0
    )


@pytest.mark.parametrize("lines", [["q"], ["1", "x", "q"], []])
def test_q_and_the_end_of_the_input_stop_without_a_judgement(lines: list[str]) -> None:
    answers, saved = iter(lines), list[Judgement]()

    def ask(_: str) -> str:
        try:
            return next(answers)
        except StopIteration:
            raise EOFError from None

    assert review(showings(pairs(3), "a", 0), [], CRITERIA, "a", ask, lambda _: None, saved.append) == 0
    assert saved == []


def test_pairs_and_judgements_survive_the_disk_and_a_broken_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    several = [*pairs(3), Pair("é", "s", "line\u2028break\n", "a\n", "“b”")]
    write_records(path, several)
    assert read_records(path, Pair) == several
    path.write_text(path.read_text() + '{"item": 3}\n')
    with pytest.raises(UserError, match=r"pairs.jsonl:5: not a pair"):
        read_records(path, Pair)


def test_equal_answers_are_ties_of_every_reviewer() -> None:
    several = pairs(40, equal=20)
    said = [judged(pair, reviewer, 1.0) for pair in several[:20] for reviewer in ("anna", "berta")]
    result = summarise_review(several, said, CRITERIA, "tuned", "rival")
    rate = result.criteria[0].win_rate
    assert rate is not None
    assert rate.value == pytest.approx(0.75)
    assert (rate.rows, rate.groups, result.equal_answers) == (80, 40, 20)
    assert summarise_review(several, [], CRITERIA, "tuned", "rival").criteria[0].win_rate is None


@pytest.mark.parametrize(("reviewers", "spread"), [(1, 0.0), (3, 0.08), (6, 0.08)])
def test_the_win_rate_holds_the_rate_over_all_items_and_reviewers(reviewers: int, spread: float) -> None:
    draws = np.random.default_rng(reviewers)
    truth = 0.6
    repetitions, held = 120, 0
    for seed in range(repetitions):
        chance = truth + draws.uniform(-0.25, 0.25, (60, 1)) + draws.uniform(-2, 2, reviewers) * spread / 1.2
        outcomes = (draws.random((60, reviewers)) < np.clip(chance, 0, 1)).astype(float)
        items = [str(item) for item in range(60) for _ in range(reviewers)]
        names = [str(name) for _ in range(60) for name in range(reviewers)]
        estimate = win_rate(outcomes.ravel().tolist(), items, names, seed=seed)
        held += estimate.low <= truth <= estimate.high
    assert held / repetitions >= 0.95 - 2.6 * math.sqrt(0.95 * 0.05 / repetitions)


def test_reviewers_who_differ_widen_the_interval_and_one_reviewer_speaks_for_themselves() -> None:
    items = [str(item) for item in range(50) for _ in range(4)]
    names = [name for _ in range(50) for name in "abcd"]
    alike = [float(item % 2) for item in range(50) for _ in range(4)]
    apart = [float(name in "ab") for name in names]
    united, divided = win_rate(alike, items, names), win_rate(apart, items, names)
    assert united.value == divided.value == 0.5
    assert divided.high - divided.low > 2 * (united.high - united.low)
    assert "one reviewer" in win_rate(alike[::4], items[::4], ["a"] * 50).method
    with pytest.raises(ValueError, match="between 0"):
        win_rate([2.0, 0.0], ["a", "b"], ["x", "x"])


def test_a_reviewer_who_drifts_is_seen_and_a_steady_one_is_not() -> None:
    steady = drift("anna", [1, 0, 0.5, 1, 0, 1, 0, 1, 1, 0], [1, 0, 0.5, 1, 0, 1, 0, 1, 1, 0])
    assert steady.same is not None
    assert steady.shift is not None
    assert (steady.same.value, steady.shift.value) == (1, 0)
    drifting = drift("berta", [0.0] * 9 + [1.0], [1.0] * 10)
    assert drifting.shift is not None
    assert drifting.shift.low > 0.1


def test_a_shift_is_never_more_than_from_one_answer_to_the_other() -> None:
    shift = drift("anna", [1, 1, 1, 1, 0, 0.5], [0, 0, 0, 0, 1, 0.5]).shift
    assert shift is not None
    assert (shift.low, shift.value < 0) == (-1, True)


def test_the_terminal_shows_a_few_comments_and_counts_the_others() -> None:
    several = pairs(4)
    said = [replace(judged(pair, "anna", 1.0), comment="too long") for pair in several] * 5
    result = summarise_review(several, said, CRITERIA, "tuned", "opponent")
    assert review_lines(result)[-1] == "… and 10 more comments"
    assert drift("carl", [1.0] * 4, [1.0] * 4).same is None
