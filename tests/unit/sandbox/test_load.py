"""Load mode: the same answers on the short way and the long one."""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Iterator

import pytest
from servers.sandbox import SandboxUnderTest, running_sandbox

from tagmill.sandbox.load import is_handle, made_up_tags

HANDLES = [f"{number:020d}" for number in range(20)]


@pytest.fixture(scope="module")
def loaded() -> Iterator[SandboxUnderTest]:
    with running_sandbox(load=True) as running:
        yield running


@pytest.fixture
def sandbox(loaded: SandboxUnderTest) -> SandboxUnderTest:
    loaded.faults(latency_ms=0)
    loaded.reset()
    return loaded


def ask(sandbox: SandboxUnderTest, *packets: bytes, answers: int) -> bytes:
    """Send packets, return what came when there were so many answers or the connection ended."""
    host, _, port = sandbox.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        for packet in packets:
            connection.sendall(packet)
        received = b""
        while received.count(b'"user":null}}') < answers and (block := connection.recv(65_536)):
            received += block
        return received


def test_made_up_tags_depend_on_the_name_only() -> None:
    assert made_up_tags("one") == made_up_tags(b"one")
    assert made_up_tags("one") != made_up_tags("two")
    auto = json.loads(made_up_tags("one"))["tags"]["auto"]
    assert len(auto) == 9
    assert all(50 <= confidence <= 98 for confidence in auto.values())


@pytest.mark.parametrize(
    ("text", "expected"), [(b"a" * 20, True), (b"a" * 19, False), (b"a" * 19 + b"?", False)]
)
def test_a_handle_is_twenty_safe_characters(text: bytes, expected: bool) -> None:  # noqa: FBT001 - a table
    assert is_handle(text) is expected


def test_repeated_requests_on_one_connection_are_answered_and_counted(sandbox: SandboxUnderTest) -> None:
    connection = http.client.HTTPConnection(sandbox.url.removeprefix("http://"), timeout=10)
    try:
        for handle in HANDLES:
            connection.request("GET", f"/{sandbox.security()}/tags/{handle}")
            assert connection.getresponse().read() == made_up_tags(handle)
    finally:
        connection.close()
    stats = sandbox.stats()
    assert (stats["calls"], stats["billed"], stats["by_status"]) == (20, 20, {"200": 20})
    assert len(sandbox.arrivals()) == 20


def test_an_unknown_signature_is_refused_after_a_good_one(sandbox: SandboxUnderTest) -> None:
    good = sandbox.security()
    assert sandbox.send(f"/{good}/tags/{HANDLES[0]}").status == 200
    assert sandbox.send(f"/{good[:-1]}x/tags/{HANDLES[0]}").status == 403
    assert sandbox.send(f"/tags/{HANDLES[0]}").status == 400


def test_a_policy_for_one_handle_opens_no_other(sandbox: SandboxUnderTest) -> None:
    security = sandbox.security("convert", handle=HANDLES[0])
    assert sandbox.send(f"/{security}/tags/{HANDLES[0]}").status == 200
    assert sandbox.send(f"/{security}/tags/{HANDLES[1]}").status == 403


def test_an_expired_policy_is_refused_although_it_was_verified(sandbox: SandboxUnderTest) -> None:
    security = sandbox.security("convert", expiry=time.time() + 0.3)
    path = f"/{security}/tags/{HANDLES[0]}"
    assert sandbox.send(path).status == 200
    deadline = time.monotonic() + 10
    while sandbox.send(path).status == 200:
        assert time.monotonic() < deadline
    assert sandbox.send(path).text == "policy has expired\n"


def test_a_malformed_handle_is_refused(sandbox: SandboxUnderTest) -> None:
    sandbox.send(f"/{sandbox.security()}/tags/{HANDLES[0]}")
    assert sandbox.send(f"/{sandbox.security()}/tags/short").status == 400


def test_faults_reach_every_request(sandbox: SandboxUnderTest) -> None:
    path = f"/{sandbox.security()}/tags/{HANDLES[0]}"
    assert sandbox.send(path).status == 200
    sandbox.faults({"fault": "500"})
    assert sandbox.send(path).status == 500


def test_a_rate_limit_reaches_every_request() -> None:
    with running_sandbox(load=True, rate_limit="1/d") as sandbox:
        path = f"/{sandbox.security()}/tags/{HANDLES[0]}"
        assert [sandbox.send(path).status for _ in range(3)] == [200, 429, 429]


def test_requests_in_pieces_and_in_a_row_are_understood(sandbox: SandboxUnderTest) -> None:
    path = f"/{sandbox.security()}/tags/{HANDLES[0]}".encode()
    sandbox.send(path.decode())
    whole = b"GET " + path + b" HTTP/1.1\r\nHost: h\r\n\r\n"
    for packets in ([whole[:30], whole[30:]], [whole + whole], [whole, whole]):
        answers = b"".join(packets).count(b"GET ")
        received = ask(sandbox, *packets, answers=answers)
        assert received.count(made_up_tags(HANDLES[0])) == answers


def test_a_body_that_looks_like_a_request_is_none(sandbox: SandboxUnderTest) -> None:
    path = f"/{sandbox.security()}/tags/{HANDLES[0]}".encode()
    sandbox.send(path.decode())
    sandbox.reset()
    inner = b"GET " + path + b" HTTP/1.1\r\n\r\n"
    head = (
        b"POST /_sandbox/reset HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
        % len(inner)
    )
    assert made_up_tags(HANDLES[0]) not in ask(sandbox, head, inner, answers=1)
    assert sandbox.stats()["calls"] == 0


def test_a_connection_closes_when_asked(sandbox: SandboxUnderTest) -> None:
    path = f"/{sandbox.security()}/tags/{HANDLES[0]}"
    sandbox.send(path)
    assert sandbox.send(path, connection="close").headers["connection"] == "close"


def test_latency_holds_on_the_short_way(sandbox: SandboxUnderTest) -> None:
    path = f"/{sandbox.security()}/tags/{HANDLES[0]}"
    sandbox.send(path)
    sandbox.faults(latency_ms=150)
    started = time.monotonic()
    assert sandbox.send(path).status == 200
    assert time.monotonic() - started >= 0.149


def test_uploads_work_too(sandbox: SandboxUnderTest) -> None:
    handle = sandbox.upload(b"anything")
    assert sandbox.send(f"/{sandbox.security()}/tags/{handle}").body == made_up_tags(handle)


def test_no_names_are_kept(sandbox: SandboxUnderTest) -> None:
    sandbox.send(f"/{sandbox.security()}/tags/{HANDLES[0]}")
    assert sandbox.stats(images=True)["images"] is None
    assert sandbox.send("/_sandbox/arrivals").json["requests"] is None


def test_other_tasks_are_refused(sandbox: SandboxUnderTest) -> None:
    assert sandbox.send(f"/{sandbox.security()}/sfw/{HANDLES[0]}").status == 400
