"""What text kinds add below the stages: questions with references, opponents without a model, judging."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.candidates.answers import Answers
from tunesmith.candidates.classical import answer_classical, tune_classical
from tunesmith.candidates.fields import FieldModels
from tunesmith.candidates.plain_texts import answer_plain, best_plain, constant_text, lead
from tunesmith.candidates.templates import Templates
from tunesmith.data.attributes import read_attributes
from tunesmith.data.questions import distinct_inputs, with_json_targets
from tunesmith.data.splits import SplitSpec, split_rows
from tunesmith.errors import UserError
from tunesmith.evaluation.judging import (
    Judging,
    check_targets,
    goal_gain,
    goal_value,
    is_behind,
    judged,
    measured_goal,
    questions,
    value_of_labels,
)
from tunesmith.evaluation.metrics.answered import RowScores
from tunesmith.evaluation.metrics.catalogue import METRICS
from tunesmith.evaluation.pilot import pilot_power
from tunesmith.evaluation.scorecards import text_duels
from tunesmith.evaluation.verdict import decide
from tunesmith.evaluation.wording import gain_words, goal_words, value_words
from tunesmith.records import Candidate, Cost, Message, Row
from tunesmith.task import load_task
from tunesmith.task.kinds import (
    GOAL_METRICS,
    KINDS,
    ROW_MEANS,
    SHOWN_METRICS,
    SMALLER_IS_BETTER,
    TITLES,
    is_share,
)

FREE = Cost(0.0, 1, 0, 0.0)
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": ["string", "null"]}}}


def row(number: int, text: str, target: str, group: str | None = None) -> Row:
    return Row(f"row-{number:03}", f"f:{number}", (Message("user", text),), target, group or f"g{number}")


def candidate(name: str) -> Candidate:
    return Candidate(name, "prompt", name, {})


# --- questions ---


def test_rows_with_one_input_are_one_question_with_every_different_target() -> None:
    asked = distinct_inputs(
        [row(1, "x", "one"), row(2, "y", "two"), row(3, "x", "three"), row(4, "x", "one")]
    )
    assert [one.text for one in asked.rows] == ["x", "y"]
    assert asked.references == (("one", "three"), ("two",))


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xyz")), max_size=20))
def test_no_target_is_lost_and_none_is_added(pairs: list[tuple[str, str]]) -> None:
    asked = distinct_inputs([row(number, text, target) for number, (text, target) in enumerate(pairs)])
    assert {
        (one.text, ref) for one, refs in zip(asked.rows, asked.references, strict=True) for ref in refs
    } == (set(pairs))
    assert len(asked) == len({text for text, _ in pairs})


def test_free_texts_make_no_conflicts_and_no_labels_where_labels_would() -> None:
    rows = [
        row(number, f"text {number // 2}", f"target {number}", f"g{number // 2}") for number in range(300)
    ]
    spec = SplitSpec(100, 60, 120, seed=0, rows_per_group=None, labelled=False)
    split = split_rows(rows, spec)
    assert split.labels == ()
    assert split.conflict_groups == 0
    assert len(split.test) == 120
    groups = [{one.group for one in part} for part in (split.train, split.validation, split.test)]
    assert not groups[0] & groups[1]
    assert not groups[1] & groups[2]
    assert not groups[0] & groups[2]
    with pytest.raises(UserError):  # as labels, every group is a conflict
        split_rows(rows, SplitSpec(100, 60, 120, seed=0, rows_per_group=None))


def test_json_targets_are_written_in_the_order_of_the_schema_with_null_for_what_is_absent() -> None:
    written = with_json_targets([row(1, "x", '{"b":"2","a" : "1"}'), row(2, "x", '{"a": "é"}')], SCHEMA)
    assert [one.target for one in written] == ['{"a": "1", "b": "2"}', '{"a": "é", "b": null}']
    assert [one.id for one in written] == ["row-001", "row-002"]


def test_targets_that_are_no_json_or_break_the_schema_are_named_with_their_rows() -> None:
    judging = Judging("extract", "field_f1", schema=SCHEMA)
    with pytest.raises(UserError, match=r"1 of 2 targets are not JSON: f:2"):
        questions(judging, [row(1, "x", '{"a": "1"}'), row(2, "x", "a is 1")])
    with pytest.raises(UserError, match=r"f:7: a is 3, not string"):
        check_targets(judging, [row(7, "x", '{"a": 3}')])
    with pytest.raises(UserError, match=r"f:8: a is None"):
        check_targets(judging, [row(8, "x", '{"b": "3"}')])
    with pytest.raises(UserError, match=r"f:9: no answer under the schema"):
        check_targets(judging, [row(9, "x", '{"a": "1", "c": "2"}')])
    check_targets(judging, [row(1, "x", '{"a": "1"}'), row(2, "x", '{"b": "é\\n", "a": "1"}')])


# --- opponents without a model ---


def test_attributes_are_read_from_three_ways_of_writing_them_and_from_no_prose() -> None:
    wanted = {"name": "The Bakers", "area": "city centre"}
    assert read_attributes("name[The Bakers], area[city centre]") == wanted
    assert read_attributes(json.dumps(wanted)) == wanted
    assert read_attributes("name: The Bakers\narea: city centre") == wanted
    assert read_attributes("The Bakers is in the city centre.") is None


def test_a_template_says_new_values_and_never_those_of_the_row_it_was_learned_from() -> None:
    train = [
        row(1, "name[Aromi], area[riverside]", "Aromi is by the riverside."),
        row(2, "name[Cocum], area[riverside], kids[no]", "Cocum, riverside, is not for families."),
    ]
    templates = Templates(train)
    assert templates.answer("name[Clowns], area[city centre]") == "Clowns is by the city centre."
    # A value without a slot must be the same: "not for families" is not said of a place with kids[yes].
    assert templates.answer("name[Clowns], area[north], kids[yes]") == "Clowns is by the north."
    assert templates.answer("name[Clowns], area[north], kids[no]") == "Clowns, north, is not for families."
    assert templates.answer("food[Thai]") is None


def test_a_value_that_is_in_the_name_of_another_attribute_does_no_harm() -> None:
    train = [row(1, "event[launch], launch site[Cape Canaveral]", "The launch was at Cape Canaveral.")]
    answer = Templates(train).answer("event[landing], launch site[Kourou]")
    assert answer == "The landing was at Kourou."


def test_a_linear_model_for_each_field_finds_fields_that_show_in_words() -> None:
    colours, things = ("green", "red", "blue"), ("door", "house", "chair")
    train = [
        row(number, f"the {colour} {thing} is nice", json.dumps({"colour": colour, "thing": thing}))
        for number, (colour, thing) in enumerate([(c, t) for c in colours for t in things] * 3)
    ]
    answers = FieldModels(train, 1.0).answers([row(99, "a nice red chair", "")])
    assert json.loads(answers[0]) == {"colour": "red", "thing": "chair"}


def test_lead_takes_whole_sentences_and_its_number_is_chosen_on_validation() -> None:
    text = "One is here. Two is there! Three?\nFour"
    assert lead(text, 2) == "One is here. Two is there!"
    assert lead(text, 9) == "One is here. Two is there! Three? Four"
    judging = Judging("summarise", "rouge_l")
    train = [row(number, f"other words {number}", f"target {number}") for number in range(4)]
    asked = questions(judging, [row(10 + n, f"A{n} b. C{n} d. E f.", f"A{n} b. C{n} d.") for n in range(5)])
    found = best_plain("summarise", train, asked.rows, lambda answers: goal_value(judging, asked, answers))
    assert [one.settings.get("sentences") for one, _ in found] == [None, 2]


def test_a_plain_candidate_answers_again_from_its_settings_and_never_with_its_own_row() -> None:
    train = [row(number, f"name[n{number}]", f"about n{number}") for number in range(6)]
    found = best_plain("generate", train, train, lambda answers: 0.0)
    for one, answers in found:
        assert answer_plain(one, train, train).labels == answers.labels
    nearest = next(answers for one, answers in found if one.settings["method"] == "nearest")
    assert all(answer != own.target for answer, own in zip(nearest.labels, train, strict=True))
    assert constant_text([*train, row(9, "z", "about n2")]).settings["answer"] == "about n2"


# --- judging ---


def test_an_answer_is_compared_with_all_references_of_its_question() -> None:
    judging = Judging("generate", "exact_match")
    asked = questions(judging, [row(n, f"x{n // 2}", f"answer {n}") for n in range(8)])
    assert len(asked) == 4
    seconds = [references[1] for references in asked.references]
    assert goal_value(judging, asked, seconds) == 1.0
    card = judged(judging, candidate("c"), "validation", asked, Answers(seconds, None, 0), FREE)
    assert all(prediction.correct for prediction in card.predictions)
    assert card.metrics["exact_match"].rows == 4


def test_a_gain_is_above_zero_for_the_better_candidate_also_where_less_is_better() -> None:
    rows = [row(n, f"the cat number {n} sat", f"cat {n}") for n in range(60)]
    for metric, good, bad in (("chrf", "cat", "dog"), ("unsupported_words", "cat", "zebra")):
        judging = Judging("answer", metric)
        asked = questions(judging, rows)
        own, other = [[f"{word} {n}" for n in range(60)] for word in (good, bad)]
        gain = goal_gain(judging, asked, own, other, "other", 0.05)
        assert gain.low is not None
        assert gain.low > 0
        assert goal_value(judging, asked, own) > goal_value(judging, asked, other)
        assert is_behind(judging, asked, other, own, 0.005)
        assert not is_behind(judging, asked, own, other, 0.005)
        assert not is_behind(judging, asked, own, own, 0.005)


def test_examples_are_those_on_which_the_two_answers_differ_most() -> None:
    judging = Judging("generate", "chrf")
    asked = questions(judging, [row(n, f"x{n}", f"a long answer number {n}") for n in range(4)])
    right = [references[0] for references in asked.references]
    cards = [
        judged(judging, candidate(name), "validation", asked, Answers(answers, None, 0), FREE)
        for name, answers in (
            ("tuned", [right[0], "q", right[2], "a long"]),
            ("other", [right[0], right[1], "zz", "a"]),
        )
    ]
    won, lost = text_duels(asked, cards[0], cards[1])
    assert [duel.source for duel in won] == ["f:2", "f:3"]
    assert [duel.source for duel in lost] == ["f:1"]


def test_what_is_only_shown_may_be_unmeasured_and_the_goal_may_not() -> None:
    rows = [row(n, f"x{n}", json.dumps({"a": str(n)})) for n in range(60)]
    judging = Judging("extract", "field_f1")
    asked = questions(judging, rows)
    answers = Answers([references[0] for references in asked.references], None, 0)
    card = judged(judging, candidate("c"), "test", asked, answers, FREE)
    assert "schema_valid" not in card.metrics
    assert card.metrics["field_f1"].value == 1.0
    assert card.predictions == ()
    with pytest.raises(UserError, match="schema"):
        judged(Judging("extract", "schema_valid"), candidate("c"), "test", asked, answers, FREE)


# --- names and units ---


def test_every_metric_a_goal_may_name_exists_has_a_direction_and_is_measured_as_said() -> None:
    entity = {"start": 0, "end": 3, "label": "X", "text": "t"}
    rows = [row(n, f"the cat {n}", json.dumps({"entities": [entity]})) for n in range(4)]
    for kind in KINDS:
        for name in GOAL_METRICS[kind]:
            better = METRICS[name].better
            assert better == ("smaller" if name in SMALLER_IS_BETTER else "larger")
            judging = Judging(kind, name, schema={"type": "object"})
            asked = questions(judging, rows)
            found = measured_goal(judging, asked, [references[0] for references in asked.references])
            assert isinstance(found, RowScores) == (name in ROW_MEANS), name
    shown = {name for names in SHOWN_METRICS.values() for name in names}
    assert shown <= set(TITLES)
    assert shown <= set(METRICS)


def test_words_speak_in_the_metrics_own_unit() -> None:
    judging = Judging("generate", "chrf")
    asked = questions(judging, [row(n, f"x{n}", f"some text {n}") for n in range(60)])
    right = [references[0] for references in asked.references]
    card = judged(judging, candidate("other"), "test", asked, Answers(["some"] * 60, None, 0), FREE)
    tuned = judged(judging, candidate("tuned"), "test", asked, Answers(right, None, 0), FREE)
    gain = goal_gain(judging, asked, right, ["some"] * 60, "other", 0.05)
    verdict = decide(
        [gain],
        [],
        goal_gain=0.02,
        rule="estimate",
        alpha_one_sided=0.05,
        opening=1,
        tuned=tuned.metrics["chrf"],
        opponents=[card],
        metric="chrf",
    )
    assert verdict.decision == "TRAIN"
    assert verdict.metric == "chrf"
    assert "Tuned 100.0 % chrF" in verdict.sentence
    assert "points of chrF" in verdict.sentence
    assert verdict.checks[0].estimate is not None
    assert "jackknife" in verdict.checks[0].estimate.method
    assert goal_words(0.125, "cider") == "0.125 of CIDEr"
    assert "points" not in gain_words(gain, 0.1, "own.py:score")
    assert value_words(tuned.metrics["chrf"], "cider").startswith("1.000 CIDEr [")
    assert not is_share("length_ratio")
    assert is_share("bleu")


def test_a_pilot_of_two_opponents_tells_the_power_of_a_mean_as_its_formula_does() -> None:
    judging = Judging("generate", "exact_match")
    asked = questions(judging, [row(n, f"x{n}", "yes") for n in range(200)])
    answers = {
        "half": ["yes" if n % 2 else "no" for n in range(200)],
        "third": ["yes" if n % 3 else "no" for n in range(200)],
    }
    cards = [
        judged(judging, candidate(name), "validation", asked, Answers(given_, None, 0), FREE)
        for name, given_ in answers.items()
    ]
    power = pilot_power(judging, asked, cards, 400, 0.05, 0.05, "estimate")
    assert power is not None
    assert (power.better, power.worse) == ("third", "half")
    difference = [(n % 3 > 0) - (n % 2 > 0) for n in range(200)]
    mean = sum(difference) / 200
    variance = sum((one - mean) ** 2 for one in difference) / 200
    assert power.standard_error == pytest.approx((variance / 400) ** 0.5, rel=0.06)
    assert pilot_power(judging, asked, cards[:1], 400, 0.05, 0.05, "estimate") is None


# --- task files ---


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ("kind: generate\ngoal: {gain: 0.1, metric: macro_f1}", "'macro_f1' is no metric for kind: generate"),
        ("kind: generate\ngoal: {gain: 0.1, metric: chfr}", "did you mean chrf?"),
        ("kind: classify\nmax_new_tokens: 8\ngoal: {gain: 0.1}", "labels are scored, not written"),
        ("kind: chat\njson_schema: a.json\ngoal: {gain: 0.1}", "only for kind: extract"),
        ("kind: extract\ngoal: {gain: 0.1, metric: schema_valid}", "needs a schema"),
        (
            "kind: answer\ngoal: {gain: 0.1, metric: unsupported_words}\ntrain: {watch_metric: true}",
            "cannot be watched",
        ),
    ],
)
def test_settings_that_do_not_fit_the_kind_are_refused(tmp_path: Path, lines: str, told: str) -> None:
    path = tmp_path / "task.yaml"
    rest = "name: x\ninstruction: Do it.\ndata: {path: a.jsonl, input: i, target: t}\nbase: b\n"
    path.write_text(f"{rest}split: {{validation: 50, test: 60}}\n{lines}\n", encoding="utf-8")
    with pytest.raises(UserError, match=re.escape(told)):
        load_task(path)


def test_labels_may_be_judged_and_tuned_by_macro_f1() -> None:
    judging = Judging("classify", "macro_f1", labels=("often", "rare"))
    rows = [
        row(n, f"word{n % 7} {'odd' if n % 8 == 0 else 'usual'}", "often" if n % 8 else "rare")
        for n in range(160)
    ]
    model, table = tune_classical(rows[:80], rows[80:], value=value_of_labels(judging))
    answers = answer_classical(model, rows[80:])
    asked = questions(judging, rows[80:])
    reached = goal_value(judging, asked, answers.labels)
    assert reached == max(value for _, value in table)
    card = judged(judging, model.candidate, "validation", asked, answers, FREE)
    assert card.metrics["macro_f1"].value == reached
    assert {"accuracy", "mcc"} <= set(card.metrics)
    always = ["often"] * 80
    gain = goal_gain(judging, asked, answers.labels, always, "majority", 0.05)
    accuracy = goal_gain(Judging("classify", "accuracy"), asked, answers.labels, always, "majority", 0.05)
    assert gain.value > accuracy.value  # a rare label counts as much as a frequent one
