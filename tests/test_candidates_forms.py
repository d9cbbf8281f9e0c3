"""What prompts show: examples, passages and templates, never the row's own answer."""

from __future__ import annotations

import math
import random
import re
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiny import load_tiny, make_tiny_base, toy_rows
from tunesmith.candidates.forms import (
    PromptForm,
    Shown,
    Wording,
    endpoint_forms,
    form_name,
    form_of,
    form_settings,
    own_forms,
    turns_of,
)
from tunesmith.candidates.prompts import Prompting, choose_variant, content_free_prior, score_prompt
from tunesmith.candidates.retrieval import K1, B, library_of_rows, library_of_texts
from tunesmith.candidates.shown import ever_shorter, shown_with
from tunesmith.candidates.texts import Writing, answer_by_prompt, fewer_examples, prompt_candidate
from tunesmith.candidates.tuned import TunedModel, score_tuned, tuned_candidate
from tunesmith.candidates.tuned_prompts import passages_of, tuned_prompts
from tunesmith.errors import UserError
from tunesmith.models.loading import LoadedModel
from tunesmith.models.rendering import instructed, render_prompt
from tunesmith.records import Message, Row
from tunesmith.stages.passages import documents_sha256, library_of
from tunesmith.task import Task, load_task
from tunesmith.task.opponent_settings import EndpointSettings, OpponentSettings

LABELS = ("billing", "delivery", "refund")
TASK = """\
name: x
kind: {kind}
instruction: Do it.
data: {{path: a.jsonl, input: i, target: t}}
base: b
split: {{validation: 50, test: 60}}
goal: {{gain: 0.1}}
opponents: {opponents}
"""


def row(number: int, text: str, target: str = "t", group: str = "") -> Row:
    return Row(f"r{number}", f"f:{number}", (Message("user", text),), target, group)


def task_with(folder: Path, opponents: str, kind: str = "classify") -> Task:
    path = folder / "task.yaml"
    path.write_text(TASK.format(kind=kind, opponents=opponents), encoding="utf-8")
    return load_task(path)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return load_tiny(make_tiny_base(tmp_path_factory.mktemp("forms") / "base"))


# --- retrieval ---


def bm25(query: str, texts: list[str]) -> list[float]:
    """The formula of the module's docstring, word by word."""
    split = [re.findall(r"\w+", text.lower()) for text in texts]
    mean = sum(map(len, split)) / len(split)
    scores = []
    for words in split:
        score = 0.0
        for word in re.findall(r"\w+", query.lower()):
            containing = sum(word in other for other in split)
            idf = math.log(1 + (len(split) - containing + 0.5) / (containing + 0.5))
            count = Counter(words)[word]
            score += idf * count * (K1 + 1) / (count + K1 * (1 - B + B * len(words) / mean))
        scores.append(score)
    return scores


WORDS = st.lists(st.sampled_from(["tea", "Tea", "cup", "a", "of", "water"]), min_size=1, max_size=6).map(
    " ".join
)


@given(st.lists(WORDS, min_size=1, max_size=6), WORDS, st.integers(1, 4))
def test_passages_are_those_with_the_highest_bm25_the_best_last(
    texts: list[str], query: str, count: int
) -> None:
    library = library_of_texts([(f"d{number}", text) for number, text in enumerate(texts)])
    found = [int(passage.source[1:]) for passage in library.find(row(1, query), count)]
    scores = bm25(query, texts)
    positive = sum(score > 1e-9 for score in scores)
    assert len(found) == min(count, positive)
    shown = [scores[index] for index in found]
    assert shown == pytest.approx(sorted(scores)[len(scores) - len(found) :])


def test_a_row_never_finds_itself_or_its_group_among_training_rows() -> None:
    train = [row(n, f"tea cup {n}", f"answer {n}", f"g{n // 2}") for n in range(6)]
    library = library_of_rows(train)
    for one in train:
        found = library.find(one, 9)
        assert {passage.group for passage in found} == {f"g{n}" for n in range(3)} - {one.group}
    assert "Answer: answer 0" in library.find(row(99, "tea 0"), 1)[0].text
    assert library.find(row(99, "nothing alike"), 3) == ()
    assert library_of_rows(train[:5]).sha256 != library.sha256


