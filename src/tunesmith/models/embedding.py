"""Texts as vectors of length 1, by an encoder that the task names, pooled as its files say."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModel, AutoTokenizer

from tunesmith.errors import UserError
from tunesmith.files import atomic_path, content_hash
from tunesmith.models.catalog import Base
from tunesmith.models.families import encoder_context, family_of
from tunesmith.models.loading import first_line, quiet_transformers
from tunesmith.models.sentence_files import How, Pooling

PLAIN = Pooling()
TOKENS_PER_BATCH = 4096
_POSITIONS = 512  # of a model that names none

Vectors = NDArray[np.float32]


class Embedder:
    """An encoder on disk, in memory from its first text to :meth:`release`, in fp32.

    ``kept`` is a folder for the vectors of texts that are asked for again and again. The hash of ``base``
    names ``pooling`` as well.
    """

    def __init__(self, base: Base, device: str, kept: Path, pooling: Pooling = PLAIN) -> None:
        self.base = base
        self._pooling = pooling
        self._device = device
        self._kept = kept
        self._loaded: tuple[Any, Any, int] | None = None
        self._known: dict[str, Vectors] = {}

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors [texts, width]. A text longer than the model reads is cut into pieces, and the mean
        (or the largest) is over the tokens of all of them, with cls over their first ones; padding never
        counts."""
        if self._loaded is None:
            self._loaded = _load(self.base, self._device)
        model, tokenizer, limit = self._loaded
        pooling = self._pooling
        limit = min(limit, pooling.most_tokens or limit)
        read = [pooling.prompt + (text.lower() if pooling.lower else text) for text in texts]
        return _embedded(model, tokenizer, limit, read, pooling.how)

    def known(self, texts: Sequence[str]) -> Vectors:
        """The same of texts that do not change from call to call (training rows, passages), kept on disk."""
        key = content_hash([self.base.sha256, list(texts)])
        if key not in self._known:
            path = self._kept / f"{key[:32]}.npy"
            if not path.is_file():
                vectors = self.embed(texts)
                with atomic_path(path) as temporary, temporary.open("wb") as sink:
                    np.save(sink, vectors)
            self._known[key] = np.load(path, allow_pickle=False)
        return self._known[key]

    def release(self) -> None:
        """Let go of what is in memory; the next text has the model loaded again."""
        self._loaded = None
        self._known.clear()
        gc.collect()  # a model holds itself through its modules


def check_encoder(base: Base, setting: str) -> None:
    """UserError where ``base`` is no encoder with a tokenizer of one file."""
    folder = Path(base.folder)
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            f"{setting}: {folder} is no model that Transformers knows ({first_line(error)})",
            "name an encoder such as BERT, RoBERTa or MPNet, without code of its own",
        ) from error
    if family_of(config) != "encoder":
        raise UserError(
            f"{setting}: {base.name} is a {family_of(config)} ({config.model_type}), not an encoder",
            "name an encoder such as BERT, RoBERTa or MPNet, best one trained for sentence embeddings",
        )
    if not (folder / "tokenizer.json").is_file():
        raise UserError(
            f"{setting}: {folder} has no tokenizer.json",
            "save the tokenizer there once with transformers' AutoTokenizer and save_pretrained",
        )


def _load(base: Base, device: str) -> tuple[Any, Any, int]:
    """The model, its tokenizer, and the most tokens it reads."""
    with quiet_transformers():
        try:
            load: Any = AutoModel.from_pretrained
            model, found = load(
                base.folder,
                dtype=torch.float32,
                use_safetensors=True,
                trust_remote_code=False,
                local_files_only=True,
                output_loading_info=True,
            )
            tokenizer: Any = AutoTokenizer.from_pretrained(
                base.folder, trust_remote_code=False, local_files_only=True
            )
        except (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError) as error:
            raise UserError(
                f"opponents.embeddings: {base.folder} cannot be loaded ({first_line(error)})",
                "fetch the model's files again",
            ) from error
    # The pooler, which mean pooling does not use, is often left out of the files.
    absent = [key for key in found["missing_keys"] if not key.startswith("pooler.")]
    if absent:
        raise UserError(
            f"opponents.embeddings: {len(absent):,} tensors of {base.name} are not in its weight files (such "
            f"as {absent[0]})",
            "fetch the model's files again; config.json and *.safetensors must belong together",
        )
    model = model.requires_grad_(False).eval().to(device)
    positions = int(getattr(model.config, "max_position_embeddings", None) or _POSITIONS)
    return model, tokenizer, encoder_context(model, positions, int(tokenizer.model_max_length))


@torch.inference_mode()
def _embedded(model: Any, tokenizer: Any, limit: int, texts: Sequence[str], how: How) -> Vectors:
    start = -np.inf if how == "max" else 0.0
    vectors = np.full((len(texts), model.config.hidden_size), start, dtype=np.float32)
    if not texts:
        return vectors
    cut = tokenizer(list(texts), truncation=True, max_length=limit, return_overflowing_tokens=True)
    pieces: list[list[int]] = cut["input_ids"]
    text_of: list[int] = cut["overflow_to_sample_mapping"]
    for batch in _batches([len(piece) for piece in pieces]):
        longest = max(len(pieces[index]) for index in batch)
        tokens = torch.full((len(batch), longest), tokenizer.pad_token_id or 0)
        mask = torch.zeros((len(batch), longest), dtype=torch.long)
        for place, index in enumerate(batch):
            tokens[place, : len(pieces[index])] = torch.tensor(pieces[index])
            mask[place, : len(pieces[index])] = 1
        tokens, mask = tokens.to(model.device), mask.to(model.device)
        said = model(input_ids=tokens, attention_mask=mask).last_hidden_state
        places = [text_of[index] for index in batch]
        if how == "max":
            masked = said.masked_fill(mask[:, :, None] == 0, -torch.inf)
            np.maximum.at(vectors, places, masked.amax(dim=1).float().cpu().numpy())
            continue
        # A mean is a sum of another length, and the length is 1 in the end.
        summed = said[:, 0] if how == "cls" else (said * mask[:, :, None]).sum(dim=1)
        np.add.at(vectors, places, summed.float().cpu().numpy())
    vectors[np.isneginf(vectors)] = 0.0  # of a text without tokens
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    scaled: Vectors = vectors / np.maximum(lengths, np.finfo(np.float32).tiny)
    return scaled


def _batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Indices of pieces of like length (none of 0), so many that padded they stay within a batch's tokens."""
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda index: (lengths[index], index)):
        if not lengths[index]:
            continue
        if batch and (len(batch) + 1) * lengths[index] > TOKENS_PER_BATCH:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch
