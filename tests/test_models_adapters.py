"""Adapter files load in PEFT unchanged, and only on the base they were trained on."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from tiny import load_tiny, make_tiny_base
from tunesmith.candidates.tuned import put_adapter
from tunesmith.engine.adapters import read_adapter
from tunesmith.engine.lora import attach_lora, lora_disabled, lora_layers
from tunesmith.errors import UserError
from tunesmith.files import file_sha256
from tunesmith.models.adapters import WEIGHTS_FILE, Adapter, load_adapter, save_adapter
from tunesmith.models.loading import LoadedModel

RANK, ALPHA = 4, 12.0
IDS = torch.tensor([[1, 40, 80, 120, 2, 7, 300, 399]])


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_base(tmp_path_factory.mktemp("adapters") / "base")


@pytest.fixture
def tuned(base: Path) -> LoadedModel:
    """The tiny base with an adapter that changes its answers."""
    loaded = load_tiny(base)
    attach_lora(loaded.model, RANK, ALPHA, seed=3)
    torch.manual_seed(1)
    for layer in lora_layers(loaded.model).values():
        torch.nn.init.normal_(layer.lora_b, std=0.05)
    return loaded


def save(loaded: LoadedModel, folder: Path) -> str:
    return save_adapter(folder, read_adapter(loaded.model), loaded.base.name, loaded.base.sha256)


def test_a_saved_adapter_loads_in_peft_and_gives_the_same_logits(
    base: Path, tuned: LoadedModel, tmp_path: Path
) -> None:
    save(tuned, tmp_path / "adapter")
    plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    theirs = PeftModel.from_pretrained(plain, tmp_path / "adapter")
    with torch.no_grad():
        ours = tuned.model(IDS).logits
        with lora_disabled(tuned.model):
            without = tuned.model(IDS).logits
        torch.testing.assert_close(ours, theirs(IDS).logits, rtol=1e-5, atol=1e-5)
    assert (ours - without).abs().max() > 0.1  # the adapter does something


def test_a_saved_adapter_is_read_back_to_the_bit(tuned: LoadedModel, base: Path, tmp_path: Path) -> None:
    sha256 = save(tuned, tmp_path / "adapter")
    assert sha256 == file_sha256(tmp_path / "adapter" / WEIGHTS_FILE)
    fresh = load_tiny(base)
    put_adapter(fresh, tmp_path / "adapter")
    assert torch.equal(fresh.model(IDS).logits, tuned.model(IDS).logits)


def test_one_adapter_replaces_another_with_its_own_scaling(
    tuned: LoadedModel, base: Path, tmp_path: Path
) -> None:
    save(tuned, tmp_path / "adapter")
    fresh = load_tiny(base)
    attach_lora(fresh.model, RANK, 2 * ALPHA, seed=0)
    put_adapter(fresh, tmp_path / "adapter")
    assert torch.equal(fresh.model(IDS).logits, tuned.model(IDS).logits)


def test_an_adapter_of_another_base_is_refused_and_both_hashes_are_named(
    tuned: LoadedModel, tmp_path: Path
) -> None:
    save(tuned, tmp_path / "adapter")
    other = load_tiny(make_tiny_base(tmp_path / "other", seed=1))
    with pytest.raises(UserError, match="was trained on base weights") as caught:
        put_adapter(other, tmp_path / "adapter")
    assert tuned.base.sha256[:12] in caught.value.what
    assert other.base.sha256[:12] in caught.value.what
    assert not lora_layers(other.model)


def test_an_adapter_of_another_rank_or_of_other_layers_is_refused(
    tuned: LoadedModel, base: Path, tmp_path: Path
) -> None:
    save(tuned, tmp_path / "adapter")
    fresh = load_tiny(base)
    attach_lora(fresh.model, 8, ALPHA, seed=0)
    with pytest.raises(UserError, match=r"matrices of .* are \[4, 128\] and .*, not \[8, 128\]"):
        put_adapter(fresh, tmp_path / "adapter")
    one = Adapter("lora", 4, ALPHA, {"model.layers.0.mlp.up_proj": (torch.zeros(4, 64), torch.zeros(128, 4))})
    save_adapter(tmp_path / "one", one, "base", tuned.base.sha256)
    with pytest.raises(UserError, match="do not have the same layers"):
        put_adapter(fresh, tmp_path / "one")
    other = Adapter(
        "lora", 4, ALPHA, {"model.layers.7.mlp.up_proj": (torch.zeros(4, 64), torch.zeros(128, 4))}
    )
    save_adapter(tmp_path / "other", other, "base", tuned.base.sha256)
    with pytest.raises(UserError, match=r"do not have the same layers \(such as model.layers.7"):
        put_adapter(load_tiny(base), tmp_path / "other")


@pytest.mark.parametrize("damage", ["missing", "cut", "no B", "no base", "odd base", "no config"])
def test_a_damaged_adapter_is_refused(tuned: LoadedModel, tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "adapter"
    save(tuned, folder)
    weights = folder / WEIGHTS_FILE
    if damage == "missing":
        weights.unlink()
    elif damage == "cut":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif damage == "no B":
        tensors = load_file(weights)
        del tensors[next(name for name in tensors if "lora_B" in name)]
        save_file(tensors, weights)
    elif damage == "no base":
        (folder / "base.json").unlink()
    elif damage == "no config":
        (folder / "adapter_config.json").write_text("{}", encoding="utf-8")
    else:
        (folder / "base.json").write_text("[1]", encoding="utf-8")
    with pytest.raises(UserError, match=r"cannot be read|damaged"):
        load_adapter(folder, tuned.base.sha256)
