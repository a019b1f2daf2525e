"""The published vectors, and everything that is not a signature."""

from __future__ import annotations

import json

import pytest

from tagmill.sandbox.webhooks import Letter
from tagmill.worker.webhooks.signature import Endpoint

SECRET = "example-webhook-secret-not-real"
TIMESTAMP = "1893456000"
W1 = (
    b'{"id":2,"action":"fp.delete","timestamp":1893456000,'
    b'"text":{"url":"https://cdn.filestackcontent.com/AbCdEfGhIjKlMnOpQr01"}}'
)
W1_SIGNATURE = "e2bb96bce533d3870ea0f6b3b01820c6f5096555f70637cc541f688177d9f790"
W2 = bytes.fromhex("7b226964223a332c226e6f7465223a22636166c3a9227d")
W2_SIGNATURE = "11ba71689ad6378e0a9567a5ac08630df21112f2043a7d50dd48cbbd04b794dd"


def endpoint(*secrets: str, max_age: float | None = None, now: float = int(TIMESTAMP)) -> Endpoint:
    return Endpoint("main", secrets or (SECRET,), max_age_seconds=max_age, clock=lambda: now)


@pytest.mark.parametrize(("body", "signature"), [(W1, W1_SIGNATURE), (W2, W2_SIGNATURE)])
def test_the_published_signatures_are_accepted(body: bytes, signature: str) -> None:
    assert endpoint().accepts([TIMESTAMP], [signature], body)
    assert endpoint().accepts([TIMESTAMP], [signature.upper()], body)


def test_a_body_that_says_the_same_in_other_bytes_is_not_what_was_signed() -> None:
    rewritten = json.dumps(json.loads(W1)).encode()
    assert not endpoint().accepts([TIMESTAMP], [W1_SIGNATURE], rewritten)
    # which has another signature, so it is the bytes that count
    other = "dc3ec00a8a3863dc9393acc09b0af119ff98c0032500abc2ead0f238e7006ccb"
    assert endpoint().accepts([TIMESTAMP], [other], rewritten)


def test_any_of_an_endpoints_secrets_may_have_signed() -> None:
    both = endpoint("the-next-secret", SECRET)
    for secret in ("the-next-secret", SECRET):
        headers = Letter.signed(W1, secret, int(TIMESTAMP)).headers
        assert both.accepts([headers["FS-Timestamp"]], [headers["FS-Signature"]], W1)
    assert not endpoint("the-next-secret").accepts([TIMESTAMP], [W1_SIGNATURE], W1)


@pytest.mark.parametrize(
    ("timestamps", "signatures"),
    [
        ([], [W1_SIGNATURE]),
        ([TIMESTAMP], []),
        ([TIMESTAMP, TIMESTAMP], [W1_SIGNATURE]),
        ([TIMESTAMP], [W1_SIGNATURE, W1_SIGNATURE]),
        (["1893456001"], [W1_SIGNATURE]),
        ([f" {TIMESTAMP}"], [W1_SIGNATURE]),
        (["-1893456000"], [W1_SIGNATURE]),
        (["1893456000.0"], [W1_SIGNATURE]),
        (["١٨٩٣٤٥٦٠٠٠"], [W1_SIGNATURE]),
        ([TIMESTAMP], [W1_SIGNATURE[:-1]]),
        ([TIMESTAMP], [f"{W1_SIGNATURE}0"]),
        ([TIMESTAMP], [f"sha256={W1_SIGNATURE}"]),
        ([TIMESTAMP], ["g" * 64]),
        ([TIMESTAMP], ["é" * 64]),
        ([TIMESTAMP], [""]),
    ],
)
def test_all_else_is_refused(timestamps: list[str], signatures: list[str]) -> None:
    assert not endpoint().accepts(timestamps, signatures, W1)


def test_a_signature_grows_old_only_where_that_is_asked_for() -> None:
    later = int(TIMESTAMP) + 100_000.0
    assert endpoint(now=later).accepts([TIMESTAMP], [W1_SIGNATURE], W1)
    assert not endpoint(now=later, max_age=86_400).accepts([TIMESTAMP], [W1_SIGNATURE], W1)
    assert endpoint(now=later, max_age=100_000).accepts([TIMESTAMP], [W1_SIGNATURE], W1)
    assert not endpoint(now=0, max_age=86_400).accepts([TIMESTAMP], [W1_SIGNATURE], W1)
