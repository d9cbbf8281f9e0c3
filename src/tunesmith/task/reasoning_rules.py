"""Where bases can think step by step before they answer, and where not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tunesmith.task.kinds import REASONED_KINDS, VOTED_KINDS
from tunesmith.task.lines import Where


def broken_reasoning_rules(task: Mapping[str, Any]) -> Iterator[tuple[Where, str]]:
    """Rules about thinking first that the unvalidated ``task`` breaks; wrong types are passed over."""
    opponents, kind, none = (task.get(name) for name in ("opponents", "kind", "none_of_these"))
    reasoning = opponents.get("reasoning") if isinstance(opponents, Mapping) else None
    if not isinstance(reasoning, Mapping) or not isinstance(opponents, Mapping):
        return
    if reasoning.get("samples", 1) != 1 and kind not in VOTED_KINDS:
        yield (
            ("opponents", "reasoning", "samples"),
            f"no two free texts are the same, so there is no vote on them: leave it out with kind: {kind}",
        )
    if reasoning.get("chain_of_thought") is not True:
        return
    where = ("opponents", "reasoning", "chain_of_thought")
    if kind not in REASONED_KINDS:
        yield where, f"only for kind: {', '.join(REASONED_KINDS)}, not {kind}: leave it out"
    if isinstance(none, Mapping) and none.get("in_training") is False:
        why = "thinking first, a base says none of these only as a label it is told of: not with "
        yield where, f"{why}in_training: false"
    retrieval = opponents.get("retrieval")
    passages = retrieval.get("k") if isinstance(retrieval, Mapping) else None
    if opponents.get("zero_shot") is False and opponents.get("few_shot") in ([], ()) and not passages:
        yield where, "no base is prompted: set zero_shot: true, or leave it out"
