"""Webhooks: who gets which events, and what goes over the wire, signed.

https://www.filestack.com/docs/api/webhooks/ and, for the signature, the official SDKs: HMAC-SHA256 of
`FS-Timestamp`, a dot and the raw body, with a secret of that webhook alone.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tagmill.sandbox.client import Client, NoAnswerError
from tagmill.sandbox.ledger import NO_ANSWER

ANSWER_SECONDS = 30.0

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Receiver:
    """One webhook as it is set up in the portal."""

    url: str
    secret: str = field(repr=False)
    actions: tuple[str, ...] = ()  #: none: all

    def __post_init__(self) -> None:
        if not str(self.url).startswith(("http://", "https://")):
            raise ValueError(f"a webhook goes to an http or https URL, not to {self.url!r}")

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Receiver:
        """Raise TypeError for a field that is missing or unknown, ValueError for a URL that is none."""
        return cls(**{**values, "actions": tuple(values.get("actions", ()))})

    def wants(self, action: str) -> bool:
        return not self.actions or action in self.actions


@dataclass(frozen=True, slots=True)
class Letter:
    """A body and the headers that vouch for it."""

    body: bytes
    headers: Mapping[str, str]

    @classmethod
    def signed(cls, body: bytes, secret: str, timestamp: int) -> Letter:
        signature = hmac.new(secret.encode(), b"%d.%s" % (timestamp, body), hashlib.sha256).hexdigest()
        vouching = {"FS-Signature": signature, "FS-Timestamp": str(timestamp)}
        return cls(body, {"Content-Type": "application/json", **vouching})

    def tampered(self) -> Letter:
        """With results that nobody signed."""
        event = json.loads(self.body)
        event["text"]["tampered"] = True
        for result in event["text"].get("results", {}).values():
            result["data"] = {"tags": {"auto": {"tampered": 100}, "user": None}}
        return Letter(to_body(event), self.headers)


def to_body(event: Json) -> bytes:
    return json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode()


class Post(Client):
    """Sends letters; open with `async with`."""

    def __init__(self) -> None:
        super().__init__(ANSWER_SECONDS)

    async def __call__(self, url: str, letter: Letter) -> int:
        """Return the answer's status, NO_ANSWER for none."""
        try:
            async with self.request(
                "POST", url, data=letter.body, headers=letter.headers, allow_redirects=False
            ) as response:
                return response.status
        except NoAnswerError:
            return NO_ANSWER
