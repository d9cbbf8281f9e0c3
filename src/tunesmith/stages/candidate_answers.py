"""The answers of any candidate to any rows, as on validation so on the sealed test."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tunesmith.errors import UserError
from tunesmith.progress import Report
from tunesmith.records import Candidate, Dataset, Plan, Row
from tunesmith.stages.answering import judging_of, writing_of, written_answers
from tunesmith.stages.bases import loaded_base, other_bases
from tunesmith.stages.endpoints import sealed_endpoint_answers
from tunesmith.stages.passages import library_of
from tunesmith.stages.session import Session
from tunesmith.stages.train import TrainResult

if TYPE_CHECKING:  # torch takes seconds to import
    from tunesmith.candidates.answers import Answers
    from tunesmith.evaluation.judging import Judging
    from tunesmith.models.loading import LoadedModel


def candidate_answers(
    session: Session,
    dataset: Dataset,
    plan: Plan,
    train: TrainResult,
    candidate: Candidate,
    rows: Sequence[Row],
) -> Answers:
    """Answers of the tuned model or of a finalist to opened test rows. ``train`` holds the adapter."""
    from tunesmith.candidates.classical import answer_classical, answer_majority, fit_classical
    from tunesmith.data.versions import read_split
    from tunesmith.evaluation.judging import learned_rows

    judging = judging_of(session.task, dataset.manifest.labels)
    learned = learned_rows(judging, read_split(dataset, "train"))
    where = f"{candidate.name} on the sealed test"
    if candidate.kind == "endpoint":
        with session.bar("verdict", where) as report:
            return sealed_endpoint_answers(session, judging, candidate, learned, rows, report)
    if session.task.kind == "classify" and candidate.kind == "constant":
        return answer_majority(candidate, rows)
    if session.task.kind == "classify" and candidate.kind == "classical":
        return answer_classical(fit_classical(candidate, learned), rows)
    with _model_of(session, plan, candidate) as loaded, session.bar("verdict", where) as report:
        adapter = Path(train.training.adapter_folder) if candidate.kind == "tuned" else Path()
        return model_answers(session, loaded, judging, learned, candidate, rows, adapter, report)


def model_answers(
    session: Session,
    loaded: LoadedModel,
    judging: Judging,
    learned: Sequence[Row],
    candidate: Candidate,
    rows: Sequence[Row],
    adapter: Path,
    report: Report,
) -> Answers:
    """Answers of a prompt on ``loaded``, or of the tuned model, whose ``adapter`` is attached to it.

    ``learned`` are the training rows as they are taught.
    """
    if session.task.kind == "classify":
        return _labels(session, loaded, candidate, judging.labels, learned, rows, adapter, report)
    writing = writing_of(session, loaded, judging, learned)
    return written_answers(writing, candidate, rows, adapter, report)


@contextmanager
def _model_of(session: Session, plan: Plan, candidate: Candidate) -> Iterator[LoadedModel]:
    """The task's base, or the other base that a prompt was tried on."""
    if candidate.kind != "prompt" or candidate.base == session.base().name:
        yield session.loaded(plan.precision)
        return
    base = next((base for base in other_bases(session) if base.name == candidate.base), None)
    if base is None:
        raise UserError(
            f"opponents.bases: {candidate.base} is a finalist, and the task names it no more",
            "put it back into the task, or run the opponents again",
        )
    with loaded_base(session, base, plan.precision) as loaded:
        yield loaded


def _labels(
    session: Session,
    loaded: LoadedModel,
    candidate: Candidate,
    labels: tuple[str, ...],
    learned: Sequence[Row],
    rows: Sequence[Row],
    adapter: Path,
    report: Report,
) -> Answers:
    from tunesmith.candidates.forms import form_of
    from tunesmith.candidates.prompts import Prompting, answer_prompt, candidate_rules, score_prompt
    from tunesmith.candidates.tuned import TunedModel, answer_tuned, put_adapter, score_tuned
    from tunesmith.candidates.tuned_prompts import passages_of
    from tunesmith.engine.lora import lora_disabled

    task = session.task
    if candidate.kind == "prompt":
        prompting = Prompting(loaded, task.instruction, labels, learned, library_of(task, learned))
        with lora_disabled(loaded.model):
            rules = candidate_rules(prompting, candidate)
            scores = score_prompt(prompting, form_of(candidate.settings), rows, rules, report)
        return answer_prompt(prompting, candidate, scores)
    passages = passages_of(candidate)
    library = library_of(task, learned) if passages else None
    tuned = TunedModel(put_adapter(loaded, adapter), task.instruction, labels, passages, library)
    scores = score_tuned(tuned, rows, None, report)
    return answer_tuned(candidate, labels, scores)
