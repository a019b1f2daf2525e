"""Security policies: what a signed Filestack request may do, and until when.

https://www.filestack.com/docs/security/signing-policies
"""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

SKEW_MARGIN_SECONDS = 60  #: a server clock this far ahead of ours does not shorten a policy's life
MAX_SKEW_SECONDS = 86_400  #: a server clock further off is not believed


@dataclass(frozen=True, slots=True)
class SignedPolicy:
    """A bearer secret until `expiry`, in Unix seconds."""

    policy: str = field(repr=False)
    signature: str = field(repr=False)
    expiry: int

    @property
    def task(self) -> str:
        """The path segment of a processing URL; its `=` stay literal."""
        return f"security=p:{self.policy},s:{self.signature}"


def sign(secret: str, terms: str, expiry: int) -> SignedPolicy:
    """Sign policy JSON. The base64 keeps its padding: a signature over stripped text is refused."""
    policy = urlsafe_b64encode(terms.encode())
    signature = hmac.new(secret.encode(), policy, hashlib.sha256).hexdigest()
    return SignedPolicy(policy.decode(), signature, expiry)


class Policies:
    """Signs once for many requests, again at half of a policy's life."""

    def __init__(
        self, secret: str, *, life_seconds: float = 3600, clock: Callable[[], float] = time.time
    ) -> None:
        self._secret = secret
        self._life_seconds = life_seconds
        self._clock = clock
        self._ahead_seconds = 0.0  # of the server's clock, once it has refused a policy as expired
        self._signed: dict[tuple[str, ...], tuple[float, SignedPolicy]] = {}

    def allowing(self, *calls: str) -> SignedPolicy:
        """A policy for exactly these calls with at least half of its life left."""
        now = self._clock()
        renewal, signed = self._signed.get(calls, (0.0, None))
        if signed is None or now >= renewal:
            signed = self._sign({"call": list(calls)}, now)
            self._signed[calls] = (now + self._life_seconds / 2, signed)
        return signed

    def expired(self, signed: SignedPolicy, server_time: float) -> bool:
        """Whether the server saw this policy expire; if so, sign by the server's clock from now on."""
        ahead_seconds = server_time - self._clock()
        if server_time < signed.expiry or abs(ahead_seconds) > MAX_SKEW_SECONDS:
            return False
        self._ahead_seconds = ahead_seconds
        self._signed.clear()
        return True

    def _sign(self, terms: Mapping[str, Any], now: float) -> SignedPolicy:
        expiry = int(now + self._ahead_seconds + self._life_seconds) + SKEW_MARGIN_SECONDS
        return sign(self._secret, json.dumps({**terms, "expiry": expiry}, separators=(",", ":")), expiry)
