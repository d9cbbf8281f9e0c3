"""Rows that no person wrote or labelled: weak labels and augmentation. They are only ever trained on.

Their file is JSON Lines with ``tunesmith_made_by``, so that nobody takes them for data of their own: as
``data.path`` such a row is refused, ``data.train_extra`` is the place for them. A made row's ``source`` says
how it was made and from what: ``weak label: pool.jsonl:118``.
"""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Literal, get_args

from tunesmith.data.label_sets import target_labels
from tunesmith.data.parsed import MADE_COLUMN, BadRecord, Record, place, refuse
from tunesmith.data.splits import Split
from tunesmith.data.windowed import Cutting, group_documents
from tunesmith.errors import UserError
from tunesmith.files import canonical_json, content_hash, write_text
from tunesmith.records import MadeRows, Message, Row, SetAside

How = Literal["weak label", "paraphrase", "from attributes", "swap", "model"]
HOW: tuple[How, ...] = get_args(How)
# The field of a made row that says how much it counts.
WEIGHT = "weight"
_FIX = "Make the file again with `tunesmith data weak` or `tunesmith data augment`."


@dataclass(frozen=True)
class MadeRow:
    """A row to train on. ``source`` is the place, and ``of`` the id, of the row it was made from.

    ``of`` is None where no row of the data was used (weak labels). ``probability`` is that of a weak label.
    """

    how: How
    source: str
    messages: tuple[Message, ...]
    target: str
    of: str | None = None
    probability: float | None = None


def how_made(row: Row) -> How | None:
    """How a row was made; None for a row of the user's own."""
    for how in HOW:
        if row.source.startswith(f"{how}: "):
            return how
    return None


def row_weight(row: Row) -> float:
    """How much ``row`` counts in training beside others: what a made row's field ``weight`` says, else 1."""
    weight = row.field(WEIGHT) if how_made(row) is not None else None
    return 1.0 if weight is None else float(weight)


def learned_sha256(rows: Sequence[Row]) -> str:
    """Hash of all that can be learned from ``rows``, whatever their order: a repaired row keeps its id."""
    return _learned_sha256(tuple(rows))


@lru_cache(maxsize=8)
def _learned_sha256(rows: tuple[Row, ...]) -> str:
    return content_hash(
        sorted(canonical_json([row.id, row.group, row.messages, row.target, row_weight(row)]) for row in rows)
    )


def count_made(rows: Sequence[Row]) -> tuple[MadeRows, ...]:
    """Made rows by how they were made."""
    weights: defaultdict[How, list[float]] = defaultdict(list)
    for row in rows:
        how = how_made(row)
        if how is not None:
            weights[how].append(row_weight(row))
    return tuple(
        MadeRows(how, len(weights[how]), round(math.fsum(weights[how]), 4)) for how in HOW if weights[how]
    )


