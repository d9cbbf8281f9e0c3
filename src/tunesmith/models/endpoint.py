"""Models behind OpenAI-compatible APIs: one answer over HTTP, tried again where that helps, within a budget.

Written with the standard library alone. Redirects are refused, as they would take the key elsewhere.
"""

from __future__ import annotations

import json
import os
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from email.message import Message as Headers
from http.client import HTTPException
from typing import Any

from tunesmith.errors import UserError
from tunesmith.records import Message
from tunesmith.task.opponent_settings import EndpointSettings

MOST_ATTEMPTS = 6
FIRST_WAIT_SECONDS = 1.0
LONGEST_WAIT_SECONDS = 60.0
# Too busy, or down for a moment; anything else will be the same the next time.
_PASSING = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
# The marks of a chat format around one message, generously.
_TOKENS_AROUND_MESSAGE = 16

# Waits for some seconds; True where the caller wants no further attempt.
Wait = Callable[[float], bool]


@dataclass(frozen=True)
class Reply:
    """One answer, and what it took. ``spend`` also has attempts that were sent and got no usable reply."""

    text: str
    prompt_tokens: int
    answer_tokens: int
    spend: float
    seconds: float


class RefusedError(Exception):
    """One request got no answer; ``spend`` is what its attempts may have cost."""

    def __init__(self, cause: str, fix: str, spend: float) -> None:
        super().__init__(cause)
        self.cause = cause
        self.fix = fix
        self.spend = spend


class Purse:
    """What may still be spent. Safe between threads; what is under way counts at its worst."""

    def __init__(self, cap: float | None, spent: float) -> None:
        self.cap = cap
        self.spent = spent
        self._promised = 0.0
        self._lock = threading.Lock()

    def promise(self, worst: float) -> bool:
        """Whether a request of at most this price may be sent; if so, it is set aside."""
        with self._lock:
            if self.cap is not None and self.spent + self._promised + worst > self.cap * (1 + 1e-9):
                return False
            self._promised += worst
            return True

    def settle(self, worst: float, actual: float) -> None:
        """What was set aside has cost ``actual``."""
        with self._lock:
            self._promised -= worst
            self.spent += actual


def request_body(endpoint: EndpointSettings, messages: Sequence[Message]) -> dict[str, Any]:
    """The JSON of a request; it decides the answer, so it names it in the cache."""
    body: dict[str, Any] = {
        "model": endpoint.model,
        "messages": [{"role": message.role, "content": message.content} for message in messages],
        endpoint.limit_name: endpoint.max_tokens,
    }
    if endpoint.temperature is not None:
        body["temperature"] = endpoint.temperature
    return body


def worst_price(endpoint: EndpointSettings, messages: Sequence[Message]) -> float:
    """The most that one attempt can cost: a token has at least one byte, an answer at most its limit."""
    read = sum(len(message.content.encode()) + _TOKENS_AROUND_MESSAGE for message in messages)
    return (read * endpoint.price_in + endpoint.max_tokens * endpoint.price_out) / 1e6


def endpoint_key(endpoint: EndpointSettings, setting: str = "opponents.endpoints") -> str | None:
    """The key, from the environment and from nowhere else. Raises UserError, naming ``setting``, where it is
    not set."""
    if endpoint.key_env is None:
        return None
    key = os.environ.get(endpoint.key_env, "").strip()
    if not key:
        raise UserError(
            f"{setting}: {endpoint.name}: the environment variable {endpoint.key_env} is not set",
            f"export {endpoint.key_env}=... in the shell that runs Tunesmith; the key belongs in no file",
        )
    return key


