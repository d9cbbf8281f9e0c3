"""The prompt of the tuned model: that of its training, with passages before the text where a task asks."""

from __future__ import annotations

from collections.abc import Sequence

from tunesmith.candidates.forms import PromptForm, Wording, turns_of
from tunesmith.candidates.retrieval import Library
from tunesmith.candidates.shown import ever_shorter, shown_with
from tunesmith.models.loading import LoadedModel
from tunesmith.models.rendering import instructed, render_prompt
from tunesmith.records import Candidate, Row


def passages_of(candidate: Candidate) -> int:
    """How many passages a tuned candidate is shown."""
    return int(str(candidate.settings.get("passages", 0)))


def tuned_prompts(
    loaded: LoadedModel,
    instruction: str,
    rows: Sequence[Row],
    answer_tokens: int,
    passages: int = 0,
    library: Library | None = None,
) -> list[list[int]]:
    """The tokens of each row's prompt. Passages that leave no room for the answer are left out."""
    if not passages:
        return [render_prompt(loaded, instructed(instruction, row)) for row in rows]
    room = loaded.context_tokens - answer_tokens
    wording = Wording(instruction, "")
    prompts = []
    for row, shown in zip(rows, shown_with(PromptForm(passages=passages), (), rows, library), strict=True):
        for less in ever_shorter(shown):
            prompt = render_prompt(loaded, turns_of(wording, row, less))
            if len(prompt) <= room:
                break
        prompts.append(prompt)
    return prompts
