"""Load mode: answers from memory for any well-formed handle, ahead of HTTP parsing where that is safe.

A plain GET whose policy was verified before is answered from its first line; all else takes the usual way.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable
from typing import Any

import h11

from tagmill.sandbox.ledger import Ledger
from tagmill.sandbox.urls import Address, HandleSource
from tagmill.sandbox.wire import EdgeProtocol

HANDLE_LENGTH = 20
_HANDLE_BYTES = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"
_WORDS = (
    "sky water sea cloud sun snow mountain tree|animal dog cat bird horse fish flower grass|"
    "person woman man child crowd face hand smile|city street building tower bridge road house window|"
    "car bicycle train boat bus airplane wheel traffic|food drink fruit table plate coffee bread kitchen|"
    "blue green red yellow white black orange brown|outdoor indoor night day summer winter spring autumn|"
    "close-up portrait landscape aerial macro pattern texture silhouette"
)
#: For each group of eight words, what each digest byte adds to an answer: a word and a confidence, 50 to 98.
_PIECES = [
    [b'"%s":%d' % (words[byte % 8].encode(), 50 + byte // 8 * 48 // 31) for byte in range(256)]
    for words in (group.split() for group in _WORDS.split("|"))
]


def made_up_tags(name: str | bytes) -> bytes:
    """A tags body that depends on nothing but the name."""
    digest = hashlib.blake2b(
        name.encode() if isinstance(name, str) else name, digest_size=len(_PIECES)
    ).digest()
    labels = b",".join([pieces[byte] for pieces, byte in zip(_PIECES, digest, strict=True)])
    return b'{"tags":{"auto":{%s},"user":null}}' % labels


class LoadAnswers:
    """Whole HTTP responses for paths whose policy was checked once."""

    def __init__(
        self, ledger: Ledger, latency_seconds: Callable[[], float], ready: Callable[[], bool]
    ) -> None:
        """`ready`: whether plain success is all there is to answer (no faults, no rate limit)."""
        self._ledger = ledger
        self._ready = ready
        self._expiries: dict[bytes, float] = {}  # the path up to the handle -> when its policy ends
        self.latency_seconds = latency_seconds

    def remember(self, raw_path: bytes, address: Address, expiry: float) -> None:
        """Only for a policy that holds for every handle."""
        if isinstance(address.source, HandleSource):
            self._expiries[raw_path[: raw_path.rindex(b"/") + 1]] = expiry

    def answer(self, path: bytes) -> bytes | None:
        """None: not for this way."""
        prefix, slash, handle = path.rpartition(b"/")
        expiry = self._expiries.get(prefix + slash, 0.0)
        if expiry <= time.time() or not is_handle(handle) or not self._ready():
            return None
        self._ledger.times.append(time.monotonic())
        self._ledger.answered(1)
        body = made_up_tags(handle)
        return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (
            len(body),
            body,
        )


def is_handle(text: bytes) -> bool:
    return len(text) == HANDLE_LENGTH and not text.translate(None, _HANDLE_BYTES)


class LoadProtocol(EdgeProtocol):
    """Looks at each packet before the HTTP parser does."""

    def data_received(self, data: bytes) -> None:
        response = self._at_once(data)
        if response is None:
            super().data_received(data)
            return
        self._unset_keepalive_if_required()
        if delay := self._answers.latency_seconds():
            self.loop.call_later(delay, self._write, response)
        else:
            self.transport.write(response)

    @property
    def _answers(self) -> LoadAnswers:
        answers: Any = self.app_state["load"]
        return answers  # type: ignore[no-any-return] # what the app's lifespan put there

    def _at_once(self, data: bytes) -> bytes | None:
        """Only for a packet that is one whole GET without a body, on a connection that is idle."""
        if not data.startswith(b"GET /") or data.find(b"\r\n\r\n") != len(data) - 4 or not self._idle():
            return None
        headers = data.lower()
        if (
            b"\r\nconnection: close" in headers
            or b"\r\ncontent-length" in headers
            or b"\r\ntransfer-" in headers
        ):
            return None
        line = data[4 : data.index(b"\r\n")]
        if not line.endswith(b" HTTP/1.1"):
            return None
        return self._answers.answer(line[:-9])

    def _idle(self) -> bool:
        between = self.conn.their_state is h11.IDLE and self.conn.our_state is h11.IDLE
        return between and not self.conn.trailing_data[0]

    def _write(self, response: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(response)


def protocol_for(*, load: bool) -> type[asyncio.Protocol]:
    return LoadProtocol if load else EdgeProtocol
