"""Requests of httpx over aiohttp: targets verbatim, nothing sent twice, failures as httpx classes.

Stock httpx rescans its pool on every request and collapses at 64 requests in flight. An engine calls this
transport itself, without `httpx.AsyncClient`: no cookies, no redirects, no proxies from the environment, no
log line with a signed URL in it.
"""

from __future__ import annotations

import io
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import aiohttp
import httpx
from aiohttp.client_middlewares import ClientHandlerType
from yarl import URL

#: The request extension with the target's bytes: outside `request.url` it is in no `repr`, log or exception.
TARGET = "target"
CONNECT_SECONDS = 10.0
_VISIBLE = re.compile(rb"/[\x21-\x7e]*")  # a space or a line end would end the request line
_AUTO_HEADERS = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")

#: First match wins. Only the first five say that nothing was sent.
_HTTPX_CLASSES: tuple[tuple[type[Exception], type[httpx.TransportError]], ...] = (
    (aiohttp.ConnectionTimeoutError, httpx.ConnectTimeout),
    (aiohttp.ClientConnectorError, httpx.ConnectError),
    (aiohttp.ServerFingerprintMismatch, httpx.ConnectError),
    (aiohttp.NonHttpUrlClientError, httpx.UnsupportedProtocol),
    (aiohttp.InvalidURL, httpx.LocalProtocolError),
    (TimeoutError, httpx.ReadTimeout),
    (aiohttp.ClientConnectionResetError, httpx.WriteError),
    (aiohttp.ClientOSError, httpx.ReadError),
    (aiohttp.ServerDisconnectedError, httpx.RemoteProtocolError),
    (aiohttp.ClientConnectionError, httpx.ReadError),
    (aiohttp.ClientError, httpx.RemoteProtocolError),
    (OSError, httpx.ReadError),
)


class AiohttpTransport(httpx.AsyncBaseTransport):
    """`connections` bounds what is open at once; waiting for one counts as connecting."""

    def __init__(self, *, connections: int, connect_seconds: float = CONNECT_SECONDS) -> None:
        self._connections = connections
        self._connect_seconds = connect_seconds
        self._session: aiohttp.ClientSession | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Raise `httpx.TransportError`. The only deadline is for connecting: the caller's covers the rest."""
        url = _verbatim_url(request)
        body = await request.aread()
        with _as_httpx():
            answer = await self._open_session().request(
                request.method,
                url,
                headers=[(name.decode(), value.decode("latin-1")) for name, value in request.headers.raw],
                data=io.BytesIO(body) if body else None,
                allow_redirects=False,
            )
        return httpx.Response(answer.status, headers=list(answer.raw_headers), stream=_Body(answer))

    async def aclose(self) -> None:
        if self._session is not None:
            await self._session.close()

    def _open_session(self) -> aiohttp.ClientSession:
        """Not before the first request: a session belongs to the running loop."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self._connections, ssl=httpx.create_ssl_context()),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None, connect=self._connect_seconds),
                skip_auto_headers=_AUTO_HEADERS,
                auto_decompress=False,
                trust_env=False,
                middlewares=(_send_once,),
            )
        return self._session


class _Body(httpx.AsyncByteStream):
    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self._answer = answer

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _as_httpx():
            async for part in self._answer.content.iter_any():
                yield part

    async def aclose(self) -> None:
        """Drop the connection, unless the body was read to its end: then it is back in the pool."""
        self._answer.close()


def _verbatim_url(request: httpx.Request) -> URL:
    """Raise `httpx.LocalProtocolError` for a target that would not arrive byte for byte."""
    target: bytes = request.extensions.get(TARGET, request.url.raw_path)
    if _VISIBLE.fullmatch(target):
        origin = request.url.netloc.decode()
        url = URL(f"{request.url.scheme}://{origin}{target.decode()}", encoded=True)
        if url.raw_path_qs.encode() == target:
            return url
    raise httpx.LocalProtocolError("the request target cannot be sent as it is")


async def _send_once(request: aiohttp.ClientRequest, handler: ClientHandlerType) -> aiohttp.ClientResponse:
    """Keep aiohttp from sending a GET again when a kept-alive connection drops under it: it may be paid.

    It retries only on its own exceptions, so they become httpx's before it sees them.
    """
    with _as_httpx():
        return await handler(request)


@contextmanager
def _as_httpx() -> Iterator[None]:
    try:
        yield
    except (aiohttp.ClientError, OSError) as error:
        raise _httpx_error(error) from None  # the cause's text may hold the URL


def _httpx_error(error: Exception) -> httpx.TransportError:
    httpx_class = next(ours for theirs, ours in _HTTPX_CLASSES if isinstance(error, theirs))
    names_host_only = isinstance(error, aiohttp.ClientConnectorError)
    return httpx_class(str(error) if names_host_only else type(error).__name__)
