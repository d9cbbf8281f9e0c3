"""Is it enough? A learning curve of the fast classifier, and what twice the rows would buy."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier

from tunesmith.data.audit.classifier import group_folds
from tunesmith.data.audit.findings import AuditData, CheckResult, Finding
from tunesmith.data.audit.ngrams import ngram_matrix
from tunesmith.data.audit.sampling import sample_rows, sample_told
from tunesmith.data.duplicates import compared_text
from tunesmith.records import Answer
from tunesmith.stats.learning_curve import extrapolated_gain

CHECK = "size"
MOST_ROWS = 10_000
MINIMUM_ROWS = 200
MINIMUM_GROUPS = 50
REPEATS = 5  # folds, each with a draw of its own
SLICES = 8  # of the training rows, each with its share of every label
SHARES = (0.125, 0.25, 0.5, 0.75, 1.0)
LABELS_NAMED = 5
WORTH_COLLECTING = 0.02  # of accuracy, from which on twice the rows are worth a warning


def check_size(data: AuditData, most_rows: int = MOST_ROWS) -> CheckResult:
    """Failed when twice the rows would surely bring 2 points or more, passed when surely less.

    The classifier is a linear one on word n-grams: a language model needs fewer rows, but where this curve
    still falls steeply, the data does not cover the task. Unmeasured below 200 rows or 50 groups,
    for free-text targets, and where the extrapolation leaves both open.
    """
    sampled = sample_rows(data.rows, most_rows)
    rows = [data.rows[index] for index in sampled]
    targets = [row.target for row in rows]
    counts = Counter(targets)
    groups = [row.group or str(index) for index, row in zip(sampled, rows, strict=True)]
    different = len(set(groups))
    if len(rows) < MINIMUM_ROWS or different < MINIMUM_GROUPS or not 2 <= len(counts) <= len(rows) / 5:
        return CheckResult(
            CHECK,
            "unmeasured",
            f"a learning curve needs {MINIMUM_ROWS} rows in {MINIMUM_GROUPS} groups and 2 labels of 5 rows "
            f"on average; found {len(rows):,} rows in {different:,} groups with {len(counts):,} different "
            "targets",
        )
    matrix = ngram_matrix([compared_text(row) for row in rows], characters=False)
    if matrix is None:
        return CheckResult(CHECK, "unmeasured", f"the inputs of {len(rows):,} rows hold no words in common")
    sizes, errors = learning_curve(matrix, targets, groups)
    gain = extrapolated_gain(sizes, errors, factor=2.0)
    reached = 1 - float(errors[:, -1].mean())
    told = (
        f"a linear classifier gets {reached:.1%} right with {sizes[-1]:,.0f} training rows; twice as many "
        f"would bring {100 * gain.value:+.1f} points [{100 * gain.low:.1f}, {100 * gain.high:.1f}]"
        f"{sample_told(len(rows), len(data.rows))}"
    )
    sampled_rows = len(rows) if len(rows) < len(data.rows) else None
    if gain.low >= WORTH_COLLECTING:
        rare = sorted(counts, key=lambda label: (counts[label], label))[:LABELS_NAMED]
        advice = f"collect more rows, first of the labels with the fewest: {', '.join(rare)}"
        finding = Finding("more rows would help", "warning", (), advice, "keep")
        return CheckResult(CHECK, "failed", told, (finding,), sampled_rows)
    answer: Answer = "passed" if gain.high < WORTH_COLLECTING else "unmeasured"
    return CheckResult(CHECK, answer, told, (), sampled_rows)


def learning_curve(
    matrix: csr_matrix, targets: Sequence[str], groups: Sequence[str]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Mean numbers of training rows, shape (shares,), and held-out errors, shape (repeats, shares).

    Each repeat holds out another fifth of the groups and trains on growing shares of the others.
    """
    wanted = np.array(targets)
    fold = group_folds(groups, targets, REPEATS)
    sizes = np.zeros((REPEATS, len(SHARES)))
    errors = np.zeros((REPEATS, len(SHARES)))

    def measure(repeat: int) -> None:
        test = np.flatnonzero(fold == repeat)
        train = np.flatnonzero(fold != repeat)
        own_groups = [groups[index] for index in train.tolist()]
        order = group_folds(own_groups, wanted[train].tolist(), SLICES, seed=repeat + 1)
        for place, share in enumerate(SHARES):
            part = train[order < round(share * SLICES)]
            known = np.unique(wanted[part])
            if len(known) < 2:
                answers = np.full(len(test), known[0] if len(known) else "")
            else:
                model = OneVsRestClassifier(LogisticRegression(C=10.0, solver="liblinear", random_state=0))
                answers = model.fit(matrix[part], wanted[part]).predict(matrix[test])
            sizes[repeat, place] = len(part)
            errors[repeat, place] = float((answers != wanted[test]).mean())

    # LIBLINEAR works on one core and lets other threads run meanwhile.
    with ThreadPoolExecutor(min(REPEATS, os.cpu_count() or 1)) as threads:
        for _ in threads.map(measure, range(REPEATS)):
            pass
    return sizes.mean(axis=0), errors
