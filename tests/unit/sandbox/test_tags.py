"""The tags task over HTTP: URL forms, security, sources, caching, billing."""

from __future__ import annotations

import base64
import json
import os
import time
from pathlib import Path
from urllib.parse import quote

import pytest
from servers.sandbox import SandboxUnderTest, running_sandbox

from tagmill.sandbox.policies import encode, sign

UNKNOWN = "AbCdEfGhIjKlMnOpQr01"


def percent(text: str) -> str:
    return quote(text, safe="-._~")


def b64(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    "task", ["tags", "tags=version:2", "tags=v:1", "resize=h:50/tags", "cache=false/tags"]
)
def test_a_handle_is_tagged_from_its_pixels(sandbox: SandboxUnderTest, handle: str, task: str) -> None:
    got = sandbox.send(f"/{sandbox.security()}/{task}/{handle}")
    assert got.status == 200
    assert got.headers["content-type"] == "application/json"
    tags = got.json["tags"]
    assert tags["user"] is None
    assert tags["auto"]["red"] == 100
    assert all(isinstance(confidence, int) for confidence in tags["auto"].values())


@pytest.mark.parametrize("form", ["{key}/{sec}/tags/{h}", "tags/{sec}/{h}", "{key}/tags/{sec}/{h}"])
def test_security_may_come_before_or_after(sandbox: SandboxUnderTest, handle: str, form: str) -> None:
    path = form.format(key=sandbox.key, sec=sandbox.security(), h=handle)
    assert sandbox.send(f"/{path}").status == 200


def test_the_long_spelling_in_any_order_is_the_same(sandbox: SandboxUnderTest, handle: str) -> None:
    policy, signature = sandbox.credentials("convert")
    assert sandbox.send(f"/security=signature:{signature},policy:{policy}/tags/{handle}").status == 200


@pytest.mark.parametrize("name", ["red.png", "dir/a b, é.png"])
def test_an_external_url_is_fetched_in_every_form(sandbox: SandboxUnderTest, web: str, name: str) -> None:
    url = f"{web}/{name}"
    raw = f"{web}/{quote(name)}"
    for tail in (raw, f'"{raw}"', percent(url), percent(raw), f"b64://{b64(url)}"):
        got = sandbox.send(f"/{sandbox.key}/{sandbox.security()}/tags/{tail}")
        assert (got.status, got.json["tags"]["auto"]["red"]) == (200, 100)


@pytest.mark.parametrize("alias", ["photos/dir", "bucket"])
def test_a_storage_alias_leads_to_a_folder_or_a_bucket(sandbox: SandboxUnderTest, alias: str) -> None:
    source = f"src://{alias}/a b, é.png"
    for tail in (f"src://{alias}/{quote('a b, é.png')}", percent(source), f"b64://{b64(source)}"):
        assert sandbox.send(f"/{sandbox.key}/{sandbox.security()}/tags/{tail}").status == 200


def test_a_file_name_may_hold_any_byte(sandbox: SandboxUnderTest, folder: Path, picture: bytes) -> None:
    (folder / os.fsdecode(b"odd\xff.png")).write_bytes(picture)
    assert sandbox.send(f"/{sandbox.key}/{sandbox.security()}/tags/src://photos/odd%FF.png").status == 200
    assert [request["image"] for request in sandbox.requests()] == ["src://photos/odd\\xff.png"]


def test_tasks_and_source_may_be_base64_together(sandbox: SandboxUnderTest, web: str) -> None:
    tasks = b64(json.dumps([{"Name": "tags", "Params": {"version": 2}}]))
    path = f"/{sandbox.key}/{sandbox.security()}/b64/{tasks}/b64://{b64(f'{web}/red.png')}"
    assert sandbox.send(path).status == 200


@pytest.mark.parametrize(
    ("tail", "status"),
    [
        (UNKNOWN, 404),
        ("src://photos/../secret.png", 404),
        ("src://photos/missing.png", 404),
        ("src://nobody/red.png", 403),
        ("ftp%3A%2F%2Fh%2Fa.png", 400),
        ("http%3A%2F%2F127.0.0.1%3A1%2Fa.png", 500),
        ("short", 400),
    ],
)
def test_a_source_that_cannot_be_had_is_no_charge(sandbox: SandboxUnderTest, tail: str, status: int) -> None:
    got = sandbox.send(f"/{sandbox.key}/{sandbox.security()}/tags/{tail}")
    assert got.status == status
    assert got.headers["content-type"] == "text/plain; charset=utf-8"
    assert got.text.endswith("\n")
    assert sandbox.stats()["billed"] == 0


