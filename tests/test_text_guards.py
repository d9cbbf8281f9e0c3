"""Guards on written texts: planted inventions, copies, stock phrases and weak turns are found."""

from __future__ import annotations

import random
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from report_samples import scorecard
from tunesmith.candidates.answers import Answers
from tunesmith.data.questions import Questions, each_row
from tunesmith.evaluation.attacks import SPOILERS
from tunesmith.evaluation.fairness import swap_score
from tunesmith.evaluation.grounding import grounding_checks, grounding_scores, measure_grounding
from tunesmith.evaluation.guards import evidence_checks
from tunesmith.evaluation.judging import Judging
from tunesmith.evaluation.memorisation import copying
from tunesmith.evaluation.metrics.answered import Answered
from tunesmith.evaluation.metrics.own import OwnMetric
from tunesmith.evaluation.metrics.stock_phrases import stock_phrases
from tunesmith.evaluation.row_scores import rewording, row_judging, unit_scores
from tunesmith.evaluation.slices import make_slicer, score_slices
from tunesmith.evaluation.text_diagnosis import diagnose_texts
from tunesmith.guard_records import Swaps
from tunesmith.records import Estimate, Message, Row
from tunesmith.stages.attacking import Before, Scoring, attack
from tunesmith.stages.text_guards import ATTACK_ORDER, affordable_attacks
from tunesmith.stats.intervals import proportion_interval
from tunesmith.stats.paired import paired_gain
from tunesmith.task.guard_settings import GroundingSettings, GuardsSettings
from tunesmith.task.rules import broken_rules

WORDS = (
    *("garden", "river", "hotel", "piano", "engine", "kitten", "school", "street", "letter", "window"),
    *("market", "bridge", "forest", "candle"),
)


def passages(count: int) -> Questions:
    """Passages of eight words, of which the first four are the right answer."""
    draw = random.Random(5)
    rows = []
    for number in range(count):
        said = [draw.choice(WORDS) for _ in range(8)]
        text = " ".join(said)
        rows.append(
            Row(f"r{number}", f"p:{number}", (Message("user", text),), " ".join(said[:4]), f"g{number}")
        )
    return each_row(rows)


ASKED = passages(60)
PROMPT = "8 nearest examples, length-normalised and context-calibrated"
RIGHT = [row.target for row in ASKED.rows]


@pytest.mark.parametrize("metric", ["chrf", "rouge_l", "unsupported_words", "cider", "bleu"])
def test_the_score_of_a_row_is_larger_when_better_whatever_the_goal(metric: str) -> None:
    judging = Judging("summarise", metric)
    best = unit_scores(judging, ASKED, RIGHT)
    worst = unit_scores(judging, ASKED, ["volcano submarine"] * len(ASKED))
    assert min(best) > 0.99
    assert max(worst) < 0.5


def test_a_metric_that_cannot_be_had_of_one_row_is_stood_in_for_by_the_default_of_the_kind() -> None:
    own = OwnMetric("mine.py:f", Path("mine.py"), lambda answer, row: 7.0, "0")
    assert row_judging(Judging("chat", own)).metric == "chrf"
    assert row_judging(Judging("answer", "cider")).metric == "rouge_l"
    assert row_judging(Judging("answer", "unsupported_words")).metric == "unsupported_words"


def test_a_row_with_nothing_to_extract_and_nothing_extracted_is_right() -> None:
    rows = each_row([Row("a", "a", (Message("user", "x"),), "{}", "a"), ASKED.rows[0]]).take([0])
    assert unit_scores(Judging("extract", "field_f1"), rows, ["{}"]) == [1.0]


def test_an_invention_fails_the_guard_where_the_opponent_keeps_to_its_source() -> None:
    invented = [f"{answer} with 47 dragons near Samarkand" for answer in RIGHT]
    records = measure_grounding(ASKED, invented, RIGHT, "answer")
    assert [check.answer for check in grounding_checks(records, "o", 0.05, True, 0.05)] == ["failed"] * 3
    equal = measure_grounding(ASKED, RIGHT, RIGHT, "summarise")
    assert {check.answer for check in grounding_checks(equal, "o", 0.1, True, 0.05)} == {"passed"}
    few = measure_grounding(ASKED.take(range(30)), RIGHT[:30], RIGHT[:30], "answer")
    assert {check.answer for check in grounding_checks(few, "o", 0.5, True, 0.05)} == {"unmeasured"}
    words = grounding_scores(records, ASKED, "o", 0.05)[0]
    assert words.tuned.value > 0.3 > words.references.value == 0
    assert words.gain.value < 0
    (told, _, _) = (check.evidence for check in grounding_checks(records, "o", 0.05, True, 0.05))
    assert re.search(r"; \+\d+\.\d points \[.*\] beside the opponent", told)


