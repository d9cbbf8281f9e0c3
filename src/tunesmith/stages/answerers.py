"""A candidate made ready once, to answer rows as often as they are asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tunesmith.progress import Report
from tunesmith.records import Candidate, Dataset, Plan, Row
from tunesmith.run_records import Training
from tunesmith.stages.answering import judging_of, writing_of, written_answers
from tunesmith.stages.opponents import classical_text
from tunesmith.stages.session import Session

if TYPE_CHECKING:  # torch takes seconds to import
    from tunesmith.candidates.answers import Answers

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
    from tunesmith.candidates.prompts import Prompting, answer_prompt, candidate_rules, score_prompt
    from tunesmith.candidates.scope import threshold_of
    from tunesmith.candidates.tuned import TunedModel, answer_tuned, put_adapter, score_tuned
    from tunesmith.data.versions import read_split
    from tunesmith.engine.lora import lora_disabled
    from tunesmith.evaluation.judging import taught_rows

    if session.task.kind != "classify":
        return _writer(session, dataset, plan, training, candidate)
    judging = judging_of(session.task, dataset.manifest.labels)
    instruction, names = session.task.instruction, labels or judging.labels
    candidate = _relabelled(candidate, judging.labels, names)
    if candidate.kind == "constant":
        return lambda rows, report: answer_majority(candidate, rows)
    if candidate.kind == "classical":
        train = taught_rows(judging, read_split(dataset, "train"))
        model = fit_classical(candidate, train, classical_text(session, train))
        return lambda rows, report: answer_classical(model, rows)
    loaded = session.loaded(plan.precision)
    if candidate.kind == "prompt":
        shown = taught_rows(judging, read_split(dataset, "train"))
        prompting = Prompting(loaded, instruction, names, shown)
        examples = int(str(candidate.settings["examples"]))
        rules = candidate_rules(prompting, candidate)

        def prompted(rows: Sequence[Row], report: Report) -> Answers:
            with lora_disabled(loaded.model):
                scores = score_prompt(prompting, examples, rows, rules, report)
            return answer_prompt(prompting, candidate, scores)

        return prompted
    if threshold_of(candidate) is not None:
        mass = 0.0
    tuned = TunedModel(put_adapter(loaded, Path(training.adapter_folder)), instruction, names)
    return lambda rows, report: answer_tuned(candidate, names, score_tuned(tuned, rows, mass, report))


def _writer(
    session: Session, dataset: Dataset, plan: Plan, training: Training, candidate: Candidate
) -> Answerer:
    from tunesmith.data.versions import read_split
    from tunesmith.evaluation.judging import learned_rows

    judging = judging_of(session.task)
    learned = learned_rows(judging, read_split(dataset, "train"))
    writing = writing_of(session, session.loaded(plan.precision), judging, learned)
    adapter = Path(training.adapter_folder)
    return lambda rows, report: written_answers(writing, candidate, rows, adapter, report)


def _relabelled(candidate: Candidate, usual: Sequence[str], names: Sequence[str]) -> Candidate:
    """The candidate with its label prior, where it has one, in the order of ``names``."""
    prior = candidate.settings.get("prior")
    if not isinstance(prior, list):
        return candidate
    of_label = dict(zip(usual, prior, strict=True))
    return replace(
        candidate, settings={**candidate.settings, "prior": [float(str(of_label[name])) for name in names]}
    )
