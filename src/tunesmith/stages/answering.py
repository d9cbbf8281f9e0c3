"""What a task's kind decides for the stages: how answers are judged, and how texts are written."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith.errors import UserError
from tunesmith.records import Candidate, Cost, Row, Scorecard
from tunesmith.stages.embedding import embedder_of
from tunesmith.stages.memory import peak_mb, reset_peak
from tunesmith.stages.passages import documents_sha256, library_of
from tunesmith.stages.session import Session
from tunesmith.task import Task

if TYPE_CHECKING:  # torch, and the libraries behind the metrics, take seconds to import
    from tunesmith.candidates.answers import Answers
    from tunesmith.candidates.texts import Writing
    from tunesmith.data.questions import Questions
    from tunesmith.data.windowed import Cutting
    from tunesmith.evaluation.judging import Judging
    from tunesmith.models.loading import LoadedModel
    from tunesmith.progress import Report
    from tunesmith.training.validation import Metric

# Where a text kind's metric is watched while training, it is measured on so many questions of validation.
WATCHED_QUESTIONS = 64


def judging_of(task: Task, labels: tuple[str, ...] = ()) -> Judging:
    """How answers to ``task`` are judged.

    Raises UserError where the user's own metric cannot be loaded, or the schema cannot be read or used.
    """
    from tunesmith.evaluation.judging import Judging

    goal: Any = task.metric
    if ":" in task.metric:
        from tunesmith.evaluation.metrics.own import load_own_metric

        goal = load_own_metric(task.metric, task.folder)
    none = task.none_of_these
    learned = tuple(label for label in labels if none is None or none.in_training or label != none.label)
    return Judging(task.kind, goal, learned, _schema(task), none)


def check_judging(task: Task) -> None:
    """What can be known to be wrong with the task's metric and schema before any work is done. UserError."""
    if ":" in task.metric or task.json_schema is not None:
        judging_of(task)


def judging_identity(task: Task) -> list[Any]:
    """Everything that decides how answers are judged and how long they may be, for cache keys."""
    own = None
    if ":" in task.metric:
        from tunesmith.evaluation.metrics.own import load_own_metric

        own = load_own_metric(task.metric, task.folder).sha256
    # As text: the order of a schema's fields is that of the answers.
    schema = _schema(task)
    written = None if schema is None else json.dumps(schema)
    identity = [task.kind, task.metric, own, written, task.max_new_tokens]
    return identity if task.none_of_these is None else [*identity, task.none_of_these.model_dump()]


def cutting_of(task: Task) -> Cutting | None:
    """How long inputs are cut for models to read them; None where they are read whole."""
    from tunesmith.data.windowed import Cutting

    words = task.data.window_words
    return None if words is None else Cutting(words, task.data.window_overlap_words)


def opponents_identity(task: Task) -> dict[str, Any]:
    """What decides the opponents' results, for cache keys: how endpoints are reached and paid does not."""
    how = {"key_env": True, "spend_cap": True, "timeout_seconds": True, "requests_at_once": True}
    settings = task.opponents.model_dump(exclude={"endpoints": {"__all__": how}})
    return settings | {"documents": documents_sha256(task)}


def writing_of(
    session: Session, loaded: LoadedModel, judging: Judging, train: Sequence[Row], limit: int | None = None
) -> Writing:
    """What the candidates that write texts share. ``train`` are rows as they are learned."""
    from tunesmith.candidates.texts import COVERED_SHARE, Writing, answer_limit

    task = session.task
    labels = judging.labels if judging.kind == "tag" else ()
    # A set of labels that does not fit could never be answered; a text can be shorter.
    covered = 1.0 if labels else COVERED_SHARE
    limit = limit or answer_limit(loaded, train, task.max_new_tokens, covered)
    library, cutting, embedder = library_of(task, train), cutting_of(task), embedder_of(session)
    return Writing(loaded, task.instruction, limit, judging.schema, train, library, labels, cutting, embedder)


def written_answers(
    writing: Writing, candidate: Candidate, rows: Sequence[Row], adapter: Path, report: Report
) -> Answers:
    """The answers of any candidate of a text kind; ``adapter`` is where the tuned one lies."""
    from dataclasses import replace

    from tunesmith.candidates.forms import form_of
    from tunesmith.candidates.plain_texts import answer_plain
    from tunesmith.candidates.texts import answer_by_prompt, answer_by_tuned
    from tunesmith.candidates.tuned import put_adapter
    from tunesmith.candidates.tuned_prompts import passages_of
    from tunesmith.engine.lora import lora_disabled

    if candidate.kind in ("constant", "classical"):
        return answer_plain(candidate, writing.train, rows)
    if candidate.kind == "prompt":
        with lora_disabled(writing.loaded.model):
            return answer_by_prompt(writing, form_of(candidate.settings), rows, report)
    tuned = replace(writing, loaded=put_adapter(writing.loaded, adapter))
    return answer_by_tuned(tuned, rows, report, passages_of(candidate))


def tuned_text_card(
    session: Session,
    writing: Writing,
    judging: Judging,
    asked: Questions,
    adapter_sha256: str,
    passages: int,
) -> Scorecard:
    """The model just trained, in ``writing.loaded``, on validation, shown so many passages."""
    from tunesmith.candidates.texts import answer_by_tuned, tuned_candidate
    from tunesmith.evaluation.judging import judged

    reset_peak()
    started = time.perf_counter()
    with session.bar("train", "tuned model on validation") as report:
        answers = answer_by_tuned(writing, asked.rows, report, passages)
    cost = Cost(time.perf_counter() - started, len(asked), answers.tokens, peak_mb())
    candidate = tuned_candidate(writing, adapter_sha256, session.task.train.method, passages)
    return judged(judging, candidate, "validation", asked, answers, cost)


def watched_text_metric(writing: Writing, judging: Judging, asked: Questions) -> Metric:
    """The goal's metric of the model as it is now, on evenly spaced questions of validation."""
    from tunesmith.candidates.texts import answer_by_tuned
    from tunesmith.evaluation.judging import goal_estimate

    count = min(WATCHED_QUESTIONS, len(asked))
    some = asked.take([position * len(asked) // count for position in range(count)])
    return lambda: goal_estimate(judging, some, answer_by_tuned(writing, some.rows).labels)


def _schema(task: Task) -> Mapping[str, Any] | None:
    if task.json_schema is None:
        return None
    from tunesmith.engine.schema import compile_schema
    from tunesmith.evaluation.metrics.schema import check_schema

    path = task.resolve(task.json_schema)
    try:
        schema = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(
            f"json_schema: there is no file {path}", "a relative path starts at the folder of the task file"
        ) from None
    except (OSError, ValueError) as error:
        raise UserError(f"json_schema: {path} is not JSON ({error})", "correct the file") from error
    check_schema(schema, f"json_schema: {path.name}")
    compile_schema(schema)
    assert isinstance(schema, dict)  # check_schema has seen to it
    return schema
