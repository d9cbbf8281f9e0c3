"""What the rows cover: balance of classes, clusters of inputs, thin corners, and variety of words."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from sklearn.cluster import MiniBatchKMeans

from tunesmith.data.audit.classifier import Floats, text_features
from tunesmith.data.audit.findings import AuditData, CheckResult, Finding, answered
from tunesmith.data.audit.sampling import sample_rows, sample_told
from tunesmith.data.duplicates import compared_text, words
from tunesmith.data.label_sets import target_labels
from tunesmith.data.numbered import numbered_words
from tunesmith.task.kinds import LABELLED

CHECK = "diversity"
MOST_ROWS = 20_000
MINIMUM_ROWS = 100
THIN_LABEL = 10  # rows: too few to learn a label from and to test it
THIN_CLUSTER = 0.2  # of the size that clusters would have if all were equal
DOMINANT = 0.9  # share of one label from which on a constant answer looks good
REDUNDANT = 0.9  # cosine: rows so close to another that they add little
NAMED = 5


def check_diversity(data: AuditData, most_rows: int = MOST_ROWS) -> CheckResult:
    """Findings: a dominant label, labels with fewer than 10 rows, thin clusters.

    Clusters are those of a mini-batch k-means over TF-IDF vectors (√(rows/2) clusters, at most 100) and are
    named by the words that set them apart. Unmeasured with fewer than 100 rows or no words.
    """
    if len(data.rows) < MINIMUM_ROWS:
        return CheckResult(CHECK, "unmeasured", f"needs {MINIMUM_ROWS} rows, found {len(data.rows):,}")
    sampled = sample_rows(data.rows, most_rows)
    rows = [data.rows[index] for index in sampled]
    vectors = text_features(rows)
    if vectors is None:
        return CheckResult(
            CHECK, "unmeasured", f"the inputs of {len(rows):,} rows hold no words and no characters in common"
        )
    texts = [words(compared_text(row)) for row in rows]
    clusters = clusters_of(vectors)
    findings = [*_balance(data), *_thin_clusters(clusters, texts, sampled)]
    redundant = _redundant_share(vectors, clusters)
    variety = lexical_variety(texts)
    summary = (
        f"{_effective(clusters):.0f} effective clusters of {int(clusters.max()) + 1}; {redundant:.0%} of "
        f"rows are very close to another (cosine {REDUNDANT} or more); {variety['types']:,.0f} different "
        f"words, distinct-2 {variety['distinct_2']:.2f}, {_label_text(data)}"
        f"{sample_told(len(rows), len(data.rows))}"
    )
    sampled_rows = len(rows) if len(rows) < len(data.rows) else None
    return answered(CHECK, summary, findings, sampled_rows)


def lexical_variety(texts: Sequence[Sequence[str]]) -> dict[str, float]:
    """``types``, ``tokens``, ``type_token``, and ``distinct_1`` to ``distinct_3`` (Li et al. 2016).

    distinct-n: different n-grams over all n-grams, 0 where there are none. It falls as data grows, so
    compare equal numbers of rows only.
    """
    numbered = numbered_words(texts)
    tokens, types, owners = len(numbered.numbers), len(numbered.words), numbered.owners
    found: dict[str, float] = {
        "tokens": tokens,
        "types": types,
        "type_token": types / tokens if tokens else 0.0,
    }
    starts, codes = np.arange(tokens), numbered.numbers.astype(np.int64)
    for n in (1, 2, 3):
        different, codes = np.unique(codes, return_inverse=True)
        found[f"distinct_{n}"] = len(different) / len(codes) if len(codes) else 0.0
        longer = starts + n < tokens
        longer[longer] = owners[starts[longer] + n] == owners[starts[longer]]
        starts = starts[longer]
        codes = codes[longer] * max(1, types) + numbered.numbers[starts + n]
    return found


def clusters_of(vectors: Floats) -> npt.NDArray[np.intp]:
    """The cluster of each row, shape (rows,)."""
    number = max(2, min(100, round(math.sqrt(len(vectors) / 2))))
    model = MiniBatchKMeans(number, random_state=0, n_init=3, batch_size=1024, max_iter=50)
    found: npt.NDArray[np.intp] = np.unique(model.fit_predict(vectors), return_inverse=True)[1]
    return found


def _effective(clusters: npt.NDArray[np.intp]) -> float:
    """How many clusters of equal size would be as even: the exponential of the entropy (Hill 1973)."""
    shares = np.bincount(clusters) / len(clusters)
    return float(np.exp(-(shares * np.log(shares)).sum()))


def _redundant_share(vectors: Floats, clusters: npt.NDArray[np.intp]) -> float:
    """The share of rows with a very close neighbour in their own cluster, of at most 500 rows of each."""
    redundant = looked_at = 0
    for cluster in range(int(clusters.max()) + 1):
        members = vectors[clusters == cluster]
        asked = members[:500]
        close = (asked @ members.T) >= REDUNDANT
        redundant += int((close.sum(axis=1) > 1).sum())
        looked_at += len(asked)
    return redundant / looked_at


def _balance(data: AuditData) -> list[Finding]:
    sets = data.kind == "tag"
    targets = Counter(row.target for row in data.rows)
    if not sets and len(targets) > len(data.rows) / 2:
        return []  # free text: every target is its own class
    counts = target_labels(data.rows, sets)
    named = "label" if data.kind in LABELLED else "target"
    findings = []
    for label, most in counts.most_common(1):
        if most >= DOMINANT * len(data.rows):
            of_all = f"{most / len(data.rows):.1%} of {len(data.rows):,} rows"
            evidence = f"{of_all} have the {named} '{label[:80]}'"
            rows = _having({label}, data)
            findings.append(Finding(f"one {named} dominates", "warning", rows, evidence, "keep"))
    if sets and targets["[]"] >= DOMINANT * len(data.rows):
        rows = tuple(index for index, row in enumerate(data.rows) if row.target == "[]")
        evidence = f"{len(rows) / len(data.rows):.1%} of {len(data.rows):,} rows have no label"
        findings.append(Finding("few rows have labels", "warning", rows, evidence, "keep"))
    if data.kind not in LABELLED:
        return findings  # a text need not come again
    thin = sorted((label for label in counts if counts[label] < THIN_LABEL), key=lambda x: (counts[x], x))
    if thin:
        shown = ", ".join(f"'{label}' ({counts[label]})" for label in thin[:NAMED])
        evidence = f"{len(thin):,} of {len(counts):,} labels have fewer than {THIN_LABEL} rows: {shown}"
        findings.append(Finding("thin labels", "warning", _having(set(thin), data), evidence, "keep"))
    return findings


def _having(labels: set[str], data: AuditData) -> tuple[int, ...]:
    """The rows with one of ``labels``."""
    sets = data.kind == "tag"
    return tuple(
        index for index, row in enumerate(data.rows) if not labels.isdisjoint(target_labels([row], sets))
    )


def _label_text(data: AuditData) -> str:
    targets = Counter(row.target for row in data.rows)
    if data.kind == "tag":
        counts = target_labels(data.rows, label_sets=True)
        least, most = (min(counts.values()), max(counts.values())) if counts else (0, 0)
        return (
            f"{len(counts):,} labels of {least:,} to {most:,} rows in {len(targets):,} different sets, "
            f"{counts.total() / len(data.rows):.2f} labels a row, {targets['[]'] / len(data.rows):.1%} of "
            "rows without any"
        )
    if data.kind != "classify":
        return f"{len(targets):,} different targets"
    if len(targets) > len(data.rows) / 2:
        return "free-text targets"
    ordered = targets.most_common()
    return f"{len(targets):,} labels of {ordered[-1][1]:,} to {ordered[0][1]:,} rows"


def naming_words(members: Sequence[Sequence[str]], everywhere: Counter[str]) -> str:
    """Three words that most texts of a cluster have and few others; ``everywhere`` counts texts by word."""
    inside = Counter(word for text in members for word in set(text))
    best = sorted(inside, key=lambda word: (-(inside[word] ** 2) / everywhere[word], word))[:3]
    return " ".join(best)


def _thin_clusters(
    clusters: npt.NDArray[np.intp], texts: Sequence[Sequence[str]], sampled: Sequence[int]
) -> list[Finding]:
    sizes = np.bincount(clusters)
    thin = np.flatnonzero(sizes < THIN_CLUSTER * len(clusters) / len(sizes))
    if not len(thin):
        return []
    everywhere = Counter(word for text in texts for word in set(text))
    named = []
    for cluster in sorted(thin.tolist(), key=lambda cluster: (sizes[cluster], cluster))[:NAMED]:
        members = [texts[index] for index in np.flatnonzero(clusters == cluster).tolist()]
        named.append(f"{naming_words(members, everywhere)} ({len(members)} rows)")
    rows = tuple(sampled[index] for index in np.flatnonzero(np.isin(clusters, thin)).tolist())
    evidence = f"{len(thin)} of {len(sizes)} clusters are thin: {'; '.join(named)}"
    return [Finding("thin clusters", "note", rows, evidence, "keep")]
