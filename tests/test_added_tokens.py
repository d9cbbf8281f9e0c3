"""Tokens a task adds: only their rows are trained, and PEFT and Transformers read them as we do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from tiny import load_tiny, make_tiny_base, toy_rows
from tunesmith.candidates.tuned import put_adapter
from tunesmith.engine.adapters import make_trainable, read_adapter
from tunesmith.engine.added_tokens import grow, grown_modules
from tunesmith.engine.agreement import adapter_agreement, plain_log_probabilities
from tunesmith.errors import UserError
from tunesmith.models.adapters import save_adapter
from tunesmith.models.loading import LoadedModel
from tunesmith.models.merging import merge_adapter
from tunesmith.models.rendering import Tokens, instructed, render_row
from tunesmith.models.tokenizing import add_tokens, load_tokenizer
from tunesmith.records import Message, Row
from tunesmith.task.train_settings import TrainSettings
from tunesmith.training.fit import fit

peft = pytest.importorskip("peft")
NEW = ("[AMOUNT]", "refund-desk")
SETTINGS = TrainSettings(
    rank=4, alpha=8.0, learning_rate=1e-2, epochs=1, batch_size=8, add_tokens=NEW, weight_decay=0.1
)


def rows_with_tokens() -> list[Row]:
    return [
        replace(row, messages=(Message("user", f"{row.text} [AMOUNT]"),))
        for row in toy_rows(24, ("billing", "refund-desk"), seed=0)
    ]


def rendered(loaded: LoadedModel) -> list[Tokens]:
    return [render_row(loaded, instructed("Name the team.", row), row.target) for row in rows_with_tokens()]


def embedded(loaded: LoadedModel) -> Tensor:
    """The embeddings [vocabulary, width]."""
    module: Any = loaded.model.get_input_embeddings()
    weight: Tensor = module.weight.detach()
    return weight


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_base(tmp_path_factory.mktemp("added") / "base")


@pytest.fixture(scope="module")
def trained(base: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[LoadedModel, Path]:
    """A model tuned with two more tokens, and the folder of its adapter."""
    folder = tmp_path_factory.mktemp("trained")
    loaded = grow(load_tiny(base), NEW)
    make_trainable(loaded.model, SETTINGS, tokens=len(loaded.tokenizer))
    rows = rendered(loaded)
    fitted = fit(loaded, rows, rows[:4], SETTINGS, folder / "checkpoints")
    assert fitted.fast_paths
    adapter = replace(read_adapter(loaded.model), added_tokens=loaded.chat.ordinary)
    save_adapter(folder / "adapter", adapter, loaded.base.name, loaded.base.sha256)
    loaded.tokenizer.save_pretrained(folder / "adapter")
    return loaded, folder / "adapter"


def test_new_tokens_are_one_token_each_and_start_as_the_mean_of_their_spelling(base: Path) -> None:
    before = load_tiny(base)
    spelled = before.chat.plain_text("[AMOUNT]")
    assert len(spelled) > 1
    embeddings = embedded(before).clone()
    loaded = grow(load_tiny(base), NEW)
    first = len(before.tokenizer)
    weight = embedded(loaded)
    assert loaded.chat.plain_text("[AMOUNT]") == [first]
    torch.testing.assert_close(weight[first], embeddings[spelled].mean(0))
    row = render_row(loaded, [Message("user", "pay [AMOUNT]")], "refund-desk")
    assert row.ids.count(first) == 1
    assert row.ids[-2:] == (first + 1, loaded.end_token)
    tokenizer = add_tokens(load_tokenizer(before.base), NEW)
    assert render_row(tokenizer, [Message("user", "pay [AMOUNT]")], "refund-desk") == row


def test_only_the_new_rows_are_trained_also_under_weight_decay(
    base: Path, trained: tuple[LoadedModel, Path]
) -> None:
    loaded, _ = trained
    old = embedded(load_tiny(base))
    start = embedded(grow(load_tiny(base), NEW))[len(old) :]
    modules = grown_modules(loaded.model)
    assert len(modules) == 2
    for module in modules.values():
        assert torch.equal(module.weight[: len(old)], old)
        assert module.rows is next(iter(modules.values())).rows  # tied in the base, tied still
        assert (module.rows - start).abs().max() > 1e-3


@pytest.mark.parametrize("padding", [0, 2])
def test_a_new_token_learns_whatever_the_id_of_the_padding_token(base: Path, padding: int) -> None:
    loaded = grow(load_tiny(base), NEW)
    model: Any = loaded.model
    model.get_input_embeddings().padding_idx = padding  # as a config with this pad_token_id makes it
    make_trainable(model, SETTINGS, tokens=len(loaded.tokenizer))
    first = len(loaded.tokenizer) - len(NEW)
    embedding = model.get_input_embeddings()
    embedding(torch.tensor([[first, first + 1]])).sum().backward()
    assert (embedding.rows.grad == 1).all()


def test_peft_reads_the_adapter_and_gives_our_log_probabilities(
    base: Path, trained: tuple[LoadedModel, Path]
) -> None:
    loaded, folder = trained
    rows = rendered(loaded)[:4]
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    theirs = peft.PeftModel.from_pretrained(model, folder).eval()
    ours = plain_log_probabilities(loaded.model, rows)
    for row, log_p in zip(rows, ours, strict=True):
        ids = torch.tensor([row.ids])
        with torch.no_grad():
            log_probabilities = torch.log_softmax(theirs(input_ids=ids).logits[0], dim=-1)
        start = row.learn.index(True)
        own = log_probabilities[start - 1 : -1].gather(1, ids[0, start:, None]).sum()
        assert float(own) == pytest.approx(log_p, abs=1e-4)
    agreement = adapter_agreement(loaded, folder, rows)
    assert agreement.peft is not None
    assert max(agreement.peft, agreement.merged) < 1e-4


def test_an_adapter_with_tokens_is_put_on_a_base_of_its_own_and_merged(
    base: Path, trained: tuple[LoadedModel, Path], tmp_path: Path
) -> None:
    loaded, folder = trained
    rows = rendered(loaded)[:4]
    plain = load_tiny(base)
    tuned = put_adapter(plain, folder)
    assert tuned.model is not plain.model
    assert len(embedded(plain)) == len(tuned.tokenizer) - len(NEW)
    ours = plain_log_probabilities(loaded.model, rows)
    assert rendered(tuned)[:4] == rows
    assert plain_log_probabilities(tuned.model, rows) == pytest.approx(ours, abs=1e-5)
    merge_adapter(plain.base, folder, tmp_path / "merged")
    merged = load_tiny(tmp_path / "merged")
    assert rendered(merged)[:4] == rows
    assert plain_log_probabilities(merged.model, rows) == pytest.approx(ours, abs=1e-4)
    # What is planned with the tokenizer alone reads them alike, and more may come on top.
    tokenizer = load_tokenizer(merged.base)
    assert tokenizer.chat.ordinary == NEW
    assert add_tokens(tokenizer, ["[DATE]"]).chat.ordinary == (*NEW, "[DATE]")


def test_a_token_that_the_base_has_already_is_refused(base: Path) -> None:
    with pytest.raises(UserError, match=r"'<\|im_end\|>' is a token of .* already"):
        add_tokens(load_tokenizer(load_tiny(base).base), ("[AMOUNT]", "<|im_end|>"))
