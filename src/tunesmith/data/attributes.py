"""Inputs that are a list of attributes: ``name[value], …``, a JSON object, or lines ``name: value``."""

from __future__ import annotations

import json
import re

Attributes = dict[str, str]

_BRACKETED = re.compile(r"\s*([^\[\],]+?)\s*\[([^\]]*)\]\s*(?:,|$)")
_LINE = re.compile(r"\s*([^:=]+?)\s*[:=]\s*(.+?)\s*")


def read_attributes(text: str) -> Attributes | None:
    """Names and values of ``name[value], area[value]``, of a JSON object, or of lines ``name: value``.

    None where the text is nothing of that kind. A single line may be a sentence with a colon, and lines
    with a name twice are turns of a conversation.
    """
    found = _BRACKETED.findall(text)
    if found and not _BRACKETED.sub("", text).strip():
        return dict(found)
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if isinstance(value, dict):
        return {str(name): str(item) for name, item in value.items()}
    lines = [_LINE.fullmatch(line) for line in text.splitlines() if line.strip()]
    named = [(match[1], match[2]) for match in lines if match is not None]
    return dict(named) if len(lines) > 1 and len(lines) == len(dict(named)) else None
