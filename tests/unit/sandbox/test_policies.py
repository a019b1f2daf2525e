"""Policies against the published algorithm's vectors."""

from __future__ import annotations

import base64

import pytest

from tagmill.sandbox.policies import Policy, PolicyError, encode, sign, verify

SECRET = "example-app-secret-not-real"
EXPIRY = 1_893_456_000
A_POLICY = "eyJjYWxsIjpbImNvbnZlcnQiLCJyZWFkIl0sImV4cGlyeSI6MTg5MzQ1NjAwMH0="
A_SIGNATURE = "0a2fad5baa6d9e1cb1ef335d65aba1c7123ae342f2a94ad6a26f507c46303795"
A_STRIPPED_SIGNATURE = "368f8428e4aa50a1c8c52281fd7a85bbd3f40ee1258ecfa8cb80a20f2f9b6ce8"
B_POLICY = (
    "eyJjYWxsIjpbImNvbnZlcnQiXSwiZXhwaXJ5IjoxODkzNDU2MDAwLCJ1cmwiOiJe"
    "aHR0cHM6Ly9pbWdcXC5leGFtcGxlXFwuY29tLz8_Py4qJCJ9"
)
B_SIGNATURE = "ababf22f457aaafb9af8bafa8d57b5e60fe68db27943147f5b03bbdb7191aa95"
B_STANDARD_SIGNATURE = "280284e5635f8fa4e7bd2312ee3d7522b231c92c05adeaba71eb661942087954"


def verify_fields(**fields: object) -> Policy:
    encoded = encode({"expiry": EXPIRY, **fields})
    return verify(SECRET, encoded, sign(SECRET, encoded), now=0)


def test_vector_a_is_encoded_and_signed_as_published() -> None:
    encoded = encode({"call": ["convert", "read"], "expiry": EXPIRY})
    assert (encoded, sign(SECRET, encoded)) == (A_POLICY, A_SIGNATURE)


@pytest.mark.parametrize(("policy", "signature"), [(A_POLICY, A_SIGNATURE), (B_POLICY, B_SIGNATURE)])
def test_vectors_verify(policy: str, signature: str) -> None:
    assert verify(SECRET, policy, signature, now=0).expiry == EXPIRY


@pytest.mark.parametrize(
    ("policy", "signature"),
    [
        (A_POLICY, A_STRIPPED_SIGNATURE),
        (A_POLICY, A_SIGNATURE.upper()),
        (A_POLICY, "é"),
        (B_POLICY, B_STANDARD_SIGNATURE),
    ],
)
def test_a_wrong_signature_does_not_permit(policy: str, signature: str) -> None:
    with pytest.raises(PolicyError, match="signature") as caught:
        verify(SECRET, policy, signature, now=0)
    assert not caught.value.malformed


def test_an_unpadded_policy_is_malformed_although_its_signature_fits() -> None:
    with pytest.raises(PolicyError, match="not properly url-safe base64") as caught:
        verify(SECRET, A_POLICY.rstrip("="), A_STRIPPED_SIGNATURE, now=0)
    assert caught.value.malformed


def test_standard_base64_is_malformed() -> None:
    standard = B_POLICY.replace("_", "/")
    with pytest.raises(PolicyError, match="not properly url-safe base64"):
        verify(SECRET, standard, sign(SECRET, standard), now=0)


@pytest.mark.parametrize(("policy", "signature"), [(None, None), (A_POLICY, None), ("", "")])
def test_security_is_required(policy: str | None, signature: str | None) -> None:
    with pytest.raises(PolicyError, match="required"):
        verify(SECRET, policy, signature, now=0)


def test_a_policy_ends_at_its_expiry() -> None:
    verify(SECRET, A_POLICY, A_SIGNATURE, now=EXPIRY - 1)
    with pytest.raises(PolicyError, match="expired"):
        verify(SECRET, A_POLICY, A_SIGNATURE, now=EXPIRY)


@pytest.mark.parametrize(
    "text", ['{"call":[]}', "[]", "no json", '{"expiry":"1"}', '{"expiry":true}', '{"expiry":1,"call":3}']
)
def test_what_is_no_policy_is_malformed(text: str) -> None:
    encoded = base64.urlsafe_b64encode(text.encode()).decode()
    with pytest.raises(PolicyError) as caught:
        verify(SECRET, encoded, sign(SECRET, encoded), now=0)
    assert caught.value.malformed


def test_one_of_the_calls_is_enough() -> None:
    policy = verify_fields(call=["pick"])
    assert policy.allows("store", "pick")
    assert not policy.allows("convert")


def test_one_call_may_be_a_plain_string() -> None:
    assert verify_fields(call="convert").allows("convert")


def test_without_calls_everything_but_exif_is_allowed() -> None:
    policy = verify_fields()
    assert policy.allows("convert")
    assert not policy.allows("exif")


def test_a_url_restriction_is_a_regular_expression() -> None:
    policy = verify_fields(url=r"^https://img\.example\.com/")
    assert policy.allows_url("https://img.example.com/a.jpg")
    assert not policy.allows_url("https://img.example.org/a.jpg")


@pytest.mark.parametrize("url", ["(", 3])
def test_a_broken_url_restriction_is_malformed(url: object) -> None:
    with pytest.raises(PolicyError) as caught:
        verify_fields(url=url).allows_url("https://img.example.com/")
    assert caught.value.malformed
