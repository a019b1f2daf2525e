"""What really goes over the wire, and what its failures are called."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import aiohttp
import httpx
import pytest
import uvloop
from servers.wire import Exchange, WireServer, wire_server

from tagmill.worker.engines.transport import TARGET, AiohttpTransport

Fault = Callable[[Exchange], Awaitable[None]]


async def hello(exchange: Exchange) -> None:
    await exchange.answer(b"hello")


def sending(raw: bytes, then: str = "close") -> Fault:
    """Answer with bytes of the test's own, then `close` or `reset`."""

    async def fault(exchange: Exchange) -> None:
        await exchange.send(raw)
        getattr(exchange, then)()

    return fault


async def fetch(
    transport: AiohttpTransport, url: str, target: bytes = b"/", method: str = "GET", **options: Any
) -> tuple[httpx.Response, bytes]:
    request = httpx.Request(method, url, extensions={TARGET: target}, **options)
    response = await transport.handle_async_request(request)
    try:
        return response, b"".join([part async for part in response.aiter_raw()])
    finally:
        await response.aclose()


@pytest.mark.parametrize(
    "target",
    [
        b"/tags/https%3A%2F%2Fh%2Fa%3Fw%3D1",
        b"/x/../y/./z//",
        b"//host/path",
        b'/a=b:c,d/tags/"https://h.example/a,b"',
        b"/KEY/security=p:eyJ9==,s:0a/tags/src://alias/key",
        b"/a?key=1&policy=eyJ9%3D%3D&b=%2f%zz",
        b"/%",
        b"/a@b:c;{|}^`[]\\<>'!*()",
    ],
)
async def test_a_target_arrives_byte_for_byte(target: bytes) -> None:
    async with wire_server(hello) as server, AiohttpTransport(connections=1) as transport:
        await fetch(transport, server.url, target)
        assert server.targets == [target]


@pytest.mark.parametrize(
    "target",
    [b"", b"x", b"/a b", b"/a\r\nX: y", b"/a\tb", b"/a#b", b"/a?", b"/\xc3\xa9", b"/\x00", b"http://h/a"],
)
async def test_a_target_that_would_not_arrive_so_is_refused(target: bytes) -> None:
    async with wire_server(hello) as server, AiohttpTransport(connections=1) as transport:
        with pytest.raises(httpx.LocalProtocolError):
            await fetch(transport, server.url, target)
        assert server.connections == 0


async def test_only_the_headers_of_the_request_are_sent() -> None:
    async with wire_server(hello) as server, AiohttpTransport(connections=1) as transport:
        await fetch(transport, server.url, headers={"Accept-Encoding": "identity"})
        names = [line.split(b":")[0].lower() for line in server.exchanges[0].head.split(b"\r\n")[1:]]
    assert sorted(names) == [b"accept-encoding", b"host"]


async def test_a_body_is_sent_whole() -> None:
    body = bytes(range(256)) * 8192  # beyond what aiohttp takes in one piece
    async with wire_server(hello) as server, AiohttpTransport(connections=1) as transport:
        await fetch(transport, server.url, method="POST", content=body, headers={"Content-Type": "image/png"})
        assert server.exchanges[0].body == body
        assert server.exchanges[0].header("content-type") == "image/png"


async def test_connections_are_kept_and_bounded() -> None:
    async with wire_server(hello) as server, AiohttpTransport(connections=4) as transport:
        await asyncio.gather(*(fetch(transport, server.url) for _ in range(20)))
        assert len(server.exchanges) == 20
        assert server.connections <= 4


async def test_a_redirect_is_an_answer_and_a_cookie_is_forgotten() -> None:
    async def redirect(exchange: Exchange) -> None:
        await exchange.answer(status="302 Found", Location="/elsewhere", Set_Cookie="session=1")

    async with wire_server(redirect) as server, AiohttpTransport(connections=1) as transport:
        responses = [await fetch(transport, server.url) for _ in range(2)]
        assert [response.status_code for response, _ in responses] == [302, 302]
        assert [exchange.header("cookie") for exchange in server.exchanges] == [None, None]


async def test_an_encoded_body_is_left_as_it_is() -> None:
    async def encoded(exchange: Exchange) -> None:
        await exchange.answer(b"no gzip at all", Content_Encoding="gzip")

    async with wire_server(encoded) as server, AiohttpTransport(connections=1) as transport:
        assert (await fetch(transport, server.url))[1] == b"no gzip at all"


async def test_proxies_of_the_environment_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    async with wire_server(hello) as server, AiohttpTransport(connections=1) as transport:
        assert (await fetch(transport, server.url))[1] == b"hello"


