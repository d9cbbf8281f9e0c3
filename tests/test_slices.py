"""Slices and spoiled inputs: planted weaknesses are flagged, harmless ones are not, margins decide."""

from __future__ import annotations

import random
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bank_samples import questions
from tunesmith.evaluation.attacks import (
    SPOILERS,
    ambiguous_rows,
    none_label,
    off_topic_rows,
    spoiled,
    typos,
    wrong_answer,
)
from tunesmith.evaluation.guards import evidence_checks
from tunesmith.evaluation.robustness import MEAN, attack_scores, robustness_checks
from tunesmith.evaluation.slices import gain_in_words, make_slicer, score_estimate, score_slices, slice_checks
from tunesmith.guard_records import Attack
from tunesmith.records import Answer, Message, Row
from tunesmith.stats.parts import part_difference
from tunesmith.stats.rates import codes_of
from tunesmith.task.guard_settings import GuardsSettings, RobustnessSettings, SliceSettings

TRAIN, VALIDATION = questions(400), questions(600, seed=1)
GROUPS = [f"v{row.group}" for row in VALIDATION]
NAMED = SliceSettings(name="fees", pattern="fee|charged|refund", margin=0.05, blocking=True)


def right(share: float, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).random(len(VALIDATION)) < share).astype(float)


def test_a_label_that_is_always_wrong_is_flagged_and_the_others_are_not() -> None:
    scores = np.array([float(row.target != "fees") for row in VALIDATION])
    found = score_slices(make_slicer(TRAIN).masks(VALIDATION), GROUPS, scores, scores, "opponent", {})
    labels = {one.name: one for one in found if one.kind == "label"}
    assert labels["fees"].flagged
    assert labels["fees"].tuned.value == 0
    assert not any(one.flagged for name, one in labels.items() if name != "fees")


def test_chance_alone_flags_a_slice_in_few_projects() -> None:
    masks = make_slicer(TRAIN).masks(VALIDATION)
    flagged = [
        any(one.flagged for one in score_slices(masks, GROUPS, scores, scores, "opponent", {}))
        for scores in (right(0.8, seed) for seed in range(40))
    ]
    assert np.mean(flagged) <= 0.1


def test_slices_mean_the_same_on_every_split_and_cover_it() -> None:
    slicer = make_slicer(TRAIN)
    for rows in (VALIDATION, TRAIN[:50]):
        masks = slicer.masks(rows)
        for kind in ("length", "label", "cluster"):
            parts = [mask for rule, mask in masks.items() if rule.kind == kind]
            assert parts
            assert (np.sum(parts, axis=0) == 1).all()
    again = make_slicer(TRAIN).masks(VALIDATION)
    assert list(again) == list(slicer.masks(VALIDATION))


@pytest.mark.parametrize(
    ("tuned", "opponent", "answer"),
    [(1.0, 0.5, "passed"), (0.5, 1.0, "failed"), (0.7, 0.7, "unmeasured")],
)
def test_a_named_slice_is_judged_by_its_margin(tuned: float, opponent: float, answer: Answer) -> None:
    masks = make_slicer(TRAIN, [NAMED]).masks(VALIDATION)
    scores = score_slices(
        masks, GROUPS, right(tuned, 1), right(opponent, 2), "opponent", {"fees": NAMED.margin}
    )
    (check,) = slice_checks(scores, [NAMED])
    assert (check.answer, check.blocking) == (answer, True)


def test_a_named_slice_without_rows_or_with_few_is_unmeasured() -> None:
    nothing = replace_pattern("no such word")
    one_row = replace_pattern(VALIDATION[0].text.split()[-1])
    for settings_ in (nothing, one_row):
        masks = make_slicer(TRAIN, [settings_]).masks(VALIDATION)
        scores = score_slices(masks, GROUPS, right(1), right(0), "opponent", {"fees": 0.05})
        assert slice_checks(scores, [settings_])[0].answer == "unmeasured"


def test_a_named_slice_may_ask_for_a_column() -> None:
    rows = [replace(row, fields=(("region", "north" if n % 3 else "south"),)) for n, row in enumerate(TRAIN)]
    rule = SliceSettings(name="south", pattern="^south$", field="region", margin=0.05)
    masks = make_slicer(TRAIN, [rule]).masks(rows)
    (mask,) = [mask for rule, mask in masks.items() if rule.kind == "named"]
    assert mask.sum() == len([n for n in range(len(rows)) if n % 3 == 0])


def replace_pattern(pattern: str) -> SliceSettings:
    return NAMED.model_copy(update={"pattern": pattern})


def test_graded_scores_of_a_part_are_compared_like_right_and_wrong() -> None:
    codes = codes_of(GROUPS)
    part = np.arange(len(GROUPS)) % 2 == 0
    random_scores = np.random.default_rng(3).beta(4, 2, len(GROUPS))
    same = part_difference(random_scores, part, codes)
    worse = part_difference(np.where(part, random_scores * 0.5, random_scores), part, codes)
    assert same is not None
    assert worse is not None
    assert same.difference.low < 0 < same.difference.high
    assert same.p_value > 0.01
    assert worse.difference.high < 0
    assert worse.p_value < 1e-6
    assert part_difference(random_scores, np.arange(len(GROUPS)) == 0, codes) is None


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=80), st.integers(0, 100))
@settings(max_examples=40, deadline=None)
def test_whatever_the_text_every_spoiler_gives_a_text_and_the_same_one_again(text: str, name: int) -> None:
    row = Row(f"row-{name}", "s", (Message("system", "Be kind."), Message("user", text)), "a")
    for spoiler in SPOILERS:
        once, twice = spoiled(row, spoiler, "b"), spoiled(row, spoiler, "b")
        assert once == twice
        assert once.messages[0] == row.messages[0]
        assert once.target == row.target
        if spoiler.name not in ("typos", "case"):
            assert text in once.messages[1].content


