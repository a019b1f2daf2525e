"""What every engine promises: over the fake, and over the real one with two servers."""

from __future__ import annotations

import asyncio
import io
import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import pytest
from fakes.engine import FakeEngine
from PIL import Image
from servers.sandbox import SandboxUnderTest, running_sandbox
from servers.wire import Exchange, wire_server

from tagmill.worker.engines.base import Engine, Locator, Transfer, Whereabouts
from tagmill.worker.engines.filestack import FilestackEngine
from tagmill.worker.engines.filestack_service import FilestackOptions
from tagmill.worker.errors import (
    AccessDeniedError,
    BadResponseError,
    CredentialsError,
    EngineUnavailableError,
    ImageNotFoundError,
    ImageRejectedError,
    ItemError,
    TaggingError,
    ThrottledError,
)
from tagmill.worker.models import Answer

GONE = Locator(Transfer.HANDLE, "GoneGoneGoneGone0000")


def picture() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (32, 32), "skyblue").save(file, "PNG")
    return file.getvalue()


class Service(Protocol):
    """An engine and the server behind it."""

    @property
    def engine(self) -> Engine: ...

    def images(self) -> list[Locator]:
        """Where one image is, in each way that needs no upload."""
        ...

    def throttle_next(self) -> None: ...

    def drop_next(self) -> None:
        """Break the connection after the next call arrived."""
        ...

    def stored(self) -> tuple[str, Whereabouts]:
        """Return a handle and where its bytes are."""
        ...


@dataclass
class FakeService:
    engine: FakeEngine = field(default_factory=lambda: FakeEngine(gone={GONE.value}))

    def images(self) -> list[Locator]:
        return [Locator(Transfer.HANDLE, "AbCdEfGhIjKlMnOpQr01"), Locator(Transfer.ALIAS, "src://lib/a.png")]

    def throttle_next(self) -> None:
        self.engine.failures.append(ThrottledError("slow down", retry_after=1.0, calls=1))

    def drop_next(self) -> None:
        self.engine.failures.append(EngineUnavailableError("dropped", calls=1, maybe_charged=1))

    def stored(self) -> tuple[str, Whereabouts]:
        handle, place = "AbCdEfGhIjKlMnOpQr01", Whereabouts("bucket", "a/b.png")
        self.engine.places[handle] = place
        return handle, place


@dataclass
class WireService:
    """A Filestack of thirty lines."""

    engine: Engine = field(init=False)
    held: set[str] = field(default_factory=lambda: {"AbCdEfGhIjKlMnOpQr01"})
    throttled: bool = False
    dropped: bool = False

    def images(self) -> list[Locator]:
        return [
            Locator(Transfer.HANDLE, "AbCdEfGhIjKlMnOpQr01"),
            Locator(Transfer.ALIAS, "src://lib/a.png"),
            Locator(Transfer.URL, "https://h.example/a.png?x=1"),
        ]

    def throttle_next(self) -> None:
        self.throttled = True

    def drop_next(self) -> None:
        self.dropped = True

    def stored(self) -> tuple[str, Whereabouts]:
        return "AbCdEfGhIjKlMnOpQr01", Whereabouts("bucket", "a/b.png")

    async def __call__(self, exchange: Exchange) -> None:
        name = re.split(r"[/?]", exchange.target.decode().partition("?")[0])[-1]
        if exchange.method == "POST":
            self.held.add(f"StoredStoredStored{len(self.held):02}")
            await exchange.answer(json.dumps({"url": f"https://cdn.example/{max(self.held)}"}).encode())
        elif exchange.method == "DELETE":
            await exchange.answer(status="200 OK" if name in self.held else "404 Not Found")
            self.held.discard(name)
        elif name == "metadata" and min(self.held) in exchange.target.decode():
            await exchange.answer(b'{"container": "bucket", "path": "a/b.png"}')
        elif self.throttled:
            self.throttled = False
            await exchange.answer(status="429 Too Many Requests", Retry_After="1")
        elif self.dropped:
            self.dropped = False
            exchange.close()
        elif name in self.held or "/src" in exchange.target.decode() or "http" in name:
            await exchange.answer(b'{"tags": {"auto": {"sky": 97}, "user": null}}')
        else:
            await exchange.answer(status="404 Not Found")


