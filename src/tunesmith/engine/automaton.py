"""Finite automata over bytes, built from the end to the beginning and made deterministic as they are used."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from tunesmith.errors import UserError

MOST_STATES = 200_000

# In a row of the table of transitions: no way on; not yet known.
DEAD, UNKNOWN = -1, -2


class Builder:
    """A nondeterministic automaton in the making. Every part is built knowing the state that follows it."""

    def __init__(self) -> None:
        # Of every state: (first byte, last byte, next state), and the states it may go on as silently.
        self.steps: list[list[tuple[int, int, int]]] = []
        self.silent: list[list[int]] = []
        self.end = self.state()

    def state(self) -> int:
        """A new state without a way on. Raises UserError where there are too many."""
        if len(self.steps) == MOST_STATES:
            raise UserError(
                f"schema: it allows so many lengths that more than {MOST_STATES:,} states would be needed",
                fix="lower or leave out its largest maxLength and maxItems",
            )
        self.steps.append([])
        self.silent.append([])
        return len(self.steps) - 1

    def literal(self, text: str, following: int) -> int:
        """``text`` itself, in UTF-8."""
        for byte in reversed(text.encode()):
            start = self.state()
            self.steps[start].append((byte, byte, following))
            following = start
        return following

    def any_of(self, starts: Iterable[int]) -> int:
        """What any of ``starts`` begins."""
        start = self.state()
        self.silent[start].extend(starts)
        return start


class Automaton:
    """The deterministic automaton of a :class:`Builder`'s, its states numbered as they are met.

    From every state the end can be reached: its parts are built from the end.
    """

    def __init__(self, builder: Builder, start: int) -> None:
        self._builder = builder
        self._bytes_to_end = _bytes_to_end(builder)
        self._members: list[tuple[int, ...]] = []
        self._known: dict[tuple[int, ...], int] = {}
        self.table: NDArray[np.int32] = np.full((64, 256), UNKNOWN, dtype=np.int32)
        self.start = self._state({start})

    def __len__(self) -> int:
        return len(self._members)

    def accepts(self, state: int) -> bool:
        """Whether a text may end in ``state``."""
        return self._builder.end in self._members[state]

    def reveal(self, states: Iterable[int]) -> None:
        """Fill the rows of ``table`` [states, 256] that belong to ``states``."""
        for state in states:
            if self.table[state, 0] == UNKNOWN:
                row = self._row(state)
                self.table[state] = row

    def after(self, state: int, text: bytes) -> int:
        """The state after ``text``; DEAD where the automaton does not allow it."""
        for byte in text:
            if state == DEAD:
                break
            self.reveal([state])
            state = int(self.table[state, byte])
        return state

    def bytes_to_end(self, state: int) -> int:
        """How many bytes the shortest way to the end has."""
        return min(self._bytes_to_end[member] for member in self._members[state])

    def next_byte(self, state: int) -> int:
        """The first byte (the smallest) of a shortest way to the end, which is not reached yet."""
        self.reveal([state])
        wanted = self.bytes_to_end(state) - 1
        row = self.table[state]
        return next(
            byte
            for member in sorted(self._members[state], key=lambda member: self._bytes_to_end[member])
            for byte, _, following in sorted(self._builder.steps[member])
            if self._bytes_to_end[following] == wanted and row[byte] != DEAD
        )

    def _state(self, members: set[int]) -> int:
        pending = list(members)
        while pending:
            for following in self._builder.silent[pending.pop()]:
                if following not in members:
                    members.add(following)
                    pending.append(following)
        # States that do nothing but go on silently tell nothing apart.
        key = tuple(
            sorted(member for member in members if self._builder.steps[member] or member == self._builder.end)
        )
        if key not in self._known:
            self._known[key] = len(self._members)
            self._members.append(key)
            if len(self._members) > len(self.table):
                self.table = np.concatenate([self.table, np.full_like(self.table, UNKNOWN)])
        return self._known[key]

    def _row(self, state: int) -> NDArray[np.int32]:
        steps = [step for member in self._members[state] for step in self._builder.steps[member]]
        row = np.full(256, DEAD, dtype=np.int32)
        edges = sorted({edge for first, last, _ in steps for edge in (first, last + 1)})
        for first, stop in itertools.pairwise(edges):
            following = {target for low, high, target in steps if low <= first <= high}
            if following:
                row[first:stop] = self._state(following)
        return row


def _bytes_to_end(builder: Builder) -> list[int]:
    """The fewest bytes from every state to the end (Dijkstra, backwards)."""
    before: list[list[tuple[int, int]]] = [[] for _ in builder.steps]
    for state, (steps, silent) in enumerate(zip(builder.steps, builder.silent, strict=True)):
        for _, _, following in steps:
            before[following].append((1, state))
        for following in silent:
            before[following].append((0, state))
    unreachable = len(builder.steps) + 1
    distances = [unreachable] * len(builder.steps)
    distances[builder.end] = 0
    queue = [(0, builder.end)]
    while queue:
        distance, state = heapq.heappop(queue)
        if distance > distances[state]:
            continue
        for cost, earlier in before[state]:
            if distance + cost < distances[earlier]:
                distances[earlier] = distance + cost
                heapq.heappush(queue, (distance + cost, earlier))
    return distances
