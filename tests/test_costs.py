"""Costs, break-even and the next step: what was measured is told, and planted troubles are found."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bank_samples import questions
from report_samples import scorecard, share, training
from tunesmith.candidates.answers import Answers
from tunesmith.evaluation.costs import decision_table
from tunesmith.evaluation.diagnosis import best_step, diagnose
from tunesmith.evaluation.fairness import changed, fairness_check, group_gaps, swaps_to_ask
from tunesmith.guard_records import Latency, Swaps
from tunesmith.records import Candidate, Estimate, Message, Row
from tunesmith.run_records import WatchedCourse
from tunesmith.stages.asking import latency as timed_alone
from tunesmith.stats.break_even import break_even
from tunesmith.task.guard_settings import CostSettings

CLASSICAL = "tuned classical (word, character and version n-grams; logistic regression)"
ENDPOINT = "gpt, zero-shot"
PROMPT = "8 nearest examples, length-normalised and context-calibrated"
TUNED = "smollm2-135m-instruct, LoRA r=16"


def estimate(value: float, low: float, high: float) -> Estimate:
    return Estimate(value, low, high, 20, 20, 0.95, "t")


@given(st.floats(0.01, 1e6), st.floats(1e-6, 10), st.floats(0, 5), st.floats(0, 20))
def test_break_even_bounds_hold_the_number_and_are_never_where_nothing_may_be_saved(
    fixed: float, value: float, below: float, above: float
) -> None:
    requests, low, high = break_even(fixed, estimate(value, value - below, value + above))
    assert requests is not None
    assert low is not None
    assert low <= requests
    assert high is None if value - below <= 0 else high is not None and high >= requests
    assert break_even(fixed, estimate(-value, -value - below, -value / 2)) == (None, None, None)


def latency(name: str, seconds: float, tokens: int, spread: float = 0.05) -> Latency:
    draw = np.random.default_rng(tokens)
    times = tuple((seconds * (1 + spread * draw.standard_normal(16))).tolist())
    return Latency(name, tuple(f"g{n}" for n in range(16)), times, (tokens,) * 16)


@pytest.mark.parametrize("prices", [None, CostSettings(machine_per_hour=0.6, requests_per_day=1000)])
def test_training_pays_against_a_slower_prompt_and_never_against_a_faster_classifier(
    prices: CostSettings | None,
) -> None:
    cards = [
        scorecard("classical", CLASSICAL, "validation", 9.0),
        scorecard("prompt", PROMPT, "validation", 90),
    ]
    timed = [latency(CLASSICAL, 0.002, 0), latency(PROMPT, 0.3, 900), latency(TUNED, 0.1, 60)]
    tuned = scorecard("tuned", TUNED, "validation", 20.0)
    costs = decision_table(cards, tuned, training(), timed, (), (), None, prices, ["QLoRA"])
    never, pays = costs.break_even
    assert never.low is None
    assert "never pays" in never.sentence
    expected = training().cost.seconds / (0.3 - 0.1)
    assert pays.requests == pytest.approx(expected, rel=0.1)
    assert pays.low is not None
    assert pays.high is not None
    assert pays.low < expected < pays.high
    assert ("a day" in pays.sentence) == (prices is not None)
    assert (costs.candidates[-1].price is not None) == (prices is not None)
    assert costs.not_run == ("QLoRA",)


def test_an_endpoint_is_priced_by_its_tokens() -> None:
    prices = CostSettings(machine_per_hour=0.6, endpoint_per_million_tokens=10.0)
    cards = [scorecard("prompt", PROMPT, "validation", 90)]
    timed = [latency(PROMPT, 0.3, 900), latency(TUNED, 0.1, 60)]
    tuned = scorecard("tuned", TUNED, "validation", 20.0)
    costs = decision_table(cards, tuned, training(), timed, (), (), None, prices, [])
    price = costs.candidates[0].price
    assert price is not None
    assert price.value == pytest.approx(9000)
    fixed = training().cost.seconds * 0.6 / 3600
    assert costs.break_even[0].requests == pytest.approx(fixed / (0.009 - 0.1 * 0.6 / 3600), rel=0.02)


def test_an_endpoint_costs_what_it_charges_and_not_the_time_of_waiting_for_it() -> None:
    prices = CostSettings(machine_per_hour=0.6)
    card = scorecard("prompt", PROMPT, "validation", 9.0)
    cards = [replace(card, candidate=Candidate("e", "endpoint", ENDPOINT, {}))]
    waited = latency(ENDPOINT, 0.01, 52)
    timed = [replace(waited, spend=tuple(5e-5 for _ in waited.seconds)), latency(TUNED, 0.1, 60)]
    tuned = scorecard("tuned", TUNED, "validation", 20.0)
    costs = decision_table(cards, tuned, training(), timed, (), (), None, prices, [])
    price = costs.candidates[0].price
    assert price is not None
    assert price.value == pytest.approx(50)
    fixed = training().cost.seconds * 0.6 / 3600
    assert costs.break_even[0].requests == pytest.approx(fixed / (5e-5 - 0.1 * 0.6 / 3600), rel=0.02)


def test_an_answer_that_an_endpoint_gave_before_counts_with_the_time_and_the_price_it_had() -> None:
    kept = Answers(["yes"], None, 52, spend=5e-5, seconds=2.0)
    timed = timed_alone(Candidate("e", "endpoint", ENDPOINT, {}), lambda rows: kept, VALIDATION[:3])
    assert timed.seconds == (2.0, 2.0, 2.0)
    assert timed.spend == (5e-5, 5e-5, 5e-5)


def test_no_request_takes_less_than_nothing() -> None:
    one = latency(CLASSICAL, 0.001, 0)
    uneven = replace(one, seconds=(*(0.0001 for _ in one.seconds[1:]), 0.05))
    timed = [uneven, latency(TUNED, 0.1, 60)]
    cards = [scorecard("classical", CLASSICAL, "validation", 9.0)]
    prices = CostSettings(machine_per_hour=0.6)
    tuned = scorecard("tuned", TUNED, "validation", 20.0)
    (line, _) = decision_table(cards, tuned, training(), timed, (), (), None, prices, []).candidates
    assert line.latency is not None
    assert line.price is not None
    assert line.latency.low == line.price.low == 0


def test_a_candidate_that_was_not_timed_has_no_latency_and_no_price() -> None:
    tuned = scorecard("tuned", TUNED, "validation", 20.0)
    cards = [scorecard("classical", CLASSICAL, "validation", 9.0)]
    costs = decision_table(cards, tuned, training(), [], (), (), None, CostSettings(machine_per_hour=1.0), [])
    assert costs.break_even == ()
    assert {(line.latency, line.price) for line in costs.candidates} == {(None, None)}


TRAIN, VALIDATION = questions(120), questions(150, seed=1)


def steps(
    answers: list[str], train_score: float = 1.0, gap: tuple[float, float] = (0.0, 0.001)
) -> dict[str, str]:
    found = diagnose(
        TRAIN,
        VALIDATION,
        answers,
        share(train_score, 64, 64),
        estimate(gap[0], gap[0] - gap[1], gap[0] + gap[1]),
        (),
        WatchedCourse("converged", "converged", None, None, None, None),
    )
    best = best_step(found)
    return {step.name: step.answer for step in found} | {"best": best.name if best else ""}


def test_two_labels_that_are_taken_for_each_other_are_the_next_step() -> None:
    swap = {"fees": "exchange", "exchange": "fees"}
    answers = [swap.get(row.target, row.target) for row in VALIDATION]
    found = steps(answers, train_score=0.995)
    assert found["two labels that are mixed up"] == "failed"
    assert found["best"] == "two labels that are mixed up"


def test_learning_by_heart_and_learning_too_little_are_told_apart() -> None:
    answers = [row.target for row in VALIDATION]
    by_heart = steps(answers, train_score=1.0, gap=(0.2, 0.05))
    assert by_heart["learning by heart"] == "failed"
    assert by_heart["best"] == "learning by heart"
    too_little = steps(answers, train_score=0.6)
    assert too_little["learning too little"] == "failed"
    assert too_little["learning by heart"] == "passed"
    assert too_little["two labels that are mixed up"] == "passed"


def person_rows(count: int) -> list[Row]:
    words = ("My husband", "My wife")
    return [
        Row(
            f"p{n}",
            "p.csv:1",
            (Message("user", f"{words[n % 2]} asks about invoice {n}."),),
            "billing",
            f"g{n}",
        )
        for n in range(count)
    ]


def test_answers_that_follow_the_group_named_fail_and_steady_ones_pass() -> None:
    rows = person_rows(80)
    pairs = swaps_to_ask(rows)
    assert len(pairs) == 80
    groups = tuple(rows[pair.row].group for pair in pairs)
    flipped = tuple(changed(pair, "billing", "refund") for pair in pairs)
    steady = tuple(changed(pair, "billing", "billing") for pair in pairs)
    assert all(flipped)
    assert not any(steady)
    assert fairness_check(Swaps(groups, flipped, steady), "o", 0.05, True, 0.05).answer == "failed"
    assert fairness_check(Swaps(groups, steady, steady), "o", 0.05, True, 0.05).answer == "passed"
    assert fairness_check(None, "o", 0.05, True, 0.05).answer == "unmeasured"
    few = Swaps(groups[:30], steady[:30], steady[:30])
    assert fairness_check(few, "o", 0.05, True, 0.05).answer == "unmeasured"


def test_an_answer_that_only_exchanges_the_group_as_well_has_not_changed() -> None:
    (pair, *_) = swaps_to_ask(person_rows(1))
    assert not changed(pair, "the husband pays", "the wife pays")


def test_a_group_that_is_served_worse_is_flagged() -> None:
    rows = person_rows(120)
    scores = [float(n % 2 == 0 or n % 3 == 0) for n in range(len(rows))]
    gaps = {gap.group: gap for gap in group_gaps(rows, scores, ())}
    assert gaps["female"].flagged
    assert not gaps["male"].flagged
    assert group_gaps(rows, scores, ()) == group_gaps(rows, scores, ("absent",))
    regions = [replace(row, fields=(("region", "ab"[n % 2]),)) for n, row in enumerate(rows)]
    assert {gap.group for gap in group_gaps(regions, scores, ("region",)) if gap.flagged} >= {"b"}
