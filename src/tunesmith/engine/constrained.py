"""Answers held to a grammar: at every step only tokens that keep the text inside it, and finishable in time.

For every state of the grammar the whole vocabulary is walked once, as a prefix tree and level by level
(as in Willard and Louf 2023, arXiv 2307.09702, but lazily). With it is kept how many tokens an answer still
needs after each token, so that every answer closes within its number of tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tunesmith.engine.automaton import DEAD, Automaton
from tunesmith.engine.schema import compile_schema
from tunesmith.engine.vocabulary import Vocabulary, read_vocabulary
from tunesmith.errors import UserError

# States whose tokens are kept; each takes two bytes a token.
KEPT_STATES = 2000

NEVER = np.iinfo(np.int16).max


class TokenFilter:
    """Which tokens may follow, by the state of a grammar over bytes."""

    def __init__(self, automaton: Automaton, vocabulary: Vocabulary, end_token: int) -> None:
        """Raises UserError where the vocabulary cannot spell any text of the grammar."""
        self.automaton, self.vocabulary, self.end_token = automaton, vocabulary, end_token
        self.start = automaton.start
        self._fewest: dict[int, int] = {}
        self._after: dict[int, Tensor] = {}
        self.fewest_tokens = self._tokens_to_end(self.start)
        if self.fewest_tokens >= NEVER:
            raise UserError(
                "schema: the tokenizer has no tokens that spell its shortest answer, or too many",
                fix="write the schema's names and values in characters that the base's tokenizer knows",
            )

    def allowed(self, states: Sequence[int], remaining: Sequence[int], vocabulary: int) -> Tensor:
        """[states, vocabulary]: tokens after which the answer can still end within the ``remaining`` ones."""
        inside = torch.zeros(len(states), vocabulary, dtype=torch.bool)
        for row, state, left in zip(inside, states, remaining, strict=True):
            needed = self._tokens_after(state)[:vocabulary]
            torch.lt(needed, min(left, NEVER), out=row[: len(needed)])
        return inside

    def after(self, state: int, token: int) -> int:
        """The state after an allowed ``token``."""
        text = self.vocabulary.texts[token]
        assert text is not None
        return self.automaton.after(state, text)

    def _tokens_after(self, state: int) -> Tensor:
        """For each token, how many more the answer needs after it; NEVER where it may not follow."""
        if state not in self._after:
            if len(self._after) == KEPT_STATES:
                self._after.clear()
            ends = self._walk(state)[self.vocabulary.nodes]
            ends[self.vocabulary.nodes < 0] = DEAD
            met = np.zeros(len(self.automaton) + 1, dtype=bool)
            met[ends] = True  # DEAD is −1: the last
            needed = np.full(len(met), NEVER, dtype=np.int16)
            for end in np.flatnonzero(met[:-1]).tolist():
                needed[end] = min(self._tokens_to_end(end), NEVER)
            by_token = needed[ends]
            by_token[self.end_token] = 0 if self.automaton.accepts(state) else NEVER
            self._after[state] = torch.from_numpy(by_token)
        return self._after[state]

    def _walk(self, state: int) -> NDArray[np.int64]:
        """The automaton's state at every node of the vocabulary's tree."""
        vocabulary, automaton = self.vocabulary, self.automaton
        at = np.full(len(vocabulary.parents), DEAD, dtype=np.int64)
        at[0] = state
        for level in vocabulary.levels[1:]:
            before = at[vocabulary.parents[level]]
            met = np.zeros(len(automaton) + 1, dtype=bool)
            met[before] = True
            living = np.flatnonzero(met[:-1]).tolist()
            if not living:
                break
            automaton.reveal(living)
            at[level] = np.where(before == DEAD, DEAD, automaton.table[before, vocabulary.bytes[level]])
        return at

    def _tokens_to_end(self, state: int) -> int:
        """Tokens of a shortest text from ``state`` to the end, each the longest that fits into it.

        An upper bound of what is needed, one less after each of these tokens: whoever keeps within it ends.
        """
        path: list[int] = []
        while state not in self._fewest:
            path.append(state)
            if self.automaton.bytes_to_end(state) == 0:
                self._fewest[state] = 0
                break
            following = self._longest_token(state)
            if following is None:
                self._fewest[state] = NEVER
                break
            state = following
        # From the last state, whose number is known, back to the first.
        known = self._fewest[state]
        for earlier in reversed(path):
            if earlier != state:
                known += 1
                self._fewest[earlier] = known
        return self._fewest[path[0]] if path else known

    def _longest_token(self, state: int) -> int | None:
        """The state after the longest token that begins the shortest way from ``state`` to the end."""
        node, found = 0, None
        while self.automaton.bytes_to_end(state) > 0:
            byte = self.automaton.next_byte(state)
            child = self.vocabulary.children.get(node * 256 + byte)
            if child is None:
                break
            node, state = child, int(self.automaton.table[state, byte])
            if node in self.vocabulary.token_at:
                found = state
        return found


def json_filter(schema: Mapping[str, Any], tokenizer: Any, end_token: int) -> TokenFilter:
    """Answers that are JSON of ``schema`` (see :func:`~tunesmith.engine.schema.compile_schema`)."""
    return TokenFilter(compile_schema(schema), read_vocabulary(tokenizer), end_token)
