"""The engine against a server that misbehaves: deadlines, sizes, secrets, and what may have been charged."""

from __future__ import annotations

import asyncio
import gc
import logging
import time
import traceback
import zlib
from collections.abc import Awaitable, Callable
from functools import cache

import psutil
import pytest
from servers.wire import Exchange, WireServer, wire_server

from tagmill.worker.engines.base import Locator, Transfer
from tagmill.worker.engines.filestack import FilestackEngine
from tagmill.worker.engines.filestack_service import FilestackOptions
from tagmill.worker.errors import (
    AccessDeniedError,
    BadResponseError,
    EngineUnavailableError,
    EngineUnreachableError,
    ImageRejectedError,
    ItemError,
    TaggingError,
    ThrottledError,
)

MIB = 1024 * 1024
TAGS = b'{"tags": {"auto": {"sky": 97}, "user": null}}'
HANDLE = Locator(Transfer.HANDLE, "AbCdEfGhIjKlMnOpQr01")
LINK = Locator(Transfer.URL, "https://b.example/k.jpg?X-Amz-Security-Token=t0ken&X-Amz-Signature=51a9")
KEY, SECRET = "AtestKey00000000000000", "planted-app-secret"

Fault = Callable[[Exchange], Awaitable[None]]


def engine(server: WireServer, timeout_seconds: float = 5.0) -> FilestackEngine:
    return FilestackEngine(
        FilestackOptions(
            KEY,
            SECRET,
            cdn_url=server.url,
            api_url=f"{server.url}/api",
            call_timeout_seconds=timeout_seconds,
            connections=8,
        )
    )


async def failure(fault: Fault, locator: Locator = HANDLE, timeout_seconds: float = 5.0) -> ItemError:
    async with wire_server(fault) as server:
        tagger = engine(server, timeout_seconds)
        with pytest.raises(ItemError) as raised:
            await tagger.start(locator)
        await tagger.aclose()
    assert raised.value.latency_ms is not None
    return raised.value


async def tags(exchange: Exchange) -> None:
    await exchange.answer(TAGS)


async def silence(_: Exchange) -> None:
    await asyncio.Event().wait()


async def drip(exchange: Exchange) -> None:
    """Never silent for long, never done."""
    await exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
    while True:
        await exchange.send(b" ")
        await asyncio.sleep(0.02)


async def cut(exchange: Exchange) -> None:
    await exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + TAGS)
    exchange.close()


async def reset(exchange: Exchange) -> None:
    exchange.reset()


async def garbage(exchange: Exchange) -> None:
    await exchange.send(b"\x00\x01 what is this\r\n\r\n")
    exchange.close()


async def flood(exchange: Exchange) -> None:
    await exchange.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        await exchange.send(b"10000\r\n" + b" " * 65_536 + b"\r\n")


async def bomb(exchange: Exchange) -> None:
    await exchange.answer(packed_spaces(), Content_Encoding="gzip")


@cache
def packed_spaces() -> bytes:
    """200 MiB in 200 KB."""
    packer = zlib.compressobj(level=9, wbits=31)
    return b"".join(packer.compress(b" " * MIB) for _ in range(200)) + packer.flush()


@pytest.mark.parametrize("fault", [silence, drip])
async def test_the_deadline_covers_the_whole_call(fault: Fault) -> None:
    started = time.monotonic()
    error = await failure(fault, timeout_seconds=0.3)
    assert time.monotonic() - started < 1.3
    assert type(error) is EngineUnavailableError
    assert (error.calls, error.maybe_charged) == (1, 1)


@pytest.mark.parametrize("fault", [cut, reset, garbage])
async def test_without_a_whole_answer_a_call_may_have_been_charged(fault: Fault) -> None:
    error = await failure(fault)
    assert type(error) is EngineUnavailableError
    assert (error.calls, error.maybe_charged) == (1, 1)


@pytest.mark.parametrize("fault", [flood, bomb])
async def test_a_body_without_end_takes_little_memory(fault: Fault) -> None:
    packed_spaces()
    gc.collect()
    before = psutil.Process().memory_info().rss
    error = await failure(fault)
    assert type(error) is BadResponseError
    assert (error.calls, error.maybe_charged, error.http_status) == (1, 0, 200)
    assert psutil.Process().memory_info().rss - before < 20 * MIB


