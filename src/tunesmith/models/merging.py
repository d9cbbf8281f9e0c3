"""Adapters merged into their base, and fully tuned weights, as folders that Transformers loads unchanged."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers.pytorch_utils import Conv1D

from tunesmith.errors import UserError
from tunesmith.files import weights_sha256, write_json
from tunesmith.models.adapters import BASE_FILE, NEW_TOKENS_FILE, Adapter, TrainedOn, load_adapter
from tunesmith.models.catalog import Base
from tunesmith.models.families import give_fresh_head
from tunesmith.models.loading import LoadedModel, load_base, quiet_transformers
from tunesmith.models.quantised import round_to_nf4
from tunesmith.models.tokenizing import add_tokens


def merged_weight(adapter: Adapter, name: str, weight: Tensor) -> Tensor:
    """W + s·B·A of layer ``name`` with ``weight`` W [out, in], in fp32; with DoRA its rows are scaled."""
    a, b = (factor.to(weight.device) for factor in adapter.low_rank[name])
    merged = weight.float() + adapter.scaling * (b @ a)
    if name in adapter.magnitudes:
        norms = torch.linalg.vector_norm(merged, dim=1)
        merged *= (adapter.magnitudes[name].to(weight.device) / norms)[:, None]
    return merged


@torch.no_grad()
def merge_adapter(base: Base, adapter_folder: Path, folder: Path, dtype: torch.dtype = torch.float32) -> str:
    """Write ``base`` with the adapter in ``adapter_folder`` merged into it; returns the weights' hash.

    ``folder`` must not exist yet. A base that was held in 4 bits while training is merged as those 4 bits
    unpack, since the adapter was trained on them. Raises UserError where the adapter cannot be read, or
    belongs to another base.
    """
    adapter = load_adapter(adapter_folder, base.sha256)
    loaded = load_base(base, torch.float32, "sdpa")
    model: Any = loaded.model
    if adapter.method == "qlora":
        round_to_nf4(model)
    if adapter.added_tokens:
        loaded = add_tokens(loaded, adapter.added_tokens)
        if len(loaded.tokenizer) > model.get_input_embeddings().weight.shape[0]:
            model.resize_token_embeddings(len(loaded.tokenizer), mean_resizing=False)
    if adapter.labels:
        give_fresh_head(model, loaded.head, adapter.labels, seed=0)
    check_layers(model, adapter.low_rank, adapter_folder)
    for name in adapter.low_rank:
        layer: Any = model.get_submodule(name)
        if isinstance(layer, Conv1D):
            layer.weight.copy_(merged_weight(adapter, name, layer.weight.T).T)
        else:
            layer.weight.copy_(merged_weight(adapter, name, layer.weight))
    for name, values in adapter.modules.items():
        module_name, _, parameter = name.rpartition(".")
        # A parameter of its own: the head may have been tied to the embeddings.
        setattr(model.get_submodule(module_name), parameter, torch.nn.Parameter(values.clone()))
    if adapter.modules and _head_stands_apart(model):
        model.config.get_text_config().tie_word_embeddings = False
        model.config.tie_word_embeddings = False
    return save_model(loaded, dict(model.named_parameters(remove_duplicate=True)), folder, dtype)


def save_model(
    loaded: LoadedModel,
    weights: dict[str, Tensor],
    folder: Path,
    dtype: torch.dtype,
    method: str | None = None,
) -> str:
    """Write ``weights`` in ``dtype`` with the config and tokenizer of ``loaded``; returns the weights' hash.

    With ``method`` the folder also says which base it was trained from. Raises UserError where it exists.
    """
    if folder.exists():
        raise UserError(f"{folder}: is there already", fix="give a folder that does not exist yet")
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.partial-"))
    try:
        tensors = {
            name: values.detach().to(dtype).cpu().contiguous().clone() for name, values in weights.items()
        }
        with quiet_transformers():
            loaded.model.save_pretrained(scratch, state_dict=tensors)
            loaded.tokenizer.save_pretrained(scratch)
        if added := loaded.chat.ordinary:
            first = len(loaded.tokenizer) - len(added)
            write_json(scratch / NEW_TOKENS_FILE, {"tokens": added, "first": first})
        if method is not None:
            write_json(scratch / BASE_FILE, TrainedOn(loaded.base.name, loaded.base.sha256, method))
        scratch.chmod(0o755)
        scratch.rename(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return weights_sha256(folder)


def check_layers(model: torch.nn.Module, names: Iterable[str], folder: Path) -> None:
    """Raises UserError where ``model`` lacks one of the layers that the adapter in ``folder`` adapts."""
    known = {name for name, _ in model.named_modules()}
    if unknown := sorted(set(names) - known):
        raise UserError(
            f"{folder}: the adapter and {type(model).__name__} do not have the same layers (such as "
            f"{unknown[0]})",
            fix="use the base it was trained on, or train again",
        )


def _head_stands_apart(model: Any) -> bool:
    head = model.get_output_embeddings()
    return head is not None and head.weight is not model.get_input_embeddings().weight
