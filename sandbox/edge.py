"""The CDN host: tasks and plain delivery, told apart by the raw path."""

from __future__ import annotations

from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import FileResponse
from starlette.types import Receive, Scope, Send

from tagmill.sandbox.access import permit_delivery
from tagmill.sandbox.parts import Parts
from tagmill.sandbox.replies import Refusal, not_found, text_reply
from tagmill.sandbox.tasks import Tasks
from tagmill.sandbox.urls import Address, AddressError, HandleSource, parse_address
from tagmill.sandbox.wire import send_reply


class Edge:
    """An ASGI application for every path that no API claims."""

    def __init__(self, parts: Parts, tasks: Tasks) -> None:
        self._parts = parts
        self._tasks = tasks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        try:
            await self._route(scope, receive, send)
        except Refusal as refusal:
            await send_reply(refusal.reply, send, body=scope["method"] != "HEAD")

    async def _route(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] not in {"GET", "HEAD"}:
            raise Refusal(text_reply(405, "Method Not Allowed"))
        try:
            address = parse_address(scope["raw_path"])
        except AddressError as error:
            await self._malformed(scope, send, error)
            return
        if not address.tasks:
            await self._deliver(scope, receive, send, address)
        elif scope["method"] == "GET" and any(task.name in self._tasks.offered for task in address.tasks):
            await self._tasks(scope, receive, send, address)
        else:
            raise Refusal(text_reply(400, f"the sandbox does not offer the task `{address.tasks[-1].name}`"))

    async def _malformed(self, scope: Scope, send: Send, error: AddressError) -> None:
        reply = text_reply(400, str(error))
        if not any(name.encode() in scope["raw_path"] for name in self._tasks.offered):
            raise Refusal(reply) from error
        await self._tasks.refuse(reply, send)

    async def _deliver(self, scope: Scope, receive: Receive, send: Send, address: Address) -> None:
        if not isinstance(address.source, HandleSource):
            raise Refusal(text_reply(400, "the sandbox delivers its own uploads only"))
        permit_delivery(self._parts.config, address, Request(scope).query_params, self._parts.clock())
        await deliver(self._parts, address.source.handle)(scope, receive, send)


def deliver(parts: Parts, handle: str) -> FileResponse:
    """Raise Refusal."""
    stored = parts.files.get(handle)
    if stored is None:
        raise Refusal(not_found())
    headers = {"X-File-Name": quote(stored.filename)}
    return FileResponse(parts.files.path(handle), media_type=stored.mimetype, headers=headers)
