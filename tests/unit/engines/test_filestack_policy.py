"""Policies as the service verifies them, signed again in time."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from tagmill.worker.engines.filestack_policy import Policies, SignedPolicy, sign

SECRET = "example-app-secret-not-real"
NOW = 1_893_452_400.0


class Clock:
    def __init__(self, now: float = NOW) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def opened(signed: SignedPolicy) -> dict[str, Any]:
    terms: dict[str, Any] = json.loads(base64.urlsafe_b64decode(signed.policy))
    return terms


@pytest.mark.parametrize(
    ("terms", "policy", "signature"),
    [
        (
            '{"call":["convert","read"],"expiry":1893456000}',
            "eyJjYWxsIjpbImNvbnZlcnQiLCJyZWFkIl0sImV4cGlyeSI6MTg5MzQ1NjAwMH0=",
            "0a2fad5baa6d9e1cb1ef335d65aba1c7123ae342f2a94ad6a26f507c46303795",
        ),
        (
            r'{"call":["convert"],"expiry":1893456000,"url":"^https://img\\.example\\.com/???.*$"}',
            "eyJjYWxsIjpbImNvbnZlcnQiXSwiZXhwaXJ5IjoxODkzNDU2MDAwLCJ1cmwiOiJeaHR0cHM6Ly9pbWdcXC5leGFtcGxlXFwuY29tLz8_Py4qJCJ9",
            "ababf22f457aaafb9af8bafa8d57b5e60fe68db27943147f5b03bbdb7191aa95",
        ),
    ],
)
def test_a_policy_is_url_safe_base64_with_padding_and_signed_as_text(
    terms: str, policy: str, signature: str
) -> None:
    signed = sign(SECRET, terms, 1_893_456_000)
    assert (signed.policy, signed.signature) == (policy, signature)
    assert signed.task == f"security=p:{policy},s:{signature}"


def test_a_policy_allows_one_operation_and_outlives_a_server_clock_that_is_a_minute_ahead() -> None:
    policies = Policies(SECRET, life_seconds=3600, clock=Clock())
    assert opened(policies.allowing("remove")) == {"call": ["remove"], "expiry": int(NOW) + 3660}


def test_a_policy_is_used_again_until_half_of_its_life() -> None:
    clock = Clock()
    policies = Policies(SECRET, life_seconds=3600, clock=clock)
    first = policies.allowing("convert", "read")
    clock.now += 1799
    assert policies.allowing("convert", "read") is first
    clock.now += 1
    assert policies.allowing("convert", "read").expiry == first.expiry + 1800


def test_after_a_server_saw_a_policy_expire_its_clock_counts() -> None:
    clock = Clock()
    policies = Policies(SECRET, life_seconds=3600, clock=clock)
    signed = policies.allowing("convert", "read")
    assert policies.expired(signed, NOW + 7200)
    assert policies.allowing("convert", "read").expiry == int(NOW) + 7200 + 3660


def test_a_policy_still_good_by_the_servers_clock_did_not_expire() -> None:
    policies = Policies(SECRET, life_seconds=3600, clock=Clock())
    signed = policies.allowing("convert", "read")
    assert not policies.expired(signed, NOW + 300)
    assert policies.allowing("convert", "read") is signed


def test_a_clock_years_away_is_not_believed() -> None:
    policies = Policies(SECRET, clock=Clock())
    assert not policies.expired(policies.allowing("read"), NOW + 10 * 365 * 86_400)


def test_a_signed_policy_does_not_show_itself() -> None:
    signed = sign(SECRET, "{}", 1)
    assert signed.signature not in repr(signed)
    assert signed.policy not in repr(signed)
