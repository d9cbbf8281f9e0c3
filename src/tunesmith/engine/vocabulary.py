"""What every token of a vocabulary adds to a text, in bytes, and the tokens as one prefix tree."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunesmith.errors import UserError

_BYTE_TOKEN = re.compile(r"<0x([0-9A-F]{2})>")


@dataclass(frozen=True)
class Vocabulary:
    """Tokens as a prefix tree of their bytes. Nodes are numbered by depth, the root 0.

    ``parents`` and ``bytes`` [nodes] say how a node is reached, ``levels`` which nodes lie at which depth,
    and ``nodes`` [tokens] where each token ends (−1: special, or without text). ``children`` leads from
    node × 256 + byte to the node, ``token_at`` from a node to the first token that ends there.
    """

    texts: tuple[bytes | None, ...]
    parents: NDArray[np.int64]
    bytes: NDArray[np.int64]
    levels: tuple[slice, ...]
    nodes: NDArray[np.int64]
    children: dict[int, int]
    token_at: dict[int, int]


def read_vocabulary(tokenizer: Any) -> Vocabulary:
    """The vocabulary of a fast tokenizer; UserError where what its tokens spell cannot be told."""
    return build_vocabulary(token_bytes(tokenizer))


def token_bytes(tokenizer: Any) -> tuple[bytes | None, ...]:
    """What each token adds to a text: byte-level BPE, or SentencePiece with ``▁`` and byte tokens.

    None for special tokens, which are no text. Raises UserError for other kinds.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    decoder = json.dumps(json.loads(backend.to_str())["decoder"]) if backend is not None else ""
    by_byte = '"ByteLevel"' in decoder
    if not by_byte and "\\u2581" not in decoder:
        raise UserError(
            f"tokenizer: {type(tokenizer).__name__} does not tell which bytes its tokens spell, so answers "
            "cannot be held to a schema",
            fix="use a base with a byte-level BPE or a SentencePiece tokenizer in tokenizer.json",
        )
    known = _byte_characters() if by_byte else {}
    special = set(tokenizer.all_special_ids)
    texts: list[bytes | None] = [None] * len(tokenizer)
    added = tokenizer.added_tokens_decoder
    for token, index in tokenizer.get_vocab().items():
        if index in special or (index in added and added[index].special):
            continue
        if index in added:
            texts[index] = added[index].content.encode()
        elif by_byte:
            texts[index] = bytes(known[sign] for sign in token)
        elif byte := _BYTE_TOKEN.fullmatch(token):
            texts[index] = bytes([int(byte[1], 16)])
        else:
            texts[index] = token.replace("\u2581", " ").encode()
    return tuple(texts)


def build_vocabulary(texts: tuple[bytes | None, ...]) -> Vocabulary:
    """The prefix tree of ``texts``, the bytes of every token."""
    nodes = np.full(len(texts), -1, dtype=np.int64)
    children: dict[int, int] = {}
    token_at: dict[int, int] = {}
    parents, spelt = [0], [0]
    levels = [slice(0, 1)]
    # Breadth first, one byte of every token that is long enough at a time.
    reached = {token: 0 for token, text in enumerate(texts) if text}
    while reached:
        depth, first = len(levels) - 1, len(parents)
        for token, node in list(reached.items()):
            text = texts[token]
            assert text is not None
            key = node * 256 + text[depth]
            if key not in children:
                children[key] = len(parents)
                parents.append(node)
                spelt.append(text[depth])
            reached[token] = children[key]
            if len(text) == depth + 1:
                nodes[token] = reached.pop(token)
                token_at.setdefault(int(nodes[token]), token)
        levels.append(slice(first, len(parents)))
    return Vocabulary(texts, np.array(parents), np.array(spelt), tuple(levels), nodes, children, token_at)


def _byte_characters() -> dict[str, int]:
    """The printable characters by which byte-level BPE writes bytes (GPT-2's table)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    return {chr(byte): byte for byte in printable} | {
        chr(256 + place): byte for place, byte in enumerate(others)
    }
