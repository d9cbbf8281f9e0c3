"""Prompts answer with valid labels, show training rows only, and are chosen on validation alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tiny import load_tiny, make_tiny_base, toy_rows
from tunesmith.candidates import nearest as nearest_module
from tunesmith.candidates import prompts as prompts_module
from tunesmith.candidates.forms import PromptForm
from tunesmith.candidates.nearest import most_similar
from tunesmith.candidates.prompts import (
    CONTENT_FREE,
    VARIANTS,
    Prompting,
    answer_prompt,
    choose_variant,
    content_free_prior,
    score_prompt,
)
from tunesmith.candidates.shown import shown_with
from tunesmith.engine.scoring import LabelScores
from tunesmith.errors import UserError
from tunesmith.models.loading import LoadedModel
from tunesmith.models.rendering import instructed, render_answer, render_prompt
from tunesmith.records import Candidate, Message, Row

LABELS = ("billing", "bill", "delivery", "a, b", "x")
INSTRUCTION = "Name the team."


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return load_tiny(make_tiny_base(tmp_path_factory.mktemp("prompts") / "base"))


@pytest.fixture(scope="module")
def prompting(tiny: LoadedModel) -> Prompting:
    return Prompting(tiny, INSTRUCTION, LABELS, toy_rows(40, LABELS, 0))


def scored(prompting: Prompting, examples: int, rows: list[Row]) -> LabelScores:
    return score_prompt(prompting, PromptForm(examples), rows, None)


def seen_prompts(prompting: Prompting, examples: int, rows: list[Row]) -> list[str]:
    """The prompts as the model sees them."""
    shown = shown_with(PromptForm(examples), prompting.train, rows)
    return [
        prompting.loaded.tokenizer.decode(prompts_module._render(prompting, PromptForm(), row, near))
        for row, near in zip(rows, shown, strict=True)
    ]


def test_zero_shot_shows_the_instruction_the_labels_and_the_row(prompting: Prompting) -> None:
    (prompt,) = seen_prompts(prompting, 0, toy_rows(1, LABELS, 1))
    assert prompt == (
        "<|im_start|>system\nName the team.\nAnswer with exactly one of:\nbilling\nbill\ndelivery\na, b\nx"
        f"<|im_end|>\n<|im_start|>user\n{toy_rows(1, LABELS, 1)[0].text}<|im_end|>\n<|im_start|>assistant\n"
    )


def test_labels_without_commas_are_listed_in_one_line(tiny: LoadedModel) -> None:
    (prompt,) = seen_prompts(Prompting(tiny, INSTRUCTION, ("x", "y"), []), 0, toy_rows(1, ("x", "y"), 1))
    assert "Answer with exactly one of: x, y<|im_end|>" in prompt


def test_few_shot_shows_the_nearest_training_rows_the_nearest_last(prompting: Prompting) -> None:
    row = toy_rows(1, LABELS, 1)[0]
    near = most_similar(prompting.train, [row], 2)[0]
    assert near[0][1] >= near[1][1] > 0
    (prompt,) = seen_prompts(prompting, 2, [row])
    turns = [
        f"user\n{example.text}<|im_end|>\n<|im_start|>assistant\n{example.target}<|im_end|>"
        for example, _ in reversed(near)
    ]
    places = [prompt.index(turn) for turn in (*turns, f"user\n{row.text}")]
    assert places == sorted(places)
    assert prompt.count("<|im_start|>user") == 3


def test_a_row_is_never_shown_itself_nor_a_near_duplicate_of_its_group(prompting: Prompting) -> None:
    train = list(prompting.train)
    twin = replace(train[3], id="twin", source="toy.jsonl:99")
    for row, near in zip(train, most_similar([*train, twin], train, 3), strict=True):
        assert len(near) == 3
        assert row.id not in {example.id for example, _ in near}
        assert row.group not in {example.group for example, _ in near}
    assert [example.id for example, _ in most_similar([*train, twin], [train[3]], 99)[0]].count("twin") == 0
    assert len(most_similar(train, [train[3]], 99)[0]) == len(train) - 1
    ungrouped = [replace(row, group="") for row in train]
    assert all(
        row.id != near[0][0].id
        for row, near in zip(ungrouped, most_similar(ungrouped, ungrouped, 1), strict=True)
    )


def test_similarity_does_not_depend_on_how_many_rows_are_compared_together(
    prompting: Prompting, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = toy_rows(7, LABELS, 1)
    whole = most_similar(prompting.train, rows, 3)
    monkeypatch.setattr(nearest_module, "ROWS_COMPARED_TOGETHER", 2)
    assert most_similar(prompting.train, rows, 3) == whole


def test_texts_without_words_find_neighbours_too() -> None:
    texts = ("👍👍👍", "👎👎👎")
    train = [Row(text, "s", (Message("user", text),), "x") for text in texts]
    asked = Row("q", "s", (Message("user", "👎"),), "x")
    assert most_similar(train, [asked], 1)[0][0][0] is train[1]


@pytest.mark.parametrize("examples", [0, 2])
def test_scores_are_the_exact_log_probabilities_of_label_and_end_token(
    prompting: Prompting, examples: int
) -> None:
    rows = toy_rows(3, LABELS, 1)
    scores = scored(prompting, examples, rows)
    loaded = prompting.loaded
    shown = shown_with(PromptForm(examples), prompting.train, rows)
    for at, row in enumerate(rows):
        prompt = prompts_module._render(prompting, PromptForm(), row, shown[at])
        for index, label in enumerate(LABELS):
            answer = render_answer(loaded, label)
            with torch.no_grad():
                logits = loaded.model(torch.tensor([[*prompt, *answer]])).logits[0, len(prompt) - 1 : -1]
            expected = torch.log_softmax(logits, -1).gather(1, torch.tensor(answer)[:, None]).sum()
            assert scores.log_probabilities[at, index] == pytest.approx(float(expected), abs=1e-4)


@pytest.mark.parametrize("examples", [0, 3])
def test_every_variant_answers_with_a_valid_label_and_a_probability(
    prompting: Prompting, examples: int
) -> None:
    rows = toy_rows(12, LABELS, 1)
    prior = content_free_prior(prompting, PromptForm(examples), seed=0)
    scores = scored(prompting, examples, rows)
    answers = {
        variant: answer_prompt(
            prompting, Candidate("id", "prompt", "name", {"variant": variant, "prior": prior}), scores
        )
        for variant in VARIANTS
    }
    for given in answers.values():
        assert set(given.labels) <= set(LABELS)
        assert given.probabilities is not None
        assert given.probabilities.min() >= 1 / len(LABELS)
        assert given.probabilities.max() <= 1
    raw = scores.log_probabilities
    assert answers["log-probability"].labels == [LABELS[index] for index in raw.argmax(1)]
    lengths = [len(render_answer(prompting.loaded, label)) for label in LABELS]
    assert answers["length-normalised"].labels == [LABELS[index] for index in (raw / lengths).argmax(1)]
    assert answers["calibrated"].labels == [LABELS[index] for index in (raw - np.array(prior)).argmax(1)]


def test_the_content_free_prior_is_what_the_prompt_answers_to_inputs_that_say_nothing(
    prompting: Prompting,
) -> None:
    rows = [Row(str(index), "s", (Message("user", text),), "") for index, text in enumerate(CONTENT_FREE)]
    expected = scored(prompting, 0, rows).log_probabilities.mean(axis=0)
    np.testing.assert_allclose(content_free_prior(prompting, PromptForm(0), seed=0), expected, atol=1e-4)
    shown = content_free_prior(prompting, PromptForm(2), seed=0)
    assert shown == content_free_prior(prompting, PromptForm(2), seed=0)
    assert shown != content_free_prior(prompting, PromptForm(2), seed=1)
    few = replace(prompting, train=prompting.train[:1])
    assert len(content_free_prior(few, PromptForm(3), seed=0)) == len(LABELS)


def planted(*scores: tuple[float, ...]) -> LabelScores:
    return LabelScores(np.array(scores), 1)


def test_the_variant_is_the_best_on_validation_and_the_plainest_of_equals(tiny: LoadedModel) -> None:
    labels = ("billing", "x")
    prompting = Prompting(tiny, INSTRUCTION, labels, [])
    rows = toy_rows(2, ("x",), 1)
    # As it stands "billing" wins; per token too; against a prior that favours it, "x".
    scores = planted((-1.0, -4.0), (-1.0, -5.0))
    chosen, answers = choose_variant(prompting, PromptForm(0), scores, rows, [-1.0, -9.0])
    assert chosen.settings["variant"] == "calibrated"
    assert chosen.settings["prior"] == [-1.0, -9.0]
    assert answers.labels == ["x", "x"]
    plain, answers = choose_variant(
        prompting, PromptForm(0), planted((-9.0, -1.0), (-9.0, -1.0)), rows, [-1.0, -1.0]
    )
    assert plain.settings["variant"] == "log-probability"
    assert "prior" not in plain.settings
    assert plain.id != chosen.id
    # A finalist scored later, on other rows, answers by its own variant.
    assert answer_prompt(prompting, chosen, planted((-1.0, -8.0))).labels == ["x"]
    assert answer_prompt(prompting, plain, planted((-1.0, -8.0))).labels == ["billing"]


def test_prompts_with_other_examples_or_another_instruction_are_other_candidates(
    prompting: Prompting,
) -> None:
    rows = toy_rows(4, LABELS, 1)
    scores, prior = scored(prompting, 0, rows), [0.0] * len(LABELS)

    def identity(given: Prompting, examples: int) -> str:
        return choose_variant(given, PromptForm(examples), scores, rows, prior)[0].id

    fewer = replace(prompting, train=prompting.train[1:])
    assert identity(prompting, 0) == identity(fewer, 0)  # zero-shot shows none of them
    assert identity(prompting, 2) != identity(fewer, 2)
    assert identity(prompting, 2) != identity(prompting, 0)
    assert identity(replace(prompting, instruction="Other."), 0) != identity(prompting, 0)


def test_prompts_longer_than_the_context_are_refused_with_the_rows(prompting: Prompting) -> None:
    rows = toy_rows(3, LABELS, 1)
    with pytest.raises(UserError, match=r"20-shot nearest prompt: 3 of 3 rows do not fit .*toy\.jsonl:1"):
        scored(prompting, 20, rows)
    with pytest.raises(UserError, match=r"20-shot nearest prompt: .* content-free prompt 'N/A'"):
        content_free_prior(prompting, PromptForm(20), seed=0)


def test_the_zero_shot_prompt_and_the_tuned_prompt_agree_on_instruction_and_row(
    prompting: Prompting,
) -> None:
    row = toy_rows(1, LABELS, 1)[0]
    tuned = prompting.loaded.tokenizer.decode(render_prompt(prompting.loaded, instructed(INSTRUCTION, row)))
    (zero_shot,) = seen_prompts(prompting, 0, [row])
    assert zero_shot.startswith(tuned.split("<|im_end|>")[0])
    assert zero_shot.endswith(tuned.split("<|im_end|>", 1)[1])


def test_labels_that_are_the_same_tokens_are_refused_before_any_scoring(tiny: LoadedModel) -> None:
    twice = Prompting(tiny, INSTRUCTION, ("billing", "billing"), [])
    with pytest.raises(UserError, match="are the same tokens"):
        scored(twice, 0, toy_rows(2, ("billing",), 1))
