"""What training leaves behind loads elsewhere: adapters in PEFT, merged and whole models in Transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

from tiny import load_tiny, make_tiny_base, tiny_tokenizer, toy_rows
from tunesmith.candidates.tuned import put_adapter
from tunesmith.engine.adapters import continue_from, make_trainable, read_adapter
from tunesmith.engine.agreement import adapter_agreement, model_agreement, plain_log_probabilities
from tunesmith.engine.full import master_weights, masters_to_weights
from tunesmith.engine.lora import trainable_parameters
from tunesmith.errors import UserError
from tunesmith.models.adapters import save_adapter
from tunesmith.models.loading import LoadedModel, load_base
from tunesmith.models.merging import merge_adapter, save_model
from tunesmith.models.rendering import Tokens, instructed, render_row
from tunesmith.task.train_settings import TrainMethod, TrainSettings

IDS = torch.tensor([[1, 40, 80, 120, 2, 7, 300, 390]])
ADAPTERS: tuple[TrainMethod, ...] = ("lora", "rslora", "dora", "qlora")


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A Llama and a GPT-2, both with tied embeddings."""
    folder = tmp_path_factory.mktemp("merging")
    tokenizer = tiny_tokenizer()
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(tokenizer), n_embd=64, n_layer=2, n_head=4, n_positions=512, initializer_range=0.1
    )
    GPT2LMHeadModel(config).save_pretrained(folder / "gpt2")
    tokenizer.save_pretrained(folder / "gpt2")
    return {"llama": make_tiny_base(folder / "llama"), "gpt2": folder / "gpt2"}


def trained(
    folder: Path, settings: TrainSettings, dtype: torch.dtype = torch.float32, seed: int = 0
) -> LoadedModel:
    """The base, made trainable, with every trained weight moved."""
    loaded = load_tiny(folder, dtype)
    make_trainable(loaded.model, settings)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in trainable_parameters(loaded.model):
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
    masters_to_weights(loaded.model)
    return loaded


def saved(loaded: LoadedModel, folder: Path) -> Path:
    save_adapter(folder, read_adapter(loaded.model), loaded.base.name, loaded.base.sha256)
    return folder


def rows_of(loaded: LoadedModel) -> list[Tokens]:
    rows = toy_rows(4, ("billing", "delivery", "refund"), seed=0)
    return [render_row(loaded, instructed("Name the team.", row), row.target) for row in rows]


def settings_of(method: TrainMethod, family: str, whole: bool = False) -> TrainSettings:
    modules = {"llama": ("lm_head", "embed_tokens"), "gpt2": ("wte",)}[family] if whole else None
    return TrainSettings(method=method, rank=4, alpha=12.0, modules_to_save=modules)


@torch.no_grad()
def logits(model: Any) -> torch.Tensor:
    found: torch.Tensor = model(IDS).logits
    return found


@pytest.mark.parametrize("whole", [False, True], ids=["adapters", "with modules_to_save"])
@pytest.mark.parametrize("method", ["lora", "rslora", "dora"])
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_saved_adapter_loads_in_peft_unchanged(
    bases: dict[str, Path], tmp_path: Path, family: str, method: TrainMethod, whole: bool
) -> None:
    tuned = trained(bases[family], settings_of(method, family, whole))
    plain = AutoModelForCausalLM.from_pretrained(bases[family], dtype=torch.float32)
    before = logits(plain)
    peft = PeftModel.from_pretrained(plain, saved(tuned, tmp_path / "adapter"))
    torch.testing.assert_close(logits(tuned.model), logits(peft), rtol=1e-5, atol=1e-5)
    assert (logits(peft) - before).abs().max() > 0.1
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text(encoding="utf-8"))
    assert config["fan_in_fan_out"] == (family == "gpt2")


