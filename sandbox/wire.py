"""The connection itself: replies that are sent badly or not at all, and the protocol that lets us.

ASGI has no word for any of this, so the protocol puts itself into the request's state.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from http import HTTPStatus

from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from tagmill.sandbox.faults import Fault, FaultRule
from tagmill.sandbox.replies import Reply

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER, on, zero seconds: close sends RST
_CONNECTION = "connection"
_DRIPS = 50


class EdgeProtocol(H11Protocol):
    abandoned = False  #: no answer will come by way of HTTP

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn's
        super().connection_made(transport)
        self.app_state = {**self.app_state, _CONNECTION: self}

    def shutdown(self) -> None:
        """Do not hold up the server's end for an answer that is late on purpose."""
        if self.abandoned:
            _reset(self.transport)
        else:
            super().shutdown()


async def send_reply(reply: Reply, send: Send, *, body: bool = True) -> None:
    headers = [("Content-Type", reply.content_type), ("Content-Length", str(len(reply.body))), *reply.headers]
    start = {"status": reply.status, "headers": [(name.encode(), value.encode()) for name, value in headers]}
    await send({"type": "http.response.start", **start})
    await send({"type": "http.response.body", "body": reply.body if body else b""})


async def send_badly(rule: FaultRule, reply: Reply | None, scope: Scope, receive: Receive) -> None:
    """Bypass HTTP as the fault says; returns when the connection is gone."""
    connection: EdgeProtocol = scope["state"][_CONNECTION]
    connection.abandoned = True
    transport = connection.transport
    if rule.fault is Fault.HANG:
        await _gone(receive, rule.seconds)
    if reply is not None and rule.fault is Fault.TRUNCATED:
        transport.write(_head(reply) + reply.body[: len(reply.body) // 2])
        transport.close()
    elif reply is not None and rule.fault is Fault.DRIP:
        await _drip(transport, reply, rule.seconds)
        transport.close()
    else:
        _reset(transport)
    await _gone(receive, rule.seconds)


async def _drip(transport: asyncio.Transport, reply: Reply, seconds: float) -> None:
    transport.write(_head(reply))
    size = max(1, -(-len(reply.body) // _DRIPS))
    drips = [reply.body[start : start + size] for start in range(0, len(reply.body), size)]
    for drip in drips:
        await asyncio.sleep(seconds / len(drips))
        if transport.is_closing():
            return
        transport.write(drip)


def _head(reply: Reply) -> bytes:
    lines = [
        f"HTTP/1.1 {reply.status} {HTTPStatus(reply.status).phrase}",
        f"Content-Type: {reply.content_type}",
        f"Content-Length: {len(reply.body)}",
        *(f"{name}: {value}" for name, value in reply.headers),
    ]
    return "\r\n".join([*lines, "", ""]).encode()


def _reset(transport: asyncio.Transport) -> None:
    connection = transport.get_extra_info("socket")
    if connection is not None and not transport.is_closing():
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    transport.abort()


async def _gone(receive: Receive, seconds: float) -> None:
    """Wait for the end of the connection; a request's remaining body is passed over."""
    try:
        async with asyncio.timeout(seconds):
            while (await receive())["type"] != "http.disconnect":
                pass
    except TimeoutError:
        return
