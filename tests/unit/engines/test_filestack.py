"""The engine over canned answers."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from tagmill.worker.engines.base import Locator, Transfer
from tagmill.worker.engines.filestack import FilestackEngine
from tagmill.worker.engines.filestack_service import FilestackOptions, OnLimit
from tagmill.worker.engines.transport import TARGET
from tagmill.worker.errors import (
    AccessDeniedError,
    BadResponseError,
    ConfigError,
    CredentialsError,
    EngineUnavailableError,
    RedisUnavailableError,
    RetryableError,
)
from tagmill.worker.models import Answer

NOW = 1_893_456_000.0
HANDLE = Locator(Transfer.HANDLE, "AbCdEfGhIjKlMnOpQr01")
TAGS = {"tags": {"auto": {"sky": 97}, "user": None}}
EXPIRED_DATE = "Tue, 01 Jan 2030 02:00:00 GMT"  # two hours after NOW
OPTIONS = FilestackOptions("AtestKey00000000000000", "not-a-real-secret", clock=lambda: NOW)

Answering = Callable[[httpx.Request], httpx.Response]


def engine(answering: Answering, *, on_limit: OnLimit | None = None) -> FilestackEngine:
    return FilestackEngine(OPTIONS, transport=httpx.MockTransport(answering), on_limit=on_limit)


def target(request: httpx.Request) -> str:
    raw: bytes = request.extensions[TARGET]
    return raw.decode()


def calls_allowed(policy: str) -> list[str]:
    calls: list[str] = json.loads(base64.urlsafe_b64decode(policy))["call"]
    return calls


async def test_an_answer_is_tags_and_what_the_call_was_like() -> None:
    answer = await engine(lambda _: httpx.Response(200, json=TAGS)).start(HANDLE)
    assert answer == Answer(TAGS["tags"], (), 200, answer.latency_ms, calls=1)


async def test_nothing_secret_is_in_the_url_that_httpx_shows() -> None:
    def answering(request: httpx.Request) -> httpx.Response:
        assert str(request.url) == "https://cdn.filestackcontent.com"
        assert calls_allowed(target(request).split(":")[1].split(",")[0]) == ["convert", "read"]
        return httpx.Response(200, json=TAGS)

    await engine(answering).start(HANDLE)


async def test_a_body_that_is_no_answer_is_counted_and_described_without_secrets() -> None:
    with pytest.raises(BadResponseError) as raised:
        await engine(lambda _: httpx.Response(200, text="oops")).start(HANDLE)
    assert (raised.value.calls, raised.value.http_status) == (1, 200)
    assert "no JSON" in str(raised.value)
    assert "oops" in str(raised.value)


@pytest.mark.parametrize("status", [400, 401, 403])
async def test_a_policy_that_expired_by_the_servers_clock_is_signed_anew_for_another_attempt(
    status: int,
) -> None:
    def answering(request: httpx.Request) -> httpx.Response:
        policy = target(request).split(":")[1].split(",")[0]
        expiry = json.loads(base64.urlsafe_b64decode(policy))["expiry"]
        if expiry > NOW + 7200:
            return httpx.Response(200, json=TAGS)
        return httpx.Response(status, headers={"Date": EXPIRED_DATE}, text="Invalid policy")

    skewed = engine(answering)
    with pytest.raises(RetryableError) as raised:
        await skewed.start(HANDLE)
    assert (raised.value.code, raised.value.calls) == ("policy_expired", 1)
    assert (await skewed.start(HANDLE)).tags == TAGS["tags"]


async def test_a_refusal_that_a_new_policy_does_not_cure_is_final() -> None:
    stubborn = engine(lambda _: httpx.Response(403, headers={"Date": EXPIRED_DATE}))
    with pytest.raises(RetryableError):
        await stubborn.start(HANDLE)
    with pytest.raises(AccessDeniedError):
        await stubborn.start(HANDLE)


async def test_credentials_that_are_refused_stop_the_run() -> None:
    with pytest.raises(CredentialsError):
        await engine(lambda _: httpx.Response(401)).start(HANDLE)


async def test_a_success_that_was_the_last_for_now_is_reported() -> None:
    heard: list[float] = []

    async def hear(seconds: float) -> None:
        heard.append(seconds)

    headers = {"Filestack-Remaining": "0", "Filestack-Reset": f"{NOW + 9:.0f}"}
    await engine(lambda _: httpx.Response(200, json=TAGS, headers=headers), on_limit=hear).start(HANDLE)
    del headers["Filestack-Reset"]
    await engine(lambda _: httpx.Response(200, json=TAGS, headers=headers), on_limit=hear).start(HANDLE)
    await engine(lambda _: httpx.Response(200, json=TAGS), on_limit=hear).start(HANDLE)
    assert heard == [9.0, 1.0]


async def test_a_paid_answer_survives_a_listener_that_fails() -> None:
    async def fail(_: float) -> None:
        raise RedisUnavailableError("gone")

    headers = {"Filestack-Remaining": "0"}
    limited = engine(lambda _: httpx.Response(200, json=TAGS, headers=headers), on_limit=fail)
    assert (await limited.start(HANDLE)).tags == TAGS["tags"]


@pytest.mark.parametrize(
    "url",
    [
        "https://cdn.filestackcontent.com/ZyXwVuTsRqPoNmLkJi09",
        "https://www.filestackapi.com/api/file/ZyXwVuTsRqPoNmLkJi09?x=1",
        "/TASKS/ZyXwVuTsRqPoNmLkJi09/",
    ],
)
async def test_an_uploads_handle_is_the_last_part_of_its_url(url: str) -> None:
    def answering(request: httpx.Request) -> httpx.Response:
        query = parse_qs(urlsplit(target(request)).query)
        assert target(request).startswith("/api/store/S3?")
        assert (request.method, query["key"]) == ("POST", [OPTIONS.api_key])
        assert (query["filename"], calls_allowed(query["policy"][0])) == (["ä b.jpg"], ["store"])
        assert (request.content, request.headers["content-type"]) == (b"\xff\xd8", "image/jpeg")
        return httpx.Response(200, json={"url": url})

    assert await engine(answering).upload(b"\xff\xd8", "image/jpeg", "ä b.jpg") == "ZyXwVuTsRqPoNmLkJi09"


@pytest.mark.parametrize("body", ["Invalid Application", "{}", '{"url": "/x"}', '{"url": 5}', "[]"])
async def test_an_upload_without_a_handle_fails_and_counts_no_paid_call(body: str) -> None:
    with pytest.raises(BadResponseError) as raised:
        await engine(lambda _: httpx.Response(200, text=body)).upload(b"x", "image/png", "x.png")
    assert raised.value.calls == 0


@pytest.mark.parametrize("status", [200, 204, 404, 410])
async def test_an_upload_that_is_gone_is_discarded(status: int) -> None:
    def answering(request: httpx.Request) -> httpx.Response:
        parts = urlsplit(target(request))
        assert (request.method, parts.path) == ("DELETE", f"/api/file/{HANDLE.value}")
        assert calls_allowed(parse_qs(parts.query)["policy"][0]) == ["remove"]
        return httpx.Response(status)

    await engine(answering).discard(HANDLE.value)


async def test_an_upload_that_cannot_be_discarded_is_an_error() -> None:
    with pytest.raises(EngineUnavailableError) as raised:
        await engine(lambda _: httpx.Response(500)).discard(HANDLE.value)
    assert raised.value.calls == 0


def test_the_configuration_hash_follows_what_changes_answers_only() -> None:
    def config_hash(**changes: object) -> str:
        options: dict[str, object] = {"api_key": "k", "app_secret": "s", **changes}
        return FilestackEngine(FilestackOptions(**options)).config_hash  # type: ignore[arg-type]  # a table

    same = config_hash()
    assert config_hash(api_key="other", app_secret="other", cdn_url="http://127.0.0.1:1") == same
    assert config_hash(tags_version=2) == same
    assert (
        len({same, config_hash(tags_version=1), config_hash(resize_height=9), config_hash(name="sandbox")})
        == 4
    )


@pytest.mark.parametrize(
    "options",
    [
        FilestackOptions("", "s"),
        FilestackOptions("k", ""),
        FilestackOptions("k", "s", cdn_url="cdn.example.com"),
        FilestackOptions("k", "s", api_url="ftp://example.com"),
        FilestackOptions("k", "s", cdn_url="https://user:password@example.com"),
        FilestackOptions("k", "s", cdn_url="https://[::1"),
        FilestackOptions("k", "s", cdn_url="https://example.com:port"),
    ],
)
def test_what_cannot_work_is_refused_at_once(options: FilestackOptions) -> None:
    with pytest.raises(ConfigError, match="TAGMILL_FILESTACK"):
        FilestackEngine(options)


def test_options_do_not_show_credentials() -> None:
    assert OPTIONS.api_key not in repr(OPTIONS)
    assert OPTIONS.app_secret not in repr(OPTIONS)
