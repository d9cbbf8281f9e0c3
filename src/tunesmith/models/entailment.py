"""An entailment model of the user's own: how probable is a sentence, given a source?"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

from tunesmith.errors import UserError

LABEL = "entailment"
WINDOW_OVERLAP_TOKENS = 64
_UNBOUNDED = 1_000_000  # what tokenizers say that know no limit


def check_entailment_model(folder: Path, setting: str) -> int:
    """The index of the class ``entailment``. UserError where ``folder`` holds no such classifier."""
    if not folder.is_dir():
        raise UserError(
            f"{setting}: there is no folder {folder}", "a relative path starts at the folder of the task file"
        )
    try:
        config: Any = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except (OSError, ValueError) as error:
        raise UserError(
            f"{setting}: {folder} is no folder of a model ({error})",
            "name a Hugging Face folder of a classifier with a class called entailment",
        ) from None
    names = {int(index): str(name).lower() for index, name in (config.id2label or {}).items()}
    found = [index for index, name in names.items() if name == LABEL]
    if len(found) != 1:
        raise UserError(
            f"{setting}: {folder} has no class called entailment (found: {', '.join(names.values())})",
            "name a model that was trained on natural language inference, with its classes in config.json",
        )
    return found[0]


def load_entailment_model(folder: Path, setting: str) -> Callable[[str, str], float]:
    """How probable it is that a source (first) entails a sentence.

    A source that is longer than the model reads is cut into overlapping windows, of which the one that speaks
    most for the sentence counts (as in SummaC, Laban et al. 2022). Raises UserError where it cannot be
    loaded.
    """
    entailed = check_entailment_model(folder, setting)
    known = {"trust_remote_code": False, "local_files_only": True}
    try:
        load: Any = AutoModelForSequenceClassification.from_pretrained
        model: Any = load(folder, use_safetensors=True, **known).eval()
        tokenizer: Any = AutoTokenizer.from_pretrained(folder, **known)
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(f"{setting}: {folder} cannot be loaded ({error})", "check the folder") from error
    limit = int(tokenizer.model_max_length)
    if limit > _UNBOUNDED:
        limit = int(getattr(model.config, "max_position_embeddings", 512))

    def entails(source: str, sentence: str) -> float:
        most = limit // 2  # of a sentence; the source needs the other half
        cut = tokenizer(sentence, add_special_tokens=False, truncation=True, max_length=most)["input_ids"]
        if len(cut) == most:
            sentence = tokenizer.decode(cut)
        windows = tokenizer(
            source,
            sentence,
            truncation="only_first",
            max_length=limit,
            stride=min(WINDOW_OVERLAP_TOKENS, limit // 8),
            return_overflowing_tokens=True,
            padding=True,
            return_tensors="pt",
        )
        windows.pop("overflow_to_sample_mapping", None)
        with torch.no_grad():
            shares = model(**windows).logits.float().softmax(dim=-1)
        return float(shares[:, entailed].max())

    return entails