def test_a_folder_of_documents_becomes_passages_and_its_content_is_part_of_the_cache_key(
    tmp_path: Path,
) -> None:
    task = task_with(tmp_path, "{retrieval: {documents: handbook, k: [2]}}")
    with pytest.raises(UserError, match="there is no folder"):
        library_of(task, [])
    (tmp_path / "handbook" / "inner").mkdir(parents=True)
    with pytest.raises(UserError, match="no text, PDF or DOCX"):
        library_of(task, [])
    long = " ".join(f"word{n}" for n in range(300))
    (tmp_path / "handbook" / "a.txt").write_text(long, encoding="utf-8")
    (tmp_path / "handbook" / "inner" / "b.md").write_text("Refunds take ten days.", encoding="utf-8")
    library = library_of(task, [])
    assert library is not None
    assert [passage.source.split(":")[0] for passage in library.passages] == ["a.txt"] * 3 + ["inner/b.md"]
    assert library.find(row(1, "how long do refunds take"), 1)[0].text == "Refunds take ten days."
    before = documents_sha256(task)
    (tmp_path / "handbook" / "inner" / "b.md").write_text("Refunds take nine days.", encoding="utf-8")
    assert documents_sha256(task) != before
    assert documents_sha256(task_with(tmp_path, "{retrieval: {k: [2]}}")) is None
    assert library_of(task_with(tmp_path, "{}"), []) is None


# --- which examples ---


def test_fixed_examples_show_every_answer_in_turn_and_are_the_same_for_every_row() -> None:
    train = toy_rows(40, LABELS, 0)
    shown = shown_with(PromptForm(3, "fixed"), train, toy_rows(5, LABELS, 1))
    assert len({one.examples for one in shown}) == 1
    assert {example.target for example in shown[0].examples} == set(LABELS)


def test_random_examples_differ_by_row_and_are_the_same_again() -> None:
    train, rows = toy_rows(40, LABELS, 0), toy_rows(5, LABELS, 1)
    once = shown_with(PromptForm(3, "random"), train, rows)
    assert once == shown_with(PromptForm(3, "random"), train[::1], rows[:2]) + once[2:]
    assert len({one.examples for one in once}) > 1


@pytest.mark.parametrize("choice", ["nearest", "fixed", "random"])
def test_no_choice_shows_the_row_itself_or_its_group(choice: str) -> None:
    train = [row(n, f"tea cup {n}", f"answer {n % 2}", f"g{n // 2}") for n in range(8)]
    form = form_of({"examples": 8, "choice": choice})
    for one, shown in zip(train, shown_with(form, train, train), strict=True):
        assert len(shown.examples) == 6
        assert one.group not in {example.group for example in shown.examples}


# --- templates ---


def test_a_template_stands_for_the_instruction_and_the_request_follows_it() -> None:
    wording = Wording("Do it.", "Answer with exactly one of: a, b", ("a", "b"), "You are kind. {instruction}")
    turns = turns_of(wording, row(1, "hi {labels}"), Shown())
    assert [turn.content for turn in turns] == [
        "You are kind. Do it.\nAnswer with exactly one of: a, b",
        "hi {labels}",
    ]


def test_a_template_with_the_input_makes_every_user_turn_and_reads_nothing_from_the_input() -> None:
    template = "{instruction} One of {labels}. Text: {input}"
    wording = Wording("Do it.", "Answer with exactly one of: a, b", ("a", "b"), template)
    turns = turns_of(wording, row(1, "hi {labels}"), Shown((row(2, "ho", "b"),)))
    assert [(turn.role, turn.content) for turn in turns] == [
        ("user", "Do it. One of a, b. Text: ho"),
        ("assistant", "b"),
        ("user", "Do it. One of a, b. Text: hi {labels}"),
    ]


def test_passages_stand_before_the_text_of_the_row() -> None:
    turns = turns_of(Wording("Do it.", ""), row(1, "hi"), Shown((), ("one", "two")))
    assert turns[0] == Message("system", "Do it.")
    assert turns[1].content == "Passages that may help:\n\n[1] one\n\n[2] two\n\nhi"


@pytest.mark.parametrize(
    ("kind", "opponents", "told"),
    [
        ("classify", "{templates: ['Say {label}']}", r"\{label\} is no placeholder"),
        ("generate", "{templates: ['Say {labels}']}", "there are no labels with kind: generate"),
        ("classify", "{retrieval: {documents: d}}", "k is missing"),
        ("classify", "{retrieval: {with_tuned: true}}", "k is missing"),
        ("classify", "{few_shot_choice: [best]}", "nearest or embeddings or fixed or random"),
    ],
)
def test_templates_and_retrieval_that_cannot_be_right_are_refused(
    tmp_path: Path, kind: str, opponents: str, told: str
) -> None:
    with pytest.raises(UserError, match=told):
        task_with(tmp_path, opponents, kind)


# --- forms ---


