"""Texts written from attributes: which of the given values a text does not say, or says differently."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import CountVectorizer

from tunesmith.data.attributes import Attributes, read_attributes
from tunesmith.data.audit.findings import AuditData, CheckResult, Finding, answered
from tunesmith.data.audit.sampling import sample_rows, sample_told
from tunesmith.data.audit.texts import excerpt, share
from tunesmith.data.duplicates import compared_text, words
from tunesmith.stats.alignment import aligned_shares
from tunesmith.stats.intervals import proportion_interval

CHECK = "attributes"
MOST_ROWS = 20_000
MINIMUM_ROWS = 100
READABLE = 0.95
PHRASE_WORDS = 3
FEWEST_ROWS = 5  # of a value, and of a phrase: with fewer nothing is learned about it
SPEAKS_FOR = 0.4  # of a phrase's occurrences that a value explains, from which on it says that value
USUALLY_SAID = 0.5  # of a value's rows: what is seldom said is no rule that a text could break
SHORTEST_VALUE = 3  # characters: "no" and "5" stand in many texts by chance
EXAMPLES = 3

# (name, value), such as ("area", "riverside").
_Pair = tuple[str, str]


@dataclass(frozen=True)
class Disagreement:
    """A text that does not say ``value`` of its attribute ``name``; ``instead`` is another value it says."""

    row: int
    name: str
    value: str
    instead: str | None


def check_attributes(data: AuditData, most_rows: int = MOST_ROWS) -> CheckResult:
    """Rows whose target does not say a value that most texts with that value say, or says another one.

    Which phrases say a value is learned from the rows themselves (see :func:`aligned_shares`). Unmeasured
    where inputs are no attributes, targets no texts, or there are fewer than 100 rows.
    """
    unasked = CheckResult(CHECK, "unmeasured", "asked only where texts are written from attributes")
    if data.kind in ("classify", "extract"):
        return unasked
    sampled = sample_rows(data.rows, most_rows)
    read = [read_attributes(compared_text(data.rows[index])) for index in sampled]
    readable = sum(attributes is not None for attributes in read)
    if readable < READABLE * len(sampled):
        return unasked
    if len(sampled) < MINIMUM_ROWS:
        return CheckResult(CHECK, "unmeasured", f"needs {MINIMUM_ROWS} rows, found {len(sampled):,}")
    found = find_disagreements(read, [data.rows[index].target for index in sampled])
    if found is None:
        return CheckResult(CHECK, "unmeasured", "no value and no phrase comes again: nothing can be learned")
    differing = {one.row for one in found if one.instead is not None}
    findings = []
    for kind, of_kind in (
        ("another value said", [one for one in found if one.row in differing]),
        ("value not said", [one for one in found if one.row not in differing]),
    ):
        if of_kind:
            findings.append(_finding(kind, of_kind, sampled, data))
    bad = {one.row for one in found}
    groups = [data.rows[index].group or str(index) for index in sampled]
    estimate = proportion_interval([place in bad for place in range(len(sampled))], groups)
    summary = (
        f"{estimate.value:.1%} [{estimate.low:.1%}, {estimate.high:.1%}] of {len(sampled):,} texts leave out "
        f"or change a value of their attributes{sample_told(len(sampled), len(data.rows))}"
    )
    return answered(CHECK, summary, findings, len(sampled) if len(sampled) < len(data.rows) else None)


def find_disagreements(
    attributes: Sequence[Attributes | None], texts: Sequence[str]
) -> list[Disagreement] | None:
    """Values that texts do not say, the surest first; None where nothing comes again."""
    text_words = [words(text) for text in texts]
    counts = Counter(pair for given in attributes for pair in (given or {}).items())
    pairs = sorted(pair for pair, times in counts.items() if times >= FEWEST_ROWS)
    vectorizer = CountVectorizer(analyzer=_phrases, min_df=FEWEST_ROWS, binary=True)
    if not pairs:
        return None
    try:
        held = csr_matrix(vectorizer.fit_transform(text_words), dtype=np.float64)
    except ValueError:  # scikit-learn's way to say that the vocabulary is empty
        return None
    given = _given(attributes, {pair: place for place, pair in enumerate(pairs)})
    speaks = aligned_shares(held, given) >= SPEAKS_FOR
    said = (held @ csr_matrix(speaks.astype(np.float64)).T).toarray() > 0
    said |= _word_for_word(text_words, pairs, given)
    has = given.toarray() > 0
    usually = (said & has).sum(axis=0) / has.sum(axis=0)
    disagreements = []
    for row, place in zip(*np.nonzero(has & ~said & (usually >= USUALLY_SAID)), strict=True):
        name, value = pairs[place]
        others = [at for at in np.flatnonzero(said[row]) if pairs[at][0] == name]
        instead = pairs[others[0]][1] if others else None
        disagreements.append((-float(usually[place]), int(row), Disagreement(int(row), name, value, instead)))
    return [one for _, _, one in sorted(disagreements, key=lambda item: item[:2])]


def _phrases(text: Sequence[str]) -> list[str]:
    return [
        " ".join(text[start : start + size])
        for size in range(1, PHRASE_WORDS + 1)
        for start in range(len(text) - size + 1)
    ]


def _given(attributes: Sequence[Attributes | None], number: Mapping[_Pair, int]) -> csr_matrix:
    rows, columns = [], []
    for row, given in enumerate(attributes):
        for pair in (given or {}).items():
            if pair in number:
                rows.append(row)
                columns.append(number[pair])
    return csr_matrix((np.ones(len(rows)), (rows, columns)), shape=(len(attributes), len(number)))


def _word_for_word(
    texts: Sequence[Sequence[str]], pairs: Sequence[_Pair], given: csr_matrix
) -> npt.NDArray[np.bool_]:
    """Whether each text holds a value of its own word for word, shape (rows, pairs)."""
    said = np.zeros((len(texts), len(pairs)), bool)
    phrases = [f" {' '.join(words(value))} " if len(value) >= SHORTEST_VALUE else "" for _, value in pairs]
    for row, text in enumerate(texts):
        joined = f" {' '.join(text)} "
        for place in given.indices[given.indptr[row] : given.indptr[row + 1]]:
            said[row, place] = bool(phrases[place]) and phrases[place] in joined
    return said


def _finding(kind: str, found: Sequence[Disagreement], sampled: Sequence[int], data: AuditData) -> Finding:
    rows = tuple(dict.fromkeys(sampled[one.row] for one in found))
    names = Counter(one.name for one in found)
    often = ", ".join(f"{name} {times:,}" for name, times in names.most_common(EXAMPLES))
    one = next((one for one in found if one.instead is not None), found[0])
    said = "" if one.instead is None else f", says {one.instead!r}"
    example = data.rows[sampled[one.row]]
    evidence = (
        f"{share(len(rows), len(sampled))} targets, most often in {often}; {example.source} "
        f"does not say {one.name} {one.value!r}{said}: {excerpt(example.target)}"
    )
    return Finding(kind, "warning", rows, evidence, "ask")
