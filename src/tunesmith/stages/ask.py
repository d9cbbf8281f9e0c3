"""Stage 7: ask the tuned model, and see the training rows that are most like the question."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tunesmith.errors import UserError
from tunesmith.files import read_record
from tunesmith.records import Candidate, Message, Row
from tunesmith.run_records import RunSummary
from tunesmith.stages.answering import judging_of
from tunesmith.stages.passages import library_of
from tunesmith.stages.session import Session

if TYPE_CHECKING:
    from tunesmith.candidates.retrieval import Library
    from tunesmith.models.loading import LoadedModel


@dataclass(frozen=True)
class Choice:
    """One label and its temperature-calibrated probability."""

    label: str
    probability: float


@dataclass(frozen=True)
class NearRow:
    """A training row like the question, where it came from, and how like it is (cosine, 0 to 1)."""

    source: str
    target: str
    text: str
    similarity: float


@dataclass(frozen=True)
class Asked:
    """An answer of the tuned model. ``verdict`` is what its run decided about it.

    With texts ``probability`` is None, and there are no ``choices``. Where the task knows "none of these",
    ``threshold`` is the probability below which no label is given, and ``probability`` of such an answer that
    the likeliest label does not fit.
    """

    text: str
    answer: str
    probability: float | None
    choices: tuple[Choice, ...]
    nearest: tuple[NearRow, ...]
    adapter_sha256: str
    verdict: str
    threshold: float | None = None


def ask(session: Session, text: str, nearest: int = 3, choices: int = 3) -> Asked:
    """The tuned model's answer to ``text``, by the same prompt and scoring or writing as in its evaluation.

    A long text is cut into windows, and their answers merged, as the documents of its test were.
    Raises UserError when the task has no finished run, when the text is empty or does not fit the base.
    """
    from tunesmith.candidates.nearest import most_similar
    from tunesmith.candidates.scope import threshold_of
    from tunesmith.candidates.tuned import put_adapter
    from tunesmith.candidates.tuned_prompts import passages_of
    from tunesmith.data.versions import load_dataset, read_split

    if not text.strip():
        raise UserError("the question is empty", fix='give a text: tunesmith ask NAME "some text"')
    summary = finished_run(session)
    training = summary.training
    loaded = put_adapter(session.loaded(training.precision), session.folder.trained(training.adapter_folder))
    row = Row("", "your text", (Message("user", text),), "")
    candidate = summary.tuned_validation.candidate
    train = read_split(load_dataset(session.folder.datasets / summary.manifest.version[:12]), "train")
    library = library_of(session.task, train) if passages_of(candidate) else None
    if summary.kind == "classify":
        labels = judging_of(session.task, summary.manifest.labels).labels
        answer, found, probability = _label(loaded, candidate, labels, row, choices, library)
    else:
        labels = summary.manifest.labels if summary.kind == "tag" else ()
        answer, found, probability = _text(loaded, candidate, row, library, labels), (), None
    near = most_similar(train, [row], nearest)[0]
    return Asked(
        text=text,
        answer=answer,
        probability=probability,
        choices=found,
        nearest=tuple(NearRow(one.source, one.target, one.text, similarity) for one, similarity in near),
        adapter_sha256=training.adapter_sha256,
        verdict=summary.verdict.decision,
        threshold=threshold_of(candidate),
    )


def _label(
    loaded: LoadedModel,
    candidate: Candidate,
    labels: tuple[str, ...],
    row: Row,
    choices: int,
    library: Library | None,
) -> tuple[str, tuple[Choice, ...], float]:
    from tunesmith.candidates.tuned import TunedModel, answer_tuned, label_probabilities, score_tuned
    from tunesmith.candidates.tuned_prompts import passages_of
    from tunesmith.data.windowed import cutting_of_candidate

    instruction = str(candidate.settings["instruction"])
    cutting = cutting_of_candidate(candidate)
    tuned = TunedModel(loaded, instruction, labels, passages_of(candidate), library, cutting)
    scores = score_tuned(tuned, [row], 0.0)
    probabilities = label_probabilities(candidate, scores)[0]
    order = sorted(range(len(labels)), key=lambda index: -probabilities[index])[:choices]
    found = tuple(Choice(labels[index], float(probabilities[index])) for index in order)
    answered = answer_tuned(candidate, labels, scores)
    assert answered.probabilities is not None  # the tuned candidate always has them
    return answered.labels[0], found, float(answered.probabilities[0])


def _text(
    loaded: LoadedModel,
    candidate: Candidate,
    row: Row,
    library: Library | None,
    labels: tuple[str, ...],
) -> str:
    from tunesmith.candidates.texts import Writing, answer_by_tuned
    from tunesmith.candidates.tuned_prompts import passages_of
    from tunesmith.data.windowed import cutting_of_candidate

    settings = candidate.settings
    written = settings.get("json_schema")
    schema = None if written is None else json.loads(str(written))
    limit = int(str(settings["max_new_tokens"]))
    cutting = cutting_of_candidate(candidate)
    writing = Writing(loaded, str(settings["instruction"]), limit, schema, (), library, labels, cutting)
    return answer_by_tuned(writing, [row], passages=passages_of(candidate)).labels[0]


def finished_run(session: Session) -> RunSummary:
    """The task's last finished run. UserError where there is none."""
    if not session.folder.summary.is_file():
        raise UserError(
            f"{session.task.name}: no finished run",
            fix="run it first: tunesmith run, with its task file",
        )
    return read_record(session.folder.summary, RunSummary)
