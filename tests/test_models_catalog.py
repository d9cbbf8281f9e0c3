"""Bases come from a catalog, a folder, a GGUF file or the Hub; anything else gets one clear message."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from tiny import CHAT_TEMPLATE, load_tiny, make_tiny_base, toy_rows
from tunesmith.errors import UserError
from tunesmith.files import file_sha256
from tunesmith.models import catalog
from tunesmith.models.catalog import Base, PackagedBase, resolve_base
from tunesmith.models.loading import load_base
from tunesmith.models.rendering import render_row


@pytest.fixture(scope="module")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_base(tmp_path_factory.mktemp("catalog") / "base")


@pytest.fixture(scope="module")
def tiny_gguf(tiny_folder: Path) -> Path:
    return write_gguf(tiny_folder, tiny_folder.parent / "tiny.gguf")


@pytest.fixture
def own_copy(tiny_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_folder, tmp_path / "base"))


def quiet(message: str) -> None:
    pass


def resolve(name: str | Path, cache: Path) -> Base:
    return resolve_base(str(name), cache.parent, cache, quiet)


def write_gguf(folder: Path, path: Path) -> Path:
    """The tiny Llama as an fp32 GGUF file, as llama.cpp's converter would write it."""
    model = AutoModelForCausalLM.from_pretrained(folder)
    config = model.config
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_vocab_size(config.vocab_size)
    tokenizer = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    tokens = sorted(tokenizer["model"]["vocab"], key=tokenizer["model"]["vocab"].get)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_types([gguf.TokenType.CONTROL] * 3 + [gguf.TokenType.NORMAL] * (len(tokens) - 3))
    writer.add_token_merges([" ".join(pair) for pair in tokenizer["model"]["merges"]])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(0)
    writer.add_chat_template(CHAT_TEMPLATE)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight":
            continue  # tied to the embedding
        values = tensor.numpy()
        for projection, heads in (
            ("q_proj", config.num_attention_heads),
            ("k_proj", config.num_key_value_heads),
        ):
            if projection in name:  # llama.cpp keeps the halves of a rotary pair side by side
                pairs = values.reshape(heads, 2, -1, values.shape[1])
                values = np.ascontiguousarray(pairs.swapaxes(1, 2).reshape(values.shape))
        mapped = names.get_name(name, try_suffixes=(".weight",))
        assert mapped is not None
        writer.add_tensor(mapped, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_an_unknown_name_gets_the_nearest_one_and_all_choices(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        resolve("SmolLM2-135M", tmp_path)
    assert (
        "'SmolLM2-135M' is not in the catalog (smollm2-135m-instruct, gemma-3-270m-it)" in caught.value.what
    )
    assert "did you mean 'smollm2-135m-instruct'?" in caught.value.fix
    with pytest.raises(UserError) as caught:
        resolve("gpt", tmp_path)
    assert "did you mean" not in caught.value.fix


def test_a_folder_is_found_from_the_task_files_folder(tiny_folder: Path, tmp_path: Path) -> None:
    base = resolve_base("base", tiny_folder.parent, tmp_path, quiet)
    assert base.folder == str(tiny_folder)
    assert resolve_base(str(tiny_folder), tmp_path, tmp_path, quiet) == base


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"has no config\.json"):
        resolve(tmp_path / "empty", tmp_path / "cache")


def test_pickled_weights_are_refused_and_never_opened(own_copy: Path, tmp_path: Path) -> None:
    (own_copy / "model.safetensors").unlink()
    trap = tmp_path / "opened"
    (own_copy / "pytorch_model.bin").write_bytes(
        b"cposix\nsystem\n(S'touch " + str(trap).encode() + b"'\ntR."
    )
    with pytest.raises(UserError, match=r"no \*\.safetensors \(pytorch_model\.bin found\)"):
        resolve(own_copy, tmp_path / "cache")
    with pytest.raises(UserError, match="cannot be loaded"):
        load_base(Base("x", str(own_copy), "", "", ""), torch.float32, "sdpa")
    assert not trap.exists()


def test_remote_code_is_never_run(own_copy: Path, tmp_path: Path) -> None:
    trap = tmp_path / "ran"
    config = json.loads((own_copy / "config.json").read_text(encoding="utf-8"))
    config["model_type"] = "unheard-of"
    config["auto_map"] = {"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"}
    (own_copy / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (own_copy / "own.py").write_text(f"open({str(trap)!r}, 'w')\n", encoding="utf-8")
    with pytest.raises(UserError, match="cannot be loaded"):
        load_tiny(own_copy)
    assert not trap.exists()


def test_damaged_files_of_a_base_get_a_clear_message(own_copy: Path) -> None:
    weights = own_copy / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="base: base cannot be loaded from"):
        load_tiny(own_copy)
    weights.write_bytes(whole)
    (own_copy / "tokenizer.json").write_text("{", encoding="utf-8")
    with pytest.raises(UserError, match="base: base cannot be loaded from"):
        load_tiny(own_copy)
    (own_copy / "config.json").write_text("{", encoding="utf-8")
    with pytest.raises(UserError, match=r"config\.json is not JSON"):
        load_tiny(own_copy)


def test_missing_tensors_are_not_made_up(own_copy: Path) -> None:
    tensors = load_file(own_copy / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, own_copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"1 of the model's tensors .*model\.layers\.1\.mlp\.up_proj"):
        load_tiny(own_copy)


def test_tensors_of_another_shape_are_refused(own_copy: Path) -> None:
    config = json.loads((own_copy / "config.json").read_text(encoding="utf-8"))
    config["intermediate_size"] = 96
    (own_copy / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(UserError, match=r"6 of .* another shape there .*layers\.0\.mlp\.down_proj"):
        load_tiny(own_copy)


def test_a_tokenizer_larger_than_the_model_is_refused(own_copy: Path) -> None:
    tensors = load_file(own_copy / "model.safetensors")
    name = "model.embed_tokens.weight"
    save_file(tensors | {name: tensors[name][:300].clone()}, own_copy / "model.safetensors", {"format": "pt"})
    config = json.loads((own_copy / "config.json").read_text(encoding="utf-8"))
    (own_copy / "config.json").write_text(json.dumps(config | {"vocab_size": 300}), encoding="utf-8")
    with pytest.raises(UserError, match="has 400 tokens, but its model knows 300"):
        load_tiny(own_copy)


def test_the_hash_covers_weights_and_chat_template_but_no_version_note(
    own_copy: Path, tmp_path: Path
) -> None:
    before = resolve(own_copy, tmp_path).sha256
    config = json.loads((own_copy / "config.json").read_text(encoding="utf-8"))
    config["transformers_version"] = "99.0"
    (own_copy / "config.json").write_text(json.dumps(config), encoding="utf-8")
    assert resolve(own_copy, tmp_path).sha256 == before
    template = own_copy / "chat_template.jinja"
    template.write_text(template.read_text(encoding="utf-8") + " ", encoding="utf-8")
    assert resolve(own_copy, tmp_path).sha256 != before


@pytest.mark.parametrize(
    "name", ["vocab.txt", "spiece.model", "sentencepiece.bpe.model", "spm.model", "new_tokens.json"]
)
def test_the_hash_covers_every_file_that_decides_tokens(own_copy: Path, tmp_path: Path, name: str) -> None:
    before = resolve(own_copy, tmp_path).sha256
    (own_copy / name).write_text("one", encoding="utf-8")
    first = resolve(own_copy, tmp_path).sha256
    (own_copy / name).write_text("two", encoding="utf-8")
    assert len({before, first, resolve(own_copy, tmp_path).sha256}) == 3


def test_a_gguf_file_gives_the_weights_and_the_tokens_of_the_model_it_was_made_from(
    tiny_gguf: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    said: list[str] = []
    cache = tmp_path / "cache"
    base = resolve_base(str(tiny_gguf), tmp_path, cache, said.append)
    assert said == ["unpacking tiny.gguf into bf16 weights (once)"]
    assert resolve_base(str(tiny_gguf), tmp_path, cache, said.append) == base
    assert len(said) == 1  # the second time it is in the cache
    converted, original = load_base(base, torch.float32, "sdpa"), load_tiny(tiny_folder)
    for (name, ours), (_, theirs) in zip(
        converted.model.named_parameters(), original.model.named_parameters(), strict=True
    ):
        assert torch.equal(ours, theirs.bfloat16().float()), name
    row = toy_rows(1, ("billing", "refund"), seed=0)[0]
    assert render_row(converted, row.messages, row.target) == render_row(original, row.messages, row.target)


def test_a_cache_that_was_moved_is_still_used(tiny_gguf: Path, tmp_path: Path) -> None:
    resolve(tiny_gguf, tmp_path / "cache")
    shutil.move(tmp_path / "cache", tmp_path / "moved")
    base = resolve_base(str(tiny_gguf), tmp_path, tmp_path / "moved", quiet)
    assert Path(base.folder).is_relative_to(tmp_path / "moved")
    assert load_base(base, torch.float32, "sdpa").model is not None


def test_a_missing_gguf_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"base: no file .*/nothing\.gguf"):
        resolve("nothing.gguf", tmp_path / "cache")


@pytest.mark.parametrize("damage", ["no gguf at all", "cut in half", "header only"])
def test_a_damaged_gguf_file_is_refused_and_leaves_nothing_behind(
    tiny_gguf: Path, tmp_path: Path, damage: str
) -> None:
    whole = tiny_gguf.read_bytes()
    contents = {"no gguf at all": b"hello", "cut in half": whole[: len(whole) // 2], "header only": whole[:8]}
    (tmp_path / "bad.gguf").write_bytes(contents[damage])
    with pytest.raises(UserError, match=r"bad\.gguf cannot be read as GGUF") as caught:
        resolve("bad.gguf", tmp_path / "cache")
    assert "\n" not in caught.value.what
    assert not list((tmp_path / "cache").rglob("*.safetensors"))
    assert not list((tmp_path / "cache" / "bases").iterdir())


def test_a_packaged_base_is_taken_from_its_wheel_and_a_wrong_checksum_is_refused(
    tiny_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = tmp_path / "cache" / "wheels" / "tiny_base-1.0-py3-none-any.whl"
    wheel.parent.mkdir(parents=True)
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.write(tiny_gguf, "tiny_base/tiny.gguf")
    packaged = PackagedBase(
        "tiny-base==1.0", file_sha256(wheel), "tiny_base/tiny.gguf", "Apache-2.0", "a test"
    )
    monkeypatch.setitem(catalog.CATALOG, "tiny", packaged)
    base = resolve("tiny", tmp_path / "cache")
    assert (base.name, base.licence) == ("tiny", "Apache-2.0")
    assert load_base(base, torch.float32, "sdpa").context_tokens == 512
    assert resolve("tiny", tmp_path / "cache") == base

    shutil.rmtree(tmp_path / "cache" / "bases")
    with wheel.open("ab") as stream:
        stream.write(b"tampered with")
    with pytest.raises(UserError, match="checksum does not match"):
        resolve("tiny", tmp_path / "cache")
    assert not (tmp_path / "cache" / "bases").exists()
