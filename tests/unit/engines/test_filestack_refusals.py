"""Every answer that holds no tags has its class."""

from __future__ import annotations

import json

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagmill.worker.engines.exchange import Reply, timestamp
from tagmill.worker.engines.filestack_refusals import error_for, excerpt, limit_reached, wait_seconds
from tagmill.worker.errors import (
    AccessDeniedError,
    BadResponseError,
    CredentialsError,
    EngineUnavailableError,
    ImageNotFoundError,
    ImageRejectedError,
    ItemError,
    PermanentError,
    QuotaExhaustedError,
    TaggingError,
    ThrottledError,
)

NOW = 1_893_456_000.0
DATE = "Tue, 01 Jan 2030 00:00:00 GMT"  # NOW
POLICY = "eyJjYWxsIjpbImNvbnZlcnQiLCJyZWFkIl0sImV4cGlyeSI6MTg5MzQ1NjAwMH0="
SIGNATURE = "0a2fad5baa6d9e1cb1ef335d65aba1c7123ae342f2a94ad6a26f507c46303795"


def reply(
    status: int, body: str = "", headers: dict[str, str] | None = None, *, billable: bool = True
) -> Reply:
    return Reply(status, httpx.Headers(headers), body.encode(), NOW, latency_ms=12, billable=billable)


@pytest.mark.parametrize(
    ("status", "body", "error_class"),
    [
        (400, "invalid parameter `x` for `tags` task\n", ImageRejectedError),
        (400, "conv20 provider error: image/jp2 conversions are not supported (idx 0)", ImageRejectedError),
        (400, "application/pdf is not supported", ImageRejectedError),
        (400, '{"error": "policy is not properly url-safe base64 encoded"}', AccessDeniedError),
        (400, "Signature does not match", AccessDeniedError),
        (400, "", ImageRejectedError),
        (401, '{"error":"Invalid Policy","c":"x","i":"CLR-1","t":1508161246}', CredentialsError),
        (402, "", QuotaExhaustedError),
        (403, "monthly quota exceeded", QuotaExhaustedError),
        (403, "storage provider error: Invalid Application (idx 0)", AccessDeniedError),
        (404, "", ImageNotFoundError),
        (410, "", ImageNotFoundError),
        (405, "", PermanentError),
        (408, "", EngineUnavailableError),
        (413, "", ImageRejectedError),
        (415, "", ImageRejectedError),
        (422, "", ImageRejectedError),
        (425, "", EngineUnavailableError),
        (429, "", ThrottledError),
        (500, "conv20 provider error: Failed to identify the file (idx 0)", ImageRejectedError),
        (500, "oops", EngineUnavailableError),
        (502, "<html>Bad gateway</html>", EngineUnavailableError),
        (503, "", ThrottledError),
        (504, "", EngineUnavailableError),
        (599, "", EngineUnavailableError),
        (302, "", PermanentError),
        (101, "", BadResponseError),
        (200, "", BadResponseError),
        (200, "<html>not supported, invalid policy</html>", BadResponseError),
        (200, "Invalid Application", BadResponseError),
        (200, '{"error":"invalid security policy path"}', BadResponseError),
        (200, '{"result":"error","error":{"code":403,"msg":"Policy required"}}', BadResponseError),
    ],
)  # fmt: skip
def test_status_and_text_decide_the_class(status: int, body: str, error_class: type[TaggingError]) -> None:
    error = error_for(reply(status, body), unread="no JSON" if status == 200 else "")
    assert type(error) is error_class
    assert "\n" not in str(error)


def test_an_answered_call_is_counted_and_not_in_doubt() -> None:
    error = error_for(reply(500))
    assert isinstance(error, ItemError)
    assert (error.calls, error.maybe_charged, error.http_status, error.latency_ms) == (1, 0, 500, 12)


def test_a_request_that_costs_nothing_counts_no_call() -> None:
    error = error_for(reply(500, billable=False))
    assert isinstance(error, ItemError)
    assert error.calls == 0


def test_a_redirect_is_refused_under_its_own_name() -> None:
    assert (
        error_for(reply(302, headers={"Location": "http://169.254.169.254/"})).code == "unexpected_redirect"
    )