def test_a_missing_url_answers_404(sandbox: SandboxUnderTest, web: str) -> None:
    path = f"/{sandbox.key}/{sandbox.security()}/tags/{percent(f'{web}/missing.png')}"
    assert sandbox.send(path).status == 404


def test_what_is_no_image_gets_the_known_text(sandbox: SandboxUnderTest) -> None:
    got = sandbox.send(f"/{sandbox.key}/{sandbox.security()}/tags/src://photos/broken.jpg")
    expected = (
        "conv20 provider error: Failed to identify the file, probably corrupted image provided (idx 0)\n"
    )
    assert (got.status, got.text) == (400, expected)


@pytest.mark.parametrize(
    ("task", "parameter", "name"),
    [("tags=x:1", "x", "tags"), ("tags=version:3", "version", "tags"), ("resize=w:big/tags", "w", "resize")],
)
def test_an_invalid_parameter_gets_the_known_text(
    sandbox: SandboxUnderTest, task: str, parameter: str, name: str
) -> None:
    got = sandbox.send(f"/{sandbox.security()}/{task}/{UNKNOWN}")
    assert (got.status, got.text) == (400, f"invalid parameter `{parameter}` for `{name}` task\n")


@pytest.mark.parametrize(
    "task", ["tags/sfw", "sfw/tags", "cache/tags", "resize/tags", "cache=expiry:soon/tags"]
)
def test_other_tasks_are_refused(sandbox: SandboxUnderTest, task: str) -> None:
    assert sandbox.send(f"/{sandbox.security()}/{task}/{UNKNOWN}").status == 400


def test_security_is_required(sandbox: SandboxUnderTest, handle: str) -> None:
    assert sandbox.send(f"/tags/{handle}").status == 400


def test_an_unpadded_policy_is_refused(sandbox: SandboxUnderTest, handle: str) -> None:
    policy = encode({"expiry": 4_102_444_800, "call": ["convert"]}).rstrip("=")
    got = sandbox.send(f"/security=p:{policy},s:{sign(sandbox.secret, policy)}/tags/{handle}")
    assert (got.status, got.text) == (400, "policy is not properly url-safe base64 encoded\n")


@pytest.mark.parametrize("restriction", [{"call": ["read"]}, {"expiry": 1}, {"handle": UNKNOWN}])
def test_a_policy_that_does_not_permit_is_refused(
    sandbox: SandboxUnderTest, handle: str, restriction: dict[str, object]
) -> None:
    policy = encode({"call": ["convert"], "expiry": 4_102_444_800, **restriction})
    got = sandbox.send(f"/security=p:{policy},s:{sign(sandbox.secret, policy)}/tags/{handle}")
    assert got.status == 403


def test_a_wrong_signature_is_refused(sandbox: SandboxUnderTest, handle: str) -> None:
    policy, signature = sandbox.credentials("convert")
    assert sandbox.send(f"/security=p:{policy},s:{signature[::-1]}/tags/{handle}").status == 403


def test_a_handle_restriction_holds_for_that_handle_only(
    sandbox: SandboxUnderTest, handle: str, web: str
) -> None:
    security = sandbox.security("convert", handle=handle)
    assert sandbox.send(f"/{security}/tags/{handle}").status == 200
    assert sandbox.send(f"/{sandbox.key}/{security}/tags/{percent(f'{web}/red.png')}").status == 403


def test_a_url_restriction_holds_for_external_sources(sandbox: SandboxUnderTest, web: str) -> None:
    tail = percent(f"{web}/red.png")
    matching = sandbox.security("convert", url=f"^{web}/red")
    other = sandbox.security("convert", url="^https://elsewhere/")
    assert sandbox.send(f"/{sandbox.key}/{matching}/tags/{tail}").status == 200
    assert sandbox.send(f"/{sandbox.key}/{other}/tags/{tail}").status == 403


@pytest.mark.parametrize("key", ["", "/AnotherKey"])
def test_an_external_source_needs_the_right_key(sandbox: SandboxUnderTest, web: str, key: str) -> None:
    got = sandbox.send(f"{key}/{sandbox.security()}/tags/{percent(f'{web}/red.png')}")
    assert (got.status, got.text) == (403, "storage provider error: Invalid Application (idx 0)\n")


