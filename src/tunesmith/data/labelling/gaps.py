"""Coverage gaps: which combinations the labelled rows hardly have, in words that tell what to write."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import median
from typing import Literal

import numpy as np
import numpy.typing as npt
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

from tunesmith.data.duplicates import compared_text, words
from tunesmith.data.labelling.queue import PoolCluster
from tunesmith.records import Row
from tunesmith.stats.clusters import Floats
from tunesmith.stats.disagreement import rarely_together
from tunesmith.stats.multiplicity import holm

ALPHA = 0.05
MOST_TERMS = 200
LEAST_TERM_ROWS = 10
LEAST_TERM_SHARE = 0.005
LARGEST_TERM_SHARE = 0.5
THIN_SHARE = 0.25  # of the rows that there would be by chance
THIN_LABEL_SHARE = 0.2  # of the median label
SPREAD_LABELS = 0.5  # a term that at least half of all labels have says how, when or where, not what
LEAST_EXPECTED = 3.0  # with fewer, no rows at all would be no surprise
MOST_OF_ONE = 3  # or one frequent word would fill the list
ALTERNATIVES = 0.3  # cosine of what two terms keep clear of
SAME_ROWS = 0.8  # Jaccard: two terms that stand in the same rows are one
THIN_POOL_RATIO = 0.25

Rows = frozenset[int]


@dataclass(frozen=True)
class Gap:
    """Something the labelled rows hardly cover. ``rows`` is how many have it; ``expected`` how many would by
    chance (or, of a pool's cluster and of a thin label, in proportion); ``sentence`` says it to a person."""

    kind: Literal["label", "label and term", "terms", "pool"]
    sentence: str
    rows: int
    expected: float


def coverage_gaps(
    labelled: Sequence[Row], clusters: Sequence[PoolCluster] = (), most: int = 20
) -> tuple[Gap, ...]:
    """Gaps of the labelled rows, at most ``most`` of each kind, the widest first.

    Labels with fewer than a fifth of the median label's rows. A label and a term that other labels spread
    over, or two terms, that stand together in at most a quarter of the rows that they would share were they
    unrelated (of two terms: within each label), where so few would be a surprise (Poisson, Holm over all
    pairs, 5 %); two terms that are alternatives of each other are no pair. Clusters of a pool that the
    labelled rows hardly have. They are questions: a combination that makes no sense needs no rows.
    """
    counts = Counter(row.target for row in labelled)
    has_labels = len(counts) <= max(20, len(labelled) / 5)
    texts = [words(compared_text(row)) for row in labelled]
    terms = frequent_terms(texts)
    of_label: defaultdict[str, set[int]] = defaultdict(set)
    for place, row in enumerate(labelled):
        of_label[row.target if has_labels else ""].add(place)
    label_rows = {label: frozenset(places) for label, places in of_label.items()}
    gaps: list[Gap] = []
    if has_labels:
        gaps += _thin_labels(counts)[:most]
        gaps += _label_gaps(label_rows, terms, len(labelled))[:most]
    gaps += _term_gaps(label_rows, terms)[:most]
    gaps += _pool_gaps(clusters, len(labelled))[:most]
    return tuple(gaps)


def frequent_terms(texts: Sequence[Sequence[str]]) -> dict[str, Rows]:
    """Words and pairs of neighbouring words that occur in many texts, not in most, with their texts.

    Neither word is an English stop word. Of terms that stand in nearly the same texts the
    longest is kept.
    """
    found: defaultdict[str, set[int]] = defaultdict(set)
    for place, text in enumerate(texts):
        for size in (1, 2):
            for start in range(len(text) - size + 1):
                run = text[start : start + size]
                if run[0] not in ENGLISH_STOP_WORDS and run[-1] not in ENGLISH_STOP_WORDS:
                    found[" ".join(run)].add(place)
    low = max(LEAST_TERM_ROWS, LEAST_TERM_SHARE * len(texts))
    high = LARGEST_TERM_SHARE * len(texts)
    fitting = {term: frozenset(rows) for term, rows in found.items() if low <= len(rows) <= high}
    kept: dict[str, Rows] = {}
    for term in sorted(fitting, key=lambda term: (-len(fitting[term]), -len(term), term))[: 3 * MOST_TERMS]:
        rows = fitting[term]
        same = next((other for other in kept if _jaccard(rows, kept[other]) >= SAME_ROWS), None)
        if same is None:
            kept[term] = rows
        elif same in term:
            kept = {term if name == same else name: had for name, had in kept.items()}
    return dict(list(kept.items())[:MOST_TERMS])


def _thin_labels(counts: Counter[str]) -> list[Gap]:
    usual = median(counts.values())
    thin = sorted((rows, label) for label, rows in counts.items() if rows < THIN_LABEL_SHARE * usual)
    return [
        Gap(
            "label",
            f"only {_rows(rows)} labelled '{label}'; half of the labels have {usual:g} or more",
            rows,
            usual,
        )
        for rows, label in thin
    ]


def _label_gaps(label_rows: Mapping[str, Rows], terms: Mapping[str, Rows], rows: int) -> list[Gap]:
    spread = {
        term: places
        for term, places in terms.items()
        if sum(bool(places & members) for members in label_rows.values()) >= SPREAD_LABELS * len(label_rows)
    }
    pairs = [
        (label, term, len(members & places), len(members) * len(places) / rows)
        for label, members in label_rows.items()
        for term, places in spread.items()
    ]
    return [
        Gap(
            "label and term",
            f"{_rows(together, 'no')} labelled '{label}' {_say(together, 'mentions', 'mention')} '{term}' "
            f"({len(label_rows[label]):,} rows have the label, {len(spread[term]):,} the words; about "
            f"{expected:.0f} would have both by chance)",
            together,
            expected,
        )
        for label, term, together, expected in _surprising(pairs)
    ]


def _term_gaps(label_rows: Mapping[str, Rows], terms: Mapping[str, Rows]) -> list[Gap]:
    names = sorted(terms)
    together, expected = _together(label_rows, [terms[name] for name in names])
    alternatives = _alternatives(together, expected)
    pairs = [
        (names[one], names[other], int(together[one, other]), float(expected[one, other]))
        for one, other in combinations(range(len(names)), 2)
        if not alternatives[one, other] and not set(names[one].split()) & set(names[other].split())
    ]
    return [
        Gap(
            "terms",
            f"{_rows(rows, 'no')} {_say(rows, 'mentions', 'mention')} both '{first}' and '{second}' "
            f"({len(terms[first]):,} and {len(terms[second]):,} rows mention one; about {chance:.0f} would "
            f"mention both by chance)",
            rows,
            chance,
        )
        for first, second, rows, chance in _surprising(pairs)
    ]


def _together(label_rows: Mapping[str, Rows], terms: Sequence[Rows]) -> tuple[Floats, Floats]:
    """How many rows hold both of two terms, and how many would if they were unrelated within each label."""
    size = len(terms)
    together, expected = np.zeros((size, size)), np.zeros((size, size))
    for members in label_rows.values():
        place = {row: number for number, row in enumerate(sorted(members))}
        held = np.zeros((len(members), size))
        for column, rows in enumerate(terms):
            held[[place[row] for row in rows & members], column] = 1
        counts = held.sum(axis=0)
        together += held.T @ held
        expected += np.outer(counts, counts) / len(members)
    return together, expected


def _alternatives(together: Floats, expected: Floats) -> npt.NDArray[np.bool_]:
    """Which pairs of terms say the same kind of thing (yesterday, last week): they keep clear of each other
    because both keep clear of the same others; shape (terms, terms)."""
    surprise = np.minimum((together - expected) / np.sqrt(np.maximum(expected, 1.0)), 0.0)
    np.fill_diagonal(surprise, 0.0)
    # Without the entry of the pair itself, which says nothing about what they share.
    sizes = np.maximum((surprise**2).sum(axis=1)[:, None] - surprise**2, 1e-12)
    found: npt.NDArray[np.bool_] = surprise @ surprise / np.sqrt(sizes * sizes.T) >= ALTERNATIVES
    return found


def _pool_gaps(clusters: Sequence[PoolCluster], labelled: int) -> list[Gap]:
    pool = sum(cluster.pool_rows for cluster in clusters)
    gaps = []
    for cluster in clusters:
        expected = labelled * cluster.pool_rows / pool
        few = cluster.labelled_rows <= THIN_POOL_RATIO * expected
        if few and rarely_together(cluster.labelled_rows, expected) <= ALPHA / len(clusters):
            gaps.append(
                Gap(
                    "pool",
                    f"{cluster.pool_rows:,} of {pool:,} pool rows are like '{cluster.words}', and "
                    f"{cluster.labelled_rows:,} of {labelled:,} labelled ones",
                    cluster.labelled_rows,
                    expected,
                )
            )
    return sorted(gaps, key=lambda gap: (gap.rows - gap.expected, gap.sentence))


def _surprising(pairs: Sequence[tuple[str, str, int, float]]) -> list[tuple[str, str, int, float]]:
    """Pairs with far fewer rows than by chance, the widest gap first; of one name only the first few."""
    # What is expected follows from the margins alone, so it may decide which pairs are asked about.
    pairs = [pair for pair in pairs if pair[3] >= LEAST_EXPECTED]
    adjusted = holm([rarely_together(together, expected) for _, _, together, expected in pairs])
    found = [
        pair
        for pair, p_value in zip(pairs, adjusted, strict=True)
        if p_value <= ALPHA and pair[2] <= THIN_SHARE * pair[3]
    ]
    told: list[tuple[str, str, int, float]] = []
    times: Counter[str] = Counter()
    for pair in sorted(found, key=lambda pair: (pair[2] - pair[3], pair[:2])):
        if times[pair[0]] < MOST_OF_ONE and times[pair[1]] < MOST_OF_ONE:
            told.append(pair)
            times.update(pair[:2])
    return told


def _rows(number: int, none: str = "0") -> str:
    return f"{none} row" if number == 0 else f"{number:,} row{'s' * (number > 1)}"


def _say(number: int, one: str, many: str) -> str:
    return one if number < 2 else many


def _jaccard(one: Rows, other: Rows) -> float:
    shared = len(one & other)
    return shared / (len(one) + len(other) - shared)
