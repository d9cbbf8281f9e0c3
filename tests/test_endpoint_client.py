"""One request to an OpenAI-compatible API: what is sent, what is tried again, and what it may have cost."""

from __future__ import annotations

import time
from typing import Any

import pytest

from endpoint_server import KEY, KEY_ENV, Sent, serving
from tunesmith.models import endpoint as client
from tunesmith.models.endpoint import Purse, RefusedError, ask_endpoint, worst_price
from tunesmith.records import Message

PROMPT = (Message("user", "hello"),)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "FIRST_WAIT_SECONDS", 0.001)


def never(_: float) -> bool:
    return False


def test_a_request_is_what_the_api_promises_and_the_key_is_in_its_header_alone() -> None:
    with serving(lambda body, number: Sent()) as served:
        reply = ask_endpoint(served.endpoint(), KEY, PROMPT, Purse(None, 0.0), never)
    ((path, authorization, body),) = served.requests
    assert path == "/v1/chat/completions"
    assert authorization == f"Bearer {KEY}"
    assert body == {
        "model": "m",
        "messages": [{"role": "user", "content": "hello"}],
        "max_tokens": 512,
        "temperature": 0.0,
    }
    assert (reply.text, reply.prompt_tokens, reply.answer_tokens, reply.spend) == ("yes", 10, 2, 12.0)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_server_is_asked_again_after_longer_and_longer_waits(status: int) -> None:
    waits: list[float] = []

    def waited(seconds: float) -> bool:
        waits.append(seconds)
        return False

    def reply(body: dict[str, Any], number: int) -> Sent:
        if number == 1:
            return Sent(status, headers={"Retry-After": "7"})
        return Sent(status) if number < 4 else Sent()

    with serving(reply) as served:
        purse = Purse(None, 0.0)
        found = ask_endpoint(served.endpoint(), KEY, PROMPT, purse, waited)
    assert found.text == "yes"
    assert waits == [0.001, 7.0, 0.004, 0.008]
    assert purse.spent == found.spend == 12.0  # a refusal costs nothing


def test_a_wrong_key_is_told_at_once_and_never_repeated() -> None:
    refusal = Sent(401, raw=f'{{"error": "bad key {KEY}"}}'.encode())
    with serving(lambda body, number: refusal) as served, pytest.raises(RefusedError) as told:
        ask_endpoint(served.endpoint(), KEY, PROMPT, Purse(None, 0.0), never)
    assert len(served.requests) == 1
    assert told.value.cause == 'HTTP 401 ({"error": "bad key ***"})'
    assert KEY_ENV in told.value.fix


@pytest.mark.parametrize("raw", [b'{"choices": [{"mess', b"[]", b'{"choices": []}', b"\xff\xfe"])
def test_a_reply_that_is_not_what_the_api_promises_is_asked_for_again_and_counted_as_paid(raw: bytes) -> None:
    with serving(lambda body, number: Sent(raw=raw) if number == 0 else Sent()) as served:
        endpoint, purse = served.endpoint(), Purse(None, 0.0)
        found = ask_endpoint(endpoint, KEY, PROMPT, purse, never)
    assert found.spend == pytest.approx(worst_price(endpoint, PROMPT) + 12.0)
    assert purse.spent == pytest.approx(found.spend)


def test_broken_replies_without_end_are_given_up_with_the_cause() -> None:
    with serving(lambda body, number: Sent(raw=b"<html>")) as served, pytest.raises(RefusedError) as told:
        ask_endpoint(served.endpoint(), KEY, PROMPT, Purse(None, 0.0), never)
    assert len(served.requests) == client.MOST_ATTEMPTS
    assert "not what the API promises" in told.value.cause
    assert told.value.spend == pytest.approx(client.MOST_ATTEMPTS * worst_price(served.endpoint(), PROMPT))


def test_a_silent_server_and_one_that_is_not_there_are_told_apart() -> None:
    def slow(body: dict[str, Any], number: int) -> Sent:
        if number == 0:
            time.sleep(0.4)
        return Sent()

    with serving(slow) as served:
        endpoint = served.endpoint(timeout_seconds=0.1)
        found = ask_endpoint(endpoint, KEY, PROMPT, Purse(None, 0.0), never)
        assert found.spend == pytest.approx(worst_price(endpoint, PROMPT) + 12.0)
    with pytest.raises(RefusedError, match="no connection") as told:  # the server is gone
        ask_endpoint(endpoint, KEY, PROMPT, Purse(None, 0.0), never)
    assert told.value.spend == 0.0


def test_a_redirect_is_refused_so_that_the_key_goes_nowhere_else() -> None:
    with serving(lambda body, number: Sent()) as other:
        moved = Sent(302, headers={"Location": f"{other.url}/chat/completions"})
        with serving(lambda body, number: moved) as served, pytest.raises(RefusedError, match="302"):
            ask_endpoint(served.endpoint(), KEY, PROMPT, Purse(None, 0.0), never)
    assert other.requests == []
