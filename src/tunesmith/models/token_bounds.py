"""How many tokens a row can have at most, known from a base's files without loading its tokenizer."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class TokenBound:
    """A bound for a tokenizer that works on bytes: a text of n UTF-8 bytes is n + 1 tokens or fewer.

    ``template_bytes`` is what the chat template can write, at most, beside the text of one turn.
    """

    context_tokens: int
    template_bytes: int


def token_bound(folder: Path) -> TokenBound | None:
    """The bound of the base in ``folder``; None where its files do not prove one.

    It is proven for BPE over bytes without a normalizer (which can make texts longer), with a chat template
    of its own and the context stated in its configuration.
    """
    try:
        tokenizer, config = (_object(folder / name) for name in ("tokenizer.json", "config.json"))
        settings = _object(folder / "tokenizer_config.json")
        apart = folder / "chat_template.jinja"
        template = apart.read_text(encoding="utf-8") if apart.is_file() else settings.get("chat_template")
    except (OSError, ValueError, RecursionError):
        return None
    context = config.get("max_position_embeddings")
    by_bytes = (
        (tokenizer.get("model") or {}).get("type") == "BPE"
        and tokenizer.get("normalizer") is None
        and _on_bytes(tokenizer.get("pre_tokenizer"))
    )
    # An encoder is given its texts without the template, and names its architecture.
    decoder = any(str(name).endswith("ForCausalLM") for name in config.get("architectures") or ())
    if not (by_bytes and decoder and isinstance(context, int) and context > 0 and isinstance(template, str)):
        return None
    return TokenBound(context, len(template.encode()))


def _object(path: Path) -> dict[str, Any]:
    read = json.loads(path.read_bytes())
    if not isinstance(read, dict):
        raise ValueError(f"{path}: no object")
    return read


def _on_bytes(pre_tokenizer: dict[str, Any] | None) -> bool:
    parts = (pre_tokenizer or {}).get("pretokenizers") or [pre_tokenizer or {}]
    # Others only cut texts up; these replace parts of them.
    return any(part.get("type") == "ByteLevel" for part in parts) and not any(
        part.get("type") in ("Metaspace", "Replace", "Prepend") for part in parts
    )
