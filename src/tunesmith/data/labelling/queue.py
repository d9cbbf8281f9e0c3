"""What to label next: the rows of a pool that would teach most, each once, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.cluster import MiniBatchKMeans
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from tunesmith.data.audit.classifier import INVERSE_PENALTY
from tunesmith.data.audit.diversity import clusters_of, naming_words
from tunesmith.data.audit.ngrams import MOST_CHARACTERS
from tunesmith.data.audit.sampling import sample_rows
from tunesmith.data.duplicates import compared_text, group_rows, words
from tunesmith.errors import UserError
from tunesmith.records import Row
from tunesmith.stats.clusters import Codes, Floats
from tunesmith.stats.disagreement import disagreement, entropy, percentiles

MOST_POOL_ROWS = 50_000
MOST_LABELLED_ROWS = 20_000
DIMENSIONS = 200
BOOTSTRAPS = 2  # for each of the two views
PRESELECTED = 4  # times as many rows as are asked for


@dataclass(frozen=True)
class Suggestion:
    """A row worth labelling. ``proposed`` is what the committee thinks, ``probability`` how surely.

    ``uncertainty`` and ``disagreement`` are in nats; ``covered`` is the number of labelled rows in its
    cluster for each row of the pool there.
    """

    row: Row
    proposed: str
    probability: float
    uncertainty: float
    disagreement: float
    covered: float
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class PoolCluster:
    """A kind of input in the pool, named by its words, and how many rows of the pool and of the labelled
    data belong to it."""

    words: str
    pool_rows: int
    labelled_rows: int


@dataclass(frozen=True)
class Queue:
    """The rows to label, the best first. ``looked_at`` is how many rows of the pool were compared, after
    those like a row of the data were left out (``known``) and a large pool was sampled."""

    suggestions: tuple[Suggestion, ...]
    clusters: tuple[PoolCluster, ...]
    looked_at: int
    known: int


def rows_to_label(
    labelled: Sequence[Row],
    pool: Sequence[Row],
    number: int,
    others: Sequence[Row] = (),
    similarity: float = 0.8,
    shingle_words: int = 3,
) -> Queue:
    """Up to ``number`` rows of ``pool``: uncertain, disputed and thinly covered, and unlike each other.

    A committee of logistic regressions, two on words and two on characters, each on its own bootstrap of
    ``labelled``, gives each row's entropy and the members' disagreement (McCallum and Nigam 1998); its
    cluster gives how well the labelled rows cover it. The rank in each of the first two counts up to 1, and
    so does the share of labelled rows that its cluster lacks. Of the best the queue takes rows that differ
    (Zhdanov 2019, "Diverse mini-batch Active Learning"). Near-duplicates of a labelled row, or of one of
    ``others`` (validation, test), are left out. Everything is deterministic.

    Raises UserError where the texts have no words and no characters in common, and with fewer than 2 labels.
    """
    known_rows = [*labelled, *others]
    components = group_rows([*known_rows, *pool], similarity, shingle_words)
    taken = set(components[: len(known_rows)])
    fresh: dict[str, Row] = {}
    known = 0
    for row, component in zip(pool, components[len(known_rows) :], strict=True):
        known += component in taken
        if component not in taken:
            fresh.setdefault(component, row)
    candidates = list(fresh.values())
    candidates = [candidates[index] for index in sample_rows(candidates, MOST_POOL_ROWS)]
    teachers = [labelled[index] for index in sample_rows(labelled, MOST_LABELLED_ROWS)]
    if not candidates:
        return Queue((), (), 0, known)
    if len({row.target for row in teachers}) < 2:
        raise UserError(
            "the labelled rows have fewer than two labels", "label some rows of another one first"
        )
    views = _views([compared_text(row) for row in (*teachers, *candidates)])
    labels, members = _committee(views, [row.target for row in teachers])
    mean = members.mean(axis=0)
    doubt, dispute = entropy(mean), disagreement(members)
    clusters, covered, told = _coverage(np.hstack(views), teachers, candidates)
    usual = len(teachers) / len(candidates)
    score = percentiles(doubt) + percentiles(dispute) + np.maximum(0.0, 1 - covered / usual)
    order = sorted(range(len(candidates)), key=lambda place: (-score[place], candidates[place].id))
    vectors = np.hstack([view[len(teachers) :] for view in views]) / np.sqrt(len(views))
    suggestions = []
    for place in _spread(vectors, score, order, number):
        best = np.argsort(-mean[place])[:2]
        says = Counter(labels[vote] for vote in members[:, place].argmax(axis=1).tolist())
        cluster = told[int(clusters[place])]
        suggestions.append(
            Suggestion(
                candidates[place],
                labels[best[0]],
                float(mean[place, best[0]]),
                float(doubt[place]),
                float(dispute[place]),
                float(covered[place]),
                _reasons([(labels[one], float(mean[place, one])) for one in best], says, cluster),
            )
        )
    return Queue(tuple(suggestions), tuple(told.values()), len(candidates), known)


def _views(texts: Sequence[str]) -> list[Floats]:
    """Unit vectors of words, and of character n-grams, each (texts, ≤ 200)."""
    short = [text[:MOST_CHARACTERS] for text in texts]
    vectorizers = (
        TfidfVectorizer(token_pattern=r"\b\w+\b", ngram_range=(1, 2), sublinear_tf=True, min_df=2),
        TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), sublinear_tf=True, min_df=2),
    )
    views = []
    for vectorizer in vectorizers:
        try:
            matrix: csr_matrix = vectorizer.fit_transform(short)
        except ValueError:  # scikit-learn's way to say that the vocabulary is empty
            continue
        dimensions = min(DIMENSIONS, matrix.shape[0] - 1, matrix.shape[1] - 1)
        if dimensions < 2:
            continue
        vectors: Floats = TruncatedSVD(dimensions, n_iter=2, random_state=0).fit_transform(matrix)
        views.append(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12))
    if not views:
        raise UserError(
            f"{len(texts):,} texts hold no words and no characters in common",
            "check that data.input names the right column",
        )
    return views


def _committee(views: Sequence[Floats], targets: Sequence[str]) -> tuple[tuple[str, ...], Floats]:
    """The labels, and each member's probabilities for the rows behind the labelled ones: (members, rows,
    labels)."""
    labels = tuple(sorted(set(targets)))
    number = {label: place for place, label in enumerate(labels)}
    codes = np.array([number[target] for target in targets])
    random = np.random.default_rng(0)
    members = []
    for view in views:
        for _ in range(BOOTSTRAPS):
            drawn = random.integers(len(codes), size=len(codes))
            if len(np.unique(codes[drawn])) < 2:
                drawn = np.arange(len(codes))
            model = LogisticRegression(C=INVERSE_PENALTY, max_iter=100, tol=1e-3)
            model.fit(view[: len(codes)][drawn], codes[drawn])
            found = np.zeros((len(view) - len(codes), len(labels)))
            found[:, model.classes_] = model.predict_proba(view[len(codes) :])
            members.append(found)
    return labels, np.stack(members)


def _coverage(
    vectors: Floats, labelled: Sequence[Row], pool: Sequence[Row]
) -> tuple[Codes, Floats, dict[int, PoolCluster]]:
    """The cluster of each pool row, how well labelled rows cover it, and the clusters by number."""
    clusters = clusters_of(vectors)
    teaching, asked = clusters[: len(labelled)], clusters[len(labelled) :]
    texts = [words(compared_text(row)) for row in (*labelled, *pool)]
    everywhere = Counter(word for text in texts for word in set(text))
    told: dict[int, PoolCluster] = {}
    covered = np.zeros(len(pool))
    for cluster in np.unique(asked).tolist():
        inside = np.flatnonzero(clusters == cluster).tolist()
        own, there = int((teaching == cluster).sum()), int((asked == cluster).sum())
        told[cluster] = PoolCluster(naming_words([texts[place] for place in inside], everywhere), there, own)
        covered[asked == cluster] = own / there
    return asked, covered, told


def _spread(vectors: Floats, score: Floats, order: Sequence[int], number: int) -> list[int]:
    """``number`` places that teach much and different things: of the best four times as many, one from each
    cluster of a k-means weighted by score (Zhdanov 2019, "Diverse mini-batch Active Learning"), best first.
    """
    best = list(order[: PRESELECTED * number])
    if len(best) <= number:
        return best
    weights = np.maximum(score[best], 1e-6)
    model = MiniBatchKMeans(number, random_state=0, n_init=1, batch_size=1024, max_iter=30)
    clusters = model.fit_predict(vectors[best], sample_weight=weights)
    nearest: dict[int, tuple[float, int]] = {}
    distances = np.linalg.norm(vectors[best] - model.cluster_centers_[clusters], axis=1)
    for rank, (cluster, distance) in enumerate(zip(clusters.tolist(), distances.tolist(), strict=True)):
        nearest[cluster] = min(nearest.get(cluster, (distance, rank)), (distance, rank))
    ranks = {rank for _, rank in nearest.values()}
    for rank in range(len(best)):  # empty clusters leave places
        if len(ranks) == number:
            break
        ranks.add(rank)
    return [best[rank] for rank in sorted(ranks)]


def _reasons(best: list[tuple[str, float]], says: Counter[str], cluster: PoolCluster) -> tuple[str, ...]:
    unsure = "unsure: " + ", ".join(f"{label} {probability:.2f}" for label, probability in best)
    split = "" if len(says) == 1 else "the committee is split: " + ", ".join(
        f"{label} {votes} of {says.total()}" for label, votes in says.most_common()
    )  # fmt: skip
    held = f"{cluster.labelled_rows:,} labelled, {cluster.pool_rows:,} in the pool"
    kind = f"rows like it ({cluster.words}): {held}"
    return tuple(reason for reason in (unsure, split, kind) if reason)
