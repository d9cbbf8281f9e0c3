"""The JSON lists of labels as an automaton over bytes: each label at most once, in alphabetical order.

So there is one text for each set of labels, the one that is trained on, and no other can be written.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from tunesmith.engine.automaton import Automaton, Builder


def label_lists(labels: Sequence[str]) -> Automaton:
    """The automaton of all lists of ``labels``, which are different texts, at least one; ``[]`` is one too.

    Its size grows with the characters of the labels, not with the number of their sets.
    """
    builder = Builder()
    closed = builder.literal("]", builder.end)
    choice: int | None = None  # one of the labels from here on
    for label in sorted(labels, reverse=True):
        after = closed if choice is None else builder.any_of([closed, builder.literal(", ", choice)])
        written = builder.literal(json.dumps(label, ensure_ascii=False), after)
        choice = written if choice is None else builder.any_of([written, choice])
    assert choice is not None
    return Automaton(builder, builder.literal("[", builder.any_of([closed, choice])))