HEAD = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    "new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"]
)
@pytest.mark.parametrize(
    ("fault", "error_class"),
    [
        (sending(b""), httpx.RemoteProtocolError),
        (sending(b"", "reset"), httpx.ReadError),
        (sending(b"nonsense\r\n\r\n"), httpx.RemoteProtocolError),
        (sending(b"HTTP/9.9 200 OK\r\n\r\n"), httpx.RemoteProtocolError),
        (sending(HEAD + b"Content-Le"), httpx.RemoteProtocolError),
        (sending(HEAD + b"Content-Le", "reset"), httpx.ReadError),
        (sending(HEAD + b"Content-Length: x\r\n\r\n"), httpx.RemoteProtocolError),
        (sending(HEAD + b"X: " + b"y" * 20_000 + b"\r\n\r\n"), httpx.RemoteProtocolError),
        (sending(HEAD + b"Content-Length: 10\r\n\r\nabc"), httpx.RemoteProtocolError),
        (sending(HEAD + b"Content-Length: 10\r\n\r\nabc", "reset"), httpx.RemoteProtocolError),
        (sending(HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nab"), httpx.RemoteProtocolError),
        (sending(HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nab"), httpx.RemoteProtocolError),
        (sending(b"HTTP/1.1 100 Continue\r\n\r\n"), httpx.RemoteProtocolError),
    ],
)  # fmt: skip
def test_after_sending_a_failure_says_so_and_the_request_is_not_sent_again(
    new_loop: Callable[[], asyncio.AbstractEventLoop], fault: Fault, error_class: type[Exception]
) -> None:
    async def scenario() -> None:
        async with wire_server(fault) as server, AiohttpTransport(connections=1) as transport:
            with pytest.raises(httpx.TransportError) as raised:
                await fetch(transport, server.url)
            assert type(raised.value) is error_class
            assert len(server.exchanges) == 1

    run(scenario(), new_loop)


def run(scenario: Coroutine[Any, Any, None], new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(scenario)


@pytest.mark.parametrize("then", ["close", "reset"])
async def test_a_get_on_a_kept_connection_that_drops_is_not_sent_again(then: str) -> None:
    async with wire_server(hello) as server, AiohttpTransport(connections=1) as transport:
        await fetch(transport, server.url, b"/first")
        server.behaviour = sending(b"", then)
        with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
            await fetch(transport, server.url, b"/paid")
        assert server.targets == [b"/first", b"/paid"]
        assert server.connections == 1


@pytest.mark.parametrize("host", ["127.0.0.1", "name.invalid"])
async def test_what_could_not_be_connected_to_was_not_sent_to(host: str) -> None:
    async with AiohttpTransport(connections=1) as transport:
        with pytest.raises(httpx.ConnectError, match=host):
            await fetch(transport, f"http://{host}:{closed_port()}")


async def test_without_tls_nothing_was_sent() -> None:
    async with wire_server() as server, AiohttpTransport(connections=1) as transport:
        server.on_connect = lambda writer: writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        with pytest.raises(httpx.ConnectError):
            await fetch(transport, server.url.replace("http:", "https:"))
        assert server.exchanges == []


async def test_a_reset_before_anything_was_read_is_no_connect_error() -> None:
    """The connection stood, so the request may have been on its way."""
    async with wire_server(hello) as server, AiohttpTransport(connections=1) as transport:
        server.on_connect = lambda writer: Exchange(b"", b"", writer).reset()
        with pytest.raises((httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError)):
            await fetch(transport, server.url)


async def test_connecting_has_a_deadline_of_its_own() -> None:
    with unaccepting_port() as url:
        async with AiohttpTransport(connections=1, connect_seconds=0.2) as transport:
            with pytest.raises(httpx.ConnectTimeout):
                await fetch(transport, url)


class Silence:
    """Reads a request and never answers."""

    def __init__(self) -> None:
        self.arrived = asyncio.Event()

    async def __call__(self, _: Exchange) -> None:
        self.arrived.set()
        await asyncio.Event().wait()


async def test_waiting_for_a_connection_counts_as_connecting() -> None:
    silence = Silence()
    async with (
        wire_server(silence) as server,
        AiohttpTransport(connections=1, connect_seconds=0.2) as transport,
    ):
        first = asyncio.create_task(fetch(transport, server.url))
        await silence.arrived.wait()
        with pytest.raises(httpx.ConnectTimeout):
            await fetch(transport, server.url)
        await cancel(first)
        assert len(server.exchanges) == 1


async def test_cancelling_passes_and_drops_the_connection() -> None:
    silence = Silence()
    async with wire_server(silence) as server, AiohttpTransport(connections=1) as transport:
        waiting = asyncio.create_task(fetch(transport, server.url))
        await silence.arrived.wait()
        await cancel(waiting)
        server.behaviour = hello
        assert (await fetch(transport, server.url))[1] == b"hello"
        assert server.connections == 2


async def cancel(task: asyncio.Task[Any]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def closed_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


@contextmanager
def unaccepting_port() -> Iterator[str]:
    """A listener whose backlog is full: further connections are not answered."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        for knocking in waiting:
            knocking.settimeout(0)
            with suppress(BlockingIOError):
                knocking.connect(listener.getsockname())
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            for knocking in waiting:
                knocking.close()


KEY = aiohttp.client_reqrep.ConnectionKey("h.example", 443, True, True, None, None, None)  # noqa: FBT003 - aiohttp's


def every(error_class: type[Exception]) -> set[type[Exception]]:
    return {error_class}.union(*map(every, error_class.__subclasses__()))


@pytest.mark.parametrize("error_class", sorted(every(aiohttp.ClientError), key=str))
async def test_no_failure_of_aiohttp_leaks(error_class: type[Exception]) -> None:
    """Raised where a request is made, whatever it is."""

    class Failing(AiohttpTransport):
        def _open_session(self) -> Any:
            error = error_class.__new__(error_class)
            vars(error).update(_conn_key=KEY, _path="", _os_error=OSError(), _certificate_error=OSError())
            raise error

    with pytest.raises(httpx.TransportError):
        await fetch(Failing(connections=1), "http://127.0.0.1")


async def test_closing_twice_or_before_any_request_is_fine() -> None:
    transport = AiohttpTransport(connections=1)
    await transport.aclose()
    async with wire_server(hello) as server:
        await fetch(transport, server.url)
        await transport.aclose()
        await transport.aclose()
    assert isinstance(server, WireServer)
