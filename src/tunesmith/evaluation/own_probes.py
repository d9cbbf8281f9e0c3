"""A user's own probes: questions with options, read from a JSON Lines file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tunesmith.errors import UserError
from tunesmith.evaluation.probes import ProbeItem

FIX = 'each line: {"prompt": "Is rain wet?", "options": ["Yes", "No"], "right": "Yes"}'


def read_own_probes(path: Path) -> tuple[ProbeItem, ...]:
    """Every line as a question of a user whose options are answers of the assistant.

    ``group`` may be given where several lines are nearly the same question. Raises UserError naming the line
    where a key is missing, an option is no text, or ``right`` is none of two or more different options.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error})", "correct guards.own_probes") from error
    items = [
        _item(line, f"{path}:{number}", number) for number, line in enumerate(lines, start=1) if line.strip()
    ]
    if not items:
        raise UserError(f"{path}: holds no probes", FIX)
    return tuple(items)


def _item(line: str, where: str, number: int) -> ProbeItem:
    try:
        stored: Any = json.loads(line)
    except ValueError as error:
        raise UserError(f"{where}: not JSON ({error})", FIX) from error
    if not isinstance(stored, dict):
        raise UserError(f"{where}: not an object", FIX)
    prompt, options, right = (stored.get(name) for name in ("prompt", "options", "right"))
    if not isinstance(prompt, str) or not prompt.strip():
        raise UserError(f"{where}: no 'prompt' (found: {', '.join(stored)})", FIX)
    if not isinstance(options, list) or len(options) < 2 or not all(_is_text(option) for option in options):
        raise UserError(f"{where}: 'options' must be a list of two texts or more", FIX)
    if len(set(options)) < len(options):
        raise UserError(f"{where}: an option is given twice", FIX)
    if right not in options:
        raise UserError(f"{where}: 'right' is none of the options: {right!r}", FIX)
    group = str(stored.get("group", number))
    return ProbeItem(
        f"own/{number}", "own probes", prompt, tuple(options), options.index(right), True, f"own/{group}"
    )


def _is_text(option: Any) -> bool:
    return isinstance(option, str) and bool(option.strip())
