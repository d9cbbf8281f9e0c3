"""A real HTTP server in a thread that speaks the OpenAI chat API, and breaks in the ways a test plants."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tunesmith.task.opponent_settings import EndpointSettings

KEY = "sk-test-0123456789"
KEY_ENV = "TUNESMITH_TEST_KEY"


@dataclass(frozen=True)
class Sent:
    """What the server sends back. ``text`` None is an answer without content."""

    status: int = 200
    text: str | None = "yes"
    raw: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    usage: tuple[int, int] | None = (10, 2)


@dataclass
class Served:
    """A running server: its base URL, and every request that came, as (path, authorization, body)."""

    url: str
    requests: list[tuple[str, str | None, dict[str, Any]]]

    def endpoint(self, **settings: Any) -> EndpointSettings:
        """Settings of an endpoint at this server; 1 a token, so that 12 is what an answer costs."""
        given = {
            "name": "local",
            "url": self.url,
            "model": "m",
            "key_env": KEY_ENV,
            "price_in": 1e6,
            "price_out": 1e6,
            "spend_cap": 1e9,
            "few_shot": [0],
            "chain_of_thought": False,
        }
        return EndpointSettings.model_validate(given | settings)


@contextmanager
def serving(reply: Callable[[dict[str, Any], int], Sent]) -> Iterator[Served]:
    """Serve until the block ends; ``reply`` is given the body of a request and how many came before it."""
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                number = len(served.requests)
                served.requests.append((self.path, self.headers.get("Authorization"), body))
            sent = reply(body, number)
            content = sent.raw
            if content is None:
                choice = {"message": {"role": "assistant", "content": sent.text}, "finish_reason": "stop"}
                whole: dict[str, Any] = {"choices": [choice]}
                if sent.usage is not None:
                    whole["usage"] = {"prompt_tokens": sent.usage[0], "completion_tokens": sent.usage[1]}
                content = json.dumps(whole).encode()
            self.send_response(sent.status)
            for name, value in sent.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            with suppress(BrokenPipeError):  # a client that waited long enough
                self.end_headers()
                self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    served = Served(f"http://127.0.0.1:{server.server_address[1]}/v1", [])
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