def ask_endpoint(
    endpoint: EndpointSettings,
    key: str | None,
    messages: Sequence[Message],
    purse: Purse,
    wait: Wait,
) -> Reply:
    """The model's answer to ``messages``; busy servers, timeouts and broken replies are tried again.

    ``wait`` is given the seconds before the next attempt, more after each (exponential backoff).

    Raises RefusedError when there is none: the cause, and how to mend it.
    """
    worst = worst_price(endpoint, messages)
    body = json.dumps(request_body(endpoint, messages)).encode()
    lost = 0.0
    for attempt in range(1, MOST_ATTEMPTS + 1):
        if not purse.promise(worst):
            raise RefusedError(
                f"its spend cap of {endpoint.spend_cap:g} is reached ({purse.spent:.4f} spent)",
                "raise spend_cap, ask fewer prompts (few_shot), or leave the endpoint out",
                lost,
            )
        actual = 0.0
        started = time.perf_counter()
        try:
            reply = _read(_post(endpoint, key, body), endpoint, worst, lost, time.perf_counter() - started)
            actual = reply.spend - lost
            return reply
        except urllib.error.HTTPError as error:
            cause, delay = _told(error, key), _retry_after(error.headers)
            if error.code not in _PASSING:
                raise RefusedError(cause, _http_fix(endpoint, error.code), lost) from None
        except (OSError, HTTPException, ValueError) as error:  # no connection, timeout, or no such JSON
            cause, delay = _cause(error, endpoint), None
            # It may have been answered, and billed.
            actual = 0.0 if isinstance(error, ConnectionRefusedError) else worst
        finally:
            purse.settle(worst, actual)
        lost += actual
        if attempt < MOST_ATTEMPTS:
            backoff = FIRST_WAIT_SECONDS * 2 ** (attempt - 1)
            if wait(min(LONGEST_WAIT_SECONDS, max(backoff, delay or 0.0))):
                raise RefusedError(f"{cause}; given up, as another request failed", "run it again", lost)
    raise RefusedError(
        f"{cause}, {MOST_ATTEMPTS} times",
        "check the URL and the server, and run the command again: answers that came are kept",
        lost,
    )


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


def _post(endpoint: EndpointSettings, key: str | None, body: bytes) -> bytes:
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    if key is not None:
        headers["Authorization"] = f"Bearer {key}"
    address = f"{endpoint.url.rstrip('/')}/chat/completions"
    request = urllib.request.Request(address, body, headers, method="POST")
    try:
        with urllib.request.build_opener(_NoRedirects).open(
            request, timeout=endpoint.timeout_seconds
        ) as reply:
            content: bytes = reply.read()
            return content
    except urllib.error.HTTPError:
        raise
    except urllib.error.URLError as error:  # only wraps what happened
        raise error.reason if isinstance(error.reason, OSError) else OSError(str(error.reason)) from None


def _read(content: bytes, endpoint: EndpointSettings, worst: float, lost: float, seconds: float) -> Reply:
    reply = json.loads(content)
    try:
        text = reply["choices"][0]["message"]["content"]
    except (KeyError, IndexError, TypeError):
        raise ValueError("no choices[0].message.content in it") from None
    if text is not None and not isinstance(text, str):
        raise ValueError("choices[0].message.content is no text")
    usage = reply.get("usage") or {}
    read, written = usage.get("prompt_tokens"), usage.get("completion_tokens")
    if not (isinstance(read, int) and isinstance(written, int)):
        return Reply(text or "", 0, 0, lost + worst, seconds)
    spend = (read * endpoint.price_in + written * endpoint.price_out) / 1e6
    return Reply(text or "", read, written, lost + spend, seconds)


def _told(error: urllib.error.HTTPError, key: str | None) -> str:
    """The status and the server's own words, without the key that some servers repeat."""
    try:
        words = error.read(2000).decode("utf-8", errors="replace")
    except OSError:
        words = ""
    words = " ".join((words.replace(key, "***") if key else words).split())[:200]
    return f"HTTP {error.code}" + (f" ({words})" if words else "")


def _cause(error: Exception, endpoint: EndpointSettings) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {endpoint.timeout_seconds:g} s"
    if isinstance(error, ValueError):
        return f"the reply is not what the API promises ({error})"
    return f"no connection ({error})"


def _http_fix(endpoint: EndpointSettings, status: int) -> str:
    if status in (401, 403):
        source = f"the key in ${endpoint.key_env}" if endpoint.key_env else "a key (key_env)"
        return f"check {source}, and that it may use {endpoint.model}"
    if status == 404 or 300 <= status < 400:
        return f"check url ({endpoint.url}) and model ({endpoint.model})"
    return "check the settings of the endpoint (limit_name, temperature: null) and this row"


def _retry_after(headers: Headers) -> float | None:
    try:
        return float(headers.get("Retry-After", ""))
    except ValueError:  # not there, or a date
        return None
