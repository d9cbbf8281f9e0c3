"""Statements that a source does not entail, by a user's own model: a tiny real one with random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification

from tiny import tiny_tokenizer
from tunesmith.data.questions import each_row
from tunesmith.errors import UserError
from tunesmith.evaluation.grounding import grounding_checks, grounding_scores, measure_grounding
from tunesmith.models.entailment import check_entailment_model, load_entailment_model
from tunesmith.records import Message, Row

CLASSES = {0: "contradiction", 1: "neutral", 2: "ENTAILMENT"}
LIMIT = 64


def make_classifier(folder: Path, classes: dict[int, str]) -> Path:
    tokenizer = tiny_tokenizer(None)
    tokenizer.model_max_length = LIMIT
    torch.manual_seed(0)
    untyped: Any = BertConfig
    config = untyped(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=LIMIT,
        initializer_range=0.5,
        pad_token_id=tokenizer.pad_token_id,
        id2label=classes,
        label2id={name: index for index, name in classes.items()},
    )
    BertForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_classifier(tmp_path_factory.mktemp("nli"), CLASSES)


def test_the_probability_is_that_of_the_class_entailment(classifier: Path) -> None:
    untyped: Any = BertForSequenceClassification
    model = untyped.from_pretrained(classifier).eval()
    tokens: Any = tiny_tokenizer(None)("the hotel is near the river", "the hotel", return_tensors="pt")
    with torch.no_grad():
        logits = model(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]).logits
    expected = float(logits.softmax(-1)[0, 2])
    entails = load_entailment_model(classifier, "setting")
    assert entails("the hotel is near the river", "the hotel") == pytest.approx(expected, abs=1e-4)


def test_of_a_long_source_the_window_counts_that_speaks_most_for_the_sentence(classifier: Path) -> None:
    entails = load_entailment_model(classifier, "setting")
    source = "river road paper street old town white house green garden night market " * 12
    tokenizer: Any = tiny_tokenizer(None)
    room = LIMIT - len(tokenizer("the hotel")["input_ids"])
    first = tokenizer.decode(tokenizer(source)["input_ids"][:room])
    assert entails(source, "the hotel") >= entails(first, "the hotel") - 1e-5
    assert 0 <= entails(source, source) <= 1  # a sentence longer than the model reads


def test_a_folder_without_that_class_and_one_without_a_model_are_refused(tmp_path: Path) -> None:
    other = make_classifier(tmp_path / "sentiment", {0: "good", 1: "bad"})
    with pytest.raises(UserError, match=r"no class called entailment \(found: good, bad\)"):
        check_entailment_model(other, "guards.grounding.entailment")
    with pytest.raises(UserError, match="no folder of a model"):
        check_entailment_model(tmp_path, "guards.grounding.entailment")
    with pytest.raises(UserError, match="there is no folder"):
        check_entailment_model(tmp_path / "nowhere", "guards.grounding.entailment")


def test_statements_that_no_source_entails_fail_the_guard_and_without_a_model_nothing_is_claimed() -> None:
    rows = [
        Row(f"r{i}", f"d:{i}", (Message("user", f"the hotel has {i} rooms"),), f"It has {i} rooms.", f"g{i}")
        for i in range(60)
    ]
    asked = each_row(rows)
    right = [row.target for row in rows]
    wrong = ["It is full of dragons." for _ in rows]

    def entails(source: str, sentence: str) -> float:
        return float(sentence.split()[2] in source)

    records = measure_grounding(asked, wrong, right, "answer", entails)
    checks = {check.name: check.answer for check in grounding_checks(records, "o", 0.05, True, 0.05, True)}
    assert checks["grounding: statements"] == "failed"
    (*_, statements) = grounding_scores(records, asked, "o", 0.05, entails)
    assert (statements.tuned.value, statements.references.value) == (1, 0)
    spelled = measure_grounding(asked, wrong, right, "answer")
    unasked = grounding_checks(spelled, "o", 0.05, True, 0.05)
    assert "grounding: statements" not in {check.name for check in unasked}
    asked_for = grounding_checks(spelled, "o", 0.05, True, 0.05, True)
    assert asked_for[-1].answer == "unmeasured"
