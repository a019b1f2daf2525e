"""An HTTP server on a bare socket that keeps the bytes it got and answers with whatever a test makes up."""

from __future__ import annotations

import asyncio
import re
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

Behaviour = Callable[["Exchange"], Awaitable[None]]


@dataclass
class Exchange:
    """One request, and the socket to answer it on."""

    head: bytes  #: request line and headers, up to and without the empty line
    body: bytes
    writer: asyncio.StreamWriter

    @property
    def method(self) -> str:
        return self.head.split(b" ", 1)[0].decode()

    @property
    def target(self) -> bytes:
        """Between the first and the last space of the request line: what the client sent, verbatim."""
        return self.head.split(b"\r\n", 1)[0].split(b" ", 1)[1].rpartition(b" ")[0]

    def header(self, name: str) -> str | None:
        found = re.search(rb"\r\n" + name.encode() + rb":[ ]*([^\r]*)", self.head, re.IGNORECASE)
        return found[1].decode() if found else None

    async def send(self, raw: bytes) -> None:
        self.writer.write(raw)
        await self.writer.drain()

    async def answer(self, body: bytes = b"", status: str = "200 OK", **headers: str) -> None:
        """Header names are written with `_` for `-`."""
        lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        await self.send("\r\n".join(lines).encode() + b"\r\n\r\n" + body)

    def close(self) -> None:
        """FIN, after what was written."""
        self.writer.close()

    def reset(self) -> None:
        """RST: what was not delivered is gone."""
        linger_zero = struct.pack("ii", 1, 0)
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger_zero)
        self.writer.transport.abort()


@dataclass
class WireServer:
    url: str = ""
    behaviour: Behaviour | None = None  #: what to do with the next request
    exchanges: list[Exchange] = field(default_factory=list)
    connections: int = 0
    on_connect: Callable[[asyncio.StreamWriter], None] | None = None  #: before a byte is read

    @property
    def targets(self) -> list[bytes]:
        return [exchange.target for exchange in self.exchanges]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        if self.on_connect is not None:
            self.on_connect(writer)
        try:
            while not writer.is_closing():
                await self._serve_one(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client left
        finally:
            if not writer.is_closing():
                writer.transport.abort()

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n"))[:-4]
        exchange = Exchange(head, b"", writer)
        exchange.body = await reader.readexactly(int(exchange.header("content-length") or 0))
        self.exchanges.append(exchange)
        assert self.behaviour is not None
        await self.behaviour(exchange)


@asynccontextmanager
async def wire_server(behaviour: Behaviour | None = None) -> AsyncIterator[WireServer]:
    """Listen on a free loopback port, in the loop of the caller."""
    wire = WireServer(behaviour=behaviour)
    connected: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected.add(asyncio.ensure_future(wire.serve(reader, writer)))

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    wire.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield wire
    finally:
        server.close()
        for task in connected:
            task.cancel()
        await asyncio.gather(*connected, return_exceptions=True)
        await server.wait_closed()