@pytest.mark.parametrize("whole", [False, True], ids=["adapters", "with modules_to_save"])
@pytest.mark.parametrize("method", ADAPTERS)
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_merged_weights_load_in_transformers_unchanged(
    bases: dict[str, Path], tmp_path: Path, family: str, method: TrainMethod, whole: bool
) -> None:
    tuned = trained(bases[family], settings_of(method, family, whole))
    adapter = saved(tuned, tmp_path / "adapter")
    merge_adapter(tuned.base, adapter, tmp_path / "merged")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32)
    torch.testing.assert_close(logits(tuned.model), logits(merged), rtol=1e-4, atol=1e-4)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter", "merged"]


@pytest.mark.parametrize("method", ADAPTERS)
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_the_three_ways_agree_and_what_peft_computes_is_what_we_call_its_arithmetic(
    bases: dict[str, Path], tmp_path: Path, family: str, method: TrainMethod
) -> None:
    tuned = trained(bases[family], settings_of(method, family, whole=True))
    adapter = saved(tuned, tmp_path / "adapter")
    rows = rows_of(tuned)
    agreement = adapter_agreement(tuned, adapter, rows)
    assert agreement.rows == 4
    assert agreement.peft is not None
    assert agreement.peft < 1e-3
    assert agreement.merged < 1e-3
    if method != "qlora":
        plain = AutoModelForCausalLM.from_pretrained(bases[family], dtype=torch.float32)
        peft: Any = PeftModel.from_pretrained(plain, adapter)
        theirs = plain_log_probabilities(peft.base_model.model, rows)
        ours = plain_log_probabilities(tuned.model, rows)
        assert ours == pytest.approx(theirs, abs=1e-4)


def test_a_saved_adapter_that_is_not_the_one_in_memory_is_noticed(
    bases: dict[str, Path], tmp_path: Path
) -> None:
    settings = settings_of("dora", "llama")
    other = saved(trained(bases["llama"], settings, seed=1), tmp_path / "adapter")
    tuned = trained(bases["llama"], settings)
    agreement = adapter_agreement(tuned, other, rows_of(tuned))
    assert agreement.peft is not None
    assert min(agreement.peft, agreement.merged) > 0.1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_fully_tuned_model_loads_in_transformers_and_in_tunesmith(
    bases: dict[str, Path], tmp_path: Path, family: str, dtype: torch.dtype
) -> None:
    tuned = trained(bases[family], TrainSettings(method="full"), dtype)
    sha256 = save_model(tuned, dict(master_weights(tuned.model)), tmp_path / "model", torch.float32, "full")
    assert len(sha256) == 64
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype=dtype)
    tuned.model.set_attn_implementation("eager")
    theirs.set_attn_implementation("eager")
    assert torch.equal(logits(tuned.model), logits(theirs))
    exact = dict(
        AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype=torch.float32).named_parameters()
    )
    for name, master in master_weights(tuned.model).items():
        assert torch.equal(exact[name], master)  # the masters are what is saved, not their rounding
    fresh = load_tiny(bases[family], dtype)
    again = put_adapter(fresh, tmp_path / "model")
    assert again.model is not fresh.model
    again.model.set_attn_implementation("eager")
    assert torch.equal(logits(again.model), logits(tuned.model))
    tuned = trained(bases[family], TrainSettings(method="full"), dtype)
    found = model_agreement(tuned, theirs, rows_of(tuned))
    assert found.peft is None
    assert found.merged < (1e-3 if dtype == torch.float32 else 0.5)
    assert model_agreement(fresh, theirs, rows_of(fresh)).merged > 0.5


@pytest.mark.parametrize("method", ADAPTERS)
def test_an_adapter_of_every_method_is_read_back_to_the_bit(
    bases: dict[str, Path], tmp_path: Path, method: TrainMethod
) -> None:
    tuned = trained(bases["llama"], settings_of(method, "llama", whole=True))
    fresh = load_tiny(bases["llama"])
    again = put_adapter(fresh, saved(tuned, tmp_path / "adapter"))
    assert torch.equal(logits(again.model), logits(tuned.model))
    assert (again.model is fresh.model) == (method != "qlora")  # 4 bits leave the base beside them whole