def test_without_new_settings_the_prompts_are_those_of_before_and_with_them_each_comes_once() -> None:
    plain = own_forms(OpponentSettings())
    assert [form_name(form) for form in plain] == ["zero-shot", "3-shot nearest"]
    assert [form_settings(form) for form in plain] == [{"examples": 0}, {"examples": 3}]
    settings = OpponentSettings.model_validate(
        {
            "few_shot": [2],
            "few_shot_choice": ["nearest", "random"],
            "templates": ["Be  kind. {instruction}"],
            "retrieval": {"k": [1, 4]},
        }
    )
    names = [form_name(form) for form in own_forms(settings)]
    assert names == [
        *("zero-shot", "2-shot nearest", "2-shot random"),
        *(f'{name}, template "Be kind. {{instruction}}"' for name in names[:3]),
        *("1 passage", "4 passages"),
    ]
    endpoint = EndpointSettings(
        name="e", url="https://x", model="m", price_in=0.0, price_out=0.0, few_shot=(0,)
    )
    wanted = [names[0], names[3], *names[6:]]
    free = endpoint_forms(settings, endpoint, "generate")
    assert [form_name(form) for form in free] == wanted
    reasoned = endpoint_forms(settings, endpoint, "classify")
    assert [form_name(form) for form in reasoned] == [*wanted, "zero-shot, step by step"]
    for form in (*own_forms(settings), *reasoned):
        assert form_of(form_settings(form)) == form


@given(st.integers(0, 4), st.integers(0, 4))
def test_what_does_not_fit_is_left_out_one_by_one_down_to_nothing(examples: int, passages: int) -> None:
    shown = Shown(tuple(row(n, "x") for n in range(examples)), tuple(map(str, range(passages))))
    steps = list(ever_shorter(shown))
    assert steps[0] == shown
    assert steps[-1] == Shown()
    assert [len(one.examples) + len(one.passages) for one in steps] == list(
        range(examples + passages, -1, -1)
    )


# --- on a base ---


def test_labels_are_scored_with_passages_and_those_that_do_not_fit_are_left_out(tiny: LoadedModel) -> None:
    train, rows = toy_rows(30, LABELS, 0), toy_rows(4, LABELS, 1)
    form = PromptForm(passages=2)
    prompting = Prompting(tiny, "Name the team.", LABELS, train, library_of_rows(train))
    few = score_prompt(prompting, form, rows, None)
    plain = score_prompt(prompting, PromptForm(), rows, None)
    assert few.tokens > plain.tokens
    # Far more than the context of 512 tokens holds.
    many = score_prompt(prompting, PromptForm(passages=30), rows, None)
    assert many.tokens > few.tokens
    prior = content_free_prior(prompting, form, seed=0)
    candidate, _ = choose_variant(prompting, form, few, rows, prior)
    assert candidate.name.startswith("2 passages (")
    assert form_of(candidate.settings) == form
    other = Prompting(tiny, "Name the team.", LABELS, train, library_of_rows(train[:9]))
    assert choose_variant(other, form, few, rows, prior)[0].id != candidate.id


def test_texts_are_written_with_passages_and_templates(tiny: LoadedModel) -> None:
    draw = random.Random(0)
    train = [row(n, f"word {n} {draw.random()}", f"text {n}", f"g{n}") for n in range(40)]
    writing = Writing(tiny, "Write.", 8, None, train, library_of_rows(train))
    forms = [PromptForm(), PromptForm(passages=2), PromptForm(template="Be kind. {instruction}")]
    asked = [row(99, "word 3")]
    tokens = [answer_by_prompt(writing, form, asked).tokens for form in forms]
    assert tokens[1] > tokens[2] > tokens[0]
    assert len({prompt_candidate(writing, form).id for form in forms}) == 3
    assert fewer_examples(writing, PromptForm(passages=2), asked) == 0
    assert fewer_examples(writing, PromptForm(passages=40), asked) == 1


def test_the_tuned_model_is_asked_with_passages_and_without_them_as_in_training(tiny: LoadedModel) -> None:
    train, rows = toy_rows(30, LABELS, 0), toy_rows(4, LABELS, 1)
    library = library_of_rows(train)
    plain = tuned_prompts(tiny, "Name the team.", rows, 5)
    assert plain == [render_prompt(tiny, instructed("Name the team.", row)) for row in rows]
    with_passages = tuned_prompts(tiny, "Name the team.", rows, 5, 2, library)
    for row, prompt in zip(rows, with_passages, strict=True):
        text = tiny.tokenizer.decode(prompt)
        assert all(passage.text in text for passage in library.find(row, 2))
    assert all(len(prompt) <= 507 for prompt in tuned_prompts(tiny, "Name the team.", rows, 5, 30, library))
    known = TunedModel(tiny, "Name the team.", LABELS)
    shown = TunedModel(tiny, "Name the team.", LABELS, 2, library)
    assert score_tuned(shown, rows, None).tokens > score_tuned(known, rows, None).tokens
    candidate = tuned_candidate(shown, "adapter", 1.0)
    assert passages_of(candidate) == 2
    assert candidate.name == "base + LoRA + 2 passages"
    assert candidate.id != tuned_candidate(known, "adapter", 1.0).id
