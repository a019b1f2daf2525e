"""The wire of a fake S3: requests, answers, XML, faults; it knows no operation."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, unquote, urlsplit


@dataclass(frozen=True)
class Fault:
    """An answer instead of the real one."""

    status: int = 503
    code: str = "SlowDown"
    applied: bool = False  #: carried out all the same
    hangs_up: bool = False  #: no answer at all


Hook = Callable[[], Fault | None]


class Faults:
    """What happens just before an operation: `faults.once("CopyObject", Fault())`, or any callable."""

    def __init__(self) -> None:
        self._waiting: dict[str, list[Hook]] = {}
        self._standing: dict[str, Hook] = {}

    def once(self, operation: str, fault: Fault) -> None:
        self.before(operation, lambda: fault)

    def before(self, operation: str, hook: Hook) -> None:
        """Run before the next such operation, outside the lock: it may send requests itself."""
        self._waiting.setdefault(operation, []).append(hook)

    def always(self, operation: str, hook: Hook) -> None:
        """Ask `hook` before every such operation that nothing else waits for; `clear` ends it."""
        self._standing[operation] = hook

    def clear(self) -> None:
        self._waiting.clear()
        self._standing.clear()

    def take(self, operation: str) -> Fault | None:
        if hooks := self._waiting.get(operation):
            return hooks.pop(0)()
        standing = self._standing.get(operation)
        return standing() if standing else None


class S3Error(Exception):
    def __init__(self, status: int, code: str) -> None:
        super().__init__(code)
        self.status = status
        self.code = code


@dataclass
class Request:
    method: str
    bucket: str
    key: str
    query: dict[str, str]
    headers: dict[str, str]  #: names in lower case
    body: bytes

    def header(self, name: str) -> str | None:
        return self.headers.get(name)


@dataclass
class Response:
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


Answer = Callable[[Request], Response]


def xml(body: str, headers: Mapping[str, str] | None = None) -> Response:
    text = f'<?xml version="1.0" encoding="UTF-8"?>{body}'
    return Response(headers={"Content-Type": "application/xml", **(headers or {})}, body=text.encode())


def refusal(status: int, code: str) -> Response:
    response = xml(f"<Error><Code>{code}</Code><Message>{code}</Message></Error>")
    response.status = status
    return response


class HangUpError(Exception):
    """Close the connection without an answer."""


def spoiled(fault: Fault) -> Response:
    if fault.hangs_up:
        raise HangUpError
    return refusal(fault.status, fault.code)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    reply: Answer

    def handle(self) -> None:
        with suppress(ConnectionError):  # a client need not read an answer to its end
            super().handle()

    def _serve(self) -> None:
        try:
            self._send(type(self).reply(self._read()))
        except HangUpError:
            self.close_connection = True

    do_GET = do_PUT = do_HEAD = do_DELETE = _serve  # noqa: N815 - the base class looks them up so

    def _read(self) -> Request:
        url = urlsplit(self.path)
        bucket, _, key = url.path.lstrip("/").partition("/")
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = self.rfile.read(int(headers.get("content-length", 0)))
        query = dict(parse_qsl(url.query, keep_blank_values=True))
        return Request(self.command, bucket, unquote(key), query, headers, body)

    def _send(self, response: Response) -> None:
        self.send_response_only(response.status)
        length = {"Content-Length": str(len(response.body))}
        for name, value in {**length, **response.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(response.body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        """Tests read `requests` instead."""


@contextmanager
def serving(reply: Answer) -> Iterator[str]:
    """The URL under which `reply` answers, on as many threads as there are connections."""
    handler = type("Handler", (_Handler,), {"reply": staticmethod(reply)})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
