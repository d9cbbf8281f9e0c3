"""Loading a base model and its tokenizer: safetensors only, no remote code, no network."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GgufConfig, PreTrainedModel
from transformers.utils import logging as transformers_logging

from tunesmith.errors import UserError
from tunesmith.models.adapters import read_new_tokens
from tunesmith.models.catalog import Base
from tunesmith.models.chat import ChatFormat, chat_format
from tunesmith.models.families import LOADERS, Family, classes, encoder_context, family_of, head_modules
from tunesmith.models.plain_input import plain_input


@dataclass(frozen=True)
class LoadedModel:
    """A base in memory. ``end_token`` closes an answer; ``context_tokens`` is the longest row it takes.

    Of an encoder-only base ``head`` names the modules of its classification head, and ``labels`` are the
    head's classes, in order (empty while it has none of its own).
    """

    base: Base
    model: PreTrainedModel
    tokenizer: Any
    chat: ChatFormat
    end_token: int
    pad_token: int
    context_tokens: int
    family: Family = "decoder"
    head: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()


def load_base(base: Base, dtype: torch.dtype, attention: str) -> LoadedModel:
    """Load ``base`` in ``dtype``, frozen and in evaluation mode; a decoder attends by ``attention``.

    Raises UserError where weights or tokenizer are missing, damaged, or do not belong together.
    """
    with quiet_transformers():
        try:
            config = AutoConfig.from_pretrained(base.folder, trust_remote_code=False, local_files_only=True)
            family = family_of(config)
            found: Any = LOADERS[family].from_pretrained(
                base.folder,
                dtype=dtype,
                attn_implementation=attention if family == "decoder" else "eager",
                use_safetensors=True,
                trust_remote_code=False,
                local_files_only=True,
                # Reported, not raised: the check below says which tensors.
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )
            tokenizer = AutoTokenizer.from_pretrained(
                base.folder, trust_remote_code=False, local_files_only=True
            )
        except (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError) as error:
            raise UserError(
                f"base: {base.name} cannot be loaded from {base.folder} ({first_line(error)})",
                fix="use a model of text that Transformers knows, its files complete and its tokenizer in "
                "the same folder",
            ) from error
    absent = [*found[1]["missing_keys"], *(key for key, *_ in found[1]["mismatched_keys"])]
    head = head_modules(found[0], absent) if family == "encoder" else ()
    model = _complete(base.name, found, tokenizer, head)
    model.requires_grad_(False)
    model.train(False)
    if family == "decoder":
        chat = chat_format(tokenizer, base.name, read_new_tokens(Path(base.folder))[0])
    else:
        chat = plain_input(tokenizer, base.name)
    pad_token = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else chat.end_token
    text = model.config.get_text_config()
    context = getattr(text, "max_position_embeddings", None) or tokenizer.model_max_length
    if family == "encoder":
        context = encoder_context(model, int(context), int(tokenizer.model_max_length))
    labels = classes(model.config) if head and not absent else ()
    return LoadedModel(
        base, model, tokenizer, chat, chat.end_token, pad_token, int(context), family, head, labels
    )


def convert_gguf(gguf: Path, folder: Path) -> None:
    """Write ``gguf`` dequantised as a bf16 safetensors folder with its tokenizer.

    Raises UserError where Transformers cannot read the file or its architecture.
    """
    with quiet_transformers():
        try:
            found: Any = AutoModelForCausalLM.from_pretrained(
                gguf.parent,
                gguf_file=gguf.name,
                dtype=torch.bfloat16,
                quantization_config=GgufConfig(dequantize=True),
                output_loading_info=True,
            )
            tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
        except Exception as error:  # a damaged file can make the parsers below raise anything
            raise UserError(
                f"base: {gguf.name} cannot be read as GGUF ({first_line(error)})",
                fix="check that the file is complete and of an architecture Transformers loads from GGUF",
            ) from error
        model = _complete(gguf.name, found, tokenizer)
        # Dequantised weights are ordinary ones; saving refuses while the old config is attached.
        if hasattr(model.config, "quantization_config"):
            del model.config.quantization_config
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def first_line(error: Exception) -> str:
    """The first line of an error's text, or its type where it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _complete(
    name: str, found: tuple[PreTrainedModel, dict[str, Any]], tokenizer: Any, head: tuple[str, ...] = ()
) -> PreTrainedModel:
    """The model, unless Transformers filled it up with random weights or its tokenizer is another's.

    Only those of ``head`` may be: it is made anew for every task.
    """
    model, loading = found
    absent = sorted({*loading["missing_keys"], *(key for key, *_ in loading["mismatched_keys"])})
    absent = [key for key in absent if not key.startswith(tuple(f"{module}." for module in head))]
    if absent:
        raise UserError(
            f"base: {len(absent):,} of the model's tensors are not in the weight files of {name}, or have "
            f"another shape there (such as {absent[0]})",
            fix="fetch the model's files again; config.json and *.safetensors must belong together",
        )
    embedding: Any = model.get_input_embeddings()
    known = embedding.weight.shape[0]
    if len(tokenizer) > known:
        raise UserError(
            f"base: the tokenizer of {name} has {len(tokenizer):,} tokens, but its model knows {known:,}",
            fix="put the model's own tokenizer files beside its weights",
        )
    return model


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Without Transformers' own progress bars and advice, which are not meant for our users."""
    logs: Any = transformers_logging  # its functions carry no types
    verbosity = logs.get_verbosity()
    logs.set_verbosity_error()
    logs.disable_progress_bar()
    before = os.environ.get("TQDM_DISABLE")
    os.environ["TQDM_DISABLE"] = "1"
    try:
        yield
    finally:
        logs.set_verbosity(verbosity)
        logs.enable_progress_bar()
        if before is None:
            os.environ.pop("TQDM_DISABLE", None)
        else:
            os.environ["TQDM_DISABLE"] = before
