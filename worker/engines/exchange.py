"""One request, one whole answer, one deadline for both."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from urllib.parse import urlsplit

import httpx

from tagmill.worker.engines.bodies import read_body
from tagmill.worker.engines.failures import milliseconds_since, translated
from tagmill.worker.engines.transport import TARGET
from tagmill.worker.errors import ConfigError

MAX_BODY_BYTES = 1024 * 1024
_HEADERS = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "tagmill"}
_PLAIN_HEADERS = httpx.Headers(_HEADERS)  # built once: a call copies it


@dataclass(frozen=True, slots=True)
class Base:
    """Where a service lives; targets are appended to `path`."""

    origin: httpx.URL
    path: str

    @classmethod
    def parse(cls, url: str, setting: str) -> Base:
        """Raise `ConfigError` naming the setting."""
        try:
            parts = urlsplit(url)
            if parts.scheme in ("http", "https") and parts.hostname and "@" not in parts.netloc:
                return cls(httpx.URL(f"{parts.scheme}://{parts.netloc}"), parts.path.rstrip("/"))
        except (ValueError, httpx.InvalidURL):
            pass
        raise ConfigError(f"{setting} must be an http or https address, such as https://cdn.example.com")


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer. It may echo the signed request, so `repr` shows neither headers nor body."""

    status: int
    headers: httpx.Headers = field(repr=False)
    body: bytes = field(repr=False)  #: at most `MAX_BODY_BYTES` + 1: one more means it was cut
    received_at: float  #: Unix seconds, our clock
    latency_ms: int = 0
    billable: bool = True

    @property
    def ok(self) -> bool:
        return HTTPStatus.OK <= self.status < HTTPStatus.MULTIPLE_CHOICES

    @property
    def server_time(self) -> float:
        """The server's own clock where it tells, in Unix seconds."""
        stated = timestamp(self.headers.get("date", ""))
        return self.received_at if stated is None else stated


class Exchange:
    """Sends requests whose targets may be secret; raises only what `translated` makes of failures."""

    def __init__(
        self, transport: httpx.AsyncBaseTransport, *, timeout_seconds: float, clock: Callable[[], float]
    ) -> None:
        self._transport = transport
        self._timeout_seconds = timeout_seconds
        self._clock = clock

    async def get(self, base: Base, target: str, *, billable: bool = True) -> Reply:
        """A paid call unless it is said to be none."""
        return await self._send(_request("GET", base, target, _PLAIN_HEADERS), billable=billable)

    async def post(
        self, base: Base, target: str, content: bytes, content_type: str, *, extra_seconds: float
    ) -> Reply:
        headers = httpx.Headers({**_HEADERS, "Content-Type": content_type})
        request = _request("POST", base, target, headers, content)
        return await self._send(request, billable=False, extra_seconds=extra_seconds)

    async def delete(self, base: Base, target: str) -> Reply:
        return await self._send(_request("DELETE", base, target, _PLAIN_HEADERS), billable=False)

    async def aclose(self) -> None:
        await self._transport.aclose()

    async def _send(self, request: httpx.Request, *, billable: bool, extra_seconds: float = 0.0) -> Reply:
        started = time.monotonic()
        with translated(billable=billable):
            async with asyncio.timeout(self._timeout_seconds + extra_seconds):
                response = await self._transport.handle_async_request(request)
                body = await read_body(response, MAX_BODY_BYTES)
        latency_ms = milliseconds_since(started)
        return Reply(response.status_code, response.headers, body, self._clock(), latency_ms, billable)


def timestamp(http_date: str) -> float | None:
    """Unix seconds of a `Date` header's text; None when it is none."""
    try:
        moment = parsedate_to_datetime(http_date)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


def _request(
    method: str, base: Base, target: str, headers: httpx.Headers, content: bytes | None = None
) -> httpx.Request:
    extensions = {TARGET: f"{base.path}{target}".encode()}
    return httpx.Request(method, base.origin, headers=headers, content=content, extensions=extensions)