def write_made(path: Path, rows: Sequence[MadeRow]) -> None:
    """One JSON object a line, each marked."""
    records = [
        {
            MADE_COLUMN: row.how,
            "source": row.source,
            "of": row.of,
            "probability": row.probability,
            "messages": [{"role": turn.role, "content": turn.content} for turn in row.messages],
            "target": row.target,
        }
        for row in rows
    ]
    try:
        write_text(path, "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records))
    except OSError as error:
        raise UserError(
            f"{path}: cannot be written: {error.strerror}", "give a place you may write to with --out"
        ) from error


def read_made(path: Path) -> tuple[MadeRow, ...]:
    """The rows that :func:`write_made` wrote. Raises UserError for a file that is anything else."""
    from tunesmith.data.formats import open_table

    rows: list[MadeRow] = []
    bad: list[BadRecord] = []
    for record in open_table(path).records:
        if isinstance(record, BadRecord):
            bad.append(record)
            continue
        try:
            rows.append(_made(record))
        except (KeyError, TypeError, ValueError) as error:
            what = f"not a row that was made by Tunesmith ({type(error).__name__}: {error})"
            bad.append(BadRecord(record.line, what, _FIX))
    refuse(path.name, bad, len(rows) + len(bad))
    return tuple(rows)


def add_made(
    split: Split,
    made: Sequence[MadeRow],
    rows: Sequence[Row],
    changed: Collection[str] = (),
    similarity: float = 0.8,
    shingle_words: int = 3,
    weighed: bool = True,
    cutting: Cutting | None = None,
) -> Split:
    """``split`` with ``made`` rows in train; every one that is left out is in the account, with its reason.

    ``rows`` are all rows of the data with their groups; ``changed`` the ids of those that a repair changed.
    Left out are: copies; what was made from a row that is not trained on any more or that a repair changed;
    whatever is like a row of validation or test; and a label that contradicts a like row. Validation and test
    stay as they are, and so do the groups of all other rows. ``weighed``: a weak label counts as much as it
    is probable (:func:`row_weight`).
    """
    candidates = _candidates(made, weighed)
    components = group_documents([*rows, *candidates], cutting, similarity, shingle_words)
    of_component: defaultdict[str, list[Row]] = defaultdict(list)
    for row, component in zip(rows, components, strict=False):
        of_component[component].append(row)
    train = {row.id: row for row in split.train}
    held_out = {row.group for row in (*split.validation, *split.test)}
    seen = {(row.messages, row.target) for row in rows}
    aside: Counter[str] = Counter()
    added: dict[str, Row] = {}
    targets: dict[str, str] = {}
    for one, candidate, component in zip(made, candidates, components[len(rows) :], strict=True):
        like = of_component[component]
        own = train.get(one.of) if one.of is not None else None
        alike = {row.target for row in like if row.id in train and row.id != one.of}
        wanted = targets.setdefault(component, one.target) if one.of is None else one.target
        if (candidate.messages, candidate.target) in seen or candidate.id in added:
            aside["copies of other rows"] += 1
        elif one.of is not None and own is None:
            aside["made from rows that are not trained on"] += 1
        elif one.of is not None and one.of in changed:
            aside["made from rows that a repair changed"] += 1
        elif any(row.group in held_out for row in like):
            aside["like a validation or test row"] += 1
        elif (alike and alike != {one.target}) or wanted != one.target:
            aside["another label than a row like them"] += 1
        else:
            same = own if own is not None and own.target == one.target else None
            known = [same] if same else [row for row in like if row.id in train]
            group = min((row.group for row in known), default=component)
            added[candidate.id] = replace(candidate, group=group)
    trained = {*split.labels, *target_labels(added.values(), split.label_sets)}
    tested = target_labels((row for row in split.test if not row.conflict), split.label_sets)
    return replace(
        split,
        train=tuple(sorted((*split.train, *added.values()), key=lambda row: row.id)),
        labels=tuple(sorted(trained)),
        unmeasured_labels=tuple(sorted(trained - set(tested))),
        set_aside=split.set_aside
        + tuple(SetAside(f"made rows: {why}", number, 0) for why, number in sorted(aside.items())),
    )


def check_only_trained_on(split: Split) -> None:
    """Raises UserError where validation or test holds a made row."""
    for name, rows in (("validation", split.validation), ("test", split.test)):
        found = [row.source for row in rows if how_made(row) is not None]
        if found:
            raise UserError(
                f"{len(found):,} rows of {name} were made, not written by people: {found[0]}",
                "Name made rows as data.train_extra: what is measured must be real.",
            )


def _candidates(made: Sequence[MadeRow], weighed: bool) -> list[Row]:
    candidates = []
    for one in made:
        id = content_hash([one.messages, one.target])[:16]
        fields: tuple[tuple[str, str], ...] = ()
        if one.probability is not None:
            names = ("probability", WEIGHT) if weighed else ("probability",)
            fields = tuple((name, f"{one.probability:.4f}") for name in names)
        candidates.append(Row(id, f"{one.how}: {one.source}", one.messages, one.target, fields=fields))
    return candidates


def _made(record: Record) -> MadeRow:
    fields: Mapping[str, object] = record.fields
    how = next((name for name in HOW if name == fields[MADE_COLUMN]), None)
    turns = fields["messages"]
    if how is None or not isinstance(turns, list) or not turns:
        raise ValueError(f"{place('line', record.line)} is {fields[MADE_COLUMN]!r}")
    messages = tuple(Message(turn["role"], str(turn["content"])) for turn in turns)
    target, source = str(fields["target"]), str(fields["source"])
    if not target.strip() or not "".join(turn.content for turn in messages).strip():
        raise ValueError("an empty text")
    of, probability = fields.get("of"), fields.get("probability")
    return MadeRow(
        how,
        source,
        messages,
        target,
        None if of is None else str(of),
        None if probability is None else float(str(probability)),
    )
