"""``tunesmith data show --mask``: learned tokens in colour, or in brackets where there is none."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tunesmith.data_records import MaskedRow

LEARNED_STYLE = "bold green"
OPEN, CLOSE = "⟦", "⟧"


def print_masked(head: str, rows: Sequence[MaskedRow]) -> None:
    """Print every row under its source, with the tokens that are learned marked.

    Colour only on a terminal that takes it; with NO_COLOR, in pipes and files brackets stand around them.
    """
    from tunesmith.stages.masks import visible

    console = Console(file=sys.stdout, highlight=False, soft_wrap=True)
    coloured = console.is_terminal and not console.no_color and console.color_system is not None
    legend = Text("learned", LEARNED_STYLE) if coloured else Text(f"{OPEN}learned{CLOSE}")
    console.print(Text.assemble(head, ", ", legend, " marked"))
    for row in rows:
        note = f"; {row.note}" if row.note else ""
        console.print(Text(f"\n{row.source}  {row.tokens:,} tokens, {row.learned_tokens:,} learned{note}"))
        shown = Text()
        for part in row.parts:
            text = visible(part.text)
            if part.learned and coloured:
                shown.append(text, LEARNED_STYLE)
            else:
                shown.append(f"{OPEN}{text}{CLOSE}" if part.learned else text)
        console.print(shown)
