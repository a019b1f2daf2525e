"""What each fault looks like to a client, and what it is billed."""

from __future__ import annotations

import http.client
import time
import zlib
from contextlib import suppress
from typing import Any

import pytest
from servers.sandbox import Got, SandboxUnderTest, running_sandbox

from tagmill.sandbox.faults import INSTEAD


def tags(sandbox: SandboxUnderTest, handle: str) -> Got:
    return sandbox.send(f"/{sandbox.security()}/tags/{handle}")


def spoiled(sandbox: SandboxUnderTest, handle: str, fault: str) -> Any:
    sandbox.faults({"fault": fault})
    got = tags(sandbox, handle)
    assert got.status == 200
    return got.json["tags"]


@pytest.mark.parametrize(
    ("fault", "status", "text"),
    [
        ("400", 400, "invalid parameter `x` for `tags` task\n"),
        ("unsupported", 400, "conv20 provider error: image/jp2 conversions are not supported (idx 0)\n"),
        ("403", 403, "storage provider error: Invalid Application (idx 0)\n"),
        ("text_200", 200, "Invalid Application\n"),
        ("error_200", 200, '{"error":"invalid security policy path"}'),
        ("empty_body", 200, ""),
        ("500", 500, '{"error":"Internal Server Error"}'),
    ],
)
def test_documented_bodies(
    sandbox: SandboxUnderTest, handle: str, fault: str, status: int, text: str
) -> None:
    sandbox.faults({"fault": fault})
    got = tags(sandbox, handle)
    assert (got.status, got.text) == (status, text)
    assert sandbox.stats()["billed"] == 0


@pytest.mark.parametrize("status", [401, 404, 408, 429, 503])
def test_other_statuses(sandbox: SandboxUnderTest, handle: str, status: int) -> None:
    sandbox.faults({"fault": str(status)})
    assert tags(sandbox, handle).status == status


def test_a_throttle_fault_has_the_services_headers(sandbox: SandboxUnderTest, handle: str) -> None:
    sandbox.faults({"fault": "429"})
    headers = tags(sandbox, handle).headers
    assert headers["filestack-remaining"] == "0"
    assert "retry-after" not in headers


def test_a_page_comes_with_status_200(sandbox: SandboxUnderTest, handle: str) -> None:
    sandbox.faults({"fault": "html"})
    got = tags(sandbox, handle)
    assert (got.status, got.headers["content-type"]) == (200, "text/html; charset=utf-8")


def test_a_fault_may_be_charged(sandbox: SandboxUnderTest, handle: str) -> None:
    sandbox.faults({"fault": "500", "charged": True})
    tags(sandbox, handle)
    assert sandbox.stats()["billed"] == 1


@pytest.mark.parametrize(("fault", "billed"), [("reset_before", 0), ("reset_after", 1)])
def test_a_reset_connection_is_charged_or_not(
    sandbox: SandboxUnderTest, handle: str, fault: str, billed: int
) -> None:
    sandbox.faults({"fault": fault})
    with pytest.raises(ConnectionResetError):
        tags(sandbox, handle)
    stats = sandbox.stats()
    assert (stats["billed"], stats["by_status"]) == (billed, {"0": 1})


def test_a_truncated_body_is_charged(sandbox: SandboxUnderTest, handle: str) -> None:
    sandbox.faults({"fault": "truncated"})
    with pytest.raises(http.client.IncompleteRead):
        tags(sandbox, handle)
    assert sandbox.stats()["billed"] == 1


def test_a_dripping_body_arrives_slowly_and_whole(sandbox: SandboxUnderTest, handle: str) -> None:
    sandbox.faults({"fault": "drip", "seconds": 0.3})
    started = time.monotonic()
    assert "red" in tags(sandbox, handle).json["tags"]["auto"]
    assert time.monotonic() - started >= 0.25  # timers may end a little early


def test_a_hanging_request_ends_in_a_reset(sandbox: SandboxUnderTest, handle: str) -> None:
    sandbox.faults({"fault": "hang", "seconds": 0.2})
    started = time.monotonic()
    with pytest.raises(ConnectionResetError):
        tags(sandbox, handle)
    assert time.monotonic() - started >= 0.19


def test_a_small_reply_unpacks_to_very_much(sandbox: SandboxUnderTest, handle: str) -> None:
    sandbox.faults({"fault": "gzip_bomb"})
    got = tags(sandbox, handle)
    assert got.headers["content-encoding"] == "gzip"
    assert len(got.body) < 2**20
    unpack = zlib.decompressobj(wbits=31)
    assert len(unpack.decompress(got.body, 2**26)) == 2**26
    assert unpack.unconsumed_tail


def test_odd_auto(sandbox: SandboxUnderTest, handle: str) -> None:
    assert spoiled(sandbox, handle, "auto_empty")["auto"] == {}
    assert spoiled(sandbox, handle, "auto_null")["auto"] is None
    assert "auto" not in spoiled(sandbox, handle, "auto_missing")


def test_odd_user(sandbox: SandboxUnderTest, handle: str) -> None:
    assert "user" not in spoiled(sandbox, handle, "user_missing")
    assert spoiled(sandbox, handle, "user_map")["user"] == {"album": "summer"}


