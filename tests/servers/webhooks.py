"""A receiver of webhooks over HTTP that keeps what it gets and answers as a test says."""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

WAIT_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Received:
    headers: Mapping[str, str]  #: names in lower case
    body: bytes

    @property
    def event(self) -> Any:
        return json.loads(self.body)


@dataclass
class WebhookReceiver:
    url: str
    statuses: dict[str, list[int]] = field(
        default_factory=dict
    )  #: of answers to what holds this text; else 200
    _received: queue.Queue[Received] = field(default_factory=queue.Queue)

    def next(self) -> Received:
        """Wait for another one."""
        return self._received.get(timeout=WAIT_SECONDS)

    def put(self, received: Received) -> int:
        """Return the status to answer with."""
        self._received.put(received)
        wanted = (statuses for text, statuses in self.statuses.items() if text.encode() in received.body)
        return next((statuses.pop(0) for statuses in wanted if statuses), 200)


@contextmanager
def receiving_webhooks() -> Iterator[WebhookReceiver]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            self.send_response(receiver.put(Received(headers, body)))
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
            """Tests are quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    receiver = WebhookReceiver(f"http://127.0.0.1:{server.server_port}/hook")
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