@pytest.mark.parametrize(
    ("status", "error_class"),
    [(500, ThrottledError), (418, ThrottledError), (404, ImageNotFoundError), (400, ImageRejectedError)],
)
def test_an_exhausted_rate_explains_what_else_would_be_a_failure(
    status: int, error_class: type[ItemError]
) -> None:
    assert type(error_for(reply(status, headers={"Filestack-Remaining": "0"}))) is error_class


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Filestack-Reset": f"{NOW + 30:.0f}"}, 30.0),
        ({"Filestack-Reset": f"{NOW:.0f}", "Retry-After": "9"}, 0.0),
        ({"Filestack-Reset": f"{NOW + 3600:.0f}"}, 3600.0),
        ({"Filestack-Reset": f"{NOW + 3601:.0f}"}, None),
        ({"Filestack-Reset": f"{NOW - 1:.0f}"}, None),
        ({"Filestack-Reset": "30"}, None),
        ({"Filestack-Reset": f"{NOW + 86400:.0f}", "Retry-After": "7"}, 7.0),
        ({"Filestack-Reset": "soon"}, None),
        ({"Filestack-Reset": "nan", "Retry-After": "nan"}, None),
        ({"Retry-After": "inf"}, 120.0),
        ({"Retry-After": "600"}, 120.0),
        ({"Retry-After": "-5"}, None),
        ({"Retry-After": "Tue, 01 Jan 2030 00:00:20 GMT"}, 20.0),
        ({"Retry-After": "Mon, 31 Dec 2029 23:59:50 GMT"}, None),
        ({"Retry-After": "later"}, None),
        ({}, None),
        # The server's clock is 100 s ahead of ours.
        ({"Date": "Tue, 01 Jan 2030 00:01:40 GMT", "Filestack-Reset": f"{NOW + 130:.0f}"}, 30.0),
    ],
)
def test_the_servers_own_delay_is_taken_when_it_is_sane(
    headers: dict[str, str], seconds: float | None
) -> None:
    throttled = reply(429, headers=headers)
    assert wait_seconds(throttled) == seconds
    error = error_for(throttled)
    assert isinstance(error, ThrottledError)
    assert error.retry_after == seconds


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126)))
def test_no_header_breaks_the_reading_of_delays(text: str) -> None:
    odd = reply(429, headers={"Date": text, "Filestack-Reset": text, "Retry-After": text})
    seconds = wait_seconds(odd)
    assert seconds is None or 0 <= seconds <= 3600


@pytest.mark.parametrize(
    "text", ["Mon, 01 Jan 2030 00:00:00 +9999999999", "Mon, 01 Jan 99999 00:00:00", "0", ""]
)
def test_an_impossible_date_is_none(text: str) -> None:
    assert timestamp(text) is None


def test_only_a_remainder_of_zero_is_the_limit() -> None:
    assert limit_reached(reply(200, headers={"Filestack-Remaining": " 0 "}))
    assert not limit_reached(reply(200, headers={"Filestack-Remaining": "10"}))
    assert not limit_reached(reply(200))


@pytest.mark.parametrize(
    "echoed",
    [
        f"GET /security=p:{POLICY},s:{SIGNATURE}/tags/AbCdEfGhIjKlMnOpQr01 failed",
        json.dumps(
            {"error": f"cannot fetch https://b.example/k?X-Amz-Signature={SIGNATURE}&X-Amz-Security-Token=t"}
        ),
        f"cannot fetch https%3A%2F%2Fb.example%2Fk%3FX-Amz-Signature%3D{SIGNATURE}",
        f"policy={POLICY}&signature={SIGNATURE}",
        f"b64://{POLICY}",
    ],
)
def test_what_a_service_echoes_is_quoted_without_secrets(echoed: str) -> None:
    for status in (200, 400, 401, 403, 500):
        error = error_for(reply(status, echoed), unread="no JSON" if status == 200 else "")
        for secret in (POLICY, SIGNATURE, "X-Amz-Security-Token=t", "b.example"):
            assert secret not in f"{error!s} {error!r}"


def test_a_text_is_quoted_in_one_short_printable_line() -> None:
    assert excerpt(b"one\r\n two\x1b[31m\x00" + b" word" * 1000).startswith("one two[31m word")
    assert len(excerpt(b"word " * 1000)) <= 200
    assert excerpt(b"") == "no text"


def test_a_reply_does_not_show_what_it_may_echo() -> None:
    assert SIGNATURE not in repr(reply(200, SIGNATURE, {"X-Echo": SIGNATURE}))