def test_odd_confidences(sandbox: SandboxUnderTest, handle: str) -> None:
    def confidences(fault: str) -> list[Any]:
        return list(spoiled(sandbox, handle, fault)["auto"].values())

    assert all(isinstance(value, float) for value in confidences("floats"))
    assert all(isinstance(value, str) for value in confidences("strings"))
    assert sum(value != value for value in confidences("nan")) == 1  # noqa: PLR0124 - only NaN differs from itself
    assert any(value is True for value in confidences("booleans"))
    assert 101 in confidences("out_of_range")


def test_odd_labels(sandbox: SandboxUnderTest, handle: str) -> None:
    assert {"café", "空"} <= spoiled(sandbox, handle, "unicode")["auto"].keys()
    assert max(map(len, spoiled(sandbox, handle, "long_labels")["auto"])) > 3_000
    assert len(spoiled(sandbox, handle, "many_labels")["auto"]) > 400


def test_extra_keys_at_every_level(sandbox: SandboxUnderTest, handle: str) -> None:
    sandbox.faults({"fault": "extra_keys"})
    got = tags(sandbox, handle).json
    assert "request_id" in got
    assert "model" in got["tags"]


def test_odd_data_is_not_what_the_cache_keeps(sandbox: SandboxUnderTest, handle: str) -> None:
    spoiled(sandbox, handle, "auto_null")
    sandbox.faults()
    assert tags(sandbox, handle).json["tags"]["auto"]["red"] == 100


@pytest.mark.parametrize(("operation", "fault"), [("store", "503"), ("store", "text_200"), ("delete", "500")])
def test_the_file_api_fails_on_demand(
    sandbox: SandboxUnderTest, handle: str, picture: bytes, operation: str, fault: str
) -> None:
    sandbox.faults({"fault": fault, "operation": operation})
    calls = {"store": ("/api/store/S3?", "POST", picture), "delete": (f"/api/file/{handle}?", "DELETE", b"")}
    assert sandbox.send(*calls[operation]).status == int(fault.removeprefix("text_"))
    assert sandbox.stats()["uploads"] == 0


@pytest.mark.parametrize("fault", ["reset_before", "reset_after", "truncated"])
def test_an_upload_can_lose_its_connection(sandbox: SandboxUnderTest, picture: bytes, fault: str) -> None:
    sandbox.faults({"fault": fault, "operation": "store"})
    with pytest.raises((ConnectionResetError, http.client.IncompleteRead)):
        sandbox.upload(picture)
    assert sandbox.stats()["uploads"] == (fault != "reset_before")


def test_latency_is_the_least_time_to_an_answer(sandbox: SandboxUnderTest, handle: str) -> None:
    sandbox.faults(latency_ms=150)
    started = time.monotonic()
    tags(sandbox, handle)
    assert time.monotonic() - started >= 0.149


def test_rules_are_shown_and_replaced(sandbox: SandboxUnderTest) -> None:
    sandbox.faults({"fault": "500", "every": 2}, seed=3)
    shown = sandbox.send("/_sandbox/faults").json
    assert (shown["seed"], shown["rules"][0]["fault"], shown["rules"][0]["every"]) == (3, "500", 2)
    assert sandbox.faults()["rules"] == []


@pytest.mark.parametrize(
    "body", [b"no json", b"[]", b'{"rules": [{"fault": "x"}]}', b'{"unknown": 1}', b'{"seed": "x"}']
)
def test_nonsense_changes_nothing(sandbox: SandboxUnderTest, body: bytes) -> None:
    sandbox.faults({"fault": "500"})
    assert sandbox.send("/_sandbox/faults", "POST", body).status == 400
    assert len(sandbox.send("/_sandbox/faults").json["rules"]) == 1


def test_an_error_can_be_cached_until_the_cache_is_bypassed(picture: bytes) -> None:
    with running_sandbox(cache_errors=True, faults=[{"fault": "403", "times": 1}]) as sandbox:
        handle = sandbox.upload(picture)
        assert tags(sandbox, handle).status == 403
        again = tags(sandbox, handle)
        assert (again.status, again.headers["x-cache"]) == (403, "HIT")
        assert sandbox.send(f"/cache=false/{sandbox.security()}/tags/{handle}").status == 200


@pytest.mark.parametrize("fault", sorted(INSTEAD))
def test_a_fault_is_not_what_the_cache_keeps(sandbox: SandboxUnderTest, handle: str, fault: str) -> None:
    sandbox.faults({"fault": fault, "seconds": 0.01})
    with suppress(OSError):
        tags(sandbox, handle)
    sandbox.faults()
    assert tags(sandbox, handle).json["tags"]["auto"]["red"] == 100


def test_an_upload_may_be_named_by_its_file_name(sandbox: SandboxUnderTest, picture: bytes) -> None:
    good, bad = sandbox.upload(picture, filename="good.png"), sandbox.upload(picture, filename="bad.png")
    sandbox.faults({"fault": "404", "images": ["bad.png"]})
    assert [tags(sandbox, handle).status for handle in (good, bad)] == [200, 404]
