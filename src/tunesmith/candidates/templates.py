"""Texts from attributes by templates learned from training rows: their answers with the values taken out.

A template fits where it speaks of exactly the attributes that are given. Values that stand in an answer word
for word become slots; the others ("familyFriendly[no]") must be the same as in the row it was learned from.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from tunesmith.data.attributes import read_attributes
from tunesmith.records import Row

# Attribute names, with the value where it has no slot.
_Signature = frozenset[tuple[str, str | None]]

_SHORTEST_SLOT = 3  # "no" and "5" stand in many answers by chance
_FEWEST_READABLE = 0.95


def can_learn_templates(train: Sequence[Row]) -> bool:
    """Whether nearly all inputs are attributes and their values."""
    readable = sum(read_attributes(row.text) is not None for row in train)
    return readable >= _FEWEST_READABLE * len(train)


class Templates:
    """Learned from ``train``; :meth:`answer` is None where no template speaks of any given attribute."""

    def __init__(self, train: Sequence[Row]) -> None:
        self._by_signature: defaultdict[_Signature, Counter[str]] = defaultdict(Counter)
        for row in train:
            attributes = read_attributes(row.text)
            if attributes:
                template, signature = _without_values(row.target, attributes)
                self._by_signature[signature][template] += 1

    def answer(self, text: str) -> str | None:
        """The commonest template that says most of the attributes in ``text`` and nothing else."""
        attributes = read_attributes(text)
        if not attributes:
            return None
        fitting = [
            signature
            for signature in self._by_signature
            if all(name in attributes and value in (None, attributes[name]) for name, value in signature)
        ]
        most = max(map(len, fitting), default=0)
        if most == 0:
            return None
        counts: Counter[str] = Counter()
        for signature in fitting:
            if len(signature) == most:
                counts.update(self._by_signature[signature])
        # Of equally common ones, that with most slots depends least on the row it was learned from.
        template = min(counts, key=lambda one: (-counts[one], -one.count("\0"), one))
        return _with_values(template, attributes)


def _without_values(target: str, attributes: Mapping[str, str]) -> tuple[str, _Signature]:
    name_of: dict[str, str] = {}
    for name, value in attributes.items():
        if len(value) >= _SHORTEST_SLOT:
            name_of.setdefault(value, name)
    said: set[str] = set()
    template = target
    if name_of:
        # In one pass, so that no value is looked for in the name of another's slot; the longest first.
        longest_first = sorted(name_of, key=len, reverse=True)
        whole = re.compile(rf"(?<!\w)({'|'.join(map(re.escape, longest_first))})(?!\w)")
        said = {name_of[value] for value in whole.findall(target)}
        template = whole.sub(lambda found: f"\0{name_of[found[1]]}\0", target)
    return template, frozenset((name, None if name in said else value) for name, value in attributes.items())


def _with_values(template: str, attributes: Mapping[str, str]) -> str:
    parts = template.split("\0")
    return "".join(attributes[part] if index % 2 else part for index, part in enumerate(parts))