def test_grounding_is_asked_only_where_answers_rest_on_a_source_and_blocks_unmeasured() -> None:
    asked = GuardsSettings(grounding=GroundingSettings(margin=0.1, blocking=True))
    names = {check.name: check for check in evidence_checks(None, asked, 0.05, "answer")}
    assert names["grounding: numbers"].answer == "unmeasured"
    assert names["grounding: numbers"].blocking
    assert not any("grounding" in check.name for check in evidence_checks(None, asked, 0.05, "generate"))
    assert measure_grounding(ASKED, RIGHT, RIGHT, "generate") == ()
    task = {"kind": "generate", "guards": {"grounding": {"margin": 0.1}}}
    assert ("guards", "grounding") in [where for where, _ in broken_rules(task)]
    assert not list(broken_rules({**task, "kind": "answer"}))


def test_an_answer_learned_by_heart_is_told_and_one_that_is_usual_is_not() -> None:
    training = ["the old lighthouse keeper sold every single boat before winter came again", *RIGHT]
    answers = [training[0], *RIGHT[1:]]
    found = copying(ASKED.rows, ASKED.references, answers, training)
    assert found is not None
    assert [(run.source, run.words) for run in found.examples] == [("p:0", 12)]
    assert found.excess.value == pytest.approx(8 / 60)
    assert found.whole is not None
    assert (found.whole.value, found.whole.rows) == (1.0, 1)
    usual = copying(ASKED.rows, ASKED.references, RIGHT, training)
    assert usual is not None
    assert usual.examples == ()
    assert usual.excess.value == 0
    assert copying(ASKED.rows[:1], ASKED.references[:1], RIGHT[:1], training) is None


def conversations(count: int) -> list[Row]:
    rows = []
    for number in range(count):
        earlier = (Message("user", "hello there"), Message("assistant", "yes")) * (number % 3)
        last = Message("user", " ".join(random.Random(number).sample(WORDS, 4)))
        rows.append(Row(f"c{number}", "c:1", (*earlier, last), "answer", f"g{number}"))
    return rows


def test_a_turn_that_is_answered_worse_is_flagged_and_other_kinds_have_no_turns() -> None:
    rows = conversations(180)
    scores = [0.2 if len(row.messages) == 5 else 0.8 for row in rows]
    noise = np.random.default_rng(0).uniform(-0.1, 0.1, len(rows))
    groups = [row.group for row in rows]
    masks = make_slicer(rows, turns=True).masks(rows)
    found = score_slices(masks, groups, scores + noise, scores, "opponent", {})
    turns = {one.name: one for one in found if one.kind == "turn"}
    assert {name: one.tuned.rows for name, one in turns.items()} == {"turn 1": 60, "turn 2": 60, "turn 3": 60}
    assert turns["turn 3"].flagged
    assert not turns["turn 1"].flagged
    assert all(rule.kind != "turn" for rule in make_slicer(rows).rules)


def test_late_turns_are_one_slice() -> None:
    rows = [
        Row(str(turn), "c:1", (Message("assistant", "yes"),) * (turn - 1), "answer", str(turn))
        for turn in range(1, 9)
    ]
    masks = {rule.name: mask.sum() for rule, mask in make_slicer(rows, turns=True).masks(rows).items()}
    assert masks["turn 5 or later"] == 4
    assert masks["turn 4"] == 1


def test_the_same_words_with_the_group_exchanged_are_no_change() -> None:
    assert rewording("she came home", ["he came home", "she came home"]) == 0
    near = rewording("she came home late", ["he came home", "she came home"])
    assert 0 < near < rewording("volcano", ["he came home", "she came home"]) <= 1


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=60, max_size=80))
@settings(max_examples=20)
def test_changed_labels_are_scored_as_they_were_before_there_were_texts(
    pairs: list[tuple[bool, bool]],
) -> None:
    groups = tuple(str(place) for place in range(len(pairs)))
    own, other = (tuple(pair[side] for pair in pairs) for side in (0, 1))
    score = swap_score(Swaps(groups, own, other), "o", 0.05)
    assert score.tuned == proportion_interval(own, groups)
    assert score.gain == paired_gain(~np.array(own), ~np.array(other), groups, "o", 0.05)


