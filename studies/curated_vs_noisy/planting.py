"""Noise of known kinds, planted in rows that had none, so that what curation finds can be counted."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

Kind = Literal["wrong label", "contradicting copy", "truncated text", "boilerplate"]
KINDS: tuple[Kind, ...] = get_args(Kind)
# Shares of the clean rows. Copies are added to them; the others change rows, and no row is changed twice.
SHARES: dict[Kind, float] = {
    "wrong label": 0.20,
    "contradicting copy": 0.05,
    "truncated text": 0.05,
    "boilerplate": 0.10,
}
FOOTERS = (
    "This text was exported from the shared inbox and may hold confidential information.",
    "Page {} of {} of the archive, printed for internal use only.",
)


@dataclass(frozen=True)
class PoolRow:
    """One row of a pool as it is trained on, and as it was before noise was planted (``planted`` None: none).

    Of a contradicting copy ``true_text`` is its own text: only its label is wrong.
    """

    text: str
    label: str
    true_text: str
    true_label: str
    planted: Kind | None = None

    @property
    def wrong(self) -> bool:
        """Whether its label is not the one that experts gave it."""
        return self.label != self.true_label


def plant(clean: Sequence[tuple[str, str]], seed: int) -> list[PoolRow]:
    """Rows of (text, label) with noise of every kind, in random order; the same seed plants the same.

    Wrong labels are drawn evenly from all others. Half of the copies are exact; the other half lack their
    first word. Texts are truncated inside a word, at 40 to 70 % of their length; boilerplate is one of two
    footers on a line of its own.
    """
    chance = random.Random(seed)
    labels = sorted({label for _, label in clean})
    rows = [PoolRow(text, label, text, label) for text, label in clean]
    order = chance.sample(range(len(rows)), len(rows))
    start = 0
    for kind in KINDS:
        chosen = order[start : start + round(SHARES[kind] * len(clean))]
        start += len(chosen)
        for number, index in enumerate(chosen):
            row = rows[index]
            other = chance.choice([label for label in labels if label != row.label])
            if kind == "wrong label":
                rows[index] = replace(row, label=other, planted=kind)
            elif kind == "contradicting copy":
                text = row.text if number % 2 else re.sub(r"^\s*\S+\s+", "", row.text)
                rows.append(PoolRow(text, other, text, row.label, kind))
            elif kind == "truncated text":
                rows[index] = replace(row, text=_truncated(row.text, chance), planted=kind)
            else:
                footer = chance.choice(FOOTERS).format(chance.randint(1, 9), chance.randint(10, 99))
                rows[index] = replace(row, text=f"{row.text}\n{footer}", planted=kind)
    chance.shuffle(rows)
    return rows


def _truncated(text: str, chance: random.Random) -> str:
    """Cut inside the word that stands at the drawn place, or at its end where it has one letter."""
    place = round(chance.uniform(0.4, 0.7) * len(text))
    word = next((match for match in re.finditer(r"\w+", text) if match.end() >= place), None)
    if word is None:
        return text[:place]
    return text[: min(max(word.start() + 1, place), max(word.start() + 1, word.end() - 1))]