def test_a_cached_answer_is_not_billed_again_whoever_signed(sandbox: SandboxUnderTest, handle: str) -> None:
    first = sandbox.send(f"/{sandbox.security('convert')}/tags/{handle}")
    again = sandbox.send(f"/tags/{sandbox.security('convert', expiry=4_000_000_000)}/{handle}")
    assert first.body == again.body
    assert again.headers["x-cache"] == "HIT"
    stats = sandbox.stats()
    assert (stats["calls"], stats["billed"], stats["cached"]) == (2, 1, 1)


@pytest.mark.parametrize("task", ["cache=false", "cache=f"])
def test_past_the_cache_every_call_is_billed(sandbox: SandboxUnderTest, handle: str, task: str) -> None:
    for _ in range(2):
        assert sandbox.send(f"/{task}/{sandbox.security()}/tags/{handle}").status == 200
    assert sandbox.stats()["billed"] == 2


@pytest.mark.parametrize("task", ["cache=expiry:600", "cache=e:max"])
def test_a_cache_lifetime_may_be_asked_for(sandbox: SandboxUnderTest, handle: str, task: str) -> None:
    for _ in range(2):
        assert sandbox.send(f"/{task}/{sandbox.security()}/tags/{handle}").status == 200
    assert sandbox.stats()["billed"] == 1


def test_an_overwritten_file_keeps_its_cached_tags_until_the_cache_is_bypassed(
    sandbox: SandboxUnderTest, handle: str, folder: Path
) -> None:
    sandbox.send(f"/{sandbox.security()}/tags/{handle}")
    policy, signature = sandbox.credentials("write")
    broken = (folder / "broken.jpg").read_bytes()
    sandbox.send(f"/api/file/{handle}?policy={policy}&signature={signature}", "POST", broken)
    assert sandbox.send(f"/{sandbox.security()}/tags/{handle}").status == 200
    assert sandbox.send(f"/cache=false/{sandbox.security()}/tags/{handle}").status == 400


def test_the_log_names_every_request_and_its_charge(sandbox: SandboxUnderTest, handle: str) -> None:
    sandbox.send(f"/{sandbox.security()}/tags/{handle}")
    sandbox.send(f"/{sandbox.security()}/tags/{UNKNOWN}")
    first, second = sandbox.requests()
    assert (first["image"], first["status"], first["billed"]) == (handle, 200, True)
    assert (second["image"], second["status"], second["billed"]) == (UNKNOWN, 404, False)
    assert abs(first["wall"] - time.time()) < 60
    assert sandbox.arrivals() == [first["monotonic"], second["monotonic"]]
    assert first["monotonic"] < second["monotonic"]


def test_calls_are_counted_for_each_image(sandbox: SandboxUnderTest, handle: str) -> None:
    for _ in range(3):
        sandbox.send(f"/{sandbox.security()}/tags/{handle}")
    assert sandbox.stats(images=True)["images"] == {
        handle: {"calls": 3, "billed": 1, "filename": "picture.png"}
    }


def test_reset_forgets_calls_and_cached_answers_but_no_files(sandbox: SandboxUnderTest, handle: str) -> None:
    sandbox.send(f"/{sandbox.security()}/tags/{handle}")
    sandbox.reset()
    assert sandbox.stats()["calls"] == 0
    assert sandbox.requests() == []
    assert "x-cache" not in sandbox.send(f"/{sandbox.security()}/tags/{handle}").headers


def test_other_methods_are_refused(sandbox: SandboxUnderTest, handle: str) -> None:
    assert sandbox.send(f"/{sandbox.security()}/tags/{handle}", "POST").status == 405


def test_without_a_cache_every_call_is_billed(picture: bytes) -> None:
    with running_sandbox(cache=False) as sandbox:
        path = f"/{sandbox.security()}/tags/{sandbox.upload(picture)}"
        assert [sandbox.send(path).status, sandbox.send(path).status] == [200, 200]
        assert sandbox.stats()["billed"] == 2


@pytest.mark.parametrize("status", [429, 503])
def test_beyond_the_rate_calls_are_throttled_with_the_services_headers(picture: bytes, status: int) -> None:
    with running_sandbox(rate_limit="2/d", throttle_status=status) as sandbox:
        path = f"/{sandbox.security()}/tags/{sandbox.upload(picture)}"
        assert [sandbox.send(path).status for _ in range(2)] == [200, 200]
        got = sandbox.send(path)
        assert got.status == status
        assert got.headers["filestack-limit"] == "2"
        assert got.headers["filestack-remaining"] == "0"
        assert 0 < int(got.headers["filestack-reset"]) - time.time() <= 86_401
        assert "retry-after" not in got.headers
        assert sandbox.stats()["throttled"] == 1
