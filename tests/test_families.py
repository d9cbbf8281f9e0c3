"""Bases that are no decoders: T5 and BERT learn, score exactly, resume to the bit, and load elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from transformers import (
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    RobertaConfig,
    RobertaModel,
)

from tiny import load_tiny, make_tiny_bert, make_tiny_t5, toy_rows
from tunesmith.candidates.answers import task_tree
from tunesmith.candidates.tuned import TunedModel, put_adapter, score_tuned
from tunesmith.engine.adapters import make_trainable, read_adapter, set_adapter
from tunesmith.engine.agreement import adapter_agreement
from tunesmith.engine.classifier_head import with_head
from tunesmith.engine.forward import make_batch
from tunesmith.engine.generation import Decoding, generate
from tunesmith.engine.lora import trainable_parameters
from tunesmith.engine.scoring import score_labels
from tunesmith.engine.selfcheck import choose_loss
from tunesmith.errors import UserError
from tunesmith.models.adapters import load_adapter, save_adapter
from tunesmith.models.loading import LoadedModel
from tunesmith.models.merging import merge_adapter
from tunesmith.models.rendering import Tokens, instructed, render_prompt, render_row
from tunesmith.progress import Report, silent
from tunesmith.records import Message, Row
from tunesmith.task.train_settings import TrainSettings
from tunesmith.training.fit import Fit, fit

LABELS = ("billing", "delivery", "refund", "greeting")
LORA = TrainSettings(rank=4, alpha=8.0, learning_rate=1e-2, epochs=1, batch_size=8)
AUTO: dict[str, Any] = {"t5": AutoModelForSeq2SeqLM, "bert": AutoModelForSequenceClassification}


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("families")
    return {"t5": make_tiny_t5(folder / "t5"), "bert": make_tiny_bert(folder / "bert")}


def trainable(folder: Path, settings: TrainSettings = LORA) -> LoadedModel:
    loaded = with_head(load_tiny(folder), LABELS, settings.seed)
    make_trainable(loaded.model, settings, loaded.head)
    return loaded


def moved(folder: Path) -> LoadedModel:
    """A base with an adapter, every trained weight moved."""
    loaded = trainable(folder)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in trainable_parameters(loaded.model):
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
    return loaded


def rendered(loaded: LoadedModel, rows: Sequence[Row]) -> list[Tokens]:
    return [render_row(loaded, instructed("Name the team.", row), row.target) for row in rows]


def train(
    loaded: LoadedModel, rows: Sequence[Row], settings: TrainSettings, folder: Path, report: Report = silent
) -> Fit:
    tokens = rendered(loaded, rows)
    return fit(loaded, tokens, tokens[:8], settings, folder, report)


def test_a_t5_overfits_a_copy_task_and_writes_the_copies(bases: dict[str, Path], tmp_path: Path) -> None:
    words = ["parcel", "courier", "guitar", "doctor", "flight", "kitten", "storm", "invoice"]
    rows = [
        Row(f"{one}-{two}", "copy", (Message("user", f"{one} {two}"),), f"{one} {two}")
        for one in words
        for two in words[:4]
    ]
    settings = TrainSettings(
        method="full",
        learning_rate=5e-3,
        epochs=24,
        batch_size=16,
        schedule="constant",
        validations_per_epoch=1,
        patience=100,
    )
    loaded = trainable(bases["t5"], settings)
    fitted = train(loaded, rows, settings, tmp_path)
    assert fitted.train[-1].loss < 0.05 < 1.0 < fitted.train[0].loss
    prompts = [render_prompt(loaded, instructed("Name the team.", row)) for row in rows]
    answers = generate(loaded.model, prompts, Decoding(12, loaded.end_token), loaded.tokenizer.decode)
    copied = [answer.text == row.target for answer, row in zip(answers, rows, strict=True)]
    assert sum(copied) >= 0.9 * len(rows)
    # What generate reports is what scoring gives.
    first = answers[0]
    tree = task_tree(loaded, [rows[0].target])
    scored = score_labels(loaded.model, prompts[:1], tree, loaded.pad_token, None).log_probabilities
    assert first.ended == "end"
    assert sum(first.log_probabilities) == pytest.approx(float(scored[0, 0]), abs=1e-4)


def test_a_bert_learns_its_classes(bases: dict[str, Path], tmp_path: Path) -> None:
    settings = TrainSettings(
        method="full", learning_rate=1e-3, epochs=20, batch_size=16, validations_per_epoch=1, patience=100
    )
    loaded = trainable(bases["bert"], settings)
    rows = toy_rows(48, LABELS, seed=0)
    train(loaded, rows, settings, tmp_path)
    scores = score_tuned(TunedModel(loaded, "Name the team.", LABELS), rows, None)
    answers = [LABELS[index] for index in scores.log_probabilities.argmax(axis=1)]
    assert np.mean([answer == row.target for answer, row in zip(answers, rows, strict=True)]) > 0.9


@pytest.mark.parametrize("family", ["t5", "bert"])
def test_loss_and_gradients_are_those_of_transformers_own_loss(bases: dict[str, Path], family: str) -> None:
    loaded = moved(bases[family])
    tokens = rendered(loaded, toy_rows(5, LABELS, seed=1))
    batch = make_batch([row.ids for row in tokens], [row.learn for row in tokens], loaded.pad_token, 2)
    loss, message = choose_loss(loaded.model, batch)
    assert message is not None
    assert "Transformers' own layers" in message
    ours = loss(loaded.model, batch)
    theirs = torch.zeros(())
    for row in tokens:  # one at a time: nothing is padded
        start = row.learn.index(True)
        labels = row.ids[start:] if family == "t5" else row.ids[start]
        output = loaded.model(input_ids=torch.tensor([row.ids[:start]]), labels=torch.tensor([labels]))
        theirs = theirs + output.loss * (len(row.ids) - start)
    assert float(ours.detach()) == pytest.approx(float(theirs.detach()), rel=1e-5)
    parameters = trainable_parameters(loaded.model)
    gradients = [torch.autograd.grad(value, parameters, materialize_grads=True) for value in (ours, theirs)]
    for left, right in zip(*gradients, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-4, atol=1e-5)


def test_labels_of_a_t5_are_scored_exactly_and_every_row_is_encoded_once(bases: dict[str, Path]) -> None:
    loaded = load_tiny(bases["t5"])
    rows = toy_rows(7, LABELS, seed=2)
    prompts = [render_prompt(loaded, instructed("Name the team.", row)) for row in rows]
    tree = task_tree(loaded, LABELS)
    untyped: Any = loaded.model
    encoded = 0

    def count(_: Any, __: Any, given: dict[str, Any], ___: Any) -> None:
        nonlocal encoded
        encoded += len(given["input_ids"])

    hook = untyped.get_encoder().register_forward_hook(count, with_kwargs=True)
    scores = score_labels(loaded.model, prompts, tree, loaded.pad_token, None).log_probabilities
    hook.remove()
    assert encoded == len(rows)
    for row, prompt in enumerate(prompts):
        for column, answer in enumerate(tree.sequences()):
            with torch.no_grad():
                own = loaded.model(input_ids=torch.tensor([prompt]), labels=torch.tensor([answer])).loss
            assert scores[row, column] == pytest.approx(-float(own) * len(answer), rel=1e-5)


@pytest.mark.parametrize("family", ["t5", "bert"])
def test_stopped_training_ends_with_the_weights_of_training_that_never_was(
    bases: dict[str, Path], tmp_path: Path, family: str
) -> None:
    rows = toy_rows(24, LABELS, seed=3)
    whole = trainable(bases[family])
    train(whole, rows, LORA, tmp_path / "whole")

    def stop(done: int, total: int, note: str = "") -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(trainable(bases[family]), rows, LORA, tmp_path / "stopped", stop)
    resumed = trainable(bases[family])
    train(resumed, rows, LORA, tmp_path / "stopped")
    for left, right in zip(
        trainable_parameters(whole.model), trainable_parameters(resumed.model), strict=True
    ):
        assert torch.equal(left, right)


@pytest.mark.parametrize("family", ["t5", "bert"])
def test_adapters_load_in_peft_and_merged_models_in_transformers(
    bases: dict[str, Path], tmp_path: Path, family: str
) -> None:
    loaded = moved(bases[family])
    rows = toy_rows(4, LABELS, seed=4)
    sha256 = save_adapter(
        tmp_path / "adapter", read_adapter(loaded.model), loaded.base.name, loaded.base.sha256
    )
    assert sha256
    agreement = adapter_agreement(loaded, tmp_path / "adapter", rendered(loaded, rows))
    assert max(agreement.peft or 0.0, agreement.merged) < 1e-4
    tuned = TunedModel(loaded, "Name the team.", LABELS)
    ours = score_tuned(tuned, rows, None).log_probabilities
    # Read back on a base that knows nothing of the task.
    again = put_adapter(load_tiny(bases[family]), tmp_path / "adapter")
    read = score_tuned(TunedModel(again, "Name the team.", LABELS), rows, None).log_probabilities
    np.testing.assert_array_equal(ours, read)

    merge_adapter(loaded.base, tmp_path / "adapter", tmp_path / "merged")
    options = {"num_labels": len(LABELS)} if family == "bert" else {}
    peft: Any = PeftModel
    models = [
        peft.from_pretrained(AUTO[family].from_pretrained(bases[family], **options), tmp_path / "adapter"),
        AUTO[family].from_pretrained(tmp_path / "merged"),
    ]
    answers = task_tree(loaded, LABELS).sequences()
    for model in models:
        model.eval()
        for row, scores in zip(rows, ours, strict=True):
            prompt = torch.tensor([render_prompt(loaded, instructed("Name the team.", row))])
            with torch.no_grad():
                if family == "bert":
                    theirs = torch.log_softmax(model(input_ids=prompt).logits[0], dim=-1).tolist()
                else:
                    theirs = [
                        -float(model(input_ids=prompt, labels=torch.tensor([answer])).loss) * len(answer)
                        for answer in answers
                    ]
            np.testing.assert_allclose(scores, theirs, atol=1e-4)
    if family == "bert":
        assert models[1].config.id2label == dict(enumerate(LABELS))


def test_a_roberta_keeps_clear_of_the_positions_it_does_not_use(
    tmp_path: Path, bases: dict[str, Path]
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(bases["bert"])
    config = RobertaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=40,
        pad_token_id=1,
    )
    RobertaModel(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    loaded = trainable(tmp_path)
    assert loaded.context_tokens == 38
    longest = [5] * (loaded.context_tokens - 1)
    batch = make_batch([[*longest, 0]], [[False] * len(longest) + [True]], loaded.pad_token, 0)
    assert torch.isfinite(choose_loss(loaded.model, batch)[0](loaded.model, batch))


def test_what_an_encoder_cannot_do_is_refused(bases: dict[str, Path], tmp_path: Path) -> None:
    loaded = with_head(load_tiny(bases["bert"]), LABELS, seed=0)
    with pytest.raises(UserError, match="qlora is not for BertForSequenceClassification"):
        make_trainable(loaded.model, TrainSettings(method="qlora"), loaded.head)
    with pytest.raises(UserError, match="writes no text"):
        generate(loaded.model, [[1, 2]], Decoding(4, loaded.end_token))
    with pytest.raises(UserError, match="'parcel' is none of the 4 classes"):
        render_row(loaded, (Message("user", "hello"),), "parcel")
    save_adapter(tmp_path, read_adapter(moved(bases["bert"]).model), loaded.base.name, loaded.base.sha256)
    other = with_head(load_tiny(bases["bert"]), LABELS[::-1], seed=0)
    make_trainable(other.model, LORA, other.head)
    with pytest.raises(UserError, match="the adapter's classes"):
        set_adapter(other.model, load_adapter(tmp_path, loaded.base.sha256), "the other")
    # A model in whose head another fold's classes are is loaded anew.
    put = put_adapter(other, tmp_path)
    assert (put.labels, other.labels) == (LABELS, LABELS[::-1])
    alone = put_adapter(load_tiny(bases["bert"]), tmp_path)
    rows = toy_rows(6, LABELS, 0)
    told, expected = (score_tuned(TunedModel(one, "", LABELS), rows, 0.0) for one in (put, alone))
    assert np.array_equal(told.log_probabilities, expected.log_probabilities)


def test_a_t5_answers_greedily_only(bases: dict[str, Path]) -> None:
    loaded = load_tiny(bases["t5"])
    with pytest.raises(UserError, match="only answers greedily"):
        generate(loaded.model, [[5, 6]], Decoding(4, loaded.end_token, temperature=1.0))
