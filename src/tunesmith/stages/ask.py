"""Stage 7: ask the tuned model, and see the training rows that are most like the question."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tunesmith.errors import UserError
from tunesmith.files import read_record
from tunesmith.records import Message, Row
from tunesmith.run_records import RunSummary
from tunesmith.stages.session import Session


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
    """An answer of the tuned model. ``verdict`` is what its run decided about it."""

    text: str
    answer: str
    probability: float
    choices: tuple[Choice, ...]
    nearest: tuple[NearRow, ...]
    adapter_sha256: str
    verdict: str


def ask(session: Session, text: str, nearest: int = 3, choices: int = 3) -> Asked:
    """The tuned model's answer to ``text``, by the same prompt and label scoring as in its evaluation.

    Raises UserError when the task has no finished run, when the text is empty or does not fit the base.
    """
    from tunesmith.candidates.prompts import most_similar
    from tunesmith.candidates.tuned import (
        TunedModel,
        answer_tuned,
        label_probabilities,
        put_adapter,
        score_tuned,
    )
    from tunesmith.data.versions import load_dataset, read_split

    if not text.strip():
        raise UserError("the question is empty", fix='give a text: tunesmith ask NAME "some text"')
    summary = _finished_run(session)
    training = summary.training
    loaded = put_adapter(session.loaded(training.precision), Path(training.adapter_folder))
    row = Row("", "your text", (Message("user", text),), "")
    labels = summary.manifest.labels
    candidate = summary.tuned_validation.candidate
    scores = score_tuned(TunedModel(loaded, str(candidate.settings["instruction"]), labels), [row], 0.0)
    probabilities = label_probabilities(candidate, scores)[0]
    answers = answer_tuned(candidate, labels, scores)
    order = sorted(range(len(labels)), key=lambda index: -probabilities[index])[:choices]
    train = read_split(load_dataset(session.folder.datasets / summary.manifest.version[:12]), "train")
    near = most_similar(train, [row], nearest)[0]
    return Asked(
        text=text,
        answer=answers.labels[0],
        probability=float(probabilities[order[0]]),
        choices=tuple(Choice(labels[index], float(probabilities[index])) for index in order),
        nearest=tuple(NearRow(one.source, one.target, one.text, similarity) for one, similarity in near),
        adapter_sha256=training.adapter_sha256,
        verdict=summary.verdict.decision,
    )


def _finished_run(session: Session) -> RunSummary:
    if not session.folder.summary.is_file():
        raise UserError(
            f"{session.task.name}: no finished run to ask",
            fix=f"run it first: tunesmith run {session.folder.task_file}",
        )
    return read_record(session.folder.summary, RunSummary)