def test_going_on_from_an_adapter_starts_where_it_stood(bases: dict[str, Path], tmp_path: Path) -> None:
    settings = settings_of("dora", "llama", whole=True)
    tuned = trained(bases["llama"], settings)
    start = saved(tuned, tmp_path / "adapter")
    fresh = load_tiny(bases["llama"])
    make_trainable(fresh.model, settings)
    continue_from(fresh.model, start, fresh.base.sha256, settings)
    assert torch.equal(logits(fresh.model), logits(tuned.model))
    assert all(parameter.requires_grad for parameter in trainable_parameters(fresh.model))


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({"method": "lora"}, "was trained with method dora, not lora"),
        ({"rank": 8}, "was trained with rank 4, not 8"),
        ({"alpha": 1.0}, "was trained with alpha 12.0, not 1.0"),
        ({"targets": ("q_proj",)}, "do not have the same layers"),
        ({"modules_to_save": ("lm_head",)}, r"do not have the same layers \(such as lm_head.weight\)"),
    ],
)
def test_going_on_with_other_settings_is_refused(
    bases: dict[str, Path], tmp_path: Path, changed: dict[str, Any], what: str
) -> None:
    settings = settings_of("dora", "llama")
    start = saved(trained(bases["llama"], settings), tmp_path / "adapter")
    other = settings.model_copy(update=changed)
    fresh = load_tiny(bases["llama"])
    make_trainable(fresh.model, other)
    with pytest.raises(UserError, match=what):
        continue_from(fresh.model, start, fresh.base.sha256, other)


def test_going_on_from_an_adapter_of_another_base_names_both_hashes(
    bases: dict[str, Path], tmp_path: Path
) -> None:
    settings = settings_of("lora", "llama")
    start = saved(trained(bases["llama"], settings), tmp_path / "adapter")
    other = load_tiny(make_tiny_base(tmp_path / "other", seed=7))
    make_trainable(other.model, settings)
    with pytest.raises(UserError) as caught:
        continue_from(other.model, start, other.base.sha256, settings)
    assert load_tiny(bases["llama"]).base.sha256[:12] in caught.value.what
    assert other.base.sha256[:12] in caught.value.what


def test_layers_without_an_adapter_are_merged_in_4_bits_too(bases: dict[str, Path], tmp_path: Path) -> None:
    settings = settings_of("qlora", "llama").model_copy(update={"targets": ("q_proj",)})
    tuned = trained(bases["llama"], settings)
    merge_adapter(tuned.base, saved(tuned, tmp_path / "adapter"), tmp_path / "merged")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32)
    torch.testing.assert_close(logits(tuned.model), logits(merged), rtol=1e-4, atol=1e-4)


def test_merging_over_something_that_is_there_is_refused(bases: dict[str, Path], tmp_path: Path) -> None:
    tuned = trained(bases["llama"], settings_of("lora", "llama"))
    adapter = saved(tuned, tmp_path / "adapter")
    (tmp_path / "merged").mkdir()
    with pytest.raises(UserError, match="is there already"):
        merge_adapter(tuned.base, adapter, tmp_path / "merged")


def test_merged_bf16_weights_are_the_rounded_fp32_ones(bases: dict[str, Path], tmp_path: Path) -> None:
    tuned = trained(bases["llama"], settings_of("lora", "llama"))
    adapter = saved(tuned, tmp_path / "adapter")
    whole, half = (
        merge_adapter(tuned.base, adapter, tmp_path / name, dtype)
        for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16))
    )
    assert whole != half
    exact = load_base(tuned.base, torch.float32, "sdpa").model.config
    left, right = (
        dict(AutoModelForCausalLM.from_pretrained(tmp_path / name, dtype=torch.bfloat16).named_parameters())
        for name in ("fp32", "bf16")
    )
    assert exact.tie_word_embeddings
    assert left.keys() == right.keys()
    assert all(torch.equal(left[name], right[name]) for name in left)
