"""Endpoints as opponents, on validation and on the sealed test."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from tunesmith.errors import UserError
from tunesmith.records import Candidate, Cost, Row, Scorecard
from tunesmith.stages.embedding import embedder_of
from tunesmith.stages.memory import peak_mb, reset_peak
from tunesmith.stages.passages import library_of
from tunesmith.stages.race import Entrant, race
from tunesmith.stages.session import Session
from tunesmith.task.kinds import LABELLED
from tunesmith.task.opponent_settings import EndpointSettings

if TYPE_CHECKING:  # torch takes seconds to import
    from tunesmith.candidates.answer_store import AnswerStore
    from tunesmith.candidates.answers import Answers
    from tunesmith.candidates.endpoints import EndpointPrompting
    from tunesmith.candidates.forms import PromptForm
    from tunesmith.data.questions import Questions
    from tunesmith.evaluation.judging import Judging
    from tunesmith.progress import Report


def endpoint_cards(
    session: Session, judging: Judging, train: Sequence[Row], asked: Questions
) -> list[Scorecard]:
    """A scorecard on validation for every prompt on every endpoint of the task.

    Raises UserError where an endpoint gives no answer; those it gave are kept, and the next run goes on.
    """
    from tunesmith.candidates.endpoints import endpoint_candidate
    from tunesmith.candidates.forms import endpoint_forms

    cards: list[Scorecard] = []
    for endpoint in session.task.opponents.endpoints:
        prompting = _prompting(session, endpoint, judging, train)
        store = _store(session, endpoint, sealed=False)
        entrants = [
            Entrant(endpoint_candidate(prompting, form), _answering(session, prompting, form, store))
            for form in endpoint_forms(session.task.opponents, endpoint, judging.kind)
        ]
        cards += race(judging, asked, entrants)
        cap = "" if endpoint.spend_cap is None else f" of at most {endpoint.spend_cap:g}"
        session.say(f"{endpoint.name} ({endpoint.model}): {store.spent:.4f}{cap} spent for this task")
    return cards


def sealed_endpoint_answers(
    session: Session,
    judging: Judging,
    candidate: Candidate,
    train: Sequence[Row],
    rows: Sequence[Row],
    report: Report,
) -> Answers:
    """A finalist's answers to the sealed test; each is kept under ``sealed`` as soon as it is there."""
    from tunesmith.candidates.endpoints import answers_by_endpoint
    from tunesmith.candidates.forms import form_of

    name = candidate.settings["endpoint"]
    endpoint = next((one for one in session.task.opponents.endpoints if one.name == name), None)
    if endpoint is None:
        raise UserError(
            f"opponents.endpoints: {name} is a finalist, and the task names it no more",
            "put it back into the task, or run the opponents again",
        )
    prompting = _prompting(session, endpoint, judging, train)
    store = _store(session, endpoint, sealed=True)
    return answers_by_endpoint(prompting, form_of(candidate.settings), rows, store, report)


def _prompting(
    session: Session, endpoint: EndpointSettings, judging: Judging, train: Sequence[Row]
) -> EndpointPrompting:
    from tunesmith.candidates.endpoints import EndpointPrompting

    labels = judging.labels if judging.kind in LABELLED else ()
    library = library_of(session.task, train)
    several = judging.kind == "tag"
    instruction = session.task.instruction
    return EndpointPrompting(
        endpoint,
        instruction,
        labels,
        judging.schema,
        train,
        library,
        several,
        embedder=embedder_of(session),
    )


def _store(session: Session, endpoint: EndpointSettings, sealed: bool) -> AnswerStore:
    from tunesmith.candidates.answer_store import AnswerStore

    paths = [session.folder.endpoint_answers(endpoint.name, which) for which in (sealed, not sealed)]
    return AnswerStore(paths[0], paths[1:])


def _answering(
    session: Session, prompting: EndpointPrompting, form: PromptForm, store: AnswerStore
) -> Callable[[Questions], tuple[Answers, Cost]]:
    from tunesmith.candidates.endpoints import answers_by_endpoint
    from tunesmith.candidates.forms import form_name

    def answered(asked: Questions) -> tuple[Answers, Cost]:
        reset_peak()
        started = time.perf_counter()
        what = f"{prompting.endpoint.name}, {form_name(form)}, on validation"
        with session.bar("opponents", what) as report:
            answers = answers_by_endpoint(prompting, form, asked.rows, store, report)
        seconds = time.perf_counter() - started
        return answers, Cost(seconds, len(asked), answers.tokens, peak_mb(), answers.spend)

    return answered