def test_spoilers_do_what_they_say() -> None:
    row = VALIDATION[0]
    by_name = {spoiler.name: spoiled(row, spoiler, "wrong label").text for spoiler in SPOILERS}
    assert len(set(by_name.values()) - {row.text}) == len(SPOILERS)
    assert by_name["case"] in (row.text.upper(), row.text.lower())
    assert "wrong label" in by_name["prompt injection"]
    assert len(by_name["long input"].split()) > len(row.text.split()) + 50
    long = "somewhere over the rainbow " * 40
    wrong = sum(a != b for a, b in zip(long.split(), typos(long, "", random.Random(0)).split(), strict=False))
    assert 0.1 * len(long.split()) < wrong < 0.7 * len(long.split())


def test_a_wrong_answer_is_never_the_right_one() -> None:
    labels = sorted({row.target for row in VALIDATION})
    assert all(
        wrong_answer(row, labels) in labels and wrong_answer(row, labels) != row.target for row in VALIDATION
    )
    assert wrong_answer(VALIDATION[0], [VALIDATION[0].target]) not in labels


def test_inputs_without_a_right_answer_are_empty_foreign_or_two_in_one() -> None:
    assert "" in {row.text for row in off_topic_rows()}
    joined = ambiguous_rows(VALIDATION[:20])
    assert joined
    assert all(first.text in joined[0].text for first in VALIDATION[:1])
    assert none_label(("a", "None of these!", "b")) == "None of these!"
    assert none_label(("a", "another")) is None


def attack(name: str, tuned: float, opponent: float, count: int = 200) -> Attack:
    draw = np.random.default_rng(len(name))
    groups = tuple(f"g{n}" for n in range(count))
    own, other = (tuple((draw.random(count) < share).astype(float)) for share in (tuned, opponent))
    return Attack(name, "done", groups, (1.0,) * count, own, (1.0,) * count, other)


@pytest.mark.parametrize(
    ("attacks", "mean", "every"),
    [
        ([attack("typos", 0.95, 0.7), attack("case", 0.95, 0.7)], "passed", "passed"),
        ([attack("typos", 0.2, 0.9), attack("case", 0.3, 0.9)], "failed", "failed"),
        ([attack("typos", 0.99, 0.4), attack("case", 0.3, 0.9)], "passed", "failed"),
        (
            [attack("typos", 0.95, 0.7), Attack("case", "d", unmeasured="too long")],
            "unmeasured",
            "unmeasured",
        ),
        ([attack("typos", 1, 0, 40), attack("case", 1, 0, 40)], "unmeasured", "unmeasured"),
        ([], "unmeasured", "unmeasured"),
    ],
)
def test_robustness_is_judged_against_the_opponent_under_the_same_attack(
    attacks: list[Attack], mean: Answer, every: Answer
) -> None:
    checks = robustness_checks(attacks, "opponent", 0.1, True, 0.05)
    assert [check.answer for check in checks] == [mean, every]
    assert all(check.blocking for check in checks)


def test_the_mean_over_attacks_is_the_mean_of_the_rows() -> None:
    attacks = [attack("typos", 0.9, 0.5), attack("case", 0.5, 0.5)]
    scores = {score.name: score for score in attack_scores(attacks, "opponent", 0.025)}
    mean = scores[MEAN].tuned
    assert mean is not None
    assert mean.value == pytest.approx(np.mean([one.tuned_after for one in attacks]))
    loss = scores["typos"].loss
    assert loss is not None
    assert loss.low < 1 - np.mean(attacks[0].tuned_after) < loss.high


def test_guards_that_were_not_measured_are_unmeasured_and_block_where_asked() -> None:
    asked = GuardsSettings(robustness=RobustnessSettings(margin=0.1, blocking=True))
    checks = {check.name: check for check in evidence_checks(None, asked, 0.05)}
    assert {check.answer for check in checks.values()} == {"unmeasured"}
    assert checks["robustness: mean"].blocking
    assert not checks["fairness: exchanged groups"].blocking


def test_a_mean_of_scores_has_no_bound_that_a_score_cannot_have() -> None:
    low = score_estimate([0.0] * 40 + [0.001] * 9 + [0.4], [str(row) for row in range(50)])
    assert low.low == 0
    assert score_estimate([1.0] * 49 + [0.6], [str(row) for row in range(50)]).high == 1


def test_a_loss_is_written_with_a_minus_sign() -> None:
    (score,) = attack_scores([attack("typos", 0.5, 0.9)], "o", 0.05)
    assert score.gain is not None
    assert re.match(r"−\d+\.\d points \[−\d+\.\d, −\d+\.\d\], 200 rows", gain_in_words(score.gain))
