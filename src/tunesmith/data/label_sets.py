"""Several labels a row: a set of labels, read from a list or a text, and written in one way.

That way is a JSON list in alphabetical order. So equal sets are equal texts, whatever order a file has them
in, and every part that compares, hashes or learns targets can do so as with any other target.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence

from tunesmith.errors import UserError
from tunesmith.records import Row

_BETWEEN = re.compile(r"[,;\n]")


def label_set_text(labels: Iterable[str]) -> str:
    """``["card", "fee"]``: of all texts that name a set, the one that is stored, learned and written."""
    return json.dumps(sorted(set(labels)), ensure_ascii=False)


def labels_of(target: str) -> tuple[str, ...]:
    """The labels in a text as :func:`label_set_text` writes it. UserError where it is no list of texts."""
    try:
        listed = json.loads(target)
    except (ValueError, RecursionError):
        listed = None
    if not isinstance(listed, list) or not all(isinstance(label, str) for label in listed):
        raise UserError(
            f"{target[:80]!r} is no set of labels",
            'with kind: tag write a JSON list, such as ["card", "fee"], and [] where no label fits',
        )
    return tuple(listed)


def label_set(text: str) -> set[str]:
    """The labels that a target or an answer names: a JSON list, or texts parted by commas and the like."""
    stripped = text.strip()
    if stripped.startswith("["):
        try:
            listed = json.loads(stripped)
        except (ValueError, RecursionError):
            pass
        else:
            return {str(label).strip() for label in listed}
    return {label.strip() for label in _BETWEEN.split(stripped) if label.strip()}


def target_labels(rows: Iterable[Row], label_sets: bool) -> Counter[str]:
    """How many rows have each label; with ``label_sets`` a row has those of its set, else its target."""
    if not label_sets:
        return Counter(row.target for row in rows)
    return label_rows(row.target for row in rows)


def label_rows(targets: Iterable[str]) -> Counter[str]:
    """How many of these sets have each label."""
    return Counter(label for target in targets for label in labels_of(target))


def rarest_labels(rows: Sequence[Row]) -> dict[str, str]:
    """For each set of labels among ``rows``, what it is drawn by: its label that fewest rows have.

    A label that is rare among rows then comes to each split in proportion, which drawing by whole sets, most
    of them seen once or twice, cannot do (the first step of iterative stratification, Sechidis et al. 2011).
    The empty set is drawn by itself.
    """
    counts = target_labels(rows, label_sets=True)
    return {
        target: min(labels_of(target), key=lambda label: (counts[label], label), default="")
        for target in {row.target for row in rows}
    }


def read_label_set(value: object, separator: str | None) -> str:
    """A cell as the text of its set: a list, a JSON list as text, or labels parted by ``separator``.

    Raises ValueError saying what is wrong with it, to follow the name of the column: "is null …".
    """
    if value is None:
        raise ValueError("is null (write [] where no label fits)")
    if isinstance(value, str):
        value = _listed(value, separator)
    if not isinstance(value, list):
        raise ValueError(f"holds {value!r:.60}, not a list of labels")
    labels = [_label(place, one) for place, one in enumerate(value, start=1)]
    twice = [label for label, times in Counter(labels).items() if times > 1]
    if twice:
        raise ValueError(f"names the label {twice[0]!r} twice")
    return label_set_text(labels)


def _listed(text: str, separator: str | None) -> list[object]:
    stripped = text.strip()
    as_json: object = None
    if stripped.startswith("["):
        try:
            as_json = json.loads(stripped)
        except (ValueError, RecursionError):
            as_json = None
    if separator is not None:
        if isinstance(as_json, list):
            raise ValueError("is a JSON list, which needs no data.label_separator: leave that out")
        parts = [part.strip() for part in stripped.split(separator)] if stripped else []
        if not all(parts):
            raise ValueError(f"names nothing beside a {separator!r}")
        return list(parts)
    if isinstance(as_json, list):
        return as_json
    told = "is empty (write [] where no label fits)" if not stripped else f"holds {stripped[:60]!r}"
    raise ValueError(
        f"{told}, not a list of labels; if labels are parted by a sign, name it as data.label_separator"
    )


def _label(place: int, value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise ValueError(f"holds {value!r:.60} as label {place}, which is no text")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(f"holds half a surrogate pair in label {place}") from None
    return value.strip()
