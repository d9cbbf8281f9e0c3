"""The best N rows by one of four measures, so that curated data can be compared with controls of its size."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np

from tunesmith.data.audit.classifier import Floats, cross_validate, text_features
from tunesmith.data.duplicates import compared_text
from tunesmith.errors import UserError
from tunesmith.records import Row

Measure = Literal["quality", "diversity", "random", "longest"]
MEASURES: tuple[Measure, ...] = get_args(Measure)


def select_rows(rows: Sequence[Row], number: int, measure: Measure, seed: int = 0) -> tuple[Row, ...]:
    """``number`` of the rows, in their order.

    ``quality``: the highest held-out probability of the row's own label. ``diversity``: each next row is the
    one farthest from all chosen so far, in TF-IDF vectors (Gonzalez 1985), begun at the row nearest the
    mean. ``random`` and ``longest`` (in characters) are the controls. Ties are settled by a hash of the row
    and ``seed``; the order of rows plays no part.

    Raises UserError for more rows than there are, where texts have nothing in common to compare, and where
    answers are free text: they have no such probability.
    """
    if not 1 <= number <= len(rows):
        raise UserError(f"{number:,} rows asked for, {len(rows):,} are there", f"ask for 1 to {len(rows):,}")
    order = sorted(range(len(rows)), key=lambda index: _hash(seed, rows[index].id))
    if measure == "random":
        chosen = order[:number]
    elif measure == "longest":
        chosen = sorted(order, key=lambda index: -len(compared_text(rows[index])))[:number]
    else:
        times = Counter(row.target for row in rows)
        if measure == "quality" and 2 * sum(times[row.target] > 2 for row in rows) < len(rows):
            raise UserError(
                f"{len(times):,} different answers in {len(rows):,} rows: free text has no label whose "
                "probability could tell quality",
                "choose diversity, random or longest",
            )
        vectors = text_features([rows[index] for index in order])
        if vectors is None:
            raise UserError(
                f"the inputs of {len(rows):,} rows hold no words and no characters in common",
                "choose random or longest",
            )
        if measure == "diversity":
            chosen = [order[place] for place in _farthest(vectors, number)]
        else:
            groups = [rows[index].group or rows[index].id for index in order]
            held_out = cross_validate(vectors, [rows[index].target for index in order], groups)
            best = np.argsort(-held_out.of_target, kind="stable")[:number]
            chosen = [order[place] for place in best.tolist()]
    return tuple(rows[index] for index in sorted(chosen))


def _farthest(vectors: Floats, number: int) -> list[int]:
    start = int((vectors @ vectors.mean(axis=0)).argmax())
    chosen = [start]
    nearest = 1 - vectors @ vectors[start]
    while len(chosen) < number:
        nearest[chosen[-1]] = -np.inf
        place = int(nearest.argmax())
        chosen.append(place)
        nearest = np.minimum(nearest, 1 - vectors @ vectors[place])
    return chosen


def _hash(seed: int, text: str) -> str:
    return hashlib.sha256(f"{seed}:{text}".encode()).hexdigest()
