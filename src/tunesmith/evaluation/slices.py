"""Slices: kinds of rows on which the tuned model may do worse than elsewhere, or than its opponent.

Rules are made from training rows alone, so that a slice means the same on validation and on the sealed test.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tunesmith.evaluation.wording import plain, signed
from tunesmith.guard_records import SliceRule, SliceScore
from tunesmith.records import Check, Estimate, PairedGain, Row
from tunesmith.stats.answers import non_inferior
from tunesmith.stats.intervals import mean_interval, proportion_interval
from tunesmith.stats.multiplicity import holm
from tunesmith.stats.paired import FEWEST_GROUPS, paired_score_gain
from tunesmith.stats.parts import part_difference
from tunesmith.stats.rates import codes_of

if TYPE_CHECKING:
    from tunesmith.task.guard_settings import SliceSettings

Mask = npt.NDArray[np.bool_]

FEWEST_ROWS = 20  # of a slice; fewer tell next to nothing
LENGTH_PARTS = 4
CLUSTERS = 8
CLUSTER_DIMENSIONS = 50
TELLING_WORDS = 3
TELLING_LETTERS = 3  # in, to and of name nothing
MOST_SOURCES = 20
LAST_TURN = 5  # this one and later ones are one slice
FLAG_ALPHA = 0.05


class Slicer:
    """Slice rules with the clusters that some of them need; holds a fitted k-means, hence a class."""

    def __init__(self, rules: tuple[SliceRule, ...], clusters: Any) -> None:
        self.rules = rules
        self._clusters = clusters

    def masks(self, rows: Sequence[Row]) -> dict[SliceRule, Mask]:
        """Which of ``rows`` belong to each slice, shape (rows,)."""
        numbers = np.zeros(0, dtype=np.intp)
        if self._clusters is not None and rows:
            numbers = self._clusters.predict([row.text for row in rows])
        return {rule: _mask(rule, rows, numbers) for rule in self.rules}


def make_slicer(train: Sequence[Row], named: Sequence[SliceSettings] = (), turns: bool = False) -> Slicer:
    """Automatic slices by length (quarters, in words), label, source and cluster, and the named ones.

    With ``turns`` also by which of the assistant's turns is asked for (the fifth and later ones together).

    A label or source needs 20 training rows; sources are files (``tickets.jsonl``, without the line) and
    count from two to 20 of them on. Clusters: k-means on TF-IDF (SVD to 50 dimensions), named by the words
    that tell them most from the others. Free-text targets have no label slices.
    """
    rules = [*_length_rules(train), *_label_rules(train), *_source_rules(train)]
    clusters, cluster_rules = _cluster_rules(train)
    rules += cluster_rules
    rules += _turn_rules(train) if turns else []
    rules += [SliceRule(one.name, "named", one.pattern, one.field) for one in named]
    return Slicer(tuple(rules), clusters)


def score_slices(
    masks: dict[SliceRule, Mask],
    groups: Sequence[str],
    tuned: npt.ArrayLike,
    opponent: npt.ArrayLike,
    opponent_name: str,
    margins: dict[str, float],
    alpha_one_sided: float = 0.05,
) -> tuple[SliceScore, ...]:
    """The tuned model on each slice with 20 rows or more; every named one, however small, unless empty.

    ``tuned`` and ``opponent``: scores in 0 to 1, shape (rows,). Automatic slices are compared with all other
    rows, and flagged where they are worse with a p-value of at most 5 % after Holm's correction over them.
    ``margins``: of the named slices, by name; ``alpha_one_sided`` is the level of the gain's bounds.
    """
    own, other = np.asarray(tuned, dtype=np.float64), np.asarray(opponent, dtype=np.float64)
    codes = codes_of(groups)
    kept = [
        (rule, mask)
        for rule, mask in masks.items()
        if mask.sum() >= (1 if rule.kind == "named" else FEWEST_ROWS)
        and not (mask.all() and rule.kind != "named")
    ]
    differences = [part_difference(own, mask, codes) for _, mask in kept]
    tested = [
        place
        for place, (rule, _) in enumerate(kept)
        if rule.kind != "named" and differences[place] is not None
    ]
    p_values = [found.p_value for place in tested if (found := differences[place]) is not None]
    adjusted = dict(zip(tested, holm(p_values), strict=True))
    scores = []
    for place, ((rule, mask), difference) in enumerate(zip(kept, differences, strict=True)):
        members = [group for group, inside in zip(groups, mask.tolist(), strict=True) if inside]
        p_value = adjusted.get(place)
        below = difference is not None and difference.difference.value < 0
        scores.append(
            SliceScore(
                name=rule.name,
                kind=rule.kind,
                tuned=score_estimate(own[mask], members),
                difference=difference.difference if difference else None,
                p_adjusted=p_value,
                flagged=p_value is not None and p_value <= FLAG_ALPHA and below,
                gain=paired_score_gain(own[mask], other[mask], members, opponent_name, alpha_one_sided),
                margin=margins.get(rule.name) if rule.kind == "named" else None,
            )
        )
    return tuple(scores)


def score_estimate(scores: npt.ArrayLike, groups: Sequence[str], level: float = 0.95) -> Estimate:
    """Mean of scores in 0 to 1: as a share where all are 0 or 1, else as a mean.

    A mean of rows of a single group has the interval [0, 1].
    """
    values = np.asarray(scores, dtype=np.float64)
    if np.isin(values, (0.0, 1.0)).all():
        return proportion_interval(values, groups, level)
    if len(set(groups)) < 2:
        return Estimate(float(values.mean()), 0.0, 1.0, len(values), 1, level, "unmeasured: one group")
    return mean_interval(values, groups, level, limits=(0.0, 1.0))


def slice_checks(scores: Sequence[SliceScore], settings: Sequence[SliceSettings]) -> tuple[Check, ...]:
    """One check for each named slice: is the tuned model at most its margin worse than the opponent there?

    Unmeasured with fewer than 50 groups, also where no row of the split belongs to the slice.
    """
    found = {score.name: score for score in scores if score.kind == "named"}
    return tuple(_slice_check(found.get(one.name), one) for one in settings)


def _slice_check(score: SliceScore | None, settings: SliceSettings) -> Check:
    where = f"{settings.field} matches" if settings.field else "the input matches"
    points = f"{100 * settings.margin:g} points"
    opponent = score.gain.opponent if score else "the best opponent"
    question = f"Where {where} /{settings.pattern}/: is it at most {points} below {opponent}?"
    name = f"slice: {settings.name}"
    if score is None:
        return Check(name, question, "unmeasured", "no row belongs to this slice", settings.blocking)
    loss = loss_of(score.gain)
    if loss is None:
        evidence = f"{score.gain.groups} groups, and {FEWEST_GROUPS} are needed"
        return Check(name, question, "unmeasured", evidence, settings.blocking)
    evidence = f"{gain_in_words(score.gain)}; margin {points}"
    return Check(name, question, non_inferior(loss, settings.margin), evidence, settings.blocking, loss)


def loss_of(gain: PairedGain) -> Estimate | None:
    """By how much the candidate is worse than the opponent; None where the gain has no bounds."""
    if gain.low is None or gain.high is None:
        return None
    method = "paired cluster-t with one pseudo-win and one pseudo-loss"
    return Estimate(-gain.value, -gain.high, -gain.low, gain.rows, gain.groups, gain.level, method)


def gain_in_words(gain: PairedGain) -> str:
    """``+3.1 points [0.2, 6.0], 60 rows in 58 groups``."""
    bounds = "[unmeasured]"
    if gain.low is not None and gain.high is not None:
        bounds = f"[{plain(100 * gain.low)}, {plain(100 * gain.high)}]"
    return f"{signed(100 * gain.value)} points {bounds}, {gain.rows:,} rows in {gain.groups:,} groups"


def _mask(rule: SliceRule, rows: Sequence[Row], clusters: npt.NDArray[np.intp]) -> Mask:
    if rule.kind == "cluster":
        return np.asarray(clusters == int(rule.value), dtype=np.bool_)
    if rule.kind == "length":
        words = [len(row.text.split()) for row in rows]
        high = rule.high
        return np.array([rule.low <= count and (high is None or count <= high) for count in words], np.bool_)
    if rule.kind == "turn":
        at = [_turn_of(row) for row in rows]
        return np.array(
            [rule.low <= turn and (rule.high is None or turn <= rule.high) for turn in at], np.bool_
        )
    if rule.kind == "label":
        return np.array([row.target == rule.value for row in rows], dtype=np.bool_)
    if rule.kind == "source":
        return np.array([_file_of(row) == rule.value for row in rows], dtype=np.bool_)
    return _matches(rule.value, rule.field, rows)


def named_mask(one: SliceSettings, rows: Sequence[Row]) -> Mask:
    """Which of ``rows`` belong to a named slice, shape (rows,)."""
    return _matches(one.pattern, one.field, rows)


def _matches(pattern: str, field: str | None, rows: Sequence[Row]) -> Mask:
    compiled = re.compile(pattern, re.IGNORECASE)
    texts = [row.text if field is None else dict(row.fields).get(field, "") for row in rows]
    return np.array([compiled.search(text) is not None for text in texts], dtype=np.bool_)


def _length_rules(train: Sequence[Row]) -> list[SliceRule]:
    words = np.array([len(row.text.split()) for row in train])
    edges = sorted({int(np.quantile(words, part / LENGTH_PARTS)) for part in range(1, LENGTH_PARTS)})
    lows = [0, *(edge + 1 for edge in edges)]
    highs: list[int | None] = [*edges, None]
    rules = []
    for low, high in zip(lows, highs, strict=True):
        name = f"{low} words or more" if high is None else f"{low} to {high} words"
        name = f"{low} words" if low == high else name
        rules.append(SliceRule(name, "length", low=low, high=high))
    return rules if len(rules) > 1 else []


def _label_rules(train: Sequence[Row]) -> list[SliceRule]:
    counts = Counter(row.target for row in train)
    frequent = sorted(label for label, count in counts.items() if count >= FEWEST_ROWS)
    return [SliceRule(label, "label", label) for label in frequent]


def _turn_rules(train: Sequence[Row]) -> list[SliceRule]:
    counts = Counter(min(_turn_of(row), LAST_TURN) for row in train)
    if len(counts) < 2:
        return []
    return [
        SliceRule(
            f"turn {turn}{' or later' if turn == LAST_TURN else ''}",
            "turn",
            low=turn,
            high=None if turn == LAST_TURN else turn,
        )
        for turn in sorted(counts)
    ]


def _turn_of(row: Row) -> int:
    """Which turn of the assistant the answer is: 1 where it has not spoken yet."""
    return 1 + sum(message.role == "assistant" for message in row.messages)


def _source_rules(train: Sequence[Row]) -> list[SliceRule]:
    counts = Counter(_file_of(row) for row in train)
    frequent = sorted(source for source, count in counts.items() if count >= FEWEST_ROWS)
    if not 2 <= len(frequent) <= MOST_SOURCES:
        return []
    return [SliceRule(source, "source", source) for source in frequent]


def _file_of(row: Row) -> str:
    return row.source.rpartition(":")[0] or row.source


def _cluster_rules(train: Sequence[Row]) -> tuple[Any, list[SliceRule]]:
    """A pipeline from texts to the number of a cluster, and one rule for each; None without common words."""
    from sklearn.cluster import KMeans
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import make_pipeline

    number = min(CLUSTERS, len(train) // FEWEST_ROWS)
    if number < 2:
        return None, []
    texts = [row.text for row in train]
    vectorizer = TfidfVectorizer(token_pattern=r"\b\w+\b", sublinear_tf=True, min_df=2)
    try:
        matrix = vectorizer.fit_transform(texts)
    except ValueError:  # scikit-learn's way to say that the vocabulary is empty
        return None, []
    if min(matrix.shape) <= 2:
        return None, []
    svd = TruncatedSVD(min(CLUSTER_DIMENSIONS, min(matrix.shape) - 1), n_iter=2, random_state=0)
    means = KMeans(number, n_init=1, random_state=0)
    codes = means.fit_predict(svd.fit_transform(matrix))
    words = vectorizer.get_feature_names_out()
    overall = np.asarray(matrix.mean(axis=0)).ravel()
    rules = []
    for cluster in sorted(set(codes.tolist())):  # of equal texts there are fewer clusters
        own = np.asarray(matrix[codes == cluster].mean(axis=0)).ravel()
        ranked = [str(words[place]) for place in np.argsort(overall - own, kind="stable")]
        telling = ([word for word in ranked if len(word) >= TELLING_LETTERS] or ranked)[:TELLING_WORDS]
        rules.append(SliceRule(f"about {', '.join(telling)}", "cluster", str(cluster)))
    return make_pipeline(vectorizer, svd, means), rules
