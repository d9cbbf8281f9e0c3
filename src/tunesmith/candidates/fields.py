"""Fields of a text by linear models: one support vector machine for each field, over its training values."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from sklearn.svm import LinearSVC

from tunesmith.candidates.classical import fit_vectorizers, vectorised
from tunesmith.records import Row

# Rarer values of a field with more of them are never answered.
MOST_VALUES = 200


class FieldModels:
    """Learned from ``train``, whose targets are JSON objects; ``c`` is the inverse of the regularisation."""

    def __init__(self, train: Sequence[Row], c: float) -> None:
        targets = [json.loads(row.target) for row in train]
        self._vectorizers, matrix = fit_vectorizers("words and characters", train)
        self._models: dict[str, Any] = {}
        for name in dict.fromkeys(name for target in targets for name in target):
            values = [json.dumps(target.get(name), ensure_ascii=False) for target in targets]
            known = {value for value, _ in Counter(values).most_common(MOST_VALUES)}
            chosen = [index for index, value in enumerate(values) if value in known]
            if len(known) == 1:
                self._models[name] = values[chosen[0]]
            else:
                model = LinearSVC(C=c, random_state=0)
                self._models[name] = model.fit(matrix[chosen], [values[index] for index in chosen])

    def answers(self, rows: Sequence[Row]) -> list[str]:
        """One JSON object for each row, every field that a training target has in it."""
        matrix = vectorised(self._vectorizers, rows)
        columns = {
            name: [model] * len(rows) if isinstance(model, str) else list(model.predict(matrix))
            for name, model in self._models.items()
        }
        return [
            json.dumps({name: json.loads(values[at]) for name, values in columns.items()}, ensure_ascii=False)
            for at in range(len(rows))
        ]


def can_learn_fields(train: Sequence[Row]) -> bool:
    """Whether every target is a JSON object, and the inputs hold anything to learn from."""
    if not all(isinstance(json.loads(row.target), dict) for row in train):
        return False
    return bool(fit_vectorizers("words and characters", train)[0])
