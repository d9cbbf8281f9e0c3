"""Loading a base model and its tokenizer: safetensors only, no remote code, no network."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig, PreTrainedModel
from transformers.utils import logging as transformers_logging

from tunesmith.errors import UserError
from tunesmith.models.catalog import Base


@dataclass(frozen=True)
class LoadedModel:
    """A base in memory. ``end_token`` closes an answer; ``context_tokens`` is the longest row it takes."""

    base: Base
    model: PreTrainedModel
    tokenizer: Any
    end_token: int
    pad_token: int
    context_tokens: int


def load_base(base: Base, dtype: torch.dtype, attention: str) -> LoadedModel:
    """Load ``base`` in ``dtype`` with the named attention, frozen and in evaluation mode."""
    with _quiet_transformers():
        try:
            model = AutoModelForCausalLM.from_pretrained(
                base.folder,
                dtype=dtype,
                attn_implementation=attention,
                use_safetensors=True,
                trust_remote_code=False,
                local_files_only=True,
            )
            tokenizer = AutoTokenizer.from_pretrained(
                base.folder, trust_remote_code=False, local_files_only=True
            )
        except (OSError, ValueError, KeyError) as error:
            raise UserError(
                f"base: {base.name} cannot be loaded ({str(error).strip().splitlines()[0]})",
                fix="use a decoder-only model that Transformers knows, with its tokenizer in the same folder",
            ) from error
    model.requires_grad_(False)
    model.eval()
    end_token = tokenizer.eos_token_id
    if end_token is None:
        raise UserError(
            f"base: the tokenizer of {base.name} has no end token, so an answer could never stop",
            fix="set eos_token in the model's tokenizer_config.json",
        )
    pad_token = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else end_token
    context = getattr(model.config, "max_position_embeddings", None) or tokenizer.model_max_length
    return LoadedModel(base, model, tokenizer, end_token, pad_token, int(context))


def load_tokenizer(base: Base) -> Any:
    """The tokenizer alone, in a fraction of a second."""
    with _quiet_transformers():
        return AutoTokenizer.from_pretrained(base.folder, trust_remote_code=False, local_files_only=True)


def convert_gguf(gguf: Path, folder: Path) -> None:
    """Write ``gguf`` dequantised as a bf16 safetensors folder with its tokenizer.

    Raises UserError where Transformers cannot read the file's architecture.
    """
    with _quiet_transformers():
        try:
            model = AutoModelForCausalLM.from_pretrained(
                gguf.parent,
                gguf_file=gguf.name,
                dtype=torch.bfloat16,
                quantization_config=GgufConfig(dequantize=True),
            )
            tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
        except (OSError, ValueError, KeyError, IndexError) as error:
            raise UserError(
                f"base: {gguf.name} cannot be read as GGUF ({str(error).strip().splitlines()[0]})",
                fix="check that the file is complete and of an architecture Transformers loads from GGUF",
            ) from error
        # Dequantised weights are ordinary ones; saving refuses while the old config is attached.
        if hasattr(model.config, "quantization_config"):
            del model.config.quantization_config
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


@contextlib.contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Without Transformers' own progress bars and advice, which are not meant for our users."""
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    before = os.environ.get("TQDM_DISABLE")
    os.environ["TQDM_DISABLE"] = "1"
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        transformers_logging.enable_progress_bar()
        if before is None:
            os.environ.pop("TQDM_DISABLE", None)
        else:
            os.environ["TQDM_DISABLE"] = before