async def test_what_was_never_connected_to_was_never_charged() -> None:
    async with wire_server(tags) as server:
        tagger = engine(server)
    with pytest.raises(EngineUnreachableError) as raised:
        await tagger.start(HANDLE)
    await tagger.aclose()
    assert (raised.value.calls, raised.value.maybe_charged) == (0, 0)


async def test_an_image_that_cannot_be_asked_for_is_not_asked_for() -> None:
    async with wire_server(tags) as server:
        tagger = engine(server)
        with pytest.raises(ImageRejectedError) as raised:
            await tagger.start(Locator(Transfer.HANDLE, "../../etc"))
        await tagger.aclose()
        assert (raised.value.calls, server.connections) == (0, 0)


async def test_an_encoded_answer_is_read_although_none_was_asked_for() -> None:
    async def encoded(exchange: Exchange) -> None:
        assert exchange.header("accept-encoding") == "identity"
        packer = zlib.compressobj(wbits=31)
        await exchange.answer(packer.compress(TAGS) + packer.flush(), Content_Encoding="gzip")

    async with wire_server(encoded) as server:
        tagger = engine(server)
        assert (await tagger.start(HANDLE)).tags["auto"] == {"sky": 97}
        await tagger.aclose()


async def test_many_calls_at_once_get_their_own_answers() -> None:
    async def own(exchange: Exchange) -> None:
        label = exchange.target.rpartition(b"/")[2]
        await exchange.answer(b'{"tags": {"auto": {"%s": 1}}}' % label)

    async with wire_server(own) as server:
        tagger = engine(server)
        handles = [f"handle{number:014}" for number in range(100)]
        answers = await asyncio.gather(*(tagger.start(Locator(Transfer.HANDLE, each)) for each in handles))
        await tagger.aclose()
    assert [list(answer.tags["auto"]) for answer in answers] == [[handle] for handle in handles]


async def test_an_upload_is_sent_as_it_is() -> None:
    async def stored(exchange: Exchange) -> None:
        await exchange.answer(b'{"url": "https://cdn.example/ZyXwVuTsRqPoNmLkJi09"}')

    content = bytes(range(256)) * 8192
    async with wire_server(stored) as server:
        tagger = engine(server)
        assert await tagger.upload(content, "image/png", "a.png") == "ZyXwVuTsRqPoNmLkJi09"
        await tagger.discard("ZyXwVuTsRqPoNmLkJi09")
        await tagger.aclose()
    assert [exchange.method for exchange in server.exchanges] == ["POST", "DELETE"]
    assert server.exchanges[0].body == content
    assert server.targets[0].startswith(b"/api/store/S3?key=AtestKey00000000000000&policy=eyJ")


async def echo(exchange: Exchange) -> None:
    """A refusal that quotes the request, as proxies do."""
    await exchange.answer(b"denied: " + exchange.head, "403 Forbidden", X_Echo=exchange.target.decode())


async def echo_with_200(exchange: Exchange) -> None:
    await exchange.answer(b"cannot read " + exchange.target)


async def busy(exchange: Exchange) -> None:
    await exchange.answer(exchange.target, "429 Too Many Requests", Retry_After="3")


async def moved(exchange: Exchange) -> None:
    await exchange.answer(status="302 Found", Location=exchange.target.decode())


@pytest.mark.parametrize(
    "fault", [silence, drip, cut, reset, garbage, flood, echo, echo_with_200, busy, moved]
)
@pytest.mark.parametrize("locator", [HANDLE, LINK])
async def test_no_failure_tells_a_secret(
    fault: Fault, locator: Locator, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    sent: list[str] = []

    async def watched(exchange: Exchange) -> None:
        sent.append(exchange.target.decode())
        await fault(exchange)

    error = await failure(watched, locator, timeout_seconds=0.3)
    policy, _, signature = sent[0].split("p:")[1].split("/")[0].partition(",s:")
    told = "".join([str(error), repr(error), *traceback.format_exception(error), caplog.text])
    for secret in (policy, signature, KEY, SECRET, "t0ken", "51a9&", "X-Amz-Signature"):
        assert secret not in told


async def test_classes_survive_the_wire() -> None:
    expected: list[tuple[Fault, type[TaggingError]]] = [(echo, AccessDeniedError), (busy, ThrottledError)]
    for fault, error_class in expected:
        assert type(await failure(fault)) is error_class
