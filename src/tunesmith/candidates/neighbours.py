"""An opponent that needs no training: the label that the most similar training rows have."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from tunesmith.candidates.answers import Answers, Value, accuracy
from tunesmith.candidates.nearest import most_similar
from tunesmith.data.made import learned_sha256, row_weight
from tunesmith.files import content_hash
from tunesmith.records import Candidate, Row

METHOD = "nearest neighbours"
NEIGHBOURS = (1, 3, 5, 10, 20)


def tune_neighbours(
    train: Sequence[Row], validation: Sequence[Row], value: Value = accuracy
) -> tuple[Candidate, Answers]:
    """The number of neighbours that is best by ``value`` on validation, with its answers; on a tie the
    smaller one."""
    near = most_similar(train, validation, max(NEIGHBOURS))
    given = [[_label(rows[:count], train) for rows in near] for count in NEIGHBOURS]
    values = [value(validation, labels) for labels in given]
    best = values.index(max(values))
    return _candidate(NEIGHBOURS[best], train), Answers(given[best], None, 0)


def answer_neighbours(candidate: Candidate, train: Sequence[Row], rows: Sequence[Row]) -> Answers:
    """The answers of a candidate of :func:`tune_neighbours`."""
    count = int(str(candidate.settings["neighbours"]))
    return Answers([_label(near, train) for near in most_similar(train, rows, count)], None, 0)


def _label(near: Sequence[tuple[Row, float]], train: Sequence[Row]) -> str:
    """The label with the most similarity in all; of equal ones that of the most similar row."""
    votes: defaultdict[str, float] = defaultdict(float)
    for row, cosine in near:
        votes[row.target] += cosine * row_weight(row)
    return max(votes, key=lambda label: votes[label]) if votes else train[0].target


def _candidate(count: int, train: Sequence[Row]) -> Candidate:
    name = f"{count} nearest training rows" if count > 1 else "nearest training row"
    identity = content_hash([METHOD, count, learned_sha256(train)])
    return Candidate(identity, "classical", name, {"method": METHOD, "neighbours": count})
