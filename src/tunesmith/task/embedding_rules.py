"""What must be given together with embeddings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tunesmith.task.kinds import LABELLED
from tunesmith.task.lines import Where

_MISSING = "needs an embedding model: give opponents.embeddings (a folder, or a Hub id with its revision)"


def broken_embedding_rules(task: Mapping[str, Any]) -> Iterator[tuple[Where, str]]:
    """Rules about embeddings that the unvalidated ``task`` breaks; values of a wrong type are passed over."""
    opponents = task.get("opponents")
    if not isinstance(opponents, Mapping):
        return
    retrieval = opponents.get("retrieval")
    found_by = _listed(retrieval, "by")
    shows_examples = "embeddings" in _listed(opponents, "few_shot_choice")
    finds_passages = "embeddings" in found_by
    if opponents.get("embeddings") is None:
        if shows_examples:
            yield ("opponents", "few_shot_choice"), f"embeddings {_MISSING}"
        if finds_passages:
            yield ("opponents", "retrieval", "by"), f"embeddings {_MISSING}"
    elif not (shows_examples or finds_passages) and (
        opponents.get("classical") is False or task.get("kind") not in LABELLED
    ):
        yield (
            ("opponents", "embeddings"),
            "nothing uses it: ask for embeddings in few_shot_choice or retrieval.by, or leave it out",
        )
    with_tuned = isinstance(retrieval, Mapping) and retrieval.get("with_tuned") is True
    if with_tuned and found_by and "bm25" not in found_by:
        yield (
            ("opponents", "retrieval", "with_tuned"),
            "the tuned model's passages are found by BM25: add bm25 to opponents.retrieval.by",
        )


def _listed(section: object, name: str) -> list[str]:
    values = section.get(name) if isinstance(section, Mapping) else None
    return [str(value) for value in values] if isinstance(values, (list, tuple)) else []
