"""Stock phrases: n-grams that a model says far more often than the references do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from tunesmith.evaluation.metrics.answered import Answered
from tunesmith.evaluation.metrics.words import ngrams, words
from tunesmith.guard_records import StockPhrase
from tunesmith.stats.intervals import proportion_interval
from tunesmith.stats.multiplicity import holm
from tunesmith.stats.paired import more_often_than

_SIZES = (3, 4, 5, 6)
# "Far more often" is more than this many times as often.
TIMES_AS_OFTEN = 2.0


def stock_phrases(answered: Answered, alpha: float = 0.05) -> tuple[StockPhrase, ...]:
    """The phrases of 3 to 6 words that the answers hold more than twice as often as the references.

    Each group counts once: for the model where more of its answers than of its references hold the phrase,
    for the references where fewer do (of several references, their share). The test: among the groups that
    count for either, the model's share is above 2/3, exact one-sided binomial, made for every phrase with
    enough such groups to be able to show it (a choice that does not look at the side). Holm's correction
    keeps the chance of any false phrase at ``alpha``. Only phrases that are also more than twice as frequent
    are told, and none within a longer one that is as frequent. Sorted by how many answers hold them.
    """
    held = [_phrases(answer) for answer in answered.predictions]
    wanted = [[_phrases(text) for text in texts] for texts in answered.right_answers]
    lead = _leads(held, wanted, answered.groups)
    bound = TIMES_AS_OFTEN / (1 + TIMES_AS_OFTEN)

    ahead = Counter(phrase for (phrase, _), more in lead.items() if more > 0)
    either = Counter(phrase for (phrase, _), more in lead.items() if more != 0)
    # With fewer groups even all of them on the model's side would not show it.
    tested = [phrase for phrase, number in either.items() if bound**number <= alpha / max(1, len(either))]
    p_values = [more_often_than(ahead[phrase], either[phrase], bound) for phrase in tested]
    found = [(phrase, p) for phrase, p in zip(tested, holm(p_values), strict=True) if p <= alpha]
    answers_with = Counter(phrase for phrases in held for phrase in phrases)
    longest = _longest([phrase for phrase, _ in found], answers_with)
    reported = [
        StockPhrase(
            phrase=" ".join(phrase),
            answers=proportion_interval([phrase in phrases for phrases in held], answered.groups),
            references=proportion_interval(
                [phrase in phrases for texts in wanted for phrases in texts],
                [group for group, texts in zip(answered.groups, wanted, strict=True) for _ in texts],
            ),
            p_adjusted=p,
        )
        for phrase, p in found
        if phrase in longest
    ]
    frequent = [one for one in reported if one.answers.value > TIMES_AS_OFTEN * one.references.value]
    return tuple(sorted(frequent, key=lambda one: (-one.answers.value, one.phrase)))


def _phrases(text: str) -> set[tuple[str, ...]]:
    tokens = words(text)
    return {ngram for size in _SIZES for ngram in ngrams(tokens, size)}


def _leads(
    held: Sequence[set[tuple[str, ...]]],
    wanted: Sequence[Sequence[set[tuple[str, ...]]]],
    groups: Sequence[str],
) -> dict[tuple[tuple[str, ...], str], float]:
    """For each phrase and group: answers that hold it, less the references' shares, summed over rows."""
    lead: dict[tuple[tuple[str, ...], str], float] = {}
    for own, others, group in zip(held, wanted, groups, strict=True):
        share = Counter(phrase for phrases in others for phrase in phrases)
        for phrase in own | share.keys():
            difference = (phrase in own) - share[phrase] / len(others)
            lead[phrase, group] = lead.get((phrase, group), 0.0) + difference
    return lead


def _longest(phrases: Sequence[tuple[str, ...]], frequency: Counter[tuple[str, ...]]) -> set[tuple[str, ...]]:
    """Those that are not part of a longer one in nearly (nine tenths) as many answers."""
    kept: list[tuple[str, ...]] = []
    for phrase in sorted(phrases, key=len, reverse=True):
        inside = any(
            frequency[longer] >= 0.9 * frequency[phrase]
            and any(longer[start : start + len(phrase)] == phrase for start in range(len(longer)))
            for longer in kept
        )
        if not inside:
            kept.append(phrase)
    return set(kept)