@dataclass
class SandboxService:
    server: SandboxUnderTest
    engine: Engine

    def images(self) -> list[Locator]:
        return [
            Locator(Transfer.HANDLE, self.server.upload(picture())),
            Locator(Transfer.ALIAS, "src://lib/ä b?.png"),
        ]

    def throttle_next(self) -> None:
        self.server.faults({"fault": "429", "times": 1})

    def drop_next(self) -> None:
        self.server.faults({"fault": "reset_after", "times": 1})

    def stored(self) -> tuple[str, Whereabouts]:
        handle = self.server.upload(picture())
        return handle, Whereabouts("sandbox", self.server.metadata(handle)["key"])


@asynccontextmanager
async def fake_service() -> AsyncIterator[Service]:
    yield FakeService()


@asynccontextmanager
async def wire_service() -> AsyncIterator[Service]:
    service = WireService()
    async with wire_server(service) as server:
        service.engine = FilestackEngine(
            FilestackOptions("AtestKey00000000000000", "secret", cdn_url=server.url, api_url=server.url)
        )
        yield service


@asynccontextmanager
async def sandbox_service(sandbox: SandboxUnderTest) -> AsyncIterator[Service]:
    sandbox.faults()
    sandbox.reset()
    yield SandboxService(sandbox, sandbox_engine(sandbox))


def sandbox_engine(sandbox: SandboxUnderTest, timeout_seconds: float = 10.0) -> FilestackEngine:
    return FilestackEngine(
        FilestackOptions(
            sandbox.key,
            sandbox.secret,
            name="sandbox",
            cdn_url=sandbox.url,
            api_url=sandbox.api_url,
            call_timeout_seconds=timeout_seconds,
        )
    )


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxUnderTest]:
    library: Path = tmp_path_factory.mktemp("library")
    (library / "ä b?.png").write_bytes(picture())
    with running_sandbox(aliases={"lib": str(library)}) as server:
        yield server


@pytest.fixture(params=["fake", "wire", "sandbox"])
async def service(request: pytest.FixtureRequest, sandbox: SandboxUnderTest) -> AsyncIterator[Service]:
    services: dict[str, AbstractAsyncContextManager[Service]] = {
        "fake": fake_service(),
        "wire": wire_service(),
        "sandbox": sandbox_service(sandbox),
    }
    async with services[request.param] as service, aclosing(service.engine):
        yield service


async def answer_of(service: Service, locator: Locator) -> Answer:
    answer = await service.engine.start(locator)
    assert isinstance(answer, Answer)
    return answer


async def failure(service: Service, locator: Locator) -> ItemError:
    with pytest.raises(ItemError) as raised:
        await service.engine.start(locator)
    return raised.value


async def test_an_engine_says_what_it_is(service: Service) -> None:
    assert re.fullmatch(r"[a-z-]+", service.engine.name)
    assert service.engine.version
    assert re.fullmatch(r"[0-9a-f]{16}", service.engine.config_hash)


async def test_an_image_is_tagged_wherever_it_is(service: Service) -> None:
    for locator in service.images():
        answer = await answer_of(service, locator)
        assert answer.tags["auto"]
        assert (answer.calls, answer.http_status) == (1, 200)
        assert answer.latency_ms is not None
        assert Answer.from_json(json.loads(json.dumps(answer.to_json()))) == answer


async def test_a_fresh_image_is_asked_for_like_any_other(service: Service) -> None:
    for locator in service.images():
        fresh = Locator(locator.transfer, locator.value, fresh=True)
        assert (await answer_of(service, fresh)).calls == 1


async def test_many_images_are_tagged_at_once(service: Service) -> None:
    answers = await asyncio.gather(*(answer_of(service, service.images()[0]) for _ in range(20)))
    assert all(answer.tags["auto"] for answer in answers)


async def test_an_image_that_is_not_there_is_missing_and_was_a_call(service: Service) -> None:
    error = await failure(service, GONE)
    assert (type(error), error.calls, error.maybe_charged) == (ImageNotFoundError, 1, 0)


async def test_throttling_says_how_long(service: Service) -> None:
    service.throttle_next()
    error = await failure(service, service.images()[0])
    assert isinstance(error, ThrottledError)
    assert error.calls == 1
    assert error.retry_after is not None
    assert 0 <= error.retry_after <= 3600