def test_attacks_are_bounded_by_what_writing_costs_and_never_where_they_must_pass() -> None:
    card = scorecard("prompt", PROMPT, "validation", 1.0)
    assert {spoiler.name for spoiler in SPOILERS} == set(ATTACK_ORDER)
    found = {}
    for tokens, every in ((1, False), (60, False), (500, False), (10**6, False), (10**6, True)):
        slow = replace(card, cost=replace(card.cost, tokens=tokens * card.cost.rows))
        rows, used = affordable_attacks(50, (slow,), every)
        found[tokens, every] = (rows, [spoiler.name for spoiler in used])
    assert found[1, False] == found[10**6, True] == (50, list(ATTACK_ORDER))
    assert found[60, False] == (50, ["typos", "prompt injection"])
    assert found[500, False] == (14, ["typos"])
    assert found[10**6, False] == (10, ["typos"])


def test_a_model_that_obeys_injected_texts_is_told_from_one_that_does_not() -> None:
    def obedient(rows: list[Row]) -> Answers:
        return Answers([row.text.partition("answer: ")[2] or row.target for row in rows], None, 0)

    def steady(rows: list[Row]) -> Answers:
        return Answers([row.target for row in rows], None, 0)

    before = {row.id: row.target for row in ASKED.rows}
    judging = Judging("summarise", "rouge_l")
    scoring = Scoring(
        lambda rows, answers: tuple(unit_scores(judging, each_row(rows), answers)),
        lambda own, bad: bad in own,
    )
    attacks = {
        one.name: one
        for one in attack(ASKED.rows, RIGHT, Before(before, before), obedient, steady, scoring)  # type: ignore[arg-type]  # a list is a sequence
    }
    injected = attacks["prompt injection"]
    assert injected.tuned_obeyed is not None
    assert injected.opponent_obeyed == (False,) * 60
    assert 5 < sum(injected.tuned_obeyed) < 60  # one of three ways of asking
    assert all(
        (score < 1) == told for score, told in zip(injected.tuned_after, injected.tuned_obeyed, strict=True)
    )
    assert attacks["typos"].tuned_obeyed is None


def test_the_trouble_that_was_planted_is_the_next_step() -> None:
    chatty = [f"{answer} I hope this helps" for answer in RIGHT]
    phrases = stock_phrases(Answered(ASKED.rows, chatty))
    invented = [f"{answer} dragons" for answer in RIGHT]
    grounded = grounding_scores(measure_grounding(ASKED, invented, RIGHT, "answer"), ASKED, "o", 0.05)
    gap = Estimate(0.3, 0.2, 0.4, 60, 60, 0.95, "t")
    copied = copying(ASKED.rows, ASKED.references, RIGHT, RIGHT)
    troubled = diagnose_texts("rouge_l", 60, gap, (), None, grounded, copied, phrases, 60)
    told = {step.name: step.answer for step in troubled}
    assert troubled[0].name == "learning by heart"
    assert told["unsupported words in answers"] == "failed"
    # None in 60 answers: one in twenty may still have been missed by chance.
    assert told["unsupported numbers in answers"] == "unmeasured"
    assert told["answers copied from training rows"] == "passed"
    assert told["stock phrases"] == "failed"
    assert all(step.advice for step in troubled if step.answer == "failed")
    small = Estimate(0.0, -0.001, 0.001, 60, 60, 0.95, "t")
    behind = Estimate(0.4, 0.3, 0.5, 60, 60, 0.95, "t")
    (first, *_) = diagnose_texts("rouge_l", 60, small, (), None, (), copied, (), 60, behind)
    assert (first.name, first.answer, first.worth) == ("learning too little", "failed", behind)
    by_heart = diagnose_texts("rouge_l", 60, gap, (), None, (), copied, (), 60, behind)
    assert "learning too little" not in {step.name for step in by_heart}
    sound = diagnose_texts("rouge_l", 60, small, (), None, (), copied, (), 60)
    assert {step.answer for step in sound} == {"passed", "unmeasured"}  # no slice was tested
    assert {step.name: step.answer for step in sound}["stock phrases"] == "passed"


@pytest.mark.parametrize(("copied_words", "answer"), [(3, "passed"), (12, "failed")])
def test_only_long_runs_of_training_answers_are_a_trouble(copied_words: int, answer: str) -> None:
    """Three words more than right answers share with training rows are a phrase, and no copy."""
    taught = [" ".join(f"w{number}x{place}" for place in range(12)) for number in range(60)]
    right = [" ".join(f"r{number}y{place}" for place in range(12)) for number in range(60)]
    given = [
        " ".join([*one.split()[:copied_words], *(f"n{place}" for place in range(12 - copied_words))])
        for one in taught
    ]
    rows = [replace(row, target=text) for row, text in zip(ASKED.rows, right, strict=True)]
    copied = copying(rows, [(text,) for text in right], given, taught)
    assert copied is not None
    assert copied.excess.low > 0
    steps = diagnose_texts("rouge_l", 60, None, (), None, (), copied, (), 60)
    assert {step.name: step.answer for step in steps}["answers copied from training rows"] == answer
