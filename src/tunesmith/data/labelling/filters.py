"""Which made rows are worth training on: no copies, and a label that other rows bear out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS
from sklearn.linear_model import LogisticRegression

from tunesmith.data.audit.classifier import FOLDS, INVERSE_PENALTY, group_folds, text_features
from tunesmith.data.duplicates import compared_text, words
from tunesmith.data.made import How, MadeRow
from tunesmith.records import Row

# A swap is made to teach that a group's word changes nothing: a classifier that thinks otherwise is no judge.
JUDGED: tuple[How, ...] = ("paraphrase", "from attributes", "model")
LEAST_LENGTH, MOST_LENGTH = 0.5, 2.0
LEAST_SHARED = 1 / 3


@dataclass(frozen=True)
class Kept:
    """The made rows that passed, and how many did not, by reason. ``judged`` is False where answers are free
    text, so that no classifier could be asked."""

    rows: tuple[MadeRow, ...]
    left_out: dict[str, int]
    judged: bool


def keep_made(made: Sequence[MadeRow], rows: Sequence[Row], held_out: Sequence[Row] = ()) -> Kept:
    """``made`` without copies of other rows or of each other after normalisation, and, where targets are
    labels, without those that a classifier gives another label.

    The classifier (logistic regression on words and characters) learns from ``rows``, those of training, but
    never from the group of the row that a made row comes from. Of ``held_out`` (validation and test) only the
    texts are compared. What is merely like one of them is left out when the data are frozen.
    """
    left_out: Counter[str] = Counter()
    seen = {words(compared_text(row)) for row in (*rows, *held_out)}
    fresh = []
    for one in made:
        text = words(_text(one))
        if text in seen:
            left_out["a copy"] += 1
            continue
        seen.add(text)
        fresh.append(one)
    labels = {row.target for row in rows}
    judged = 1 < len(labels) <= max(20, len(rows) / 5)
    if not judged:
        return Kept(tuple(fresh), dict(left_out), False)
    agrees = _agrees(fresh, rows)
    left_out["another label, by a classifier"] += int((~agrees).sum())
    kept = tuple(one for one, right in zip(fresh, agrees.tolist(), strict=True) if right)
    return Kept(kept, {why: number for why, number in left_out.items() if number}, True)


def keeps_meaning(before: str, after: str) -> str | None:
    """Why a rewritten text cannot mean the same, or None.

    It is neither much shorter nor much longer, has the same numbers, asks where the other asks (small models
    tend to answer instead of rewriting), and shares a third of the other words but English stop words.
    """
    old, new = words(before), words(after)
    if not LEAST_LENGTH <= len(new) / len(old) <= MOST_LENGTH:
        return "much shorter or longer"
    numbers = [[word for word in text if any(letter.isdigit() for letter in word)] for text in (old, new)]
    if sorted(numbers[0]) != sorted(numbers[1]):
        return "other numbers"
    if ("?" in before) != ("?" in after):
        return "a question no more, or only now"
    telling = set(old) - ENGLISH_STOP_WORDS - set(numbers[0])
    return None if len(telling & set(new)) >= LEAST_SHARED * len(telling) else "hardly a word in common"


def _agrees(made: Sequence[MadeRow], rows: Sequence[Row]) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    agrees = np.ones(len(made), bool)
    asked = [place for place, one in enumerate(made) if one.how in JUDGED]
    as_rows = [Row("", "", made[place].messages, made[place].target) for place in asked]
    vectors = text_features([*rows, *as_rows])
    if vectors is None or not asked:
        return agrees
    groups = [row.group or row.id for row in rows]
    targets = [row.target for row in rows]
    fold = group_folds(groups, targets, FOLDS)
    fold_of = dict(zip([row.id for row in rows], fold.tolist(), strict=True))
    known, own = vectors[: len(rows)], vectors[len(rows) :]
    names = np.array(targets)
    for held_out in range(FOLDS):
        places = [
            number for number, place in enumerate(asked) if fold_of.get(made[place].of or "", 0) == held_out
        ]
        train = fold != held_out
        if not places or len(set(names[train])) < 2:
            continue
        model = LogisticRegression(C=INVERSE_PENALTY, max_iter=100, tol=1e-3).fit(known[train], names[train])
        for number, label in zip(places, model.predict(own[places]).tolist(), strict=True):
            agrees[asked[number]] = label == made[asked[number]].target
    return agrees


def _text(one: MadeRow) -> str:
    return compared_text(Row("", "", one.messages, one.target))
