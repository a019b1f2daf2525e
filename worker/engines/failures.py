"""The one place where failures of the wire become ours; what a service answers is read beside its engine."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from tagmill.worker.errors import (
    EngineUnavailableError,
    EngineUnreachableError,
    ImageRejectedError,
    TaggingError,
)

#: Nothing was sent, nothing can have been charged.
UNSENT = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.ProxyError,
    httpx.UnsupportedProtocol,
)
#: The request itself is impossible; also unsent.
UNSENDABLE = (httpx.LocalProtocolError,)
#: The request left, at least in part, and no whole answer came back: whether it was charged is unknown.
AMBIGUOUS = (
    httpx.ReadTimeout,
    httpx.WriteTimeout,
    httpx.ReadError,
    httpx.WriteError,
    httpx.CloseError,
    httpx.RemoteProtocolError,
    httpx.DecodingError,
)


@contextmanager
def translated(*, billable: bool) -> Iterator[None]:
    """Raise `ItemError` for what `httpx` raises, and for a deadline (`TimeoutError`) around both.

    An answered request is never ambiguous, whatever its status: a 5xx is counted as a call and no more.
    """
    started = time.monotonic()
    try:
        yield
    except (httpx.RequestError, TimeoutError) as error:
        raise _ours(error, billable=billable, latency_ms=milliseconds_since(started)) from None


def milliseconds_since(started: float) -> int:
    return round((time.monotonic() - started) * 1000)


def _ours(error: Exception, *, billable: bool, latency_ms: int) -> TaggingError:
    """Only an error of connecting has a text of its own: it names host and port, never a target."""
    if isinstance(error, UNSENDABLE):
        return ImageRejectedError(f"the request was not sent: {error}", latency_ms=latency_ms)
    if isinstance(error, UNSENT):
        reason = str(error) or type(error).__name__
        return EngineUnreachableError(f"no connection to the service: {reason}", latency_ms=latency_ms)
    count = int(billable)
    return EngineUnavailableError(
        f"no whole answer from the service: {_reason(error)}",
        calls=count,
        maybe_charged=count,
        latency_ms=latency_ms,
    )


def _reason(error: Exception) -> str:
    return "timeout" if isinstance(error, TimeoutError) else type(error).__name__
