"""Does fine-tuning replace prompting? The tuned model with the base's best prompt, and without it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tunesmith.guard_records import PromptedTuned
from tunesmith.records import Dataset, Plan, Row, Scorecard
from tunesmith.stages.answering import cutting_of, judging_of, writing_of
from tunesmith.stages.asking import drawn
from tunesmith.stages.attacking import Score, answers_of
from tunesmith.stages.embedding import embedder_of
from tunesmith.stages.opponents import OpponentsResult
from tunesmith.stages.passages import library_of
from tunesmith.stages.reasoning import reasoning_of
from tunesmith.stages.session import Session
from tunesmith.stages.train import TrainResult
from tunesmith.task.kinds import LABELLED

if TYPE_CHECKING:  # torch takes seconds to import
    from tunesmith.candidates.forms import PromptForm
    from tunesmith.evaluation.judging import Judging
    from tunesmith.models.loading import LoadedModel

MOST_ROWS = 100
# As many rows as read and write at most so many tokens, but ten at least.
MOST_TOKENS = 10_000
FEWEST_ROWS = 10


def measure_prompted(
    session: Session,
    dataset: Dataset,
    plan: Plan,
    opponents: OpponentsResult,
    train: TrainResult,
    questions: Sequence[Row],
    score: Score,
    alpha_one_sided: float,
) -> PromptedTuned | None:
    """Both on the same rows of validation, paired; ``questions`` are all of them, ``score`` that of rows.

    None where no prompt on the task's base is a finalist, where the best one is the instruction alone, in
    which it was trained, and with a threshold for "none of these", which would have to be set anew.
    """
    from tunesmith.candidates.forms import PromptForm, form_name, form_of
    from tunesmith.candidates.tuned import put_adapter
    from tunesmith.data.versions import read_split
    from tunesmith.evaluation.judging import taught_rows
    from tunesmith.evaluation.slices import score_estimate
    from tunesmith.stats.paired import paired_score_gain

    judging = judging_of(session.task, dataset.manifest.labels)
    card = _best_prompt(session, opponents)
    if card is None or judging.none_of_these is not None:
        return None
    form = form_of(card.candidate.settings)
    if form == PromptForm() and judging.kind not in LABELLED and judging.schema is None:
        return None
    rows = drawn(questions, _rows_for(card))
    learned = taught_rows(judging, read_split(dataset, "train"))
    loaded = put_adapter(session.loaded(plan.precision), Path(train.training.adapter_folder))
    given = _answers(session, loaded, judging, learned, form, rows)
    usual = answers_of(train.validation)
    with_prompt, without = score(rows, given), score(rows, [usual[row.id] for row in rows])
    groups = [row.group for row in rows]
    return PromptedTuned(
        form_name(form),
        score_estimate(with_prompt, groups),
        score_estimate(without, groups),
        paired_score_gain(with_prompt, without, groups, "the same model without it", alpha_one_sided),
    )


def _best_prompt(session: Session, opponents: OpponentsResult) -> Scorecard | None:
    base = session.base().name
    return next(
        (
            card
            for card in opponents.scorecards
            if card.candidate.id in opponents.finalists
            and card.candidate.kind == "prompt"
            and card.candidate.base == base
        ),
        None,
    )


def _rows_for(card: Scorecard) -> int:
    if not card.cost.tokens:
        return MOST_ROWS
    return min(MOST_ROWS, max(FEWEST_ROWS, MOST_TOKENS * card.cost.rows // card.cost.tokens))


def _answers(
    session: Session,
    loaded: LoadedModel,
    judging: Judging,
    learned: Sequence[Row],
    form: PromptForm,
    rows: Sequence[Row],
) -> list[str]:
    """The answers of the tuned model in ``loaded`` under the prompt of ``form``. The variant in which
    labels are compared is chosen anew, on these rows: if anything in the prompt's favour."""
    from tunesmith.candidates.prompts import (
        Prompting,
        choose_variant,
        content_free_prior,
        score_prompt,
        variant_rules,
    )
    from tunesmith.candidates.reasoned import answer_by_reasoning
    from tunesmith.candidates.texts import answer_by_prompt
    from tunesmith.evaluation.judging import value_of_labels

    task = session.task
    with session.bar("guards", "the tuned model with the base's best prompt") as report:
        if form.reasoning:
            return answer_by_reasoning(reasoning_of(task, loaded, judging), rows, report).labels
        if task.kind != "classify":
            writing = writing_of(session, loaded, judging, learned)
            return answer_by_prompt(writing, form, rows, report).labels
        library = library_of(task, learned)
        cutting, embedder = cutting_of(task), embedder_of(session)
        prompting = Prompting(loaded, task.instruction, judging.labels, learned, library, cutting, embedder)
        prior = content_free_prior(prompting, form)
        scores = score_prompt(prompting, form, rows, variant_rules(prompting, prior), report)
        return choose_variant(prompting, form, scores, rows, prior, value_of_labels(judging))[1].labels