async def test_a_call_without_an_answer_may_have_been_charged(service: Service) -> None:
    service.drop_next()
    error = await failure(service, service.images()[0])
    assert isinstance(error, EngineUnavailableError)
    assert (error.calls, error.maybe_charged) == (1, 1)


async def test_a_failure_does_not_last(service: Service) -> None:
    service.drop_next()
    locator = service.images()[0]
    await failure(service, locator)
    assert (await answer_of(service, locator)).tags["auto"]


async def test_an_upload_can_be_tagged_until_it_is_discarded(service: Service) -> None:
    handle = await service.engine.upload(picture(), "image/png", "ä b.png")
    other = await service.engine.upload(picture(), "image/png", "other.png")
    assert handle != other
    assert (await answer_of(service, Locator(Transfer.UPLOAD, handle))).tags["auto"]
    await service.engine.discard(handle)
    await service.engine.discard(handle)
    error = await failure(service, Locator(Transfer.UPLOAD, handle, fresh=True))
    assert type(error) is ImageNotFoundError


async def test_a_stored_file_says_where_its_bytes_are(service: Service) -> None:
    handle, place = service.stored()
    assert await service.engine.whereabouts(handle) == place


async def test_a_file_that_is_gone_is_missing_and_that_was_no_call(service: Service) -> None:
    with pytest.raises(ImageNotFoundError) as raised:
        await service.engine.whereabouts(GONE.value)
    assert raised.value.calls == 0
    assert "signature" not in str(raised.value)


async def test_an_engine_can_be_closed_twice(service: Service) -> None:
    await answer_of(service, service.images()[0])
    await service.engine.aclose()
    await service.engine.aclose()


# --- the real engine and everything a server is known to do -------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "error_class"),
    [
        ("400", ImageRejectedError),
        ("unreadable", ImageRejectedError),
        ("unsupported", ImageRejectedError),
        ("401", CredentialsError),
        ("403", AccessDeniedError),
        ("404", ImageNotFoundError),
        ("408", EngineUnavailableError),
        ("429", ThrottledError),
        ("500", EngineUnavailableError),
        ("503", ThrottledError),
        ("text_200", BadResponseError),
        ("error_200", BadResponseError),
        ("html", BadResponseError),
        ("empty_body", BadResponseError),
        ("gzip_bomb", BadResponseError),
        ("reset_before", EngineUnavailableError),
        ("reset_after", EngineUnavailableError),
        ("truncated", EngineUnavailableError),
        ("hang", EngineUnavailableError),
        ("drip", EngineUnavailableError),
    ],
)
async def test_a_fault_has_its_class(
    sandbox: SandboxUnderTest, fault: str, error_class: type[TaggingError]
) -> None:
    sandbox.faults()
    sandbox.reset()
    sandbox.faults({"fault": fault, "times": 1, "seconds": 60.0})
    locator = Locator(Transfer.HANDLE, sandbox.upload(picture()))
    async with aclosing(sandbox_engine(sandbox, 0.5 if fault in ("hang", "drip") else 10.0)) as engine:
        with pytest.raises(error_class) as raised:
            await engine.start(locator)
    assert type(raised.value) is error_class


@pytest.mark.parametrize(
    ("fault", "flags"),
    [
        ("auto_empty", ("no_tags",)),
        ("auto_null", ("no_tags",)),
        ("auto_missing", ("no_tags",)),
        ("user_missing", ()),
        ("user_map", ()),
        ("floats", ()),
        ("strings", ("partial",)),
        ("nan", ("partial",)),
        ("booleans", ("partial",)),
        ("out_of_range", ("partial",)),
        ("unicode", ()),
        ("long_labels", ("partial",)),
        ("many_labels", ()),
        ("extra_keys", ()),
    ],
)
async def test_odd_data_is_read_as_far_as_it_can_be(
    sandbox: SandboxUnderTest, fault: str, flags: tuple[str, ...]
) -> None:
    sandbox.faults()
    sandbox.reset()
    sandbox.faults({"fault": fault})
    async with aclosing(sandbox_engine(sandbox)) as engine:
        answer = await engine.start(Locator(Transfer.HANDLE, sandbox.upload(picture())))
    assert set(flags) <= set(answer.flags)
    assert "partial" in flags or "partial" not in answer.flags
