"""Candidates behind an OpenAI-compatible API: prompts as on the base, answers kept on disk, labels read."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

from tunesmith.candidates.answer_store import AnswerStore, Paid
from tunesmith.candidates.answers import Answers
from tunesmith.candidates.forms import (
    PromptForm,
    Wording,
    form_name,
    form_settings,
    text_request,
    turns_of,
)
from tunesmith.candidates.replies import Asking, read_reply, reply_request, voted
from tunesmith.candidates.retrieval import Library
from tunesmith.candidates.shown import shown_with
from tunesmith.data.made import learned_sha256
from tunesmith.errors import UserError
from tunesmith.files import content_hash
from tunesmith.models.embedding import Embedder
from tunesmith.models.endpoint import Purse, RefusedError, Reply, ask_endpoint, endpoint_key, request_body
from tunesmith.progress import Report, silent
from tunesmith.records import Candidate, Message, Row, Settings
from tunesmith.task.opponent_settings import EndpointSettings


@dataclass(frozen=True)
class EndpointPrompting:
    """What the prompts on one endpoint share. ``labels`` with classify and tag, ``schema`` where a task has
    one. ``several``: an answer is a list of the labels, not one of them. ``setting`` is where the task names
    the endpoint, for messages.
    """

    endpoint: EndpointSettings
    instruction: str
    labels: tuple[str, ...]
    schema: Mapping[str, Any] | None
    train: Sequence[Row]
    library: Library | None = None
    several: bool = False
    setting: str = "opponents.endpoints"
    embedder: Embedder | None = None

    @property
    def asking(self) -> Asking:
        """What answers may be."""
        return Asking(self.labels, self.several, self.schema)


def endpoint_candidate(prompting: EndpointPrompting, form: PromptForm) -> Candidate:
    """The endpoint under the prompts of ``form``, named by what decides its answers."""
    endpoint = prompting.endpoint
    settings: Settings = form_settings(form) | {
        "endpoint": endpoint.name,
        "url": endpoint.url,
        "model": endpoint.model,
        "temperature": endpoint.temperature,
        "max_tokens": endpoint.max_tokens,
        "instruction": prompting.instruction,
    }
    if endpoint.samples > 1:
        settings["samples"] = endpoint.samples
    shown = [learned_sha256(prompting.train)] if form.examples else []
    schema = None if prompting.schema is None else text_request(prompting.schema, False)
    if form.passages and prompting.library is not None:
        shown.append(prompting.library.sha256)
    if form.embeds and prompting.embedder is not None:
        shown.append(prompting.embedder.base.sha256)
    labels = [*prompting.labels, *([["several"]] if prompting.several else [])]
    identity = content_hash(["endpoint", settings, labels, schema, shown])
    return Candidate(identity, "endpoint", f"{endpoint.name}, {form_name(form)}", settings, endpoint.model)


def answers_by_endpoint(
    prompting: EndpointPrompting,
    form: PromptForm,
    rows: Sequence[Row],
    store: AnswerStore,
    report: Report = silent,
) -> Answers:
    """An answer for every row; what is in ``store`` is not asked for again, each answer is stored at once.

    With several ``samples`` the commonest answer counts (self-consistency, Wang et al. 2022, arXiv
    2203.11171).
    Raises UserError (exit code 3) naming the row and the cause where the endpoint gave no answer or the spend
    cap is reached: what came until then is kept, and the next call goes on from there.
    """
    endpoint = prompting.endpoint
    prompts = _prompts(prompting, form, rows)
    requests = [_requests(endpoint, prompt) for prompt in prompts]
    wanted = {
        request: (prompt, row.source)
        for drawn, prompt, row in zip(requests, prompts, rows, strict=True)
        for request in drawn
    }
    missing = {request: what for request, what in wanted.items() if request not in store.answers}
    if missing:
        _collect(prompting, missing, store, len(wanted), report)
    paid = [store.answers[request] for request in wanted]
    asking = prompting.asking
    return Answers(
        labels=[
            voted([read_reply(asking, form, store.answers[one].answer or "") for one in drawn], asking)
            for drawn in requests
        ],
        probabilities=None,
        tokens=sum(one.prompt_tokens + one.answer_tokens for one in paid),
        spend=sum(one.spend for one in paid),
        seconds=sum(one.seconds for one in paid),
    )


def _requests(endpoint: EndpointSettings, prompt: tuple[Message, ...]) -> list[str]:
    """The hashes of all that is sent for one row, by sample."""
    sent = [endpoint.url, request_body(endpoint, prompt)]
    return [content_hash([*sent, sample] if sample else sent) for sample in range(endpoint.samples)]


def _prompts(
    prompting: EndpointPrompting, form: PromptForm, rows: Sequence[Row]
) -> list[tuple[Message, ...]]:
    request = reply_request(prompting.asking, form)
    shown = shown_with(form, prompting.train, rows, prompting.library, prompting.embedder)
    wording = Wording(prompting.instruction, request, prompting.labels, form.template)
    return [turns_of(wording, row, one) for row, one in zip(rows, shown, strict=True)]


def _collect(
    prompting: EndpointPrompting,
    missing: Mapping[str, tuple[tuple[Message, ...], str]],
    store: AnswerStore,
    total: int,
    report: Report,
) -> None:
    endpoint = prompting.endpoint
    key = endpoint_key(endpoint, prompting.setting)
    purse = Purse(endpoint.spend_cap, store.spent)
    stop = threading.Event()
    waiting = iter(missing.items())
    under_way: dict[Future[Reply], tuple[str, str]] = {}
    failed: tuple[str, RefusedError] | None = None

    def keep(future: Future[Reply]) -> tuple[str, RefusedError] | None:
        request, source = under_way.pop(future)
        try:
            reply = future.result()
        except RefusedError as refused:
            if refused.spend:
                store.add(Paid(request, None, 0, 0, refused.spend, 0.0))
            return source, refused
        store.add(
            Paid(
                request,
                reply.text,
                reply.prompt_tokens,
                reply.answer_tokens,
                reply.spend,
                reply.seconds,
            )
        )
        report(sum(one in store.answers for one in missing), len(missing), f"{store.spent:.2f} spent")
        return None

    with ThreadPoolExecutor(endpoint.requests_at_once) as pool:
        try:
            while failed is None:
                while len(under_way) < endpoint.requests_at_once and (following := next(waiting, None)):
                    request, (prompt, source) = following
                    future = pool.submit(ask_endpoint, endpoint, key, prompt, purse, stop.wait)
                    under_way[future] = (request, source)
                if not under_way:
                    break
                for future in wait(under_way, return_when=FIRST_COMPLETED).done:
                    outcome = keep(future)
                    failed = failed or outcome
        finally:
            # Also after Ctrl-C: what is under way is paid for, so it is kept.
            stop.set()
            for future in list(wait(under_way).done):
                keep(future)
    if failed is not None:
        source, refused = failed
        kept = total - sum(one not in store.answers for one in missing)
        raise UserError(
            f"{prompting.setting}: {endpoint.name}: {source}: {refused.cause}; {kept:,} of {total:,} answers "
            "of this prompt are kept",
            refused.fix,
            exit_code=3,
        )
