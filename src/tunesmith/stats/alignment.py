"""Which phrases of a text speak for which of the attributes that it was written from."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix

Floats = npt.NDArray[np.float64]

ITERATIONS = 6


def aligned_shares(phrases: csr_matrix, pairs: csr_matrix, iterations: int = ITERATIONS) -> Floats:
    """Of each phrase's occurrences, the share that each pair explains, shape (pairs, phrases).

    ``phrases`` (rows, phrases) and ``pairs`` (rows, pairs) are 0 or 1: which phrases a text holds, and which
    attributes with their values it was written from. Expectation maximisation of IBM Model 1 (Brown et al.
    1993) with an empty pair that every row has: of attributes that often stand together, each phrase goes to
    the one that explains it best, where plain co-occurrence (pointwise mutual information) gives it to both.
    """
    rows, number = pairs.shape
    held = pairs.tocsr()
    texts = phrases.tocsr()
    # One entry for each (row, phrase, pair of the row); the empty pair has the last number.
    per_row = np.diff(held.indptr) + 1
    row_of = np.repeat(np.arange(rows), np.diff(texts.indptr))
    times = per_row[row_of]
    entry = np.repeat(np.arange(len(row_of)), times)
    within = np.arange(len(entry)) - np.repeat(np.cumsum(times) - times, times)
    last = within == times[entry] - 1
    place = np.minimum(held.indptr[row_of[entry]] + within, max(0, held.nnz - 1))
    pair = np.where(last, number, held.indices[place] if held.nnz else number)
    cell = pair * texts.shape[1] + texts.indices[entry]
    cells = (number + 1) * texts.shape[1]
    weight = np.ones(len(entry))
    counts = np.zeros((number + 1, texts.shape[1]))
    for _ in range(iterations):
        total = np.bincount(entry, weight, minlength=len(row_of))
        counts = np.bincount(cell, weight / total[entry], minlength=cells).reshape(number + 1, -1)
        chances = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1e-12)
        weight = np.maximum(chances.ravel()[cell], 1e-12)
    shares: Floats = (counts / np.maximum(counts.sum(axis=0, keepdims=True), 1e-12))[:number]
    return shares
