"""A candidate made ready once, to answer rows as often as they are asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tunesmith.errors import UserError
from tunesmith.progress import Report
from tunesmith.records import Candidate, Dataset, Plan, Row
from tunesmith.run_records import Training
from tunesmith.stages.answering import cutting_of, judging_of, writing_of, written_answers
from tunesmith.stages.bases import check_memory, other_bases
from tunesmith.stages.embedding import embedder_of
from tunesmith.stages.endpoints import sealed_endpoint_answers
from tunesmith.stages.opponents import classical_text
from tunesmith.stages.passages import library_of
from tunesmith.stages.reasoning import reasoning_of
from tunesmith.stages.session import Session

if TYPE_CHECKING:  # torch takes seconds to import
    from tunesmith.candidates.answers import Answers
    from tunesmith.evaluation.judging import Judging
    from tunesmith.models.embedding import Embedder
    from tunesmith.models.loading import LoadedModel

Answerer = Callable[[Sequence[Row], Report], "Answers"]


def answerer(
    session: Session,
    dataset: Dataset,
    plan: Plan,
    training: Training,
    candidate: Candidate,
    labels: tuple[str, ...] | None = None,
    mass: float | None = None,
) -> Answerer:
    """What answers rows as ``candidate`` does.

    ``labels`` are those that are learned, in another order where a prompt shall list them so; ``mass`` is the
    probability that the tuned model's scoring may leave out (None: all that the best label does not need,
    see :func:`tunesmith.candidates.tuned.score_tuned`); where there is a threshold, nothing is left out.
    """
    from tunesmith.candidates.classical import answer_classical, answer_majority, fit_classical
    from tunesmith.candidates.embedded import METHOD as EMBEDDED
    from tunesmith.candidates.embedded import answer_embedded, fit_embedded
    from tunesmith.candidates.neighbours import METHOD as NEIGHBOURS
    from tunesmith.candidates.neighbours import answer_neighbours
    from tunesmith.candidates.one_vs_rest import METHOD as ONE_BY_ONE
    from tunesmith.candidates.one_vs_rest import answer_label_models, fit_label_models
    from tunesmith.candidates.scope import threshold_of
    from tunesmith.candidates.texts import answer_by_tuned
    from tunesmith.candidates.tuned import TunedModel, answer_tuned, put_adapter, score_tuned
    from tunesmith.candidates.tuned_prompts import passages_of
    from tunesmith.data.versions import read_split
    from tunesmith.evaluation.judging import taught_rows

    task, usual = session.task, judging_of(session.task, dataset.manifest.labels).labels
    names = labels or usual
    judging = judging_of(task, names)
    learned = taught_rows(judging, read_split(dataset, "train"))
    if candidate.kind == "endpoint":
        return lambda rows, report: sealed_endpoint_answers(
            session, judging, candidate, learned, rows, report
        )
    if task.kind == "classify" and candidate.kind == "constant":
        return lambda rows, report: answer_majority(candidate, rows)
    if task.kind == "classify" and candidate.settings.get("method") == NEIGHBOURS:
        return lambda rows, report: answer_neighbours(candidate, learned, rows)
    if candidate.settings.get("method") == EMBEDDED:
        embedded = fit_embedded(_embedder(session, candidate), candidate, learned)
        return lambda rows, report: answer_embedded(embedded, rows)
    if task.kind == "classify" and candidate.kind == "classical":
        model = fit_classical(candidate, learned, classical_text(session, learned))
        return lambda rows, report: answer_classical(model, rows)
    if task.kind == "tag" and candidate.settings.get("method") == ONE_BY_ONE:
        models = fit_label_models(candidate, learned, classical_text(session, learned))
        return lambda rows, report: answer_label_models(models, rows)
    if candidate.kind == "prompt":
        candidate = _relabelled(candidate, usual, names)
        loaded = _base_of(session, plan, candidate)
        return prompt_answerer(session, loaded, judging, learned, candidate)
    loaded, adapter = session.loaded(plan.precision), Path(training.adapter_folder)
    if task.kind != "classify":
        writing = writing_of(session, loaded, judging, learned)
        if candidate.kind != "tuned":
            return lambda rows, report: written_answers(writing, candidate, rows, adapter, report)
        writer = replace(writing, loaded=put_adapter(loaded, adapter))  # read once, not at every call
        return lambda rows, report: answer_by_tuned(writer, rows, report, passages_of(candidate))
    if threshold_of(candidate) is not None:
        mass = 0.0
    passages = passages_of(candidate)
    library = library_of(task, learned) if passages else None
    loaded = put_adapter(loaded, adapter)
    tuned = TunedModel(loaded, task.instruction, names, passages, library, cutting_of(task))
    return lambda rows, report: answer_tuned(candidate, names, score_tuned(tuned, rows, mass, report))


def prompt_answerer(
    session: Session,
    loaded: LoadedModel,
    judging: Judging,
    learned: Sequence[Row],
    candidate: Candidate,
) -> Answerer:
    """What answers rows as a prompt on ``loaded`` does. ``learned`` are the training rows as taught."""
    from tunesmith.candidates.forms import form_of
    from tunesmith.candidates.prompts import Prompting, answer_prompt, candidate_rules, score_prompt
    from tunesmith.candidates.reasoned import answer_by_reasoning
    from tunesmith.engine.lora import lora_disabled

    task = session.task
    if form_of(candidate.settings).reasoning:
        reasoning = reasoning_of(task, loaded, judging)

        def reasoned(rows: Sequence[Row], report: Report) -> Answers:
            with lora_disabled(loaded.model):
                return answer_by_reasoning(reasoning, rows, report)

        return reasoned
    if task.kind != "classify":
        writing = writing_of(session, loaded, judging, learned)
        return lambda rows, report: written_answers(writing, candidate, rows, Path(), report)
    library = library_of(task, learned)
    cutting, embedder = cutting_of(task), embedder_of(session)
    prompting = Prompting(loaded, task.instruction, judging.labels, learned, library, cutting, embedder)
    rules = candidate_rules(prompting, candidate)

    def prompted(rows: Sequence[Row], report: Report) -> Answers:
        with lora_disabled(loaded.model):
            scores = score_prompt(prompting, form_of(candidate.settings), rows, rules, report)
        return answer_prompt(prompting, candidate, scores)

    return prompted


def _embedder(session: Session, candidate: Candidate) -> Embedder:
    embedder = embedder_of(session)
    if embedder is None or embedder.base.sha256 != candidate.settings["model_sha256"]:
        raise UserError(
            f"opponents.embeddings: {candidate.settings['model']}, on which a finalist rests, is not the "
            "model that the task names now",
            "put it back into the task, or run the opponents again",
        )
    return embedder


def _base_of(session: Session, plan: Plan, candidate: Candidate) -> LoadedModel:
    """The task's base, or the other base that the prompt was tried on."""
    if candidate.base == session.base().name:
        return session.loaded(plan.precision)
    base = next((base for base in other_bases(session) if base.name == candidate.base), None)
    if base is None:
        raise UserError(
            f"opponents.bases: {candidate.base} is a finalist, and the task names it no more",
            "put it back into the task, or run the opponents again",
        )
    check_memory(base, plan.precision)
    return session.load_again(plan.precision, base)


def _relabelled(candidate: Candidate, usual: Sequence[str], names: Sequence[str]) -> Candidate:
    """The candidate with its label prior, where it has one, in the order of ``names``."""
    prior = candidate.settings.get("prior")
    if not isinstance(prior, list):
        return candidate
    of_label = dict(zip(usual, prior, strict=True))
    return replace(
        candidate, settings={**candidate.settings, "prior": [float(str(of_label[name])) for name in names]}
    )
