"""A long document is one row that is kept, split and judged whole; models read it in windows."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bank_samples import TOPICS, question
from tiny import load_tiny, make_tiny_base, toy_rows
from tunesmith.candidates.forms import PromptForm
from tunesmith.candidates.prompts import Prompting, score_prompt
from tunesmith.candidates.texts import Writing, answer_by_prompt, answer_by_tuned, prompt_candidate
from tunesmith.candidates.tuned import TunedModel, label_probabilities, score_tuned, tuned_candidate
from tunesmith.data.duplicates import with_groups
from tunesmith.data.sources import Source
from tunesmith.data.splits import SplitSpec, split_rows
from tunesmith.data.versions import freeze, load_dataset
from tunesmith.data.windowed import (
    Cutting,
    Windowed,
    cutting_of_candidate,
    group_documents,
    in_windows,
    mean_scores,
    merged_answers,
)
from tunesmith.errors import UserError
from tunesmith.models.loading import LoadedModel
from tunesmith.records import Message, Row
from tunesmith.stages import ask
from tunesmith.task.train_settings import TrainSettings
from tunesmith.training.long_rows import training_rows

CUTTING = Cutting(12, 4)
LABELS = ("billing", "bill", "delivery")


def spans(text: str, *words: str) -> str:
    places = [(text.index(word), word) for word in words]
    return json.dumps(
        [{"text": word, "start": at, "end": at + len(word), "label": "X"} for at, word in places]
    )


def long_row(words: int, target: str = "billing") -> Row:
    text = " ".join(f"word{number}" for number in range(words))
    return Row("long", "a.jsonl:1", (Message("user", text),), target)


def documents(count: int) -> list[Row]:
    chance = random.Random(0)
    rows = []
    for number in range(count):
        topic = list(TOPICS)[number % 6]
        text = " ".join(question(chance, topic, fillers=9) for _ in range(5))
        messages = (Message("user", f"{text} document {number}"),)
        rows.append(Row(f"{number:04}", f"long.jsonl:{number + 1}", messages, topic))
    return rows


def grouped(rows: list[Row], cutting: Cutting | None) -> list[Row]:
    return list(with_groups(rows, group_documents(rows, cutting, 0.8, 3)))


def test_documents_stay_whole_and_those_with_a_window_in_common_stay_together(tmp_path: Path) -> None:
    rows, cutting = documents(170), Cutting(40, 10)
    page = in_windows(rows[:1], cutting).rows[0].text
    rows[6] = replace(rows[6], messages=(Message("user", page + rows[6].text),))
    plain, joined = grouped(rows, None), grouped(rows, cutting)
    assert plain[0].group != plain[6].group
    assert joined[0].group == joined[6].group != joined[12].group
    spec = SplitSpec(None, 30, 60, 1, None, cutting=cutting)
    split = split_rows(joined, spec)
    assert {row.text for row in split.test} <= {row.text for row in rows}
    source = Source(tuple(joined), (), (), "", "", len(rows), ())
    frozen = freeze(tmp_path, task="t", source=source, split=split, spec=spec)
    assert load_dataset(Path(frozen.folder)).manifest.recipe["windows"] == [40, 10]
    # A window of the test hidden in a long training document: as a whole it looks like nothing in the test.
    stolen = in_windows(split.test[:1], cutting).rows[0].text
    first = split.train[0]
    thief = replace(first, messages=(Message("user", f"{stolen} {first.text}"),))
    leaking = replace(split, train=(thief, *split.train[1:]))
    with pytest.raises(UserError, match="1 rows leak"):
        freeze(tmp_path / "leak", task="t", source=source, split=leaking, spec=spec)
    freeze(tmp_path / "blind", task="t", source=source, split=leaking, spec=replace(spec, cutting=None))


def test_spans_are_cut_with_their_text_and_merged_to_the_same_answer() -> None:
    row = long_row(30)
    row = replace(row, target=spans(row.text, "word9", "word14 word15 word16 word17 word18 word19", "word29"))
    parts = in_windows([row, replace(row, target="other")], CUTTING)
    assert len(parts.rows) == 2 * len(set(parts.starts)) == 8
    for part in parts.rows[:4]:
        listed = json.loads(part.target)
        assert [part.text[one["start"] : one["end"]] for one in listed] == [one["text"] for one in listed]
    assert merged_answers(parts, [part.target for part in parts.rows]) == [row.target, "other"]
    assert in_windows([row], Cutting(30, 4)).rows == [row]
    assert in_windows([row], None).rows == [row]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=6), st.integers(2, 12), st.data())
def test_every_document_gets_one_answer_and_the_mean_of_its_windows(
    lengths: list[int], window: int, data: st.DataObject
) -> None:
    cutting = Cutting(window, data.draw(st.integers(1, window - 1)))
    parts = in_windows([long_row(words, str(words)) for words in lengths], cutting)
    assert merged_answers(parts, [row.target for row in parts.rows]) == [str(words) for words in lengths]
    scores = np.random.default_rng(0).normal(size=(len(parts.rows), 3))
    means = mean_scores(parts, scores)
    owners = np.array(parts.documents)
    assert means == pytest.approx(np.stack([scores[owners == at].mean(axis=0) for at in range(len(lengths))]))


def test_lists_of_things_found_in_any_window_are_joined_though_another_window_holds_none() -> None:
    parts = in_windows([long_row(30)], CUTTING)
    some, more = [{"item": "bread"}], [{"item": "milk"}, {"item": "bread"}]
    answers = [json.dumps(some), "[]", json.dumps(more), "[]"][: len(parts.rows)]
    (merged,) = merged_answers(parts, answers)
    assert json.loads(merged) == [{"item": "bread"}, {"item": "milk"}]
    assert merged_answers(parts, ["[]"] * len(parts.rows)) == ["[]"]


def test_fields_found_in_any_window_are_in_the_answer_and_most_windows_decide() -> None:
    parts = in_windows([long_row(30)], CUTTING)
    found = [
        {"name": None, "city": "Rome", "tags": ["a"], "who": {"age": None, "job": "cook"}, "note": ""},
        {"name": "Anna", "city": "Oslo", "tags": ["b", "a"], "who": {"age": 7, "job": None}, "note": None},
        {"name": "Ben", "city": "Oslo", "tags": [], "who": {"age": None, "job": None}, "note": None},
    ]
    (merged,) = merged_answers(parts, [*map(json.dumps, found), "no JSON"])
    assert json.loads(merged) == {
        "name": "Anna", "city": "Oslo", "tags": ["a", "b"], "who": {"age": 7, "job": "cook"}, "note": "",
    }  # fmt: skip
    assert tuple(json.loads(merged)) == ("name", "city", "tags", "who", "note")
    assert merged_answers(parts, ["letter", "bill", "bill", "letter"]) == ["letter"]
    assert merged_answers(parts, ["[]", "no JSON", '[{"start": 0, "end": 4, "label": "X"}]', "[]"]) == [
        json.dumps([{"start": parts.starts[2], "end": parts.starts[2] + 4, "label": "X"}])
    ]
    assert merged_answers(Windowed([], [], []), []) == []


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return load_tiny(make_tiny_base(tmp_path_factory.mktemp("windowed") / "base"))


def test_a_document_is_scored_as_the_mean_of_its_windows_by_every_prompt_and_when_asked(
    tiny: LoadedModel,
) -> None:
    rows = [toy_rows(1, LABELS, 0)[0], long_row(30), toy_rows(2, LABELS, 1)[1], long_row(18)]
    parts = in_windows(rows, CUTTING)
    assert len(parts.rows) > len(rows) + 4
    whole, cut = TunedModel(tiny, "Name it.", LABELS), TunedModel(tiny, "Name it.", LABELS, cutting=CUTTING)
    expected = mean_scores(parts, score_tuned(whole, parts.rows, 0.0).log_probabilities)
    for mass in (0.0, None, 0.01):  # where windows differ in their best label, no label may be missing
        found = score_tuned(cut, rows, mass).log_probabilities
        np.testing.assert_allclose(found, expected, atol=1e-5)
    train, form = [long_row(40, "bill"), *toy_rows(6, LABELS, 2)], PromptForm(examples=2)
    prompting = Prompting(tiny, "Name it.", LABELS, train, cutting=CUTTING)
    assert max(len(row.text.split()) for row in prompting.examples) <= 16
    plain = Prompting(tiny, "Name it.", LABELS, prompting.examples)
    by_prompt = mean_scores(parts, score_prompt(plain, form, parts.rows, None).log_probabilities)
    np.testing.assert_allclose(
        score_prompt(prompting, form, rows, []).log_probabilities, by_prompt, atol=1e-5
    )

    candidate = tuned_candidate(cut, "adapter", 2.0)
    assert candidate.id != tuned_candidate(whole, "adapter", 2.0).id
    assert cutting_of_candidate(candidate) == CUTTING
    assert cutting_of_candidate(tuned_candidate(whole, "adapter", 2.0)) is None
    answer, choices, probability = ask._label(tiny, candidate, LABELS, rows[1], 3, None)
    shares = label_probabilities(candidate, score_tuned(cut, rows[1:2], 0.0))[0]
    assert answer == choices[0].label == LABELS[int(expected[1].argmax())]
    assert [choice.probability for choice in choices] == pytest.approx(sorted(shares, reverse=True))
    assert probability == pytest.approx(max(shares))


def test_a_document_is_answered_in_writing_by_its_windows_answers_merged(tiny: LoadedModel) -> None:
    rows = [long_row(30), toy_rows(1, LABELS, 0)[0]]
    parts = in_windows(rows, CUTTING)
    whole = Writing(tiny, "Write.", 6, None, rows)
    cut = replace(whole, cutting=CUTTING)
    for answers in (answer_by_tuned, lambda writing, asked: answer_by_prompt(writing, PromptForm(), asked)):
        own = answers(whole, parts.rows).labels
        assert answers(cut, rows).labels == merged_answers(parts, own)
    assert prompt_candidate(whole, PromptForm()).id != prompt_candidate(cut, PromptForm()).id


def test_every_window_of_a_training_document_is_a_row_to_learn_with_its_answer(tiny: LoadedModel) -> None:
    rows = [long_row(30, "delivery"), toy_rows(1, LABELS, 0)[0]]
    parts = in_windows(rows, CUTTING)
    learned = training_rows(tiny, "Name it.", rows, TrainSettings(), CUTTING)
    assert [row.text for row in learned.rows] == [row.text for row in parts.rows]
    assert [row.source for row in learned.rows][:2] == ["a.jsonl:1#1", "a.jsonl:1#2"]
    assert {row.target for row in learned.rows[:4]} == {"delivery"}
    assert learned.tokens == training_rows(tiny, "Name it.", parts.rows, TrainSettings()).tokens
