"""The verdict: the whole table of situations, and its sentence."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunesmith.evaluation.verdict import decide
from tunesmith.evaluation.wording import gain_words, goal_words, rows_words
from tunesmith.records import Answer, Candidate, Check, Cost, Estimate, PairedGain, Scorecard, Verdict
from tunesmith.stats.answers import Rule
from tunesmith.stats.levels import alpha_for_opening
from tunesmith.stats.paired import paired_gain
from tunesmith.stats.power import rows_needed

ALPHA = alpha_for_opening(1)
GOAL = 0.02
Bounds = tuple[float, float | None, float | None]

WORTH_IT: Bounds = (0.044, 0.023, 0.065)
NOT_WORTH_IT: Bounds = (0.003, -0.010, 0.016)
OPEN: Bounds = (0.012, -0.009, 0.033)
FEW_GROUPS: Bounds = (0.080, None, None)


def accuracy(value: float) -> Estimate:
    return Estimate(value, value - 0.02, value + 0.018, 1200, 1100, 0.95, "Wilson")


def finalist(name: str, value: float) -> Scorecard:
    metrics = {"accuracy": accuracy(value)}
    return Scorecard(Candidate(name, "classical", name, {}), "test", metrics, {}, (), Cost(1, 1200, 0, 1))


def gain(opponent: str, bounds: Bounds, rows: int = 1200) -> PairedGain:
    value, low, high = bounds
    groups = rows if low is not None else 40
    return PairedGain(
        opponent, value, low, high, 1 - 2 * ALPHA, rows, groups, 90, 37, 0.106, 1.1, 0.009, None
    )


def guard(answer: Answer, blocking: bool = True) -> Check:
    return Check("general text is no worse", "is it?", answer, "0.8 % worse [0.5, 1.1]", blocking)


def verdict(
    classical: Bounds,
    prompt: Bounds = WORTH_IT,
    *guards: Check,
    goal: float = GOAL,
    rule: Rule = "estimate",
    rows: int = 1200,
) -> Verdict:
    """Of the two finalists the classical one is the more accurate."""
    return decide(
        [gain("8-shot", prompt, rows), gain("tuned classical", classical, rows)],
        guards,
        goal_gain=goal,
        rule=rule,
        alpha_one_sided=ALPHA,
        opening=1,
        tuned=accuracy(0.888),
        opponents=[finalist("8-shot", 0.48), finalist("tuned classical", 0.841)],
    )


@pytest.mark.parametrize(
    ("classical", "prompt", "guards", "decision", "use_instead"),
    [
        (WORTH_IT, WORTH_IT, [], "TRAIN", None),
        (WORTH_IT, WORTH_IT, [guard("passed")], "TRAIN", None),
        (WORTH_IT, WORTH_IT, [guard("failed")], "DON'T", "tuned classical"),
        (WORTH_IT, WORTH_IT, [guard("unmeasured")], "CANNOT TELL YET", None),
        (WORTH_IT, WORTH_IT, [guard("unmeasured"), guard("failed")], "DON'T", "tuned classical"),
        (WORTH_IT, WORTH_IT, [guard("failed", blocking=False)], "TRAIN", None),
        (WORTH_IT, WORTH_IT, [guard("unmeasured", blocking=False)], "TRAIN", None),
        (NOT_WORTH_IT, WORTH_IT, [], "DON'T", "tuned classical"),
        (WORTH_IT, NOT_WORTH_IT, [], "DON'T", "8-shot"),
        (NOT_WORTH_IT, NOT_WORTH_IT, [], "DON'T", "tuned classical"),
        (NOT_WORTH_IT, WORTH_IT, [guard("unmeasured")], "DON'T", "tuned classical"),
        (NOT_WORTH_IT, FEW_GROUPS, [], "DON'T", "tuned classical"),
        (OPEN, WORTH_IT, [], "CANNOT TELL YET", None),
        (WORTH_IT, OPEN, [], "CANNOT TELL YET", None),
        (OPEN, NOT_WORTH_IT, [], "DON'T", "8-shot"),
        (OPEN, WORTH_IT, [guard("failed")], "DON'T", "tuned classical"),
        (OPEN, WORTH_IT, [guard("unmeasured")], "CANNOT TELL YET", None),
        (FEW_GROUPS, FEW_GROUPS, [], "CANNOT TELL YET", None),
        (FEW_GROUPS, WORTH_IT, [guard("passed")], "CANNOT TELL YET", None),
    ],
)
def test_every_situation_has_its_decision(
    classical: Bounds, prompt: Bounds, guards: list[Check], decision: str, use_instead: str | None
) -> None:
    reached = verdict(classical, prompt, *guards)
    assert (reached.decision, reached.use_instead) == (decision, use_instead)
    assert reached.sentence.startswith(decision)
    assert (reached.rows_needed is None) or decision == "CANNOT TELL YET"


def test_the_margin_rule_needs_the_lower_bound_at_the_goal() -> None:
    assert verdict(WORTH_IT, rule="margin").decision == "TRAIN"
    assert verdict((0.044, 0.019, 0.065), rule="margin").decision == "CANNOT TELL YET"
    assert verdict((0.044, 0.019, 0.065)).decision == "TRAIN"


def test_the_train_sentence_reads_as_designed() -> None:
    assert verdict(WORTH_IT).sentence == (
        "TRAIN. Tuned 88.8 % [86.8, 90.6]; "
        "gain over the best opponent (tuned classical) +4.4 points [2.3, 6.5]. It beat: 8-shot; "
        "tuned classical. No strong opponent (an endpoint, or a base of 1B parameters or more) was tried. "
        "(Bounds of the gain at one-sided 3 %: opening 1 of this test.)"
    )


def test_the_dont_sentence_says_what_to_use_instead() -> None:
    assert verdict(NOT_WORTH_IT).sentence.startswith(
        "DON'T train: use tuned classical (84.1 % [82.1, 85.9]). Tuned 88.8 % [86.8, 90.6]; gain over it "
        "+0.3 points [−1.0, 1.6]: even the upper bound is below the goal of 2.0 points."
    )
    failed = verdict(WORTH_IT, WORTH_IT, guard("failed")).sentence
    assert "Failed: general text is no worse (0.8 % worse [0.5, 1.1])." in failed
    assert "below the goal" not in failed


def test_cannot_tell_names_the_rows_that_would_tell_more_than_the_test_has() -> None:
    reached = verdict(OPEN, goal=0.016)
    assert reached.rows_needed is not None
    low, high = reached.rows_needed
    assert 1200 < low < high
    point = rows_needed(0.106, 0.106, 1.1, 0.016, ALPHA)[0]
    assert low < point < high
    assert "Gain over tuned classical +1.2 points [−0.9, 3.3]; the goal is 1.6 points" in reached.sentence
    assert f"{rows_words(reached.rows_needed)} test rows would tell" in reached.sentence


def test_the_rows_that_would_tell_are_never_rows_that_the_test_already_has() -> None:
    inside = rows_needed(0.106, 0.106, 1.1, 0.016, ALPHA)[0]
    range_of_rows = verdict(OPEN, goal=0.016, rows=inside).rows_needed
    assert range_of_rows is not None
    assert range_of_rows[0] == inside + 1 < range_of_rows[1]


def test_cannot_tell_asks_for_the_rows_of_the_hardest_comparison() -> None:
    both = verdict(OPEN, OPEN, goal=0.016).rows_needed
    assert both == verdict(OPEN, goal=0.016).rows_needed


@pytest.mark.parametrize(
    ("reached", "reason"),
    [
        (verdict(FEW_GROUPS), "The test has 40 groups; below 50 no interval is trustworthy"),
        (
            verdict(WORTH_IT, WORTH_IT, guard("unmeasured")),
            "Unmeasured, and it blocks: general text is no worse",
        ),
        (verdict(OPEN, rows=9000), "the true gain probably lies between them"),
        (verdict(OPEN, goal=0.0), "no number of rows is promised to tell"),
    ],
)
def test_without_a_number_of_rows_the_sentence_says_why(reached: Verdict, reason: str) -> None:
    assert reached.decision == "CANNOT TELL YET"
    assert reached.rows_needed is None
    assert reason in reached.sentence


def test_every_finalist_and_every_guard_is_a_check_with_one_answer() -> None:
    reached = verdict(NOT_WORTH_IT, OPEN, guard("passed"), guard("unmeasured", blocking=False))
    assert [(check.name, check.answer, check.blocking) for check in reached.checks] == [
        ("beats 8-shot", "unmeasured", True),
        ("beats tuned classical", "failed", True),
        ("general text is no worse", "passed", True),
        ("general text is no worse", "unmeasured", False),
    ]
    estimate = reached.checks[1].estimate
    assert estimate is not None
    assert (estimate.value, estimate.low, estimate.high) == NOT_WORTH_IT
    assert verdict(FEW_GROUPS).checks[1].estimate is None


@pytest.mark.parametrize("rows", [50, 400, 1200])
@pytest.mark.parametrize("goal", [0.0, 0.02])
@pytest.mark.parametrize("rule", ["estimate", "margin"])
def test_an_adapter_that_changes_nothing_is_never_train(rows: int, goal: float, rule: Rule) -> None:
    correct = [row % 7 > 0 for row in range(rows)]
    same = paired_gain(correct, correct, [str(row) for row in range(rows)], "zero-shot", ALPHA)
    reached = decide(
        [same],
        [],
        goal_gain=goal,
        rule=rule,
        alpha_one_sided=ALPHA,
        opening=1,
        tuned=accuracy(0.857),
        opponents=[finalist("zero-shot", 0.857)],
    )
    assert reached.decision != "TRAIN"


@settings(max_examples=60, deadline=None)
@given(
    candidate=st.lists(st.booleans(), min_size=60, max_size=60),
    opponent=st.lists(st.booleans(), min_size=60, max_size=60),
    opening=st.integers(1, 5),
    goal=st.just(0.0) | st.floats(1e-4, 0.3),
    rule=st.sampled_from(["estimate", "margin"]),
)
def test_train_needs_a_real_gain_and_a_later_opening_never_makes_it_easier(
    candidate: list[bool], opponent: list[bool], opening: int, goal: float, rule: Rule
) -> None:
    def decided(k: int) -> Verdict:
        alpha = alpha_for_opening(k)
        measured = paired_gain(candidate, opponent, [str(row) for row in range(60)], "rival", alpha)
        return decide(
            [measured],
            [],
            goal_gain=goal,
            rule=rule,
            alpha_one_sided=alpha,
            opening=k,
            tuned=accuracy(0.5),
            opponents=[finalist("rival", 0.5)],
        )

    now, next_time = decided(opening), decided(opening + 1)
    if now.decision == "TRAIN":
        assert now.gains[0].low is not None
        assert now.gains[0].low > 0
        assert now.gains[0].value >= goal
    else:
        assert next_time.decision != "TRAIN"
    if now.decision == "CANNOT TELL YET":
        assert next_time.decision == "CANNOT TELL YET"


@pytest.mark.parametrize(
    ("gains", "opponents"),
    [
        ([], []),
        ([gain("8-shot", WORTH_IT)], [finalist("8-shot", 0.5), finalist("tuned classical", 0.8)]),
        ([gain("8-shot", WORTH_IT), gain("other", WORTH_IT)], [finalist("8-shot", 0.5)]),
        ([gain("8-shot", WORTH_IT)] * 2, [finalist("8-shot", 0.5)] * 2),
    ],
)
def test_a_finalist_without_its_gain_never_passes_unseen(
    gains: list[PairedGain], opponents: list[Scorecard]
) -> None:
    with pytest.raises(ValueError, match="exactly one gain per finalist"):
        decide(
            gains,
            [],
            goal_gain=GOAL,
            rule="estimate",
            alpha_one_sided=ALPHA,
            opening=1,
            tuned=accuracy(0.9),
            opponents=opponents,
        )


def test_a_gain_at_another_level_than_the_opening_is_refused() -> None:
    with pytest.raises(ValueError, match="level"):
        decide(
            [gain("8-shot", WORTH_IT)],
            [],
            goal_gain=GOAL,
            rule="estimate",
            alpha_one_sided=alpha_for_opening(2),
            opening=2,
            tuned=accuracy(0.9),
            opponents=[finalist("8-shot", 0.5)],
        )


def test_words_never_round_a_number_onto_the_one_it_is_compared_with() -> None:
    assert gain_words(gain("x", (0.011, 0.002, 0.0198)), 0.02) == "+1.10 points [0.20, 1.98]"
    assert gain_words(gain("x", (0.0302, 0.0003, 0.06)), 0.02) == "+3.02 points [0.03, 6.00]"
    assert gain_words(gain("x", (-0.0001, -0.04, 0.04)), 0.02) == "0.0 points [−4.0, 4.0]"
    assert gain_words(gain("x", FEW_GROUPS), 0.02) == "+8.0 points [unmeasured]"
    assert [goal_words(goal) for goal in (0.02, 0.0125, 0.29)] == ["2.0 points", "1.25 points", "29.0 points"]


def test_a_range_of_rows_is_rounded_up_to_two_digits() -> None:
    assert rows_words((2_341, 3_812)) == "2,400 to 3,900"
    assert rows_words((61, 61)) == "61"
    assert rows_words((1_201, 1_299)) == "1,300"
